"""The study file: composes the stages' own settings; load, check, dump."""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, Field, ValidationError

from flp_ray.core.run import RunSpec, stable_hash
from flp_ray.core.text import ItemSet
from flp_ray.data.config import TextConfig
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.errors import ConfigError
from flp_ray.fit.config import FitSettings
from flp_ray.measure.config import MeasureConfig
from flp_ray.plan.config import BudgetConfig, GridConfig, LadderConfig
from flp_ray.propose.config import ObjectiveConfig, RoundsConfig, SearchConfig
from flp_ray.train.config import TrainingConfig
from flp_ray.tune.config import TuningConfig
from flp_ray.validate.config import ValidationConfig

STUDY_FILE = "study.yaml"
"""The study file as a study's folder keeps it."""


class StudyConfig(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """One study, as written in one YAML file."""

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="name; also the folder's name")
    seed: int = Field(default=0, ge=0, lt=2**31)
    storage: str = Field(default="runs", description="folder that holds the study's folder, or its URI (s3://, gs://)")
    text: TextConfig
    ladder: LadderConfig
    grid: GridConfig | None = None
    rounds: RoundsConfig | None = None
    training: TrainingConfig = TrainingConfig()
    tuning: TuningConfig | None = None
    measure: MeasureConfig
    fit: FitSettings = FitSettings()
    search: SearchConfig = SearchConfig()
    validation: ValidationConfig = ValidationConfig()
    resources: ResourcesConfig = ResourcesConfig()
    budget: BudgetConfig = BudgetConfig()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all sources, in the order of the file."""
        return tuple(self.text.sources)

    def place(self, override: str | None = None) -> StudyPlace:
        """Where the study lives; a relative place starts at $FLP_RAY_STORAGE or the working directory.

        Args:
            override: A folder or the URI of one, instead of `storage`/`study`.
        """
        return study_place(override or f"{self.storage.rstrip('/')}/{self.study}", self.study)

    def item_sets(self) -> tuple[ItemSet, ...]:
        """The built-in tasks whose questions the data stage makes."""
        return tuple(
            ItemSet(task=name, kind=t.builtin, domain=t.domain or "", items=t.items)
            for name, t in self.measure.tasks.items()
            if t.builtin is not None
        )

    def task_weights(self) -> dict[str, float]:
        """Weight of each task in the mean, for the fit, the comparison and the report alike.

        `fit.weights` replaces the weights of the tasks; a task that it does not name weighs 1.
        """
        if self.fit.weights:
            return dict(self.fit.weights)
        return {name: task.weight for name, task in self.measure.tasks.items()}

    def dump(self) -> str:
        """The study as YAML, defaults left out."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


class StudyPlace(NamedTuple):
    """Where a study lives.

    Attributes:
        folder: Its folder on this machine, absolute; where there is a `uri`, a mirror of what is there.
        uri: Its place on an object store; None where the folder is the study itself.
    """

    folder: Path
    uri: str | None


def study_place(where: str, study: str) -> StudyPlace:
    """The place that a path or URI means.

    Args:
        where: A path, which starts at $FLP_RAY_STORAGE where it is relative, or a URI (s3://, gs://).
        study: The study's name, for the name of its mirror.
    """
    base = os.environ.get("FLP_RAY_STORAGE", "")
    if _REMOTE.match(base) and not _REMOTE.match(where) and not Path(where).is_absolute():
        where = f"{base.rstrip('/')}/{where}"
    if not _REMOTE.match(where):
        return StudyPlace((Path(base) / where).absolute(), None)
    uri = where.rstrip("/")
    mirrors = Path(os.environ.get("FLP_RAY_CACHE") or Path.home() / ".cache" / "flp_ray")
    return StudyPlace(mirrors.absolute() / f"{study}-{stable_hash(uri)}", uri)


_REMOTE = re.compile(r"^(s3|gs)://", re.IGNORECASE)


