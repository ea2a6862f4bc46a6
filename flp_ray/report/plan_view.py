"""The plan on the console: one line a size, then the totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from flp_ray.core.run import RunSpec
from flp_ray.report.live import duration


def print_plan(specs: Sequence[RunSpec], totals: Mapping[str, Any], finished: frozenset[str], console: Console) -> None:
    """Prints what a study will train and what that costs.

    Args:
        specs: All planned runs.
        totals: The totals of the plan, as `plan --json` gives them.
        finished: Runs that are trained already.
        console: Where to print.
    """
    table = Table(title="Plan", title_justify="left")
    for name in ("purpose", "size", "runs", "mixtures"):
        table.add_column(name, justify="left")
    for name in ("done", "tokens a run", "FLOPs a run"):
        table.add_column(name, justify="right")
    for (purpose, size), runs in Counter((s.purpose, s.size) for s in specs).items():
        group = [s for s in specs if (s.purpose, s.size) == (purpose, size)]
        done = sum(s.run_id in finished for s in group)
        table.add_row(
            purpose,
            size,
            str(runs),
            _mixtures(group),
            str(done),
            f"{group[0].train_tokens:,}",
            f"{group[0].flops:.3g}",
        )
    console.print(table)
    if totals["device_memory_bytes"] or any(how["workers"] > 1 for how in totals["sizes"].values()):
        console.print(_sizes(totals["sizes"], totals["price"]))
    for line in _totals(totals):
        console.print(line, highlight=False, soft_wrap=True)


def _sizes(sizes: Mapping[str, Any], price: float | None) -> Table:
    """How the runs of each size are computed, and what one of them costs."""
    table = Table(title="How a run of each size is computed", title_justify="left")
    table.add_column("size")
    for name in ("workers", "ZeRO", "sequences at once", "passes a step", "memory", "device hours", "dollars"):
        table.add_column(name, justify="right")
    for size, how in sizes.items():
        hours = how["device_hours_per_run"]
        again = " recomputed" if how["activation_checkpointing"] else ""
        table.add_row(
            size,
            str(how["workers"]),
            str(how["zero_stage"]),
            f"{how['micro_batch_sequences']}{again}",
            str(how["accumulation"]),
            f"{how['memory_bytes'] / 1e9:.3g} GB",
            "unknown" if hours is None else f"{hours:,.3g}" if hours < 1000 else f"{hours:,.0f}",
            "unknown" if hours is None or price is None else f"{hours * price:,.0f}",
        )
    return table


def _evaluators(totals: Mapping[str, Any]) -> list[str]:
    hours, price = totals["evaluator_device_hours"], totals["price"]
    if not hours:
        return []
    dollars = "" if price is None else f", {hours * price:,.0f} dollars"
    return [f"evaluators: up to {hours:,.4g} device hours more{dollars}"]


def _search(totals: Mapping[str, Any]) -> list[str]:
    if "budget_flops" not in totals:
        return []
    if totals["search_ended"]:
        return [f"the search has ended; its budget was {totals['budget_flops']:.4g} FLOPs"]
    return [
        f"the search then chooses runs for up to {totals['search_flops']:.4g} FLOPs more "
        f"(budget {totals['budget_flops']:.4g}, validation included)"
    ]


def _mixtures(group: Sequence[RunSpec]) -> str:
    if len(group[0].mixture.sources) == 2:
        source = min(group[0].mixture.sources)
        ratios = ", ".join(f"{s.mixture.ratio(source):g}" for s in group)
        return f"{source} {ratios}"
    return f"{len(group)} over {len(group[0].mixture.sources)} sources"


def _totals(totals: Mapping[str, Any]) -> list[str]:
    wall, hours = totals["wall_hours"], totals["device_hours"]
    time = (
        "unknown until a run has finished (or state resources.flops_per_s_per_device)"
        if wall is None
        else f"about {duration(3600 * wall)} with {totals['devices']} devices busy ({hours:,.4g} device hours)"
    )
    dollars = totals["dollars"]
    needed = ", ".join(f"{source} {tokens:,.0f}" for source, tokens in totals["source_tokens"].items())
    epochs = ", ".join(
        f"{source} {'unknown until the text is prepared' if value is None else f'{value:.2f}'}"
        for source, value in totals["epochs"].items()
    )
    return [
        f"{totals['runs']} runs; {totals['remaining_runs']} of them, {totals['remaining_flops']:.4g} FLOPs, "
        "are still to do",
        f"validation adds up to {totals['validation_runs']} runs, {totals['validation_flops']:.4g} FLOPs",
        f"with validation: {totals['tokens']:,} tokens, {totals['flops']:.4g} FLOPs",
        *_search(totals),
        *_tuning(totals),
        f"time: {time}",
        *([] if dollars is None else [f"price: {dollars:,.0f} dollars at {totals['price']:g} a device hour"]),
        *_evaluators(totals),
        *_text(totals),
        f"disk: up to {totals['disk_bytes'] / 1e9:.3g} GB",
        f"most tokens of a source in one run: {needed}",
        f"largest number of passes over a source by one run: {epochs}",
    ]


def _text(totals: Mapping[str, Any]) -> list[str]:
    tokens, rate, cores = (totals[name] for name in ("text_tokens", "text_tokens_per_core_second", "text_cores"))
    if tokens is None:
        return [] if rate is None else [f"text was prepared at {rate:,.0f} tokens a second on each core"]
    if rate is None:
        return [f"text: {tokens:,} tokens to prepare; how fast a core does it is unknown until some is prepared"]
    hours = totals["text_hours"]
    said = f"text: {tokens:,} tokens to prepare at {rate:,.0f} a second on each core"
    return [f"{said}, about {hours:,.3g} h on {cores} cores"]


def _tuning(totals: Mapping[str, Any]) -> list[str]:
    if totals.get("tuned", True):
        return []
    return [
        f"tuning comes first and adds up to {totals['tuning_trials']} trials, {totals['tuning_flops']:.4g} FLOPs; the "
        "learning rates of the runs are not known before, so their run ids will change"
    ]
