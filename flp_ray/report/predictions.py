"""Fits of finished runs and single predictions, on the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_fit(fit: Mapping[str, Any], console: Console) -> None:
    """Prints what was chosen for every domain and task, with its errors in the roll-outs.

    Args:
        fit: What `flp-ray fit RECORDS --json` prints.
        console: Where to print.
    """
    for name, method in fit["methods"].items():
        console.print(f"Method {name}, judged by {fit['scheme']}", highlight=False)
        if method["domains"]:
            laws = ", ".join(f"{law} {100 * w:.0f} %" if w < 1 else law for law, w in method["laws"].items())
            table = Table(title=f"Domain losses: {laws or 'no law'}", title_justify="left")
            for column in ("domain", "roll-out error", "noise of a run", "floor law"):
                table.add_column(column, justify="left" if column in ("domain", "floor law") else "right")
            for domain, row in method["domains"].items():
                table.add_row(domain, _percent(row["roll_out_error"]), _percent(row["noise"]), _law(row["law"]))
            console.print(table)
        if method["tasks"]:
            table = Table(title="Scores", title_justify="left")
            for column in ("task", "roll-out error", "noise of a run", "pairs of law and link"):
                table.add_column(column, justify="left" if column in ("task", "pairs of law and link") else "right")
            for task, row in method["tasks"].items():
                pairs = ", ".join(f"{n} {100 * w:.0f} %" for n, w in row["weights"].items())
                table.add_row(task, _percent(row["roll_out_error"]), f"{100 * row['noise']:.2g} points", pairs)
            console.print(table)
        _reasons(method["not_predicted"], console)
    for name, reason in fit["unfit"].items():
        _say(f"{name} could not be fitted: {reason}.", console)
    for warning in fit["warnings"]:
        _say(f"Note: {warning}", console)
    if fit["fit"]:
        _say(f"Fit: {fit['fit']}", console)


def print_prediction(answer: Mapping[str, Any], console: Console) -> None:
    """Prints one prediction.

    Args:
        answer: What `flp-ray predict --json` prints.
        console: Where to print.
    """
    ratios = ", ".join(f"{100 * r:.3g} % {s}" for s, r in answer["ratios"].items() if r > 0)
    mixture = f", {ratios}" if len(answer["ratios"]) > 1 else ""
    console.print(
        f"{answer['params']:.4g} parameters, {answer['tokens']:.4g} tokens, {answer['flops']:.3g} FLOPs{mixture}; "
        f"method {answer['method']}" + (", outside the fitted runs (extrapolated)" if answer["extrapolated"] else ""),
        highlight=False,
        soft_wrap=True,
    )
    for title, kind, scale, digits in (
        ("Scores, percent", "performance", 100, 1),
        ("Domain losses", "domain_loss", 1, 3),
    ):
        if answer[kind]:
            table = Table(title=title, title_justify="left")
            table.add_column("task" if kind == "performance" else "domain")
            table.add_column("expected", justify="right")
            table.add_column("80 % interval", justify="right")
            for name, p in answer[kind].items():
                mean, low, high = (f"{scale * p[end]:.{digits}f}" for end in ("mean", "low", "high"))
                table.add_row(name, mean, f"{low} to {high}")
            console.print(table)
    _reasons(answer["not_predicted"], console)
    for warning in answer["warnings"]:
        _say(f"Note: {warning}", console)


def _reasons(reasons: Mapping[str, str], console: Console) -> None:
    for task, reason in reasons.items():
        _say(f"{task} is not predicted: {reason}.", console)


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2g} %"


def _law(numbers: Mapping[str, float] | None) -> str:
    if numbers is None:
        return ""
    return f"{numbers['A']:.3g} / N^{numbers['a']:.3f} + {numbers['B']:.3g} / D^{numbers['b']:.3f} + {numbers['E']:.3f}"
