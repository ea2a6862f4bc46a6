"""How sure the answer is, how it is known, and what speaks against it, in sentences."""

from __future__ import annotations

import math

from flp_ray.core.prediction import Proposal
from flp_ray.report import numbers
from flp_ray.report.content import MEAN, ReportContent
from flp_ray.report.experiment import sentences
from flp_ray.report.laws import fitted_lines
from flp_ray.report.series import Curve, Target, axis_source, slice_predictions


def held_out(content: ReportContent, stage: str) -> float | None:
    """Mean held-out error over the surrogate's laws of one stage; None where it was not measured."""
    errors = [line.held_out_error for line in fitted_lines(content, stage) if line.held_out_error is not None]
    return math.fsum(errors) / len(errors) if errors else None


def how_sure(content: ReportContent, target: Target | None) -> tuple[str, ...]:
    """How far the proposal's score and ratio are known, one sentence an entry."""
    proposal = content.main_proposal
    if proposal is None:
        return ()
    half = (proposal.expected.high - proposal.expected.low) / 2
    found = [f"The score is predicted to ±{numbers.points(half).lstrip('+')} (80{numbers.THIN}% interval)."]
    source = axis_source(content)
    if source is not None and target is not None:
        x, predictions = slice_predictions(content, proposal.mixture, source, target)
        if predictions:
            said = [
                p.objective if proposal.objective == MEAN else p.performance.get(proposal.objective, p.objective)
                for p in predictions
            ]
            low, high = _as_good(Curve.of(x, said), proposal)
            found.append(
                f"Any share of {source} from {numbers.share(low)} to {numbers.share(high)} "
                f"is predicted inside that interval."
            )
    trained = content.comparisons
    for comparison in content.main_comparisons:
        found += sentences(comparison)
    if len(trained) > 1:
        inside = sum(c.inside_interval for c in trained)
        found.append(
            f"{inside} of {numbers.count(len(trained), 'trained proposal')} fell inside the predicted "
            f"interval; 80{numbers.THIN}% should."
        )
    return tuple(found)


def _as_good(curve: Curve, proposal: Proposal) -> tuple[float, float]:
    """Lowest and highest ratio whose predicted mean reaches the lower end of the proposal's interval."""
    reached = [x for x, mean in zip(curve.x, curve.mean, strict=True) if mean >= proposal.expected.low]
    return (min(reached), max(reached)) if reached else (curve.x[0], curve.x[-1])


def how_known(content: ReportContent) -> tuple[str, ...]:
    """What the answer rests on, one sentence an entry."""
    sampling = content.records.of_purpose("sampling")
    measured = {m.run_id for m in sampling.measurements}
    if not measured:
        return ()
    checkpoints = len(sampling.checkpoints())
    sizes = len({r.size for r in sampling.runs if r.run_id in measured and r.size is not None})
    mixtures = len({r.mixture for r in sampling.runs if r.run_id in measured and r.mixture is not None})
    over = ", ".join(
        part for n, part in ((sizes, numbers.count(sizes, "size")), (mixtures, numbers.count(mixtures, "mixture"))) if n
    )
    found = [
        f"{numbers.count(len(measured), 'small run')}{f' ({over})' if over else ''}, "
        f"{numbers.count(checkpoints, 'measured checkpoint')}."
    ]
    loss, performance = held_out(content, "loss"), held_out(content, "performance")
    parts = [
        f"{numbers.percent(error)} for {what}"
        for what, error in (("losses", loss), ("scores", performance))
        if error is not None
    ]
    if parts:
        found.append(f"On runs left out of the fit, the laws err by {' and '.join(parts)} (mean relative error).")
    elif content.surrogate is not None:
        found.append("The laws' error on runs left out was not measured.")
    return tuple(found)


def caveats(content: ReportContent) -> tuple[str, ...]:
    """What a reader must know before trusting the answer, one sentence an entry."""
    found = []
    proposal = content.main_proposal
    if proposal is not None and proposal.expected.extrapolated:
        found.append("The proposal lies outside what the laws were fitted on (extrapolated).")
    if any(not c.inside_interval for c in content.main_comparisons):
        found.append(
            f"Training there fell outside the predicted 80{numbers.THIN}% interval; "
            f"one in five does even when the laws are right."
        )
    missing = content.surrogate.not_emerged if content.surrogate is not None and content.surrogate.tasks else {}
    if missing:
        found.append(f"Not predicted, and not part of the mean: {reasons_in_words(missing)}")
    failed = [r for r in content.run_states if r.state == "failed"]
    if failed:
        found.append(f"{numbers.count(len(failed), 'run')} failed; see the table of runs.")
    return tuple(found)


def reasons_in_words(reasons: dict[str, str]) -> str:
    """Tasks with the reason why they are not predicted; three at most are named."""
    shown = [f"{task} ({reason.rstrip('.')})" for task, reason in sorted(reasons.items())[:3]]
    more = len(reasons) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") + "."
