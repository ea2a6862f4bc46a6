"""The answer of a backtest in words: which method to trust and why, its errors, and what a reader must know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from flp_ray.core.backtest import Backtest, MethodResult, StageError, ValueKind
from flp_ray.core.backtest_summary import MEAN, ErrorSummary, summarise
from flp_ray.report import numbers
from flp_ray.report.backtest_series import (
    FEW_TARGETS,
    KINDS,
    WORDS,
    judged,
    kind_summary,
    methods_in_order,
    names_of,
    roll_out_mean,
    target_count,
    values_of,
)

AUTO = "auto"
_NAMED = 6
_CANCELLING = 3
_FAR_WORSE = 2.0
"""Error on the targets, in that of the roll-outs, above which the answer says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestAnswer:
    """What the first screen says.

    Attributes:
        question: The question.
        headline: The method to trust.
        detail: Why, from the roll-outs.
        targets: How it did on the targets.
        setting: What was fitted, what was held out.
    """

    question: str
    headline: str
    detail: str
    targets: str
    setting: str


def backtest_answer(backtest: Backtest) -> BacktestAnswer:
    """Which method to trust, why, and how it did."""
    return BacktestAnswer(
        question=f"Which prediction can be trusted on {backtest.source}?",
        headline=_headline(backtest),
        detail=_why(backtest),
        targets=" ".join(_on_targets(backtest)),
        setting=_setting(backtest),
    )


def backtest_notes(backtest: Backtest) -> tuple[str, ...]:
    """Warnings, what could not be fitted or predicted, and errors that hide each other."""
    return (*backtest.warnings, *_not_predicted(backtest), *_cancelling(backtest))


def _headline(backtest: Backtest) -> str:
    result = backtest.methods[backtest.chosen]
    for kind in KINDS:
        own = kind_summary(result, kind)
        if own.mean_relative_error is not None:
            return (
                f"Trust {result.method}: its {WORDS[kind][0]} predictions were off by "
                f"{numbers.percent(own.mean_relative_error, 2)} on average"
            )
    return f"Trust {result.method}; nothing was measured that its predictions could be held against"


def _why(backtest: Backtest) -> str:
    result = backtest.methods[backtest.chosen]
    errors = [(WORDS[kind][0], e) for kind in KINDS if (e := roll_out_mean(backtest, result, kind)) is not None]
    if not errors:
        return (
            f"The choice is not tested: no roll-out judged {result.method} ({backtest.scheme}). "
            f"The targets played no part in it."
        )
    off = " and ".join(f"{numbers.percent(e, 2)} in {what}" for what, e in errors)
    how = (
        "It takes, task by task, what did best in the roll-outs"
        if result.method == AUTO
        else "It did best in the roll-outs"
    )
    return (
        f"{how}: {backtest.scheme}, in which runs that were left out are predicted from the others. There it was off "
        f"by {off}. The targets played no part in the choice, so their errors test it."
    )


def _on_targets(backtest: Backtest) -> list[str]:
    result = backtest.methods[backtest.chosen]
    said = []
    for kind in KINDS:
        own = kind_summary(result, kind)
        if own.mean_relative_error is None:
            continue
        targets = numbers.count(sum(bool(values_of(t, kind)) for t in result.targets), "target")
        said.append(
            f"On {targets} its {WORDS[kind][0]} predictions were off by {numbers.percent(own.mean_relative_error, 2)} "
            f"on average, {numbers.percent(own.median_relative_error, 2)} in the median and "
            f"{numbers.percent(own.max_relative_error, 2)} at worst{_worst(result, kind)}; "
            f"{numbers.percent(own.interval_coverage, 2)} of the measured values lay in its 80 percent intervals."
        )
        rehearsed = roll_out_mean(backtest, result, kind)
        if rehearsed and own.mean_relative_error > _FAR_WORSE * rehearsed:
            times = numbers.significant(own.mean_relative_error / rehearsed, 2)
            said.append(f"That is {times} times its error in the roll-outs, which foretold too little.")
        said += _hindsight(backtest, kind, own)
    rank = summarise(result).domain_loss.spearman.get(MEAN)
    if rank is not None:
        said.append(f"It put targets of one size in their measured order with a rank correlation of {rank:.2f}.")
    return said


def _worst(result: MethodResult, kind: ValueKind) -> str:
    known = [
        (v.relative_error, name, t.run_id)
        for t in result.targets
        for name, v in values_of(t, kind).items()
        if v.relative_error is not None
    ]
    if len(known) < 2:
        return ""
    _, name, run_id = max(known)
    return f" ({name} of {run_id})"


