"""The tables of a backtest, target by target and name by name, for the page and, in part, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from flp_ray.core.backtest import Backtest, Judged, MethodResult, ValueKind
from flp_ray.report import numbers
from flp_ray.report.backtest_answer import error_of, few_targets
from flp_ray.report.backtest_method_tables import (
    choice_table,
    fitted,
    rank_table,
    reference_table,
    stage_table,
    summary_table,
)
from flp_ray.report.backtest_series import (
    KINDS,
    WORDS,
    measured_targets,
    names_of,
    values_of,
)
from flp_ray.report.tables import Column, TableView

WORST = 10


def backtest_tables(backtest: Backtest) -> tuple[TableView, ...]:
    """All tables, in the order of the page; those without any content are absent."""
    found = [summary_table(backtest)]
    if few_targets(backtest):
        found += [t for i in range(len(measured_targets(backtest))) for t in target_tables(backtest, i)]
    else:
        found.append(worst_table(backtest, WORST))
    for kind in KINDS:
        found += [error_table(backtest, kind), roll_out_table(backtest, kind)]
    found += [rank_table(backtest), stage_table(backtest), choice_table(backtest), reference_table(backtest)]
    return tuple(t for t in found if t.rows)


def target_tables(backtest: Backtest, index: int) -> tuple[TableView, ...]:
    """One target: its scores and its losses, predicted by each method beside what was measured."""
    target = measured_targets(backtest)[index]
    found = []
    for kind in KINDS:
        methods = [r for r in fitted(backtest) if any(values_of(t, kind) for t in r.targets)]
        found.append(
            TableView(
                name=f"target-{index}-{WORDS[kind][0]}",
                title=f"{target.run_id}: {'scores' if kind == 'performance' else 'losses (nats per token)'}",
                caption=f"{numbers.tokens(target.params)} parameters, {numbers.power(target.flops)} FLOPs. "
                "Prediction, its 80 percent interval, and its relative error.",
                columns=(
                    Column(head="Task" if kind == "performance" else "Domain"),
                    Column(head="Measured", numeric=True),
                    *(Column(head=r.method, numeric=True) for r in methods),
                ),
                rows=target_rows(backtest, target.run_id, kind, methods),
                missing="Nothing is predicted.",
            )
        )
    return tuple(found)


def target_rows(
    backtest: Backtest, run_id: str, kind: ValueKind, methods: Sequence[MethodResult]
) -> tuple[tuple[str, ...], ...]:
    """Rows of one target: name, measured value, a cell a method."""
    target = next(t for t in measured_targets(backtest) if t.run_id == run_id)
    rows = []
    for name in names_of(backtest, kind):
        said = [
            next((values_of(t, kind).get(name) for t in result.targets if t.run_id == run_id), None)
            for result in methods
        ]
        if any(v is not None for v in said) or name in target.values[kind]:
            rows.append(
                (name, value_text(kind, target.values[kind].get(name)), *(prediction_text(kind, v) for v in said))
            )
    return tuple(rows)


def worst_table(backtest: Backtest, limit: int) -> TableView:
    """The chosen method's worst predictions."""
    result = backtest.methods[backtest.chosen]
    known = [
        (v.relative_error, t.run_id, name, kind, v)
        for kind in KINDS
        for t in result.targets
        for name, v in values_of(t, kind).items()
        if v.relative_error is not None
    ]
    known.sort(key=lambda k: (-k[0], k[1], k[2]))
    rows = [
        (
            run_id,
            f"{WORDS[kind][0]} on {name}",
            value_text(kind, v.actual),
            value_text(kind, v.predicted),
            interval_text(kind, v),
            numbers.percent(error, 2),
        )
        for error, run_id, name, kind, v in known[:limit]
    ]
    return TableView(
        name="worst",
        title=f"Worst predictions of {backtest.chosen}",
        caption=f"The {len(rows)} largest relative errors of {len(known):,}.",
        columns=(
            Column(head="Target"),
            Column(head="Quantity"),
            Column(head="Measured", numeric=True),
            Column(head="Predicted", numeric=True),
            Column(head="80 percent interval", numeric=True),
            Column(head="Error", numeric=True),
        ),
        rows=tuple(rows),
        missing="Nothing was measured.",
    )


def error_table(backtest: Backtest, kind: ValueKind) -> TableView:
    """Mean relative error over targets, a row a task or domain."""
    what = WORDS[kind][0]
    return _by_name(
        backtest,
        kind,
        name=f"{what}-error-table",
        title=f"Errors of the {what} on the targets",
        caption="Mean relative error over the targets.",
        cells={r.method: {n: error_of(r, kind, n) for n in names_of(backtest, kind)} for r in fitted(backtest)},
    )


def roll_out_table(backtest: Backtest, kind: ValueKind) -> TableView:
    """Mean relative error in the roll-outs, a row a task or domain."""
    what = WORDS[kind][0]
    return _by_name(
        backtest,
        kind,
        name=f"{what}-roll-outs",
        title=f"Errors of the {what} in the roll-outs",
        caption=f"Mean relative error in {backtest.scheme}; the choice of the method rests on these.",
        cells={r.method: {n: r.roll_out.get(n) for n in names_of(backtest, kind)} for r in fitted(backtest)},
    )


def value_text(kind: ValueKind, value: float | None) -> str:
    """A score in percent, a loss with four digits."""
    return numbers.score(value) if kind == "performance" else numbers.significant(value, 4)


def interval_text(kind: ValueKind, value: Judged) -> str:
    """The 80 percent interval."""
    if kind == "performance":
        return f"{100 * value.low:.1f} to {100 * value.high:.1f}".replace("-", "−")
    return f"{numbers.significant(value.low)} to {numbers.significant(value.high)}"


def prediction_text(kind: ValueKind, value: Judged | None) -> str:
    """Prediction, interval and error in one cell."""
    if value is None:
        return numbers.MISSING
    error = "" if value.relative_error is None else f", {numbers.percent(value.relative_error, 2)}"
    return f"{value_text(kind, value.predicted)} [{interval_text(kind, value)}]{error}"


def _by_name(
    backtest: Backtest,
    kind: ValueKind,
    *,
    name: str,
    title: str,
    caption: str,
    cells: dict[str, dict[str, float | None]],
) -> TableView:
    cells = {method: own for method, own in cells.items() if any(e is not None for e in own.values())}
    rows = [
        (row, *(numbers.percent(by_name.get(row), 2) for by_name in cells.values()))
        for row in names_of(backtest, kind)
        if any(by_name.get(row) is not None for by_name in cells.values())
    ]
    return TableView(
        name=name,
        title=title,
        caption=caption,
        columns=(
            Column(head="Task" if kind == "performance" else "Domain"),
            *(Column(head=method, numeric=True) for method in cells),
        ),
        rows=tuple(rows),
        missing="Nothing was judged.",
    )
