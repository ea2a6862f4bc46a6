"""Who competes where. A strategy's results are kept under a hash of the sources that it names here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from tests.benchmarks.search.regmix_table import ROOT

BENCH = "tests/benchmarks/search"

SHARED = (
    *(f"flp_ray/core/{name}.py" for name in ("mixture", "records", "run")),
    "flp_ray/synthetic",
    *(f"{BENCH}/{name}.py" for name in ("problem", "replay", "worlds")),
)
"""What every result depends on."""

OURS = "ours"
"""Name of flp_ray's own strategy, against which the tables reckon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Competitor:
    """A strategy of the bench.

    Attributes:
        name: Its name in tables and files.
        module: Module of the generator function, below tests.benchmarks.search.
        function: Its name there.
        reads: Files and folders of the repository beside the module whose change makes old results worthless.
        worlds: Kinds of worlds that it enters (`planted`, `hostile`, `table`).
    """

    name: str
    module: str
    function: str
    reads: tuple[str, ...] = ()
    worlds: tuple[str, ...] = ("planted", "hostile")

    def strategy(self) -> Callable[[Any, int], Iterator[Any]]:
        """The generator function."""
        found: Callable[[Any, int], Iterator[Any]] = getattr(
            import_module(f"tests.benchmarks.search.{self.module}"), self.function
        )
        return found

    def fingerprint(self) -> str:
        """Hash of everything that its results depend on."""
        return _hash((*SHARED, f"{BENCH}/{self.module}.py", *self.reads))


SIMPLEX = ("flp_ray/propose/simplex.py",)

GRID = (*SIMPLEX, "flp_ray/fit", f"{BENCH}/highest.py")

SWARM = (*SIMPLEX, f"{BENCH}/highest.py", f"{BENCH}/boosting.py", f"{BENCH}/log_linear.py")

TABLE = (
    "flp_ray/fit/gaussian_process.py",
    "flp_ray/fit/matern.py",
    f"{BENCH}/boosting.py",
    f"{BENCH}/log_linear.py",
    f"{BENCH}/regmix_table.py",
)

PLANTED, ON_TABLE = ("planted",), ("table",)
"""On hostile worlds only a few baselines run: none of them can say that it cannot tell."""

LAW = ("flp_ray/fit", "flp_ray/propose")

COMPETITORS: tuple[Competitor, ...] = (
    Competitor(name=OURS, module="ours", function="search", reads=LAW),
    Competitor(name=OURS, module="ours", function="rank", reads=LAW, worlds=("table",)),
    Competitor(name="even-mixture", module="baselines_target", function="even_mixture", reads=(f"{BENCH}/highest.py",)),
    Competitor(name="random", module="baselines_target", function="random_search", reads=SIMPLEX),
    Competitor(name="sobol", module="baselines_target", function="sobol_search", reads=SIMPLEX, worlds=PLANTED),
    Competitor(name="optuna-tpe", module="baselines_target", function="tpe_search", reads=SIMPLEX, worlds=PLANTED),
    Competitor(name="optuna-gp", module="baselines_target", function="gp_search", reads=SIMPLEX, worlds=PLANTED),
    Competitor(name="full-grid", module="baselines_grid", function="full_grid", reads=GRID),
    Competitor(name="regmix", module="baselines_swarm", function="regmix", reads=SWARM, worlds=PLANTED),
    Competitor(name="regmix-scores", module="baselines_swarm", function="regmix_scores", reads=SWARM, worlds=PLANTED),
    Competitor(name="olmix", module="baselines_swarm", function="olmix", reads=SWARM, worlds=PLANTED),
    Competitor(name="olmix-scores", module="baselines_swarm", function="olmix_scores", reads=SWARM),
    Competitor(
        name="lightgbm-random", module="baselines_table", function="boosting_random", reads=TABLE, worlds=ON_TABLE
    ),
    Competitor(
        name="log-linear-random", module="baselines_table", function="log_linear_random", reads=TABLE, worlds=ON_TABLE
    ),
    Competitor(name="gp-random", module="baselines_table", function="process_random", reads=TABLE, worlds=ON_TABLE),
    Competitor(name="gp-variance", module="baselines_table", function="process_variance", reads=TABLE, worlds=ON_TABLE),
)


@cache
def _hash(paths: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        whole = ROOT / path
        for file in sorted(whole.rglob("*.py")) if whole.is_dir() else [whole]:
            digest.update(f"{file.relative_to(ROOT).as_posix()}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
