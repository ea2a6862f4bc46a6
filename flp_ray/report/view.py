"""What a figure is on the page: panels, a key, a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KeyMark = Literal[
    "line",
    "dashed",
    "dotted",
    "rule",
    "band",
    "grid",
    "off",
    "target",
    "validation",
    "filled",
    "hollow",
    "outlined",
    "scale",
    "upright",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a figure's key: its mark and what the mark means."""

    mark: KeyMark
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelView:
    """One panel of a figure: heading, drawing, one line below the heading."""

    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureView:
    """One figure of the page.

    Attributes:
        name: Anchor on the page.
        title: Heading.
        caption: What is seen and what to conclude.
        panels: Drawings; empty where there is nothing to draw.
        keys: The key, shared by all panels.
        missing: Why there is nothing to draw; empty where there are panels.
    """

    name: str
    title: str
    caption: str
    panels: tuple[PanelView, ...]
    keys: tuple[Key, ...]
    missing: str = ""


def nothing(name: str, title: str, why: str) -> FigureView:
    """A figure that cannot be drawn, with the reason in words."""
    return FigureView(name=name, title=title, caption="", panels=(), keys=(), missing=why)
