"""The tables of a backtest's methods: their numbers, order of the targets, stages, choices, references."""

from __future__ import annotations

from collections.abc import Sequence

from flp_ray.core.backtest import Backtest, MethodResult, ValueKind
from flp_ray.core.backtest_summary import MEAN, summarise
from flp_ray.report import numbers
from flp_ray.report.backtest_answer import cancelling, choice_text, signed
from flp_ray.report.backtest_series import KINDS, WORDS, kind_summary, methods_in_order, names_of, roll_out_mean
from flp_ray.report.tables import Column, TableView

STAGE_ROWS = 60


def summary_table(backtest: Backtest, kinds: Sequence[ValueKind] | None = None) -> TableView:
    """A method a row: errors in the roll-outs and on the targets, coverage, order.

    Args:
        backtest: The methods.
        kinds: What is summarised; None for all that was measured.
    """
    kinds = kinds or measured_kinds(backtest)
    ranks = {r.method: summarise(r).domain_loss.spearman.get(MEAN) for r in backtest.methods.values()}
    ranked = "domain_loss" in kinds and any(rank is not None for rank in ranks.values())
    rows = []
    for result in methods_in_order(backtest):
        cells = [result.method + (" (chosen)" if result.method == backtest.chosen else "")]
        for kind in kinds:
            own = kind_summary(result, kind)
            cells += [numbers.percent(roll_out_mean(backtest, result, kind), 2)]
            cells += [
                numbers.percent(v, 2)
                for v in (own.mean_relative_error, own.median_relative_error, own.max_relative_error)
            ]
            cells.append(numbers.percent(own.interval_coverage, 2))
        if ranked:
            rank = ranks[result.method]
            cells.append(numbers.MISSING if rank is None else f"{rank:.2f}".replace("-", "−"))
        rows.append(tuple(cells))
    parts = ("roll-outs", "mean", "median", "max", "in interval")
    heads = [f"{WORDS[k][0]} {h}" if len(kinds) > 1 else h for k in kinds for h in parts]
    return TableView(
        name="summary",
        title="Methods",
        caption="Relative errors: the mean in the roll-outs, then mean, median and largest over the targets; the share "
        "of measured values inside the 80 percent interval"
        + ("; rank correlation of losses among targets of one size." if ranked else "."),
        columns=(
            Column(head="Method"),
            *(Column(head=h, numeric=True) for h in heads),
            *((Column(head="order", numeric=True),) if ranked else ()),
        ),
        rows=tuple(rows),
        missing="No method was asked for.",
    )


def measured_kinds(backtest: Backtest) -> list[ValueKind]:
    """Kinds of which a target has a relative error; both where nothing was measured."""
    return [k for k in KINDS if any(kind_summary(r, k).values for r in backtest.methods.values())] or list(KINDS)


def rank_table(backtest: Backtest) -> TableView:
    """Rank correlations of losses among targets of one size, a row a method and size."""
    ranks = [
        (r.method, params, by_domain)
        for r in fitted(backtest)
        for params, by_domain in summarise(r).domain_loss.spearman_by_params.items()
    ]
    domains = [n for n in names_of(backtest, "domain_loss") if n != MEAN]
    rows = [
        (
            method,
            numbers.tokens(int(params)),
            *(
                numbers.MISSING if (rank := own.get(d)) is None else f"{rank:.3f}".replace("-", "−")
                for d in (MEAN, *domains)
            ),
        )
        for method, params, own in ranks
    ]
    return TableView(
        name="ranks",
        title="Order of the targets",
        caption="Spearman's rank correlation of predicted and measured loss among targets of equal parameters.",
        columns=(
            Column(head="Method"),
            Column(head="Parameters", numeric=True),
            *(Column(head=d, numeric=True) for d in ("mean", *domains)),
        ),
        rows=tuple(rows),
        missing="There are no three targets of one size.",
    )


def stage_table(backtest: Backtest) -> TableView:
    """Where scores' errors come from: the chosen method's, and every case in which two errors hide each other."""
    chosen = backtest.methods[backtest.chosen]
    own = [
        (chosen.method, t.run_id, task, stages)
        for t in chosen.targets
        for task, stages in t.stages.items()
        if not stages.cancels
    ]
    hidden = cancelling(backtest)
    mine = [case for case in hidden if case[0] == chosen.method]
    cases = [*mine, *own, *hidden[len(mine) :]]
    rows = [
        (
            method,
            run_id,
            task,
            signed(stages.loss),
            signed(stages.link),
            signed(stages.loss + stages.link),
            "hide each other" if stages.cancels else "",
        )
        for method, run_id, task, stages in cases[:STAGE_ROWS]
    ]
    caption = (
        "Stage 1: what errors of the predicted losses add; stage 2: what the step from measured losses to the score "
        "adds; in shares of the measured score. Where the two hide each other, a small error is luck. All rows of "
        f"{chosen.method}, and of other methods those whose errors hide each other."
    )
    if len(cases) > STAGE_ROWS:
        caption += f" {STAGE_ROWS} of {len(cases)} cases are shown."
    return TableView(
        name="stages",
        title="Which stage errs",
        caption=caption,
        columns=(
            Column(head="Method"),
            Column(head="Target"),
            Column(head="Task"),
            Column(head="Stage 1", numeric=True),
            Column(head="Stage 2", numeric=True),
            Column(head="Together", numeric=True),
            Column(head="Remark"),
        ),
        rows=tuple(rows),
        missing="No target has both losses and scores.",
    )


def choice_table(backtest: Backtest) -> TableView:
    """What a combined method took, task by task."""
    rows = [
        (result.method, "domain losses" if name == "domain_loss" else name, choice_text(weights))
        for result in methods_in_order(backtest)
        for name, weights in result.chosen.items()
    ]
    return TableView(
        name="choices",
        title="What auto chose",
        caption="By the roll-outs alone; shares are weights where several were as good as each other.",
        columns=(Column(head="Method"), Column(head="For"), Column(head="Taken")),
        rows=tuple(rows),
        missing="No method chooses among others.",
    )


def reference_table(backtest: Backtest) -> TableView:
    """Where each method comes from."""
    return TableView(
        name="references",
        title="References",
        caption="",
        columns=(Column(head="Method"), Column(head="Reference")),
        rows=tuple((r.method, r.reference or numbers.MISSING) for r in methods_in_order(backtest)),
        missing="No method was asked for.",
    )


def fitted(backtest: Backtest) -> tuple[MethodResult, ...]:
    """The methods that predict targets, the chosen one first."""
    return tuple(r for r in methods_in_order(backtest) if r.targets)
