"""A figure that goes on the page and into files: panels drawn by one function in the page's or in paper's colours."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from flp_ray.report.axes import Paint, styled
from flp_ray.report.chart import panel
from flp_ray.report.svg import colour, settings

_COLUMNS = 4
_DOTS_PER_INCH = 200
_POINTS_PER_INCH = 72


@dataclass(frozen=True, slots=True, kw_only=True)
class Swatch:
    """One entry of a key: the mark as it is drawn, and what it means.

    Attributes:
        text: What the mark means.
        role: Its colour.
        dash: Dashes of a line in widths of the line, empty for a solid one; None for no line.
        width: Width of the line in pixels.
        marker: Matplotlib's name of a marker; empty for none.
        hollow: Whether the marker is not filled.
        opacity: Of the marker, 0 to 1.
        band: Whether an interval's band lies behind.
    """

    text: str
    role: str
    dash: tuple[float, ...] | None = None
    width: float = 1.6
    marker: str = ""
    hollow: bool = False
    opacity: float = 1.0
    band: bool = False

    def html(self) -> str:
        """The mark as inline SVG in the page's colours."""
        tone = f"var(--{self.role})"
        parts = []
        if self.band:
            parts.append(f'<rect width="26" height="12" fill="{tone}" fill-opacity="0.18"/>')
        if self.dash is not None:
            dashes = " ".join(f"{v * self.width:g}" for v in self.dash)
            pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
            parts.append(f'<path d="M0 6H26" stroke="{tone}" stroke-width="{self.width:g}"{pattern}/>')
        if self.marker:
            fill = "var(--surface)" if self.hollow else tone
            shape = _SHAPES[self.marker]
            parts.append(
                f'<path d="{shape}" transform="translate(13 6)" fill="{fill}" stroke="{tone}" '
                f'stroke-width="1.3" opacity="{self.opacity:g}"/>'
            )
        return f'<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">{"".join(parts)}</svg>'

    def handle(self, paint: Paint) -> Any:
        """The mark as matplotlib's legend wants it."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        tone = paint(self.role)
        line = Line2D(
            [], [], color=tone, linewidth=self.width,
            linestyle="none" if self.dash is None else (0, self.dash or (1, 0)),
            marker=self.marker or "none", markersize=6.5, alpha=self.opacity,
            markerfacecolor=paint("surface") if self.hollow else tone, markeredgecolor=tone,
        )  # fmt: skip
        return (Patch(facecolor=tone, alpha=0.18, linewidth=0), line) if self.band else line


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One panel.

    Attributes:
        title: Heading.
        label: What a screen reader says.
        x_label: Quantity and unit.
        y_label: Quantity and unit; empty where rows are named inside.
        draw: Draws on axes in the given colours.
        note: One line below the heading.
        size: Width and height in pixels.
        names: Pixels for names of rows left of the axes; 0 where there are none.
    """

    title: str
    label: str
    x_label: str
    y_label: str
    draw: Callable[[Any, Paint], None]
    note: str = ""
    size: tuple[int, int] = (320, 250)
    names: int = 0

    @property
    def left(self) -> int:
        """Pixels left of the axes, for the page's numbers, names and label."""
        return self.names or (42 if self.y_label else 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One figure.

    Attributes:
        name: Anchor on the page and name of its files.
        title: Heading.
        caption: What is seen and what to conclude.
        drawings: Its panels.
        swatches: Its key.
    """

    name: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...]
    swatches: tuple[Swatch, ...]


def inline_drawing(name: str, drawing: Drawing) -> str:
    """A panel as an `<svg>` element in the page's colours.

    Args:
        name: Unique on the page.
        drawing: The panel.
    """
    with panel(name, drawing.label, drawing.x_label, drawing.y_label, drawing.size, left=drawing.left) as drawn:
        drawing.draw(drawn.axes, colour)
    return drawn.svg


def write_sheet(folder: Path, sheet: Sheet) -> tuple[Path, ...]:
    """Writes a figure as SVG (text as shapes, so that it looks the same everywhere) and as PNG, on white.

    Args:
        folder: Where the files go; it exists.
        sheet: The figure.

    Returns:
        The files.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, cell, height = _grid(sheet)
    width = columns * cell[0]
    with matplotlib.rc_context(settings() | {"svg.fonttype": "path"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), facecolor=paper("surface"))
        FigureCanvasAgg(figure)
        for i, drawing in enumerate(sheet.drawings):
            x, y = (i % columns) * cell[0], height - (i // columns) * cell[1]
            _panel_at(figure, drawing, (x, y), (width, height))
        if sheet.swatches:
            _legend(figure, sheet.swatches, columns)
        paths = tuple(folder / f"{sheet.name}.{form}" for form in ("svg", "png"))
        figure.savefig(paths[0], format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(paths[1], format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return paths


@cache
def _light() -> dict[str, str]:
    style = files("flp_ray.report").joinpath("page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style[: style.index("}")]))


def paper(role: str) -> str:
    """The colour of a role in the page's light theme."""
    return _light()[role]


_HEAD = 40
"""Pixels above a panel for its heading and note."""


def _grid(sheet: Sheet) -> tuple[int, tuple[int, int], int]:
    number = len(sheet.drawings)
    columns = min(number, _COLUMNS if number > 6 or number == 4 else 3)
    rows = math.ceil(number / columns)
    cell = max(d.size[0] for d in sheet.drawings) + 14, max(d.size[1] for d in sheet.drawings) + _HEAD
    lines = math.ceil(len(sheet.swatches) / _in_a_row(columns))
    return columns, cell, rows * cell[1] + 22 * lines + (14 if lines else 0)


def _in_a_row(columns: int) -> int:
    return max(1, columns * 3 // 2)


def _panel_at(figure: Any, drawing: Drawing, corner: tuple[int, int], full: tuple[int, int]) -> None:
    (x, y), (width, height) = corner, full
    left, bottom, right = drawing.left + 8, 44, 14
    box = (
        (x + left) / width,
        (y - _HEAD - drawing.size[1] + bottom) / height,
        (drawing.size[0] - left - right) / width,
        (drawing.size[1] - bottom - 8) / height,
    )
    axes = figure.add_axes(box)
    styled(axes, drawing.x_label, drawing.y_label, 4, paper)
    drawing.draw(axes, paper)
    for text, drop, size, role, weight in (
        (drawing.title, 18, 11.5, "ink", "bold"),
        (drawing.note, 33, 9.5, "muted", "normal"),
    ):
        shown = cut(text, int(drawing.size[0] / (0.55 * size)))
        figure.text((x + 10) / width, (y - drop) / height, shown, fontsize=size, color=paper(role), weight=weight)


def cut(text: str, letters: int) -> str:
    """A text of at most so many letters, with an ellipsis where some are left out."""
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"


def _legend(figure: Any, swatches: Sequence[Swatch], columns: int) -> None:
    from matplotlib.legend_handler import HandlerTuple

    figure.legend(
        [s.handle(paper) for s in swatches],
        [cut(s.text, 60) for s in swatches],
        loc="lower center",
        ncol=min(len(swatches), _in_a_row(columns)),
        frameon=False,
        fontsize=10.5,
        labelcolor=paper("ink"),
        handler_map={tuple: HandlerTuple(ndivide=1)},
    )


_SHAPES = {
    "o": "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
    "^": "M0 -5L5 4H-5Z",
    "v": "M0 5L5 -4H-5Z",
    "s": "M-3.5 -3.5H3.5V3.5H-3.5Z",
    "D": "M0 -5L5 0L0 5L-5 0Z",
    "P": "M-1.5 -4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
    "|": "M0 -6V6",
}
