"""The report: everything a study knows -> one HTML page that stands alone, and a summary in the terminal.

The first screen answers "which mixture, how sure, how do you know"; figures and tables below it show the
evidence. Nothing is loaded from outside the page, and the same content gives the same bytes.

Modules, in the order of the flow:
    content               what a report is made of
    numbers               numbers as text
    series, laws          records and surrogate -> the points and lines of the figures
    answer, evidence      the question and its answer in words; how sure, how known
    chart, axes, svg      one panel as inline SVG that follows the page's theme
    view, ratio, figures  panels and captions, section by section
    tables                rows of text
    experiment, experiment_tables  the validation: hit or miss, and the test of the difference
    page                  the HTML file
    console               the summary for the terminal
    predictions           fits of finished runs and single predictions for the terminal
    backtest_*, drawing, dotplot  predictions beside measured targets: page, figures for papers, terminal
    search_*, regret, surface, ternary, slices, parallel, front  the search: words, values, tables, figures
    growth_view  what has changed since the study was last given
    tuning_view, tuning_figure  trials, optima and the values carried to every size
    plan_view, live, status_view  the plan before the start, the runs while they go, how far they are
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flp_ray.report.content import ReportContent, RunRow, TextSummary

if TYPE_CHECKING:
    from flp_ray.report.backtest_console import print_backtest
    from flp_ray.report.backtest_page import write_backtest
    from flp_ray.report.console import print_laws, print_proposals, print_summary
    from flp_ray.report.growth_view import print_growth
    from flp_ray.report.live import RunTable
    from flp_ray.report.page import write_report
    from flp_ray.report.plan_view import print_plan
    from flp_ray.report.predictions import print_fit, print_prediction
    from flp_ray.report.search_values import search_json
    from flp_ray.report.status_view import print_status
    from flp_ray.report.tuning_view import print_tuning

__all__ = [
    "ReportContent",
    "RunRow",
    "RunTable",
    "TextSummary",
    "print_backtest",
    "print_fit",
    "print_growth",
    "print_laws",
    "print_plan",
    "print_prediction",
    "print_proposals",
    "print_status",
    "print_summary",
    "print_tuning",
    "search_json",
    "write_backtest",
    "write_report",
]

# Late, because the page pulls jinja2 and matplotlib and the console views pull rich.
_HOME = {
    "RunTable": "live",
    "print_backtest": "backtest_console",
    "print_fit": "predictions",
    "print_growth": "growth_view",
    "print_laws": "console",
    "print_plan": "plan_view",
    "print_prediction": "predictions",
    "print_proposals": "console",
    "print_status": "status_view",
    "print_summary": "console",
    "print_tuning": "tuning_view",
    "search_json": "search_values",
    "write_backtest": "backtest_page",
    "write_report": "page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"flp_ray.report.{_HOME[name]}"), name)
