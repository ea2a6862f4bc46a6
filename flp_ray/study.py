"""What a study will train and what that costs, with what its folder already knows."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flp_ray.config import StudyConfig, describe_runs
from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Proposal
from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.text import PreparedText
from flp_ray.data import load_text, settings_hash, text_id
from flp_ray.errors import ConfigError, TextError
from flp_ray.fit import check_settings
from flp_ray.plan import Cost, RunFactory, Rung, cost, grid_mixtures, ladder
from flp_ray.plan.ladder import require_size
from flp_ray.propose import search_lattice
from flp_ray.store import finished_runs, load_specs, run_states


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
        total: What the whole study costs, validation included.
        to_do: What of it is still to be paid.
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
    to_do: Cost
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
        runs = _validation_runs(self.config)
        return asdict(self.total) | {
            "runs": len(self.specs),
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
    check_settings(config.fit)
    search_lattice(config.search, config.sources)
    sampling, targets, slots = factory.sampling(config.grid), factory.targets(config.grid), _slots(config)
    both = {s.run_id for s in sampling} & {s.run_id for s in targets}
    for twice in (s for s in targets if s.run_id in both):
        raise ConfigError(
            f"grid.targets names size {twice.size} at {twice.mixture}, which is a run of the grid too; a target "
            "must not be fitted on. Take it out of one of them."
        )
    rates = _rates(config, study_dir, tuple(rungs))
    tokens = {
        source: text.sources[source].tokens if text and source in text.sources else stated.tokens
        for source, stated in config.text.sources.items()
    }

    def bill(specs: Sequence[RunSpec], text_tokens: Mapping[str, int | None]) -> Cost:
        return cost(
            specs,
            devices_per_run=config.resources.workers,
            slots=slots,
            flops_per_s_per_device=rates,
            source_tokens=text_tokens,
            measurements_per_checkpoint=1 + len(config.text.domains) + 2 * len(config.measure.tasks),
        )

    finished = frozenset(finished_runs(study_dir))
    mixtures = grid_mixtures(config.grid, config.sources)
    # Validation is trained at mixtures that nobody knows yet; what it costs hangs on the size alone.
    validated = sum(s.purpose == "validation" and s.run_id in finished for s in load_specs(study_dir))
    validation = [factory.run(target.size, mixtures[0], "validation")] * _validation_runs(config)
    missing = [s for s in sampling + targets if s.run_id not in finished] + validation[validated:]
    return StudyPlan(
        config=config,
        factory=factory,
        sampling=sampling,
        targets=targets,
        mixtures=mixtures,
        target=target,
        finished=finished,
        text=text,
        total=bill([*sampling, *targets, *validation], tokens),
        to_do=bill(missing, dict.fromkeys(tokens) if text else tokens),
        slots=slots,
    )


def _validation_runs(config: StudyConfig) -> int:
    return len(set(config.search.objectives)) * len(config.validation.seeds) if config.validation.enabled else 0


PIN = "pinned.json"
"""What a study's runs were trained on and measured with; written before the first of them starts."""


def check_unchanged(config: StudyConfig, study_dir: Path) -> None:
    """Refuses a study file whose text or measuring differs from what the study's runs have had.

    Their records would stand side by side under the same names and mean different things.

    Raises:
        ConfigError: Says which of the two has changed.
    """
    pinned, now = _pinned(study_dir), _identity(config)
    changed = [name for name, value in now.items() if pinned is not None and pinned[name] != value]
    if changed:
        raise ConfigError(
            f"The settings of {' and '.join(changed)} differ from those that the runs in {study_dir} have had, so "
            "their records could not be compared. Restore the settings (study.yaml in that folder holds them), or give "
            "another --study-dir."
        )


def pinned_text(study_dir: Path) -> PreparedText | None:
    """The text that the study's runs are trained on, if it still stands whole in the study's folder."""
    pinned, text = _pinned(study_dir), load_text(study_dir / "text")
    return text if pinned and text and text.content_id == pinned["content_id"] else None


def pin(config: StudyConfig, study_dir: Path, text: PreparedText) -> None:
    """Writes down what the study's runs are trained on and measured with, before the first of them starts.

    Raises:
        TextError: Runs have started on other text, which is lost.
    """
    pinned = _pinned(study_dir)
    if pinned is not None and pinned["content_id"] != text.content_id:
        raise TextError(
            f"The prepared text of this study is gone, and what its sources give now ({text.content_id}) is not what "
            f"its runs were trained on ({pinned['content_id']}): a file or an installed package has changed. Restore "
            "it, or give another --study-dir."
        )
    if pinned is None:
        value = _identity(config) | {"content_id": text.content_id}
        (study_dir / f".{PIN}").write_text(json.dumps(value))
        (study_dir / f".{PIN}").replace(study_dir / PIN)


def _pinned(study_dir: Path) -> dict[str, str] | None:
    """What is pinned; None as long as no run has begun, when everything may still change."""
    if not any(run.attempts for run in run_states(study_dir)) or not (study_dir / PIN).exists():
        return None
    return dict(json.loads((study_dir / PIN).read_text()))


def _identity(config: StudyConfig) -> dict[str, str]:
    described = {"weight", "random_performance", "emergence_margin"}  # what a score is held against, not the score
    measure = config.measure.model_dump(mode="json", exclude={"tasks"})
    tasks = {name: task.model_dump(mode="json", exclude=described) for name, task in config.measure.tasks.items()}
    return {
        "text": settings_hash(config.text, config.item_sets(), config.seed),
        "measure": stable_hash([measure, tasks]),
    }


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
