"""What a study will train and what that costs, with what its folder already knows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flp_ray.config import StudyConfig, describe_runs
from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Proposal
from flp_ray.core.run import RunSpec
from flp_ray.core.text import PreparedText
from flp_ray.data import load_text, text_id
from flp_ray.plan import Cost, RunFactory, Rung, cost, grid_mixtures, ladder
from flp_ray.plan.ladder import require_size
from flp_ray.store import finished_runs, run_states


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """The runs of a study.

    Attributes:
        config: The study.
        factory: Makes further runs of the study.
        sampling: Runs that are fitted on.
        targets: Runs that are predicted and compared.
        mixtures: Mixtures of the grid.
        target: The size that proposals are made for.
        finished: Ids of all runs of the study's folder that are trained and measured.
        text: The prepared text; None before it is there.
        total: What all planned runs cost.
        slots: Runs at the same time, as far as is known without asking a cluster.
    """

    config: StudyConfig
    factory: RunFactory
    sampling: tuple[RunSpec, ...]
    targets: tuple[RunSpec, ...]
    mixtures: tuple[Mixture, ...]
    target: Rung
    finished: frozenset[str]
    text: PreparedText | None
    total: Cost
    slots: int

    @property
    def specs(self) -> tuple[RunSpec, ...]:
        """All planned runs."""
        return self.sampling + self.targets

    @property
    def target_flops(self) -> float:
        """Training FLOPs of the target size."""
        return self.target.shape.flops(self.target.train_tokens, self.config.text.sequence_length)

    @property
    def totals(self) -> dict[str, Any]:
        """The plan's totals as a JSON value."""
        remaining = [s for s in self.specs if s.run_id not in self.finished]
        validation = self.config.validation
        runs = len(self.config.search.objectives) * len(validation.seeds) if validation.enabled else 0
        return asdict(self.total) | {
            "remaining_runs": len(remaining),
            "remaining_flops": sum(s.flops for s in remaining),
            "validation_runs": runs,
            "validation_flops": runs * self.target_flops,
            "slots": self.slots,
        }

    def missing(self, specs: Sequence[RunSpec], finished: set[str]) -> list[RunSpec]:
        """Those of the runs that are not trained yet."""
        return [s for s in specs if s.run_id not in finished]

    def validation(self, proposals: Sequence[Proposal]) -> tuple[RunSpec, ...]:
        """The runs that validate proposals, one a seed; a mixture proposed twice is trained once."""
        if not self.config.validation.enabled:
            return ()
        runs = [
            self.factory.run(p.size, p.mixture, "validation", seed)
            for p in proposals
            for seed in self.config.validation.seeds
        ]
        return tuple({run.run_id: run for run in runs}.values())

    def as_json(self) -> dict[str, Any]:
        """The plan as `flp-ray plan --json` prints it."""
        return {"study": self.config.study, "runs": describe_runs(self.specs), "totals": self.totals}


def make_plan(config: StudyConfig, study_dir: Path) -> StudyPlan:
    """Plans a study; starts nothing and writes nothing.

    Args:
        config: The study.
        study_dir: Its folder, which may not exist yet.

    Raises:
        ConfigError: Sizes, sources or mixtures do not fit together.
    """
    rungs = ladder(config.ladder)
    sizes = tuple(size for size in rungs if config.ladder.sizes is None or size in config.ladder.sizes)
    target = require_size(rungs, config.search.target_size or sizes[-1], "search.target_size")
    factory = RunFactory(
        rungs=rungs,
        sizes=sizes,
        sources=config.sources,
        vocabulary=config.text.tokenizer.vocabulary,
        sequence_length=config.text.sequence_length,
        recipe=config.training.recipe(),
        text_id=text_id(config.text, config.seed),
        seed=config.seed,
    )
    text = load_text(study_dir / "text")
    sampling, targets, slots = factory.sampling(config.grid), factory.targets(config.grid), _slots(config)
    total = cost(
        sampling + targets,
        devices_per_run=config.resources.workers,
        slots=slots,
        flops_per_s_per_device=_rates(config, study_dir, tuple(rungs)),
        source_tokens={
            source: text.sources[source].tokens if text and source in text.sources else stated.tokens
            for source, stated in config.text.sources.items()
        },
        measurements_per_checkpoint=1 + len(config.text.domains) + 2 * len(config.measure.tasks),
    )
    return StudyPlan(
        config=config,
        factory=factory,
        sampling=sampling,
        targets=targets,
        mixtures=grid_mixtures(config.grid, config.sources),
        target=target,
        finished=frozenset(finished_runs(study_dir)),
        text=text,
        total=total,
        slots=slots,
    )


def _slots(config: StudyConfig) -> int:
    here = int((os.cpu_count() or 1) // (config.resources.cpus_per_worker * config.resources.workers))
    return config.resources.max_concurrent_runs or max(1, here)


def _rates(config: StudyConfig, study_dir: Path, sizes: Sequence[str]) -> dict[str, float | None]:
    """Achieved FLOP/s of one worker by size: measured on finished runs, else as stated, else unknown.

    Over the whole run, measuring included, because that is what a plan has to pay for.
    """
    measured: defaultdict[str, list[float]] = defaultdict(list)
    for run in run_states(study_dir):
        busy = sum(s or 0.0 for s in (run.train_seconds, run.measure_seconds, run.save_seconds))
        if run.state == "finished" and busy:
            measured[run.size].append(run.flops / busy / config.resources.workers)
    stated = config.resources.flops_per_s_per_device
    return {size: median(measured[size]) if measured[size] else stated for size in sizes}