def load_config(path: Path) -> StudyConfig:
    """Reads and checks a study file.

    Args:
        path: A YAML file.

    Raises:
        ConfigError: The file is missing or no YAML, has unknown or repeated keys (the nearest known key is named),
            or settings that contradict each other.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the study file {path}: {error}.") from error
    try:
        value = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, received {type(value).__name__}.")
    try:
        config = StudyConfig.model_validate(value)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n" + "\n".join(_problems(error))) from error
    try:
        _check_names(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, and reads 1e6 as a number (YAML 1.2)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key must be a plain word; text that begins with a brace needs quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        location = [part for part in problem["loc"] if part != "function-after"]
        where = ".".join(str(part) for part in location) or "study"
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _known_keys(location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            yield f"  unknown key {where}.{hint} Allowed here: {', '.join(known)}."
        elif problem["type"] == "missing":
            yield f"  {where} is missing."
        else:
            received = problem.get("input")
            shown = f" (received {received!r})" if not isinstance(received, dict | BaseModel) else ""
            yield f"  {where}: {problem['msg'].removeprefix('Value error, ')}{shown}."


def _known_keys(location: Sequence[str | int]) -> list[str]:
    kind: Any = StudyConfig
    for part in location:
        keys = _field_types(kind)
        kind = keys[part] if isinstance(part, str) and part in keys else _element_type(kind)
        kind = _without_none(kind)
    return sorted(_field_types(kind))


def _field_types(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {}


def _element_type(kind: Any) -> Any:
    arguments = typing.get_args(kind)
    return arguments[-1] if arguments else None


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next((a for a in typing.get_args(kind) if a is not type(None)), None)
    return kind


def _check_names(config: StudyConfig) -> None:
    domains, tasks, sources = list(config.text.domains), list(config.measure.tasks), list(config.sources)
    for name, task in config.measure.tasks.items():
        if task.builtin is not None:
            _require(task.domain or "", domains, f"measure.tasks.{name}.domain", "domains")
    for objective in config.search.objectives:
        if isinstance(objective, str):
            _require(objective, ["mean", *tasks], "search.objectives", "objectives")
    _check_search(config)
    for key in ("min_ratios", "max_ratios"):
        for source in getattr(config.search, key):
            _require(source, sources, f"search.{key}", "sources")
    for weighted in config.fit.weights or {}:
        _require(weighted, tasks, "fit.weights", "tasks")
    if "mean" in tasks:
        raise ConfigError("measure.tasks: `mean` is the name of the objective over all tasks; name the task otherwise.")
    listed = config.validation.seeds
    if config.validation.enabled and isinstance(listed, list) and config.seed in listed:
        raise ConfigError(
            f"validation.seeds contains the study's own seed {config.seed}; a validation run needs another seed, "
            f"or it repeats a run of the grid. Take e.g. [{config.seed + 1}], or how many trainings: {len(listed)}."
        )
    if sum(config.task_weights().values()) <= 0:
        raise ConfigError("measure.tasks: at least one task needs a weight above 0.")


def _check_search(config: StudyConfig) -> None:
    if config.grid is None and config.rounds is None:
        raise ConfigError(
            "The study says neither which mixtures to train (grid) nor what it may spend to choose them "
            "(rounds: {budget_flops: ...}). Give one of them, or both: then the grid's runs come first."
        )
    own = [o.name for o in config.search.objectives if isinstance(o, ObjectiveConfig)]
    asked = {
        f"search.objectives.{', '.join(own)} with weights of its own": own,
        "search.pareto": config.search.pareto,
        "search.prior_weight": config.search.prior_weight,
    }
    for what in (name for name, given in asked.items() if given and config.rounds is None):
        raise ConfigError(
            f"{what} needs a search in rounds. Add `rounds: {{budget_flops: ...}}`; with the FLOPs of the grid as "
            "budget it trains nothing more."
        )


def _require(name: str, known: Sequence[str], where: str, what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{where} names {name!r}, which is none of the {what}: {', '.join(known)}.{hint}")


def save_config(config: StudyConfig, folder: Path) -> None:
    """Writes the study file into the study's folder, for whoever finds the folder later."""
    (folder / STUDY_FILE).write_text(config.dump(), encoding="utf-8")


def describe_runs(specs: Sequence[RunSpec]) -> list[dict[str, Any]]:
    """The runs of a plan as JSON values."""
    return [
        {
            "run_id": s.run_id,
            "purpose": s.purpose,
            "size": s.size,
            "ratios": s.mixture.as_dict(),
            "train_tokens": s.train_tokens,
            "flops": s.flops,
            "params": s.params,
            "non_embedding_params": s.shape.non_embedding_params,
            "sequence_length": s.sequence_length,
            "batch_sequences": s.batch_sequences,
            "learning_rate": s.learning_rate,
            "steps": s.steps,
            "seed": s.seed,
        }
        for s in specs
    ]