def _hindsight(backtest: Backtest, kind: ValueKind, own: ErrorSummary) -> list[str]:
    errors = {
        r.method: e for r in backtest.methods.values() if (e := kind_summary(r, kind).mean_relative_error) is not None
    }
    best = min(errors, key=lambda name: errors[name])
    if own.mean_relative_error is None or errors[best] >= own.mean_relative_error * (1 - 1e-6):
        return []
    return [
        f"Closest was {best} with {numbers.percent(errors[best], 2)}, known only in hindsight: to choose by the "
        f"targets would spoil the test."
    ]


def _setting(backtest: Backtest) -> str:
    runs = backtest.fitted
    sizes = sorted({r.params for r in runs})
    span = "" if not sizes else f" of {numbers.tokens(sizes[0])} parameters"
    if len(sizes) > 1:
        span = f" of {numbers.tokens(sizes[0])} to {numbers.tokens(sizes[-1])} parameters"
    flops = [r.flops[-1] for r in runs if r.flops]
    ahead = [t.flops for result in backtest.methods.values() for t in result.targets]
    reach = ""
    if flops and ahead:
        ratio = max(ahead) / max(flops)
        reach = f" The largest target has {numbers.significant(ratio, 2)} times the FLOPs of the largest fitted run."
    methods = numbers.count(len(backtest.methods), "method")
    return (
        f"{methods}, fitted on {numbers.count(len(runs), 'run')}{span}. Targets: {backtest.held_out}.{reach} "
        f"Tasks: {len(names_of(backtest, 'performance'))}; domains: {len(names_of(backtest, 'domain_loss'))}."
    )


def _not_predicted(backtest: Backtest) -> list[str]:
    """Reasons, said once for all methods and tasks that share one."""
    unfit: defaultdict[str, list[str]] = defaultdict(list)
    silent: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for result in methods_in_order(backtest):
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for name, reason in result.not_predicted.items():
            if name == "all":
                unfit[reason].append(result.method)
            else:
                by_reason[reason].append(name)
        for reason, names in by_reason.items():
            silent[reason, tuple(names)].append(result.method)
    said = [
        f"Could not be fitted: {_listed(methods)}. Reason: {_sentence(reason)}" for reason, methods in unfit.items()
    ]
    said += [
        f"Not predicted by {_listed(methods)}: {_listed(names)}. Reason: {_sentence(reason)}"
        for (reason, names), methods in silent.items()
    ]
    return said


def cancelling(backtest: Backtest) -> list[tuple[str, str, str, StageError]]:
    """Method, target, task and stages wherever two errors hide each other: the chosen method's first, largest first."""
    found = [
        (result.method, target.run_id, task, stages)
        for result in backtest.methods.values()
        for target in result.targets
        for task, stages in target.stages.items()
        if stages.cancels
    ]
    return sorted(found, key=lambda f: (f[0] != backtest.chosen, -max(abs(f[3].loss), abs(f[3].link))))


def _cancelling(backtest: Backtest) -> list[str]:
    everywhere = cancelling(backtest)
    found = [case for case in everywhere if case[0] == backtest.chosen]
    said = [
        f"On {task} of {run_id} the two stages of {method} hide each other's error: stage 1 (the losses) adds "
        f"{signed(stages.loss)}, stage 2 (from losses to score) {signed(stages.link)}, together "
        f"{signed(stages.loss + stages.link)} of the measured score. The small error is luck."
        for method, run_id, task, stages in found[:_CANCELLING]
    ]
    if len(found) > _CANCELLING:
        said.append(f"The same holds in {len(found) - _CANCELLING} more cases of it; see the table of stages.")
    counts = Counter(method for method, *_ in everywhere if method != backtest.chosen)
    if counts:
        cases = ", ".join(f"{method} {count}" for method, count in counts.most_common(_NAMED))
        said.append(f"Of other methods' scores too, some are close by errors that hide each other (cases: {cases}).")
    return said


def signed(share: float | None) -> str:
    """A signed share as percent."""
    if share is None:
        return numbers.MISSING
    text = numbers.percent(abs(share), 2)
    return text if share == 0 else f"{'+' if share > 0 else '−'}{text}"


def choice_text(weights: dict[str, float]) -> str:
    """What `auto` took: one name, or several with their weights, largest first."""
    ordered = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return ordered[0][0]
    return ", ".join(f"{name} {numbers.percent(w, 2)}" for name, w in ordered) or numbers.MISSING


def few_targets(backtest: Backtest) -> bool:
    """Whether each target has its own table."""
    return target_count(backtest) <= FEW_TARGETS


def error_of(result: MethodResult, kind: ValueKind, name: str) -> float | None:
    """Mean relative error over targets on one task or domain; None where nothing was judged."""
    errors = [v.relative_error for _, v in judged(result, kind, name) if v.relative_error is not None]
    return sum(errors) / len(errors) if errors else None


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= _NAMED else [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _sentence(reason: str) -> str:
    return reason if reason.endswith((".", "!", "?")) else reason + "."
