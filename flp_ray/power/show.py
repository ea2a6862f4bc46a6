"""The answer of `flp-ray power`: a line a world while it works, a table, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from flp_ray.power.judgement import Judgement
from flp_ray.power.measure import DESIGNS, MEMBERS, TOLERANCE, DesignPower, conclusion
from flp_ray.power.planted import RUN_NOISE

ASSUMED = (
    f"Assumed: the laws of FLP-M, tasks that emerge within the ladder, the best mixture for the mean within the grid, "
    f"{100 * RUN_NOISE:.2g} % of noise between the losses of two seeds, the study's items; at most {MEMBERS} "
    f"members in each fit. Real laws bend: take it as the best that the design can do."
)


def power_json(study: str, powers: Sequence[DesignPower]) -> dict[str, Any]:
    """What `flp-ray power --json` prints."""
    return {
        "study": study,
        "tolerance": TOLERANCE,
        "run_noise": RUN_NOISE,
        "designs": [asdict(p) for p in powers],
        "conclusion": conclusion(powers),
        "assumed": ASSUMED,
    }


def progress(draws: int, console: Console) -> Callable[[int, str, Judgement | None], None]:
    """Prints a line once all designs have been judged in a world."""
    parts: list[str] = []

    def said(draw: int, design: str, judgement: Judgement | None) -> None:
        shown = "refused" if judgement is None else _number(next(iter(judgement.distances.values())), "{:.3g}")
        parts.append(f"{design} {shown}")
        if design == DESIGNS[-1]:
            console.print(f"world {draw + 1} of {draws}: off by {', '.join(parts)}", highlight=False, soft_wrap=True)
            parts.clear()

    return said


def print_power(powers: Sequence[DesignPower], console: Console) -> None:
    """Prints the table and the conclusion."""
    table = Table(title=f"Power over {powers[0].worlds} planted worlds", title_justify="left")
    for head in ("design", "runs", "FLOPs", "objective", f"within {TOLERANCE:g}", "points lost"):
        table.add_column(head, justify="left" if head in ("design", "objective") else "right", overflow="fold")
    for head in ("score error", "90 %", "in interval"):
        table.add_column(head, justify="right")
    for power in powers:
        for i, (objective, found) in enumerate(power.found.items()):
            cells = [power.name, str(power.runs), f"{power.flops:.3g}"] if i == 0 else [""] * 3
            cells += [objective, f"{100 * found:.0f} %", _number(power.regret_points[objective], "{:.2g}")]
            if i == 0:
                cells += [_percent(power.score_error), _percent(power.score_error_90)]
                inside = (power.coverage.get(kind) for kind in ("loss", "score", "objective"))
                cells.append(" / ".join(_percent(share, 0) for share in inside))
            table.add_row(*cells)
    console.print(table)
    for line in (
        "within: share of the worlds whose best mixture was found that close; points lost: true score given away by "
        "taking the mixture found (median); score error: relative error of predicted scores (median, and what 90 % of "
        "them stay below); in interval: share of newly measured losses / scores / means within their 80 % intervals.",
        *([f"Not fitted: {refused}."] if (refused := _refused(powers)) else []),
        conclusion(powers),
        ASSUMED,
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _refused(powers: Sequence[DesignPower]) -> str:
    return ", ".join(f"{p.name} in {p.refused} worlds" for p in powers if p.refused)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
