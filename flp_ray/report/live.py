"""What a person sees while runs train: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from flp_ray.core.run import RunSpec

RECENT_ROWS = 12
"""Rows of the live table: all running runs first, then those that ended last."""


@dataclass(slots=True)
class _Row:
    spec: RunSpec
    state: str = "waiting"
    tokens: int = 0
    train_loss: float | None = None
    began: float | None = None
    ended: float | None = None
    note: str = ""


@dataclass(slots=True)
class RunTable:
    """Follows a list of runs; use it as a context manager around the training.

    Attributes:
        specs: The runs that are about to be trained.
        console: Where to print.
        earlier: Runs of the same plan that were finished before.
        headline: A line below the table, such as the surrogate's present best mixture.
    """

    specs: Sequence[RunSpec]
    console: Console
    earlier: int = 0
    headline: str = ""
    _rows: dict[str, _Row] = field(init=False)
    _live: Live | None = field(init=False, default=None)
    _began: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._rows = {spec.run_id: _Row(spec) for spec in self.specs}

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def planned(self, spec: RunSpec) -> None:
        """A run has been decided on."""
        self._rows[spec.run_id] = _Row(spec)

    def note(self, line: str) -> None:
        """Prints a line, above the table where there is one."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def started(self, run_id: str) -> None:
        """A run has got its slot."""
        row = self._rows[run_id]
        row.state = "running"
        row.began = row.began or time.monotonic()
        self._say(f"{row.spec.size:>6} {row.spec.mixture}: started")

    def progress(self, run_id: str, tokens: int, train_loss: float) -> None:
        """A run has reached a checkpoint."""
        row = self._rows[run_id]
        row.tokens, row.train_loss = tokens, train_loss

    def finished(self, run_id: str) -> None:
        """A run is done and recorded."""
        row = self._rows[run_id]
        row.state, row.ended, row.tokens = "finished", time.monotonic(), row.spec.train_tokens
        loss = "" if row.train_loss is None else f", training loss {row.train_loss:.3f}"
        self._say(
            f"{row.spec.size:>6} {row.spec.mixture}: finished in {_seconds(row):.0f} s{loss} "
            f"[{self._count('finished') + self.earlier}/{len(self._rows) + self.earlier}"
            f"{', ' + self._remaining() if self._remaining() else ''}]"
        )

    def retried(self, run_id: str, reason: str) -> None:
        """An attempt failed; the run starts again from its last saved state."""
        self._rows[run_id].state, self._rows[run_id].note = "retrying", reason
        self._say(f"{self._rows[run_id].spec.size:>6} {run_id}: attempt failed, tried again: {reason}")

    def failed(self, run_id: str, reason: str) -> None:
        """A run failed for good."""
        row = self._rows[run_id]
        row.state, row.ended, row.note = "failed", time.monotonic(), reason
        self._say(f"{row.spec.size:>6} {run_id}: failed: {reason}")

    def say(self, headline: str) -> None:
        """Sets the line below the table."""
        self.headline = headline

    def _say(self, line: str) -> None:
        if self._live is None:
            headline = f"  | {self.headline}" if self.headline and "finished" in line else ""
            self.console.print(line + headline, highlight=False, markup=False, soft_wrap=True)

    def _count(self, state: str) -> int:
        return sum(row.state == state for row in self._rows.values())

    def _remaining(self) -> str:
        """Expected time left, from the FLOP/s of this call so far."""
        done = sum(r.spec.flops_at(r.tokens) for r in self._rows.values())
        left = sum(r.spec.flops for r in self._rows.values() if r.state != "failed") - done
        if not done or left <= 0:
            return ""
        return f"about {duration((time.monotonic() - self._began) * left / done)} left"

    def _table(self) -> Table:
        done, running, failed = (self._count(s) for s in ("finished", "running", "failed"))
        title = f"{done + self.earlier} of {len(self._rows) + self.earlier} runs finished, {running} running"
        title += f", {failed} failed" if failed else ""
        title += f", {left}" if (left := self._remaining()) else ""
        table = Table(title=title, title_justify="left", caption=self.headline or None, caption_justify="left")
        for name in ("run", "purpose", "size", "mixture", "state"):
            table.add_column(name)
        for name in ("tokens", "training loss", "seconds"):
            table.add_column(name, justify="right")
        for row in self._shown():
            table.add_row(
                row.spec.run_id[:8],
                row.spec.purpose,
                row.spec.size,
                str(row.spec.mixture),
                row.state,
                f"{100 * row.tokens / row.spec.train_tokens:.0f} %",
                "" if row.train_loss is None else f"{row.train_loss:.3f}",
                "" if row.began is None else f"{_seconds(row):.0f}",
            )
        return table

    def _shown(self) -> list[_Row]:
        active = [r for r in self._rows.values() if r.state in ("running", "retrying")]
        ended = sorted((r for r in self._rows.values() if r.ended), key=lambda r: -(r.ended or 0))
        return active + ended[: max(0, RECENT_ROWS - len(active))]


def _seconds(row: _Row) -> float:
    return (row.ended or time.monotonic()) - (row.began or time.monotonic())


def duration(seconds: float) -> str:
    """A time span as a person says it: `40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
