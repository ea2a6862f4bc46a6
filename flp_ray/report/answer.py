"""The question and its answer in words: which mixture, how sure, how do you know.

When the study cannot tell, the headline says so before anything else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Comparison, Proposal
from flp_ray.report import numbers
from flp_ray.report.content import ReportContent
from flp_ray.report.evidence import caveats, how_known, how_sure, reasons_in_words
from flp_ray.report.series import target_of

Tone = Literal["sure", "unsure", "none"]
"""`sure`: the headline stands. `unsure`: measured, but it cannot tell. `none`: no answer yet."""


_SPELLED_OUT = 3
"""Sources up to which a mixture is spelled out in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One line of the answer's table: where a score comes from, at which mixture, and how large it is."""

    label: str
    kind: Literal["predicted", "validation", "grid"]
    mixture: Mixture
    score: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The first screen in words.

    Attributes:
        question: What was asked.
        headline: The answer, or that there is none.
        detail: One or two sentences that say why.
        tone: How firm the headline is.
        rows: The scores behind it.
        sure: How sure, one sentence an entry.
        known: How it is known, one sentence an entry.
        caveats: What a reader must know before trusting it.
    """

    question: str
    headline: str
    detail: str
    tone: Tone
    rows: tuple[ScoreRow, ...]
    sure: tuple[str, ...]
    known: tuple[str, ...]
    caveats: tuple[str, ...]


def answer(content: ReportContent) -> Answer:
    """The study's answer for its main objective."""
    target = target_of(content)
    if target is None:
        question = f"Which mixture for {content.study}?"
    else:
        question = f"Which mixture for {target.size} ({numbers.tokens(target.train_tokens)} tokens)?"
    headline, detail, tone = _headline(content)
    return Answer(
        question=question,
        headline=headline,
        detail=detail,
        tone=tone,
        rows=_rows(content),
        sure=how_sure(content, target),
        known=how_known(content),
        caveats=caveats(content),
    )


def _headline(content: ReportContent) -> tuple[str, str, Tone]:
    surrogate, proposal = content.surrogate, content.main_proposal
    measured = len({m.run_id for m in content.records.measurements})
    if not measured:
        planned = numbers.count(len(content.specs), "run") if content.specs else "No run"
        verb = "is" if len(content.specs) <= 1 else "are"
        return "No answer yet: nothing has been measured.", f"{planned} {verb} planned.", "none"
    if surrogate is None:
        total = max(len(content.specs), len(content.records.runs))
        done = f"{measured} of {numbers.count(total, 'run')} have measurements."
        return "No answer yet: no law has been fitted.", done, "none"
    if not surrogate.tasks:
        return "Cannot tell: no task has emerged.", reasons_in_words(surrogate.not_emerged), "none"
    if content.main_objective in surrogate.not_emerged:
        reason = surrogate.not_emerged[content.main_objective]
        return f"Cannot tell: {content.main_objective} is not predicted.", reason, "none"
    if proposal is None:
        return "No answer yet: no mixture has been proposed.", "The laws below are fitted.", "none"
    comparisons = content.main_comparisons
    if not comparisons:
        return _untrained(proposal)
    return _trained(proposal, comparisons)


def _untrained(proposal: Proposal) -> tuple[str, str, Tone]:
    where = _named(proposal.mixture, "the proposed mixture")
    detail = "This is a prediction: no model was trained at this mixture, so nothing confirms it yet."
    if proposal.expected.extrapolated:
        return f"Extrapolated: {where}.", "It lies outside what the laws were fitted on. " + detail, "unsure"
    return f"{where[0].upper()}{where[1:]}, not yet trained.", detail, "unsure"


