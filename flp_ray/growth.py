"""What a study file changes against the one that its folder has kept, and what of the folder is used again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flp_ray.config import STUDY_FILE, StudyConfig, load_config
from flp_ray.core.run import Purpose, RunSpec
from flp_ray.data import source_settings
from flp_ray.errors import ConfigError

_PARTS = {"text.sources": "source", "text.domains": "domain", "measure.tasks": "task", "ladder.shapes": "size"}
"""Keys whose entries have names of the user's own, and what such an entry is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A study given again with another file.

    Attributes:
        changes: What differs, in the order of the study file, e.g. `+ source math` or `budget.flops 1e+14 -> 2e+14`.
        reused_runs: Finished runs that the new file plans too.
        reused_flops: Their training FLOPs.
        reused_sources: Sources whose text is used as it is.
        unplanned_runs: Finished runs that the new file does not plan: kept, and not fitted on.
        new_runs: Planned runs that the folder does not know.
        new_flops: Their training FLOPs.
    """

    changes: tuple[str, ...]
    reused_runs: int
    reused_flops: float
    reused_sources: tuple[str, ...]
    unplanned_runs: int
    new_runs: int
    new_flops: float

    def as_json(self) -> dict[str, Any]:
        """A JSON value, as `flp-ray plan --json` prints it."""
        return asdict(self)


def kept_config(study_dir: Path) -> StudyConfig | None:
    """The study file that the folder has kept; None where there is none, or none that this version can read."""
    try:
        return load_config(study_dir / STUDY_FILE)
    except ConfigError:
        return None


def growth_since(
    old: StudyConfig,
    new: StudyConfig,
    *,
    planned: Sequence[RunSpec],
    recorded: Mapping[str, Purpose],
    finished: Collection[str],
) -> Growth | None:
    """What is new, and what is used again.

    Args:
        old: The study file that the folder has kept.
        new: The one that is given now.
        planned: The runs that it plans; validation runs follow from what is found and are not among them.
        recorded: What each run that the folder knows may be used for, by run id.
        finished: Ids of those that are trained and measured.

    Returns:
        None where the two files say the same.
    """
    changes = tuple(_changes(old.model_dump(mode="json"), new.model_dump(mode="json"), ""))
    if not changes:
        return None
    wanted = {s.run_id for s in planned}
    reused = [s for s in planned if s.run_id in finished]
    fresh = [s for s in planned if s.run_id not in recorded]
    before = {name: source_settings(source) for name, source in old.text.sources.items()}
    return Growth(
        changes=changes,
        reused_runs=len(reused),
        reused_flops=sum(s.flops for s in reused),
        reused_sources=tuple(n for n, s in new.text.sources.items() if before.get(n) == source_settings(s)),
        unplanned_runs=sum(
            run_id in finished and run_id not in wanted and purpose != "validation"
            for run_id, purpose in recorded.items()
        ),
        new_runs=len(fresh),
        new_flops=sum(s.flops for s in fresh),
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    """What differs below one key of the study file, in words."""
    for key in dict.fromkeys([*old, *new]):
        path = f"{where}.{key}" if where else key
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if where in _PARTS and (key not in old or key not in new):
            yield f"{'-' if key in old else '+'} {_PARTS[where]} {key}"
        elif isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changes(before, after, path)
        elif isinstance(before, list) and isinstance(after, list):
            yield from _list_changes(before, after, path)
        else:
            yield f"{path} {_shown(before)} -> {_shown(after)}"


def _list_changes(before: list[Any], after: list[Any], path: str) -> Iterator[str]:
    added, gone = [v for v in after if v not in before], [v for v in before if v not in after]
    if added:
        yield f"{path} + {', '.join(map(_shown, added))}"
    if gone:
        yield f"{path} - {', '.join(map(_shown, gone))}"
    if not added and not gone:
        yield f"{path} {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
