"""A planted search problem: what a strategy may know, what it pays for, and what it answers.

A strategy is a generator function of the problem and a seed:

    def strategy(problem: Problem, seed: int) -> Iterator[Answer | None]:
        records = problem.pay(mixture, problem.sizes[0], seed=0)     # trains one run and adds its FLOPs to the bill
        ...
        yield Answer(mixture=best, expected_regret=0.004)            # the mixture it would train the target with now

It yields whenever the bill has grown and it would name a mixture, None where it cannot name one yet. It ends by
returning; when the bill would pass the cap, `pay` raises `BudgetSpent`, which the replay catches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records, Task
from flp_ray.propose.simplex import Bounds
from flp_ray.synthetic import Design, PlantedSize, World

SEEDS = 1_000_000
"""Noise seeds of a problem: run seeds are below it, so that no two problems share a run's noise."""


CHECKPOINTS = 30
"""Checkpoints of a run, as in the paper."""


class BudgetSpent(Exception):  # noqa: N818  a signal to the replay, not a fault
    """The run would take the bill past the cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a strategy would do now.

    Attributes:
        mixture: The mixture that it would train the target with.
        confident: Whether it stands by it; False says "cannot tell".
        expected_regret: What it expects to lose against the best mixture, score 0 to 1; None where it does not know.
        note: Anything worth keeping beside it, such as why it stopped.
    """

    mixture: Mixture
    confident: bool = True
    expected_regret: float | None = None
    note: str = ""


@dataclass(slots=True, kw_only=True)
class Problem:
    """A search on a planted world. The world itself is private: a strategy learns of it by paying.

    Attributes:
        name: Name of the world's kind.
        sizes: Sizes of the ladder, cheap to dear; the target is none of them.
        target: The size that the mixture is for. It may be trained too.
        bounds: Sources with the lowest and highest ratio that a mixture may have.
        domains: Names of the validation domains, sorted.
        tasks: Tasks with their chance levels, by name.
        objective: What is sought: `mean`, the plain mean over the tasks at the target.
        goal: Regret that counts as found, score 0 to 1; None where none is claimed.
        cap_flops: FLOPs that the bill may not pass.
        spent: FLOPs paid so far.
        runs: Runs paid so far.
    """

    name: str
    sizes: tuple[PlantedSize, ...]
    target: PlantedSize
    bounds: Bounds
    domains: tuple[str, ...]
    tasks: tuple[Task, ...]
    goal: float | None
    cap_flops: float
    objective: str = "mean"
    spent: float = 0.0
    runs: int = 0
    _world: World
    _seed: int
    _paid: dict[tuple[Mixture, str, int], tuple[int, Records]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        world: World,
        *,
        seed: int,
        sizes: tuple[PlantedSize, ...],
        target: PlantedSize,
        bounds: Bounds,
        goal: float | None,
        cap_flops: float,
    ) -> Problem:
        """The problem of a world; `seed` is that of its noise."""
        tasks = sorted(
            (Task(task=n, random_performance=t.random_performance) for n, t in world.tasks.items()), key=_name
        )
        return cls(
            name=name,
            sizes=sizes,
            target=target,
            bounds=bounds,
            domains=tuple(sorted(world.domains)),
            tasks=tuple(tasks),
            goal=goal,
            cap_flops=cap_flops,
            _world=world,
            _seed=seed,
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources, sorted."""
        return self.bounds.sources

    def pay(self, mixture: Mixture, size: PlantedSize, seed: int = 0, *, checkpoints: int = CHECKPOINTS) -> Records:
        """Trains one run and returns everything measured of it.

        Args:
            mixture: A mixture within the bounds.
            size: One of `sizes`, or `target`.
            seed: Seed of the run, 0 to 999,999; another one repeats the run with other noise. A run that was paid

        Returns:
            Records of one run of purpose `sampling`: checkpoints with losses, scores and standard errors.

        Raises:
            BudgetSpent: The run would take the bill past the cap; nothing is paid.
            ValueError: The mixture breaks the bounds, the size is none of the problem's, or the run was measured at
                another number of checkpoints before.
        """
        key = (mixture, size.name, seed)
        if key in self._paid:
            known, records = self._paid[key]
            if known != checkpoints:
                raise ValueError(f"The run was measured at {known} checkpoints; it cannot be had at {checkpoints} too.")
            return records
        if size not in (*self.sizes, self.target):
            raise ValueError(f"{size.name} is no size of the problem ({', '.join(s.name for s in self.sizes)}).")
        if mixture.sources != self.sources or not self.bounds.contains(mixture):
            raise ValueError(f"The mixture {mixture} breaks the bounds of the problem {self.name}.")
        if not 0 <= seed < SEEDS:
            raise ValueError(f"A run's seed must lie in 0 to {SEEDS - 1:,}, received {seed}.")
        if self.spent + size.flops > self.cap_flops * (1 + 1e-9):
            raise BudgetSpent(f"{size.name} would take the bill past {self.cap_flops:.3g} FLOPs.")
        self.spent += size.flops
        self.runs += 1
        design = Design(sizes=(size,), mixtures=(mixture,), checkpoints=checkpoints)
        records = self._world.records(design, self._seed * SEEDS + seed)
        self._paid[key] = (checkpoints, records)
        return records


Strategy = Callable[[Problem, int], Iterator[Answer | None]]


def join(*parts: Records) -> Records:
    """Records of several runs as one table."""
    return Records(
        runs=tuple(r for p in parts for r in p.runs),
        measurements=tuple(m for p in parts for m in p.measurements),
        tasks=parts[0].tasks,
    )


def final_scores(records: Records) -> dict[str, float]:
    """The scores of one run at its last checkpoint, by task."""
    return dict(records.final_checkpoints()[0].performance)


def final_losses(records: Records) -> dict[str, float]:
    """The domain losses of one run at its last checkpoint, by domain."""
    return dict(records.final_checkpoints()[0].domain_loss)


def _name(task: Task) -> str:
    return task.task
