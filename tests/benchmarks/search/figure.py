"""One figure of a bench: what the answer loses against what was spent, a panel a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.search.replay import Trajectory
from tests.benchmarks.search.strategies import OURS
from tests.benchmarks.search.worlds import Case

COLOURS = {
    OURS: "#000000",
    "full-grid": "#c44e00",
    "regmix": "#3f8f4f",
    "regmix-scores": "#7fc08a",
    "olmix": "#7a4fa3",
    "olmix-scores": "#b79bd3",
    "random": "#a0a0a0",
    "sobol": "#c4b000",
    "optuna-tpe": "#4f8fd0",
    "optuna-gp": "#1f4f9f",
    "lightgbm-random": "#3f8f4f",
    "log-linear-random": "#7a4fa3",
    "gp-random": "#4f8fd0",
    "gp-variance": "#1f4f9f",
}

COLUMNS, WIDTH, HEIGHT = 3, 4.4, 3.4

FLOOR = {"planted": 1e-4, "hostile": 1e-4, "table": 5e-3}
"""Losses below are drawn here: on a logarithmic axis, what is nearly nothing would take all the room."""

STEPS = 160


def draw(results: Mapping[str, Mapping[str, Sequence[Trajectory]]], cases: Mapping[str, Case], path: Path) -> None:
    """Draws medians as lines and quartiles as bands; a line ends where half of the seeds have ended."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(results) // COLUMNS)
    figure, panels = pyplot.subplots(
        rows,
        min(COLUMNS, len(results)),
        figsize=(WIDTH * min(COLUMNS, len(results)), HEIGHT * rows + 0.6),
        squeeze=False,
    )
    handles: dict[str, Any] = {}
    for panel, (world, strategies) in zip(panels.flat, results.items(), strict=False):
        _panel(panel, cases[world], strategies, handles)
    for panel in panels.flat[len(results) :]:
        panel.axis("off")
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=7, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.9 / (HEIGHT * rows + 0.6) * 0.6, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


def bands(of: Sequence[Trajectory], spent: np.ndarray) -> np.ndarray:
    """Quartiles of the loss at each bill, (3, n); infinite where a quartile of the seeds has no answer yet."""
    losses = np.array([t.loss_at(spent) for t in of])
    return np.quantile(np.where(np.isfinite(losses), losses, 1e9), (0.25, 0.5, 0.75), axis=0)


def _panel(panel: Any, case: Case, strategies: Mapping[str, Sequence[Trajectory]], handles: dict[str, Any]) -> None:
    unit, floor = 1 if case.kind == "table" else 100, FLOOR[case.kind]
    for name, of in sorted(strategies.items(), key=lambda item: item[0] == OURS):
        first = [t.points[0].spent for t in of if t.points]
        end = float(np.median([t.spent for t in of]))
        if not first or end == 0:  # no search: its loss as a line across
            if first:
                level = unit * max(floor, float(np.median([t.points[-1].loss or 0.0 for t in of])))
                handles.setdefault(name, panel.axhline(level, color="#777777", lw=0.9, ls=":"))
            continue
        start = max(min(first), 1e-9)
        spent = np.geomspace(start, end, STEPS) if case.unit == "FLOPs" else np.linspace(start, end, STEPS)
        low, median, high = np.clip(bands(of, spent), floor, 1e9) * unit
        shown, colour = median < 1e6, COLOURS.get(name, "#888888")
        (line,) = panel.plot(
            spent[shown], median[shown], color=colour, lw=2.2 if name == OURS else 1.2, drawstyle="steps-post"
        )
        panel.fill_between(spent[shown], low[shown], np.minimum(high[shown], 1e3), color=colour, alpha=0.08, lw=0)
        if shown.any():
            panel.plot(spent[shown][-1], median[shown][-1], "o", color=colour, ms=4, clip_on=False, zorder=3)
        handles.setdefault(name, line)
    if case.goal is not None:
        panel.axhline(unit * case.goal, color="#cc0000", lw=0.8, ls="--")
    panel.set_yscale("log")
    if case.unit == "FLOPs":
        panel.set_xscale("log")
    panel.set_ylim(unit * floor, 30 if unit == 100 else 1.2)
    panel.set_xlabel(f"{case.unit} spent", fontsize=8)
    panel.set_ylabel(case.loss_name, fontsize=8)
    panel.set_title(case.title, fontsize=9)
    panel.tick_params(labelsize=7)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
