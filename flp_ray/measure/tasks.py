"""Tasks of lm-evaluation-harness, built-in and its own, loaded once and asked many times.

Built-in tasks become YAML files over the prepared items and are loaded as any lm-eval task. lm-eval builds
its prompts anew at each evaluation, which costs as much as a tiny model's answers and draws other examples
each time; here the prompts are built once, from a fixed seed, and used for every checkpoint.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flp_ray.core.run import stable_hash
from flp_ray.errors import TaskError
from flp_ray.measure.config import CODE_TASKS, TaskConfig
from flp_ray.measure.generation import KNOWN_SETTINGS
from flp_ray.measure.lookup import local_data, manager_for

FEWSHOT_SEED = 1234
"""Seeds the draw of the examples before a question (lm-eval's own default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTask:
    """A task of a study with its prompts built.

    Attributes:
        name: Its name in the study.
        metric: The lm-eval metric that is the score, by itself or with its filter (`exact_match,get-answer`).
        top: The name that its result has in lm-eval's results.
        leaves: lm-eval tasks by name; more than one for a group.
        groups: lm-eval groups by name.
        version: What was asked: the task with its version, and what defines it.
    """

    name: str
    metric: str
    top: str
    leaves: dict[str, Any]
    groups: dict[str, Any]
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """What one task measured; None where it has no such number.

    Attributes:
        performance: The score.
        stderr: Its standard error.
        items: Items behind it.
        bpb: Bits per byte of the right answers, mean over items.
        bpb_stderr: Its standard error.
    """

    performance: float
    stderr: float | None
    items: int
    bpb: float | None
    bpb_stderr: float | None


def load_builtin_task(name: str, config: TaskConfig, items: str, folder: Path) -> LoadedTask:
    """Loads a built-in task over its items.

    Args:
        name: The task's name in the study.
        config: Its settings.
        items: JSONL file with the fields question, choices, gold.
        folder: Where the YAML file and the cache of `datasets` go; several processes may share it.
    """
    from lm_eval.tasks import TaskManager

    data = Path(items).resolve()
    if not data.is_file():
        raise TaskError(f"Task {name}: its items are not at {data}; prepare the text again.")
    definition = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(data)},
            "cache_dir": str((folder / "datasets").resolve()),
        },
        "output_type": "multiple_choice",
        "test_split": "test",
        "fewshot_split": "test",  # lm-eval leaves the question itself out of its examples
        "num_fewshot": config.shots,
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [{"metric": config.metric, "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    place = folder / "tasks" / stable_hash(definition)
    _write_whole(place / "task.yaml", json.dumps(definition, indent=2))  # JSON is YAML, and quotes everything
    with quiet():
        loaded = TaskManager(include_path=str(place), include_defaults=False).load(name)
    return _prepared(name, config, loaded)


def load_foreign_task(name: str, config: TaskConfig, folder: Path | None = None) -> LoadedTask:
    """Loads a task of lm-evaluation-harness, of a folder of YAML files, or one whose answers are programs.

    Its data comes from a local copy of the data set (FLP_RAY_HUB) where there is one, otherwise from the hub.

    Args:
        name: The task's name in the study.
        config: Its settings.
        folder: Where `datasets` caches what it makes of local copies; None for its own place.

    Raises:
        TaskError: It is unknown, its data cannot be had here, or it runs generated code without a sandbox.
    """
    wanted = str(config.lm_eval)
    cache = None if folder is None else folder / "datasets"
    manager = None if config.is_code else manager_for(name, config, cache)
    try:
        with quiet():
            loaded = {"tasks": {wanted: _code_task(config, cache)}} if manager is None else manager.load(wanted)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise TaskError(
            f"Task {name}: the data of lm-eval task {wanted!r} could not be loaded ({type(error).__name__}: "
            f"{reason}). Fetch it once on a machine that reaches the Hugging Face hub, with `flp-ray data fetch`, and "
            "set FLP_RAY_HUB to the folder of the copies."
        ) from error
    unsafe = [leaf for leaf, task in loaded["tasks"].items() if getattr(task, "UNSAFE_CODE", False)]
    if unsafe:
        raise TaskError(
            f"Task {name}: {', '.join(unsafe)} runs generated code without a sandbox, which flp-ray does not do; "
            f"in a sandbox it runs {', '.join(CODE_TASKS)}."
        )
    return _prepared(name, config, loaded)


def _code_task(config: TaskConfig, cache: Path | None) -> Any:
    from flp_ray.measure.code_tasks import humaneval

    return humaneval(config, local_data(CODE_TASKS[str(config.lm_eval)], cache))


def score(task: LoadedTask, lm: Any, *, items: int | None) -> TaskScore:
    """Asks a model all items of a task, or the first ones, through `lm_eval.evaluate`.

    Args:
        task: The task.
        lm: An lm-eval model.
        items: Items to use; a group spreads them evenly over its tasks.
    """
    from lm_eval.evaluator import evaluate

    limit = None if items is None else -(-items // len(task.leaves))
    # One "iteration" asks for the analytic standard error of a mean; other aggregations would be resampled.
    analytic = all(_is_mean(leaf.aggregation()) for leaf in task.leaves.values())
    with quiet():
        results = evaluate(
            lm,
            {"tasks": task.leaves, "groups": task.groups},
            limit=limit,
            bootstrap_iters=1 if analytic else 0,
            log_samples=False,
        )
    found = results["results"][task.top]
    key = _metric_key(task, found)
    metric, _, chosen = key.partition(",")
    stderr = found.get(f"{metric}_stderr,{chosen}")
    bits = np.asarray([b for leaf in task.leaves.values() for b in _gold_bits_per_byte(leaf)])
    return TaskScore(
        performance=float(found[key]),
        stderr=float(stderr) if isinstance(stderr, int | float) else None,
        items=sum(int(results["n-samples"][leaf]["effective"]) for leaf in task.leaves),
        bpb=float(bits.mean()) if bits.size else None,
        bpb_stderr=float(bits.std(ddof=1)) / bits.size**0.5 if bits.size > 1 else None,
    )


def _prepared(name: str, config: TaskConfig, loaded: dict[str, Any]) -> LoadedTask:
    leaves, groups = loaded["tasks"], loaded.get("groups", {})
    wanted = name if config.builtin else str(config.lm_eval)
    if wanted not in (*leaves, *groups):
        raise TaskError(
            f"Task {name}: {wanted!r} is a tag of {len(leaves)} tasks of lm-eval; name one of them: "
            f"{', '.join(sorted(leaves)[:8])}."
        )
    each = -(-config.items // len(leaves))
    for leaf in leaves.values():
        _refuse_unknown_generation(name, leaf)
        _build_once(leaf, shots=config.shots, items=each)
    version = _version(config, wanted, leaves, groups)
    return LoadedTask(name=name, metric=config.metric, top=wanted, leaves=leaves, groups=groups, version=version)


def _version(config: TaskConfig, top: str, leaves: dict[str, Any], groups: dict[str, Any]) -> str:
    """E.g. `bbh_cot_fewshot 3.0 of 4.0, 3 shots, lm-eval 0.4.13`: a group's version is followed by its tasks'."""
    parts = sorted({str(leaf.VERSION) for leaf in leaves.values()})
    number = f"{groups[top].version} of {', '.join(parts)}" if top in groups else parts[0]
    said = [f"{top} {number}", f"{config.shots} shots"]
    if config.is_code:
        settings = next(iter(leaves.values())).config.generation_kwargs
        said.append(f"temperature {settings['temperature']:g}, top_p {settings['top_p']:g}")
        said.append(f"{config.samples or config.pass_k} samples, Python {platform.python_version()}")
    return ", ".join([*said, f"lm-eval {importlib.metadata.version('lm_eval')}"])


def _refuse_unknown_generation(name: str, task: Any) -> None:
    given = (task.config.generation_kwargs or {}) if task.OUTPUT_TYPE == "generate_until" else {}
    unknown = sorted(set(given) - KNOWN_SETTINGS) + ["num_beams"] * (given.get("num_beams", 1) != 1)
    if unknown:
        raise TaskError(
            f"Task {name}: its answers are to be generated with {', '.join(unknown)}, which flp-ray does not do; it "
            f"knows {', '.join(sorted(KNOWN_SETTINGS))}. Leave the task out, or define it anew without (lm_eval_path)."
        )


def _build_once(task: Any, *, shots: int, items: int) -> None:
    """Builds a task's prompts now, and makes lm-eval use these each time instead of building its own."""
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    documents = list(islice(task.eval_docs, items))
    task.has_test_docs = lambda: True
    task.test_docs = lambda: documents
    with quiet():
        task.build_all_requests(limit=items)
    requests: Sequence[Any] = task.instances

    def use_built(*, limit: int | None = None, **_: Any) -> None:
        task._instances = [r for r in requests if limit is None or r.doc_id < limit]
        for request in task._instances:
            request.resps, request.filtered_resps = [], {}

    task.build_all_requests = use_built


def _gold_bits_per_byte(task: Any) -> Iterator[float]:
    """Bits per byte of each item's right answer, from the likelihoods of the last evaluation."""
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        return
    for request in task.instances:
        if task.OUTPUT_TYPE == "loglikelihood" or request.idx == _gold(task, request.doc):
            answer = len(request.args[1].encode())
            yield -request.resps[0][0] / np.log(2) / answer


def _gold(task: Any, document: Any) -> int | None:
    gold: Any = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    if isinstance(gold, list):
        gold = gold[0] if gold else None
    if isinstance(gold, str):
        choices = task.doc_to_choice(document)
        return choices.index(gold) if gold in choices else None
    return None if gold is None else int(gold)


def _metric_key(task: LoadedTask, found: dict[str, Any]) -> str:
    keys = [k for k in found if "," in k and "_stderr," not in k]
    chosen = [k for k in keys if k == task.metric or k.startswith(f"{task.metric},")]
    if len(chosen) != 1:
        raise TaskError(
            f"Task {task.name}: metric {task.metric!r} is "
            + ("not among" if not chosen else "several of")
            + f" what lm-eval measured; set metric to one of {', '.join(sorted(keys))}."
        )
    return chosen[0]


def _is_mean(aggregation: dict[str, Any]) -> bool:
    from lm_eval.api.metrics import mean

    return all(function is mean for function in aggregation.values())


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars: lm-eval and `datasets` draw them on stderr, into whatever the study shows there."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield
