"""Backtest -> what its figures and tables draw on: names in order, measured targets, looks of the methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from flp_ray.core.backtest import Backtest, Judged, MethodResult, TargetResult, ValueKind
from flp_ray.core.backtest_summary import ErrorSummary, summarise
from flp_ray.report.drawing import Swatch

T = TypeVar("T")

KINDS: tuple[ValueKind, ...] = ("performance", "domain_loss")

WORDS: dict[ValueKind, tuple[str, str]] = {
    "performance": ("score", "score (%)"),
    "domain_loss": ("loss", "loss (nats per token)"),
}
"""What a kind of value is called, and its axis."""

FEW_TARGETS = 4
"""Up to so many targets each have a table and a panel of their own; more are shown together."""

POINTS = 250
"""Points of one kind in a panel; more are evenly thinned."""

_DASHES: tuple[tuple[float, ...], ...] = ((4, 1.6), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (2.5, 1.2), (8, 2))
_MARKERS = ("s", "D", "v", "P", "^")
_FEATURED = ("m0", "m3", "m4", "m2", "ink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a method is drawn: colour, dashes of its line, marker; `featured` where it has a colour of its own."""

    role: str
    dash: tuple[float, ...]
    marker: str
    featured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a target, whichever method predicted it.

    Attributes:
        run_id: The target.
        params: Its parameters.
        flops: Its training FLOPs.
        values: Measured values by kind and name.
    """

    run_id: str
    params: int
    flops: float
    values: dict[ValueKind, dict[str, float]]


def values_of(target: TargetResult, kind: ValueKind) -> dict[str, Judged]:
    """A target's predictions of one kind by name."""
    return target.performance if kind == "performance" else target.domain_loss


def methods_in_order(backtest: Backtest) -> tuple[MethodResult, ...]:
    """All methods, the chosen one first, the others in the order asked for."""
    return tuple(sorted(backtest.methods.values(), key=lambda m: m.method != backtest.chosen))


def looks(backtest: Backtest) -> dict[str, Look]:
    """How each method is drawn: the chosen one in blue, the next five in colours, the others in grey."""
    found = {}
    others = 0
    for result in methods_in_order(backtest):
        if result.method == backtest.chosen:
            found[result.method] = Look(role="predicted", dash=(), marker="o", featured=True)
        elif result.targets and others < len(_FEATURED):
            found[result.method] = Look(
                role=_FEATURED[others], dash=_DASHES[others], marker=_MARKERS[others], featured=True
            )
            others += 1
        else:
            found[result.method] = Look(role="muted", dash=(), marker="o", featured=False)
    return found


def names_of(backtest: Backtest, kind: ValueKind) -> tuple[str, ...]:
    """Tasks or domains in the order in which they are first named."""
    found = dict.fromkeys(backtest.random_performance) if kind == "performance" else {}
    for run in backtest.fitted:
        found |= dict.fromkeys(run.performance if kind == "performance" else run.domain_loss)
    for result in backtest.methods.values():
        found |= dict.fromkeys(name for target in result.targets for name in values_of(target, kind))
        found |= dict.fromkeys(curve.name for curve in result.curves if curve.kind == kind)
    return tuple(found)


def measured_targets(backtest: Backtest) -> tuple[Measured, ...]:
    """Every target with all that was measured of it."""
    found: dict[str, Measured] = {}
    for target in (t for result in backtest.methods.values() for t in result.targets):
        own = found.setdefault(
            target.run_id,
            Measured(
                run_id=target.run_id,
                params=target.params,
                flops=target.flops,
                values={"performance": {}, "domain_loss": {}},
            ),
        )
        for kind in KINDS:
            known = {name: v.actual for name, v in values_of(target, kind).items() if v.actual is not None}
            own.values[kind].update(known)
    return tuple(found.values())


def target_count(backtest: Backtest) -> int:
    """Number of targets that any method predicts."""
    return max((len(result.targets) for result in backtest.methods.values()), default=0)


def judged(result: MethodResult, kind: ValueKind, name: str) -> list[tuple[TargetResult, Judged]]:
    """A method's predictions of one task or domain, target by target."""
    return [(t, values_of(t, kind)[name]) for t in result.targets if name in values_of(t, kind)]


def roll_out_mean(backtest: Backtest, result: MethodResult, kind: ValueKind) -> float | None:
    """Mean over tasks (or domains) of a method's relative error in the roll-outs; None where nothing was judged."""
    names = set(names_of(backtest, kind))
    errors = [e for name, e in result.roll_out.items() if name in names and e is not None]
    return math.fsum(errors) / len(errors) if errors else None


def kind_summary(result: MethodResult, kind: ValueKind) -> ErrorSummary:
    """A method's numbers over all targets, of one kind."""
    own = summarise(result)
    return own.performance if kind == "performance" else own.domain_loss


def method_swatches(backtest: Backtest, kind: ValueKind, *, lines: bool) -> list[Swatch]:
    """The key of the methods: each with a colour of its own, and one entry for all others.

    Args:
        backtest: The methods.
        kind: What is drawn; methods that do not predict it are left out.
        lines: Whether methods are lines (the chosen one with a band), else markers.
    """
    styles = looks(backtest)
    shown = [m.method for m in methods_in_order(backtest) if any(values_of(t, kind) for t in m.targets)]
    found = []
    for name in shown:
        look = styles[name]
        if look.featured:
            first = look.role == "predicted"
            found.append(
                Swatch(text=name, role=look.role, dash=look.dash, width=2.2 if first else 1.6, band=first)
                if lines
                else Swatch(text=name, role=look.role, marker=look.marker)
            )
    grey = [name for name in shown if not styles[name].featured]
    if grey:
        text = ", ".join(grey) if len(grey) <= 3 else f"{len(grey)} other methods"
        found.append(
            Swatch(text=text, role="muted", dash=(), width=0.9)
            if lines
            else Swatch(text=text, role="muted", marker="o", opacity=0.7)
        )
    return found


def spread(values: Sequence[T], limit: int) -> list[T]:
    """At most so many of the values, evenly taken."""
    if len(values) <= limit:
        return list(values)
    return [values[round(i * (len(values) - 1) / (limit - 1))] for i in range(limit)]