def _trained(proposal: Proposal, comparisons: Sequence[Comparison]) -> tuple[str, str, Tone]:
    best = comparisons[0]
    measured, error = _mean_measured(comparisons)
    where = _named(proposal.mixture, "the proposed mixture")
    text = f"Training at {where} gave {numbers.score(measured, error)}"
    verdicts = {c.verdict for c in comparisons}
    if verdicts == {"same mixture"}:
        return f"Train on {where}.", f"{text}. The search proposes the best known mixture itself.", "sure"
    if best.best_known_measured is None or best.best_known is None:
        headline = f"{where[0].upper()}{where[1:]}, trained, but nothing to compare it with."
        return headline, f"{text}. {best.note[:1].upper()}{best.note[1:]}.", "unsure"
    gap, known = numbers.points(measured - best.best_known_measured), _named(best.best_known, "")
    text += (
        f"; the best known mixture{known and f', {known},'} "
        f"gave {numbers.score(best.best_known_measured, best.best_known_stderr)}."
    )
    if verdicts == {"better"}:
        return f"Train on {where}.", f"{text} The difference, {gap}, is larger than its noise.", "sure"
    if verdicts == {"worse"}:
        headline = f"Stay with the best known mixture{known and f': {known}'}."
        return headline, f"{text} The search found nothing better ({gap}).", "sure"
    why = f"The difference, {gap}, is within its noise"
    if len(verdicts) > 1:
        why = "Trainings with different seeds disagree"
    headline = "Cannot tell the proposal from the best known mixture."
    return headline, f"{text} {why}: as far as this study can tell, either will do.", "unsure"


def _named(mixture: Mixture, otherwise: str) -> str:
    """A mixture in a sentence; beyond three sources the table below says it better."""
    return numbers.mixture(mixture) if len(mixture.sources) <= _SPELLED_OUT else otherwise


def _rows(content: ReportContent) -> tuple[ScoreRow, ...]:
    proposal, comparisons = content.main_proposal, content.main_comparisons
    if proposal is None:
        return ()
    expected = proposal.expected
    predicted = ScoreRow(
        label="Proposed, predicted",
        kind="predicted",
        mixture=proposal.mixture,
        score=numbers.score(expected.mean),
        note=f"80{numbers.THIN}% interval {numbers.score_interval(expected)}",
    )
    if not comparisons:
        return (predicted,)
    measured, error = _mean_measured(comparisons)
    inside = sum(c.inside_interval for c in comparisons)
    if len(comparisons) == 1:
        note = "inside the interval" if inside else "outside the interval"
        if comparisons[0].runs > 1:
            note = f"mean of {comparisons[0].runs} seeds, {note}"
    else:
        note = f"mean of {len(comparisons)} seeds, {inside} inside the interval"
    trained = ScoreRow(
        label="Proposed, trained",
        kind="validation",
        mixture=proposal.mixture,
        score=numbers.score(measured, error),
        note=note,
    )
    best = comparisons[0]
    if best.best_known is None or best.best_known_measured is None or best.verdict == "same mixture":
        return predicted, trained
    regret = f"regret {numbers.points(best.best_known_measured - measured)}"
    return (
        predicted,
        trained,
        ScoreRow(
            label="Best known, trained",
            kind="grid",
            mixture=best.best_known,
            score=numbers.score(best.best_known_measured, best.best_known_stderr),
            note=f"{regret}: {_verdict(comparisons)}",
        ),
    )


def _verdict(comparisons: Sequence[Comparison]) -> str:
    verdicts = sorted({c.verdict for c in comparisons})
    words = {"better": "the proposal is better", "worse": "the proposal is worse"}
    return words.get(verdicts[0], verdicts[0]) if len(verdicts) == 1 else "the seeds disagree"


def _mean_measured(comparisons: Sequence[Comparison]) -> tuple[float, float | None]:
    """Mean over the trainings (seeds) of one proposal, with the standard error of that mean."""
    mean = math.fsum(c.measured for c in comparisons) / len(comparisons)
    errors = [c.measured_stderr for c in comparisons if c.measured_stderr is not None]
    if len(errors) < len(comparisons):
        return mean, None
    return mean, math.sqrt(math.fsum(e * e for e in errors)) / len(errors)
