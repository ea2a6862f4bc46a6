"""What every process of a study is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flp_ray.core.execution import Execution
from flp_ray.core.mixture import Mixture
from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.storage import FileStorage
from flp_ray.core.text import PreparedText
from flp_ray.data import MixedStream
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.resources import execution_of
from flp_ray.fit import FitSettings
from flp_ray.measure.config import MeasureConfig
from flp_ray.store import files_at
from flp_ray.train.config import KeepCheckpoints

CHECKPOINTS = "checkpoints"
"""Folder of the runs' states and models, below a study's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """The part of a study that its processes need; frozen and picklable.

    Attributes:
        study_dir: The study's folder, on storage that every node reaches.
        session: Name of this call of the study; attempts and stages are recorded under it.
        text: The prepared text.
        measure: What is measured.
        resources: What each run gets.
        max_epochs: How often a source's text may be repeated.
        keep_checkpoints: What stays on disk of a finished run's model.
        storage_uri: Where the study lives, where that is an object store; its folder is then a mirror on each node.
    """

    study_dir: Path
    session: str
    text: PreparedText
    measure: MeasureConfig
    resources: ResourcesConfig
    max_epochs: float
    keep_checkpoints: KeepCheckpoints
    storage_uri: str | None = None

    def execution(self, spec: RunSpec) -> Execution:
        """How a run is computed."""
        return execution_of(spec, self.resources)

    def storage(self) -> FileStorage | None:
        """The object store of the study; None where its folder is what every node sees."""
        return None if self.storage_uri is None else files_at(self.storage_uri)

    def run_dir(self, run_id: str) -> Path:
        """Folder of one run's resumable state."""
        return self.study_dir / self.run_prefix(run_id)

    @staticmethod
    def run_prefix(run_id: str) -> str:
        """The same below the root of the study's storage."""
        return f"{CHECKPOINTS}/{run_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the surrogate is asked while runs train.

    Attributes:
        run_ids: Runs that may be fitted on.
        mixtures: Mixtures to choose the best of.
        flops: Training FLOPs of the target size.
        settings: How to fit.
    """

    run_ids: frozenset[str]
    mixtures: tuple[Mixture, ...]
    flops: float
    settings: FitSettings


def stream_of(spec: RunSpec, text: PreparedText, max_epochs: float) -> MixedStream:
    """The training text of one run.

    Raises:
        TextError: A source has too few sequences for the run, even repeated as often as is allowed.
    """
    return MixedStream(text.sources, spec.mixture, seed=spec.seed, sequences=spec.sequences, max_epochs=max_epochs)


def namespace(study_dir: Path) -> str:
    """The Ray namespace of a study: two studies on one cluster never share an actor."""
    return f"flp_ray-{stable_hash(str(study_dir))}"
