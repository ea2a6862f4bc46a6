"""A finished table as a search problem: RegMix's 512 runs of a 1M model, judged on 256 other mixtures at 60M.

A strategy pays one unit a run, in any order it likes, and names a ranking model: a function from mixing ratios to
something that grows with the loss on Pile-CC. The judge compares the order it gives to the held-out mixtures with
the order of their measured losses at 60M (Spearman). The table stays where it is: nothing of it is in the project.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from flp_ray.store import read_records

Array = NDArray[Any]

ROOT = Path(__file__).resolve().parents[3]

VARIABLE = "FLP_RAY_SHARED_DATA"
"""Environment variable with the folder that holds `regmix/`; default: shared/data beside the project."""

DOMAIN, JUDGED_PARAMS = "pile_cc", 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """A strategy's answer on a table.

    Attributes:
        model: Mixing ratios in the order of the sources, (n, K) -> numbers that grow with the loss, (n,).
        confident: Whether the strategy stands by it.
    """

    model: Callable[[Array], Array]
    confident: bool = True


@dataclass(slots=True, kw_only=True)
class TableProblem:
    """A search through a finished table.

    Attributes:
        sources: Names of the sources, K, in the order of `pool`.
        pool: Mixtures that can be paid for, (n, K).
        domain: The domain whose loss is to be ranked.
        goal: 1 - Spearman that counts as found.
        spent: Runs paid so far.
    """

    sources: tuple[str, ...]
    pool: Array
    domain: str
    goal: float
    spent: float = 0.0
    _losses: dict[str, Array]
    _paid: set[int] = field(default_factory=set)

    def pay(self, number: int) -> dict[str, float]:
        """Every domain loss of one run of the pool, nats per token; a run paid for already costs nothing more."""
        if number not in self._paid:
            self._paid.add(number)
            self.spent += 1
        return {name: float(column[number]) for name, column in self._losses.items()}

    def paid(self) -> Array:
        """Numbers of the runs paid so far, in rising order."""
        return np.array(sorted(self._paid), dtype=int)


TableStrategy = Callable[[TableProblem, int], Iterator[Ranking | None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegmixTable:
    """The pool and the held-out mixtures."""

    sources: tuple[str, ...]
    pool: Array
    losses: dict[str, Array]
    held_out: Array
    truth: Array

    def problem(self, goal: float) -> TableProblem:
        """A new bill."""
        return TableProblem(sources=self.sources, pool=self.pool, domain=DOMAIN, goal=goal, _losses=self.losses)

    def judge(self, answer: Ranking) -> float:
        """1 - Spearman against the measured losses at 60M; 1 for a model that ranks nothing."""
        ranked = np.asarray(answer.model(self.held_out))
        return 1.0 if np.ptp(ranked) == 0 else 1.0 - float(spearmanr(ranked, self.truth).statistic)


def shared_data(given: Path | None) -> Path:
    """The folder with the public tables: as given, by the environment, or beside the project."""
    return given or Path(os.environ.get(VARIABLE, ROOT.parent / "shared" / "data"))


def load_regmix(folder: Path) -> RegmixTable:
    """Reads the table in the import form.

    Args:
        folder: The folder `regmix` with runs.csv and measurements.parquet.

    Raises:
        RecordsError: The folder is no table in the import form.
    """
    with (folder / "runs.csv").open() as file:
        sources = tuple(c.removeprefix("ratio.") for c in next(csv.reader(file)) if c.startswith("ratio."))
    records = read_records(folder)
    finals = {c.run.run_id: c for c in records.final_checkpoints()}
    pool = [c for c in finals.values() if c.run.purpose == "sampling"]
    judged = [c for c in finals.values() if c.run.purpose == "target" and c.run.params == JUDGED_PARAMS]

    def ratios(of: list[Any]) -> Array:
        return np.array([[c.run.mixture.ratio(s) for s in sources] for c in of])

    return RegmixTable(
        sources=sources,
        pool=ratios(pool),
        losses={d: np.array([c.domain_loss[d] for c in pool]) for d in records.domains},
        held_out=ratios(judged),
        truth=np.array([c.domain_loss[DOMAIN] for c in judged]),
    )
