"""Proposals against measurement: was the prediction right, and was the proposal worth it?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flp_ray.core.mixture import RATIO_TOLERANCE, Mixture
from flp_ray.core.prediction import Comparison, Experiment, Verdict
from flp_ray.core.records import Checkpoint, Records
from flp_ray.core.run import Purpose
from flp_ray.validate.difference import Side, difference_test, verdict
from flp_ray.validate.experiment import MEAN
from flp_ray.validate.outcome import outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """Finished trainings at one mixture of the target's size, with all scores of the objective."""

    mixture: Mixture
    checkpoints: tuple[Checkpoint, ...]
    side: Side

    @property
    def run_ids(self) -> tuple[str, ...]:
        return tuple(c.run.run_id for c in self.checkpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Against:
    """What a proposal is held against, or why there is nothing."""

    mixture: Mixture | None
    trained: _Trained | None = None
    note: str = ""


def compare(
    experiments: Sequence[Experiment],
    records: Records,
    *,
    weights: Mapping[str, float] | None = None,
    trainings: int = 1,
) -> tuple[Comparison, ...]:
    """Compares every proposal that was trained and measured with its prediction and with the best known mixture.

    Where both sides were to be trained (`trainings` of 2 and more), the validation runs of both are compared, as many
    as there are. With one training the best known mixture's own sampling run at the target's size stands in: its value
    had a part in choosing it, so part of its lead may be luck and `better` is said with more right than `worse`.
    `flp_ray.validate.difference` has the test.

    Args:
        experiments: Proposals with what they are held against. One that names no mixture is held against the best
            measured mixture of the sampling runs at its size, whose lead is luck for a larger part.
        records: Records with runs of purpose `validation` and `sampling`.
        weights: Weight of each task in the mean, as in the fit; tasks not named weigh 1.
        trainings: How often each mixture was to be trained.

    Returns:
        One comparison for each proposal with a finished validation run; `not_compared` says why the others have none.
    """
    made = []
    for experiment in experiments:
        found = _trained_at_proposal(experiment, records, weights or {})
        if not isinstance(found, str):
            made.append(_comparison(experiment, found, records, weights or {}, trainings))
    return tuple(made)


def not_compared(
    experiments: Sequence[Experiment], records: Records, *, weights: Mapping[str, float] | None = None
) -> dict[str, str]:
    """Why proposals have no comparison, in words, by proposal id."""
    found = {e.proposal.proposal_id: _trained_at_proposal(e, records, weights or {}) for e in experiments}
    return {name: reason for name, reason in found.items() if isinstance(reason, str)}


def _comparison(
    experiment: Experiment, here: _Trained, records: Records, weights: Mapping[str, float], trainings: int
) -> Comparison:
    proposal, expected = experiment.proposal, experiment.proposal.expected
    purpose: Purpose = "validation" if trainings > 1 and experiment.best_known is not None else "sampling"
    against = _against(experiment, records, weights, purpose)
    same = against.mixture is not None and _same(against.mixture, proposal.mixture)
    there = here if same else against.trained
    test = difference_test(here.side, there.side) if there is not None and not same else None
    said: Verdict = "same mixture" if same else "not compared" if there is None else verdict(test)
    anew = there.run_ids if there is not None and purpose == "validation" and not same else ()
    measured, guess = here.side.mean, experiment.best_known_expected
    return Comparison(
        proposal=proposal,
        run_id=",".join((*here.run_ids, *anew)),
        measured=measured,
        measured_stderr=here.side.stderr,
        relative_error=abs(expected.mean - measured) / measured if measured else None,
        inside_interval=expected.low <= measured <= expected.high,
        best_known=against.mixture,
        best_known_measured=there.side.mean if there is not None else None,
        best_known_stderr=there.side.stderr if there is not None else None,
        regret=there.side.mean - measured if there is not None else None,
        verdict=said,
        note="" if same else against.note,
        test=test,
        outcomes=outcomes(proposal, here.side.values, here.checkpoints),
        expected_difference=None if same or guess is None else expected.mean - guess.mean,
        runs=len(here.run_ids),
        best_known_runs=len(there.run_ids) if there is not None else 0,
        planned=trainings,
        best_known_source=purpose,
        written=experiment.written,
    )


def _trained_at_proposal(experiment: Experiment, records: Records, weights: Mapping[str, float]) -> _Trained | str:
    """The proposal's own trainings, or the reason why there are none."""
    proposal = experiment.proposal
    if not _shares(experiment, weights):
        return f"the weights leave no task to the objective {proposal.objective}"
    trained = _trained(experiment, records, "validation", weights)
    here = next((t for t in trained if _same(t.mixture, proposal.mixture)), None)
    return here or f"no finished validation run of {proposal.size} at {proposal.mixture} has all scores"


def _against(experiment: Experiment, records: Records, weights: Mapping[str, float], purpose: Purpose) -> _Against:
    proposal, known = experiment.proposal, experiment.best_known
    trained = _trained(experiment, records, purpose, weights)
    if known is None:
        best = max(trained, key=lambda t: (t.side.mean, t.mixture.ratios), default=None)
        if best is not None:
            return _Against(mixture=best.mixture, trained=best)
    else:
        there = next((t for t in trained if _same(t.mixture, known)), None)
        if there is not None:
            return _Against(mixture=known, trained=there)
    where = f" at {known}" if known is not None else ""
    note = f"no finished {purpose} run of {proposal.size} over {proposal.train_tokens} tokens{where} has all scores"
    return _Against(mixture=known, note=note)


def _shares(experiment: Experiment, weights: Mapping[str, float]) -> dict[str, float]:
    proposal = experiment.proposal
    if proposal.shares is not None:
        return proposal.shares
    if proposal.objective != MEAN:
        return {proposal.objective: 1.0}
    given = {task: weights.get(task, 1.0) for task in proposal.performance}
    total = sum(given.values())
    return {task: w / total for task, w in given.items() if w > 0} if total > 0 else {}


def _trained(
    experiment: Experiment, records: Records, purpose: Purpose, weights: Mapping[str, float]
) -> list[_Trained]:
    """Finished trainings at the proposal's size with all scores of the objective, by mixture."""
    proposal, shares = experiment.proposal, _shares(experiment, weights)
    groups: list[list[Checkpoint]] = []
    for checkpoint in records.of_purpose(purpose).final_checkpoints():
        run = checkpoint.run
        complete = checkpoint.tokens >= run.train_tokens and all(t in checkpoint.performance for t in shares)
        if run.mixture is None or not complete:
            continue
        if run.size == proposal.size and run.train_tokens == proposal.train_tokens:
            group = next((g for g in groups if _same(_mixture(g[0]), run.mixture)), None)
            if group is None:
                groups.append([checkpoint])
            else:
                group.append(checkpoint)
    return [_pooled(group, shares) for group in groups]


def _pooled(group: Sequence[Checkpoint], shares: Mapping[str, float]) -> _Trained:
    values, stderrs = zip(*(_value(checkpoint, shares) for checkpoint in group), strict=True)
    return _Trained(
        mixture=_mixture(group[0]), checkpoints=tuple(group), side=Side(values=tuple(values), stderrs=tuple(stderrs))
    )


def _mixture(checkpoint: Checkpoint) -> Mixture:
    mixture = checkpoint.run.mixture
    assert mixture is not None, "only runs with a mixture are grouped"
    return mixture


def _value(checkpoint: Checkpoint, shares: Mapping[str, float]) -> tuple[float, float | None]:
    value = math.fsum(w * checkpoint.performance[t] for t, w in shares.items())
    errors = [checkpoint.stderr.get(("performance", t)) for t in shares]
    if any(e is None for e in errors):
        return value, None
    # Tasks have different items, so their evaluation errors are independent.
    squares = (w * w * e * e for w, e in zip(shares.values(), errors, strict=True) if e is not None)
    return value, math.sqrt(math.fsum(squares))


def _same(one: Mixture, other: Mixture) -> bool:
    sources = {*one.sources, *other.sources}
    return all(abs(one.ratio(s) - other.ratio(s)) <= RATIO_TOLERANCE for s in sources)
