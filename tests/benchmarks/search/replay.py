"""One strategy on one world and seed: the bill against what its answer would lose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tests.benchmarks.search.problem import BudgetSpent


class Bill(Protocol):
    """What a problem of any kind shows of its bill."""

    @property
    def spent(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One answer.

    Attributes:
        spent: The bill when it was given, in the world's unit (FLOPs or runs).
        loss: What it would lose, in the world's unit (score 0 to 1, or 1 - Spearman); None where there was no answer.
        confident: Whether the strategy stood by it.
        expected: What the strategy expected to lose; None where it said nothing.
        shown: The mixture in words, for looking at single trajectories.
    """

    spent: float
    loss: float | None
    confident: bool = True
    expected: float | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Everything that a replay leaves.

    Attributes:
        points: The answers in order; the last one stands when the strategy has stopped.
        spent: The bill at the end.
        ended: `stopped` by itself, at the `cap`, or `held` (see `replay`).
        seconds: Processor time of the strategy, judging included.
    """

    points: tuple[Point, ...]
    spent: float
    ended: str
    seconds: float

    def cost_to_goal(self, goal: float) -> float | None:
        """The bill from which on every answer keeps the goal, to the trajectory's end; None where the last does not.

        An answer counts from the bill at which it was given until the next one. So a strategy that reached the goal
        by luck and lost it again has not reached it, and one that stops stands by its last answer.
        """
        cost = None
        for point in self.points:
            if point.loss is None or point.loss > goal:
                cost = None
            elif cost is None:
                cost = point.spent
        return cost

    def loss_at(self, spent: np.ndarray) -> np.ndarray:
        """What the answer that stands at each bill would lose; NaN before the first one."""
        losses = np.array([np.nan, *(np.nan if p.loss is None else p.loss for p in self.points)])
        return losses[np.searchsorted([p.spent for p in self.points], spent, side="right")]

    def tells(self) -> bool:
        """Whether the strategy stands by an answer at the end."""
        return bool(self.points) and self.points[-1].loss is not None and self.points[-1].confident

    def as_dict(self) -> dict[str, Any]:
        """A JSON value."""
        rows = [[p.spent, p.loss, p.confident, p.expected, p.shown] for p in self.points]
        return {"points": rows, "spent": self.spent, "ended": self.ended, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Trajectory:
        """Reads what `as_dict` gave."""
        points = (Point(spent=s, loss=r, confident=c, expected=e, shown=w) for s, r, c, e, w in value["points"])
        return cls(points=tuple(points), spent=value["spent"], ended=value["ended"], seconds=value["seconds"])


def replay(
    answers: Iterator[Any],
    bill: Bill,
    judge: Callable[[Any], float],
    *,
    hold: Callable[[list[Point]], bool] | None = None,
) -> Trajectory:
    """Runs a strategy to its end and judges every answer.

    Args:
        answers: The strategy's generator, not begun.
        bill: The problem that it pays at.
        judge: What an answer would lose; the truth lives in here.
        hold: Ends the replay early, once the points so far are enough (used where a table is large).
    """
    began = time.process_time()
    points: list[Point] = []
    ended = "stopped"
    try:
        for answer in answers:
            points.append(_point(answer, bill.spent, judge))
            if hold is not None and hold(points):
                ended = "held"
                break
    except BudgetSpent:
        ended = "cap"
    return Trajectory(points=tuple(points), spent=bill.spent, ended=ended, seconds=time.process_time() - began)


def quantiles(costs: Iterable[float | None], at: tuple[float, ...] = (0.25, 0.5, 0.75)) -> list[float | None]:
    """Quantiles of costs; a seed that never reached the goal counts as infinite, and so may a quantile (None)."""
    values = np.sort([np.inf if c is None else c for c in costs])
    found: list[float | None] = []
    for share in at:
        place = share * (len(values) - 1)
        low, part = int(place), place - int(place)
        high = min(low + 1, len(values) - 1)
        value = values[low] if part == 0 else (1 - part) * values[low] + part * values[high]
        found.append(float(value) if np.isfinite(value) else None)
    return found


def _point(answer: Any, spent: float, judge: Callable[[Any], float]) -> Point:
    if answer is None:
        return Point(spent=spent, loss=None)
    return Point(
        spent=spent,
        loss=float(judge(answer)),
        confident=getattr(answer, "confident", True),
        expected=getattr(answer, "expected_regret", None),
        shown=str(getattr(answer, "mixture", "")),
    )
