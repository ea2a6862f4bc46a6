"""The page of a backtest and its figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flp_ray.core.backtest import Backtest
from flp_ray.errors import StorageError
from flp_ray.report.backtest_answer import backtest_answer, backtest_notes
from flp_ray.report.backtest_figures import sheets
from flp_ray.report.backtest_tables import backtest_tables
from flp_ray.report.drawing import Sheet, inline_drawing, write_sheet
from flp_ray.report.page import page_environment, save_page

COMMAND = "flp-ray backtest"

_OVERVIEW = "errors-by-method"


def write_backtest(folder: Path, backtest: Backtest) -> Path:
    """Writes `report.html` and every figure as `figures/NAME.svg` and `.png`; files that are there are replaced.

    Args:
        folder: Where they go; made where it is missing.
        backtest: What they show.

    Returns:
        The page.

    Raises:
        StorageError: A file cannot be written.
    """
    drawn = sheets(backtest)
    path = save_page(folder / "report.html", _rendered(backtest, drawn), command=COMMAND)
    figures = folder / "figures"
    try:
        figures.mkdir(exist_ok=True)
        for sheet in drawn:
            write_sheet(figures, sheet)
    except OSError as error:
        raise StorageError(
            f"The figures cannot be written to {figures}: {error.strerror or error}. "
            f"Free space or choose another folder, then run `{COMMAND}` again; the report is at {path}."
        ) from error
    return path


def render_backtest(backtest: Backtest) -> str:
    """The page as text; the same backtest gives the same text."""
    return _rendered(backtest, sheets(backtest))


def _rendered(backtest: Backtest, drawn: Sequence[Sheet]) -> str:
    first = drawn[0] if drawn and drawn[0].name == _OVERVIEW else None
    return (
        page_environment()
        .get_template("backtest.html.jinja")
        .render(
            backtest=backtest,
            answer=backtest_answer(backtest),
            notes=backtest_notes(backtest),
            hero=first,
            figures=[sheet for sheet in drawn if sheet is not first],
            tables=backtest_tables(backtest),
            inline=inline_drawing,
        )
    )
