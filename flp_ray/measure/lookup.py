"""Where tasks of lm-evaluation-harness are defined, and where their data is: local copies before the hub."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from flp_ray.core.hub import local_copy
from flp_ray.errors import TaskError
from flp_ray.measure.config import CODE_TASKS, MeasureConfig, TaskConfig


def local_data(repository: str, cache: Path | None) -> dict[str, Any]:
    """`dataset_path` and `dataset_kwargs` of a data set: its local copy where there is one, otherwise the hub's."""
    place = local_copy(repository)
    if place is None:
        return {"dataset_path": repository}
    kwargs = {} if cache is None else {"cache_dir": str(cache.resolve())}
    return {"dataset_path": str(place.resolve()), "dataset_kwargs": kwargs}


def manager_for(name: str, task: TaskConfig, cache: Path | None) -> Any:
    """An lm-eval task manager that knows a study's task.

    lm-eval would read its 14,000 task files first, which takes some ten seconds; where a folder is named like
    the beginning of the task, and everything that the task refers to is in it, that folder alone is read.

    Args:
        name: The task's name in the study.
        task: Its settings.
        cache: Where `datasets` keeps what it made of local copies; None for its own place.

    Raises:
        TaskError: The task is unknown.
    """
    wanted = str(task.lm_eval)
    if task.lm_eval_path is not None and not Path(task.lm_eval_path).is_dir():
        raise TaskError(f"The folder of lm-eval tasks {task.lm_eval_path!r} does not exist; correct lm_eval_path.")
    folders = [Path(task.lm_eval_path)] if task.lm_eval_path is not None else []
    for folder in (*folders, *_likely_folders(wanted)):
        manager = _manager(str(folder), cache)
        if _complete(manager.task_index, wanted):
            return manager
    manager = _manager(None, cache)
    if wanted not in manager.task_index:
        near = difflib.get_close_matches(wanted, manager.all_tasks, n=3)
        raise TaskError(
            f"Task {name}: lm-evaluation-harness has no task {wanted!r}; "
            + (f"the nearest names are {', '.join(near)}." if near else "no name is near.")
        )
    return manager


def data_sets(config: MeasureConfig) -> dict[str, set[str | None]]:
    """The hub's data sets that a study's tasks need, with the names of their configurations (None: the default)."""
    found: dict[str, set[str | None]] = {}
    for name, task in config.tasks.items():
        if task.is_code:
            found.setdefault(CODE_TASKS[str(task.lm_eval)], set()).add(None)
        elif task.lm_eval is not None:
            index = manager_for(name, task, None).task_index
            for leaf in _leaves(index, task.lm_eval):
                repository = leaf.get("dataset_path")
                if isinstance(repository, str) and repository.count("/") == 1 and not Path(repository).exists():
                    found.setdefault(repository, set()).add(leaf.get("dataset_name"))
    return found


