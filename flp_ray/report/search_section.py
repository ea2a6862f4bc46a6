"""The page's section on the search: what it found, what it spent, why each run, the surface, the front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flp_ray.report.drawing import Sheet, inline_drawing
from flp_ray.report.front import front_points, front_sheet
from flp_ray.report.regret import regret_sheet
from flp_ray.report.search_tables import answer_table, decision_table, front_table
from flp_ray.report.search_words import (
    Finding,
    budget_sentence,
    findings,
    no_finding,
    regret_sentence,
    stop_sentence,
)
from flp_ray.report.surface import surface_sheets
from flp_ray.report.tables import TableView
from flp_ray.report.view import PanelView

if TYPE_CHECKING:
    from flp_ray.core.search import SearchView
    from flp_ray.report.content import ReportContent

_OPEN_ROWS = 15
"""Longer tables of decisions are folded."""

_WIDE = 400
"""Panels from this many pixels on have a line of the page to themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetBar:
    """The budget as parts of a bar, in percent of the larger of the budget and what is spent or kept.

    Attributes:
        spent: Of the runs decided so far.
        reserved: Kept for validation.
        text: The same in words.
    """

    spent: float
    reserved: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetView:
    """A figure of the section with its panels drawn.

    Attributes:
        sheet: Heading, caption and key.
        panels: The panels as SVG.
        wide: Whether a panel fills a line of the page.
    """

    sheet: Sheet
    panels: tuple[PanelView, ...]
    wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSection:
    """Everything the section shows.

    Attributes:
        findings: What the search says, by objective.
        missing: What is said in place of findings.
        budget: The budget as a bar.
        regret: The expected regret in a sentence.
        stopped: Why the search ended, or that it goes on.
        answers: Mixtures side by side.
        history: How the search came down; None before the first decision.
        decisions: Every decision.
        folded: Whether the table of decisions is folded.
        surfaces: The mixture surface, by objective.
        front: The Pareto front; None where none was asked for.
        front_table: Its mixtures.
    """

    findings: tuple[Finding, ...]
    missing: str
    budget: BudgetBar
    regret: str
    stopped: str
    answers: TableView
    history: SheetView | None
    decisions: TableView
    folded: bool
    surfaces: tuple[SheetView, ...]
    front: SheetView | None
    front_table: TableView


def search_section(content: ReportContent) -> SearchSection | None:
    """The section, drawn; None where the study has no search."""
    view = content.search
    if view is None:
        return None
    return SearchSection(
        findings=findings(view),
        missing=no_finding(view),
        budget=_budget_bar(view),
        regret=regret_sentence(view),
        stopped=stop_sentence(view),
        answers=answer_table(view),
        history=_drawn(regret_sheet(view)),
        decisions=decision_table(view),
        folded=len(view.decisions) > _OPEN_ROWS,
        surfaces=tuple(drawn for sheet in surface_sheets(content) if (drawn := _drawn(sheet)) is not None),
        front=_drawn(front_sheet(view)),
        front_table=front_table(view, front_points(view)),
    )


def _budget_bar(view: SearchView) -> BudgetBar:
    whole = max(view.budget_flops, view.spent_flops + view.reserved_flops)
    scale = 100 / whole if whole > 0 else 0.0
    return BudgetBar(
        spent=round(scale * view.spent_flops, 3),
        reserved=round(scale * view.reserved_flops, 3),
        text=budget_sentence(view),
    )


def _drawn(sheet: Sheet | None) -> SheetView | None:
    if sheet is None:
        return None
    panels = tuple(
        PanelView(title=d.title, note=d.note, svg=inline_drawing(f"search-{sheet.name}-{i}", d))
        for i, d in enumerate(sheet.drawings)
    )
    return SheetView(sheet=sheet, panels=panels, wide=sheet.drawings[0].size[0] >= _WIDE)
