"""From rungs and mixtures to run specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Purpose, Recipe, RunSpec, stable_hash
from flp_ray.plan.config import ExtraRuns, GridConfig
from flp_ray.plan.grid import full_mixture, grid_mixtures
from flp_ray.plan.ladder import Rung, require_size


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFactory:
    """What all runs of a study share; makes its run specs.

    Attributes:
        rungs: All sizes by name.
        sizes: Sizes of the sampling grid.
        sources: All sources.
        vocabulary: Tokens of the tokenizer.
        sequence_length: Tokens per training sequence.
        recipe: Optimiser settings and checkpoint schedule.
        text_id: Identity of the text settings.
        seed: The study's seed; every run draws its own from it.
    """

    rungs: dict[str, Rung]
    sizes: tuple[str, ...]
    sources: tuple[str, ...]
    vocabulary: int
    sequence_length: int
    recipe: Recipe
    text_id: str
    seed: int

    def run(self, size: str, mixture: Mixture, purpose: Purpose, seed: int | None = None) -> RunSpec:
        """One run of a size at a mixture.

        Args:
            size: A size of the ladder.
            mixture: A mixture over the study's sources.
            purpose: What its records may be used for.
            seed: Draws the run's own seed; the study's by default.

        Raises:
            ConfigError: The size is not on the ladder.
        """
        rung = require_size(self.rungs, size, "a run")
        # Every run has a seed of its own. With one seed for all, the runs would share their luck, the laws would fit
        # too well, and an interval would not hold the scatter that a training with another seed meets.
        drawn = int(stable_hash([self.seed if seed is None else seed, size, mixture.as_dict()]), 16) % 2**31
        return RunSpec(
            purpose=purpose,
            size=size,
            shape=rung.shape,
            vocabulary=self.vocabulary,
            sequence_length=self.sequence_length,
            mixture=mixture,
            train_tokens=rung.train_tokens,
            batch_sequences=rung.batch_sequences,
            learning_rate=rung.learning_rate,
            seed=drawn,
            recipe=self.recipe,
            text_id=self.text_id,
        )

    def sampling(self, grid: GridConfig) -> tuple[RunSpec, ...]:
        """All sampling runs: every size at every mixture of the grid, then the extra ones; no run twice."""
        mixtures = grid_mixtures(grid, self.sources)
        runs = [self.run(size, mixture, "sampling") for size in self.sizes for mixture in mixtures]
        return self._distinct(runs + self._listed(grid.extra, "grid.extra", "sampling"))

    def targets(self, grid: GridConfig) -> tuple[RunSpec, ...]:
        """All target runs."""
        return self._distinct(self._listed(grid.targets, "grid.targets", "target"))

    def _listed(self, entries: Sequence[ExtraRuns], where: str, purpose: Purpose) -> list[RunSpec]:
        runs: list[RunSpec] = []
        for i, entry in enumerate(entries):
            require_size(self.rungs, entry.size, f"{where}[{i}]")
            mixtures = [full_mixture(m, self.sources, f"{where}[{i}].mixtures") for m in entry.mixtures]
            runs += [self.run(entry.size, mixture, purpose) for mixture in mixtures]
        return runs

    @staticmethod
    def _distinct(runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
        return tuple({run.run_id: run for run in runs}.values())