def fetch_tasks(config: MeasureConfig, folder: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """Copies the data sets of a study's tasks from the hub into `<folder>/<owner>/<name>/`.

    What is there already is not fetched again, so a cut-off fetch goes on. Only the files of the configurations
    that the tasks name are copied, where the data set's README lists them; the copy's README then lists those alone.

    Args:
        config: The tasks.
        folder: Where the copies go; nodes find them there through FLP_RAY_HUB.
        progress: Called with each data set's name before it is fetched.

    Returns:
        The folders of the copies.

    Raises:
        TaskError: A data set could not be fetched.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's errors have the base of whatever HTTP library it is built on.
    unreached: tuple[type[Exception], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)
    places = []
    for repository, names in sorted(data_sets(config).items()):
        progress(repository)
        place = folder / repository
        try:
            # Asked by itself: where the hub is not reached, snapshot_download is content with what is there.
            commit = HfApi().dataset_info(repository).sha
            get = functools.partial(
                snapshot_download, repository, repo_type="dataset", revision=commit, local_dir=place
            )
            get(allow_patterns=["README.md"])
            wanted = files_of(place, names)
            get(allow_patterns=None if wanted is None else ["README.md", *wanted])
        except unreached as error:
            raise TaskError(
                f"The data set {repository} could not be fetched into {place} ({type(error).__name__}: {error}). "
                "Run the command again where the hub can be reached; what is there already is kept."
            ) from error
        list_what_is_there(place)
        places.append(place)
    return tuple(places)


def files_of(place: Path, names: set[str | None]) -> list[str] | None:
    """Patterns of the files of a data set's configurations, by its README; None where it does not list them all."""
    listed = {entry["config_name"]: entry for entry in _listed(place)}
    default = next((n for n, e in listed.items() if e.get("default")), next(iter(listed)) if len(listed) == 1 else None)
    chosen = [listed.get(str(name or default or "default")) for name in names]
    patterns = [_patterns(entry) for entry in chosen if entry is not None]
    if len(patterns) < len(names) or not all(patterns):
        return None
    return sorted({pattern for some in patterns for pattern in some})


def list_what_is_there(place: Path) -> None:
    """Takes configurations without files out of a copy's README: `datasets` looks at the first that it lists."""
    entries = _listed(place)
    here = [e for e in entries if not (some := _patterns(e)) or any(any(place.glob(p)) for p in some)]
    if len(here) == len(entries):
        return
    head, rest = _card(place)
    kept = {key: value for key, value in head.items() if key != "dataset_info"} | {"configs": here}
    (place / "README.md").write_text(f"---\n{yaml.safe_dump(kept, sort_keys=False)}---\n{rest}")


def _patterns(entry: dict[str, Any]) -> list[str]:
    files = entry.get("data_files")
    if files is None:
        return [f"{entry['data_dir'].rstrip('/')}/**"] if entry.get("data_dir") else []
    found: list[str] = []
    for part in files if isinstance(files, list) else [files]:
        paths = part["path"] if isinstance(part, dict) else part
        found += paths if isinstance(paths, list) else [paths]
    return found


def _listed(place: Path) -> list[dict[str, Any]]:
    return list(_card(place)[0].get("configs") or [])


def _card(place: Path) -> tuple[dict[str, Any], str]:
    """The README of a data set: its YAML head, and the rest."""
    readme = place / "README.md"
    text = readme.read_text() if readme.is_file() else ""
    if not text.startswith("---\n"):
        return {}, text
    head, _, rest = text.removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(head) or {}, rest


def _likely_folders(wanted: str) -> Iterator[Path]:
    import lm_eval.tasks

    root, parts = Path(lm_eval.tasks.__file__).parent, wanted.split("_")
    for count in range(len(parts), 0, -1):
        folder = root / "_".join(parts[:count])
        if folder.is_dir():
            yield folder


def _complete(index: dict[str, Any], name: str) -> bool:
    """Whether a task and all that it refers to are known."""
    entry = index.get(name)
    if entry is None:
        return False
    if entry.kind.name == "TAG":
        return all(_complete(index, member) for member in entry.tags)
    members = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else []
    return all(_complete(index, m) for m in _member_names(members))


def _leaves(index: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    entry = index.get(name)
    if entry is None:
        return
    if entry.kind.name in ("TAG", "GROUP"):
        members = entry.tags if entry.kind.name == "TAG" else _member_names((entry.cfg or {}).get("task"))
        for member in sorted(members):
            yield from _leaves(index, member)
    else:
        yield entry.cfg or {}


def _member_names(members: Any) -> list[str]:
    some = [members] if isinstance(members, str) else members or []
    return [m if isinstance(m, str) else str(m.get("task", m.get("group"))) for m in some]


@functools.cache
def _manager(folder: str | None, cache: Path | None) -> Any:
    """A manager over one folder, or over all of lm-eval's tasks; it looks for local copies of data sets first."""
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._factory import TaskFactory

    class LocalCopies(TaskFactory):  # type: ignore[misc]
        def _load_full_config(self, entry: Any, overrides: Any = None) -> dict[str, Any]:
            config: dict[str, Any] = super()._load_full_config(entry, overrides)
            repository = config.get("dataset_path")
            if isinstance(repository, str) and local_copy(repository) is not None:
                found = local_data(repository, cache)
                kwargs = (config.get("dataset_kwargs") or {}) | found["dataset_kwargs"]
                config |= {"dataset_path": found["dataset_path"], "dataset_kwargs": kwargs}
            return config

    manager = TaskManager() if folder is None else TaskManager(include_path=folder, include_defaults=False)
    manager._factory = LocalCopies(meta=manager.metadata)
    return manager
