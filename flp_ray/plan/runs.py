"""From rungs and mixtures to run specs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Purpose, Recipe, RunSpec, stable_hash
from flp_ray.core.text import TextIdentity
from flp_ray.plan.config import ExtraRuns, GridConfig
from flp_ray.plan.grid import full_mixture, grid_mixtures
from flp_ray.plan.ladder import Rung, require_size


def as_stated(rung: Rung) -> Rung:
    """The rung as it is."""
    return rung


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
        text: Identity of the text, by source.
        seed: The study's seed; every run draws its own from it.
        tuned: Gives a rung its tuned hyperparameters, at the tokens that it names; by default those stated.
    """

    rungs: dict[str, Rung]
    sizes: tuple[str, ...]
    sources: tuple[str, ...]
    vocabulary: int
    sequence_length: int
    recipe: Recipe
    text: TextIdentity
    seed: int
    tuned: Callable[[Rung], Rung] = as_stated

    def run(
        self,
        size: str,
        mixture: Mixture,
        purpose: Purpose,
        seed: int | None = None,
        *,
        train_tokens: int | None = None,
    ) -> RunSpec:
        """One run of a size at a mixture.

        Args:
            size: A size of the ladder.
            mixture: A mixture over the study's sources.
            purpose: What its records may be used for.
            seed: Draws the run's own seed; the study's by default.
            train_tokens: Tokens of the training; what the ladder says of the size by default.

        Raises:
            ConfigError: The size is not on the ladder.
        """
        rung = require_size(self.rungs, size, "a run")
        rung = self.tuned(rung if train_tokens is None else replace(rung, train_tokens=train_tokens))
        # Every run has a seed of its own. With one seed for all, the runs would share their luck, the laws would fit
        # too well, and an interval would not hold the scatter that a training with another seed meets.
        drawn = int(stable_hash([self.seed if seed is None else seed, size, mixture.used()]), 16) % 2**31
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
            recipe=self._recipe(rung),
            text_id=self.text.of(mixture),
        )

    def _recipe(self, rung: Rung) -> Recipe:
        return replace(
            self.recipe,
            weight_decay=self.recipe.weight_decay if rung.weight_decay is None else rung.weight_decay,
            warmup_fraction=self.recipe.warmup_fraction if rung.warmup_fraction is None else rung.warmup_fraction,
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
