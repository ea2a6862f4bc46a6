"""What can be said about a study's tasks before any model exists. Loads lm-eval only for its own tasks."""

from __future__ import annotations

import importlib.util

from flp_ray.core.records import Task
from flp_ray.core.text import RANDOM_PERFORMANCE, PreparedText
from flp_ray.errors import TaskError
from flp_ray.measure.config import MeasureConfig, TaskConfig
from flp_ray.measure.sandbox import probe

BUILTIN_METRICS = ("acc", "acc_norm")
"""Accuracy by the likelihood of the choices, as it is or divided by their length in characters."""


def task_records(config: MeasureConfig) -> tuple[Task, ...]:
    """The tasks as the fits know them, with random performance and emergence margin, by name."""
    return tuple(
        Task(task=name, random_performance=_random_performance(task), emergence_margin=task.emergence_margin)
        for name, task in sorted(config.tasks.items())
    )


def check_tasks(config: MeasureConfig, text: PreparedText | None) -> None:
    """Refuses tasks that could not be measured, before anything is trained.

    Tasks of lm-evaluation-harness are looked up and loaded, which fetches their data where it is not there
    yet; where a task has no folder of its name, the index of all tasks alone takes some ten seconds. Built-in
    tasks take no time.

    Args:
        config: The tasks.
        text: The prepared text; None before it is prepared, then items are not looked for.

    Raises:
        TaskError: A task is unknown, has no items, its data cannot be loaded here, its answers are programs and no
            sandbox can be made here, or vLLM is asked for and not installed.
    """
    check_machine(config)
    for name, task in config.tasks.items():
        if task.builtin is None:
            continue
        if task.metric not in BUILTIN_METRICS:
            raise TaskError(
                f"Task {name}: built-in tasks have the metrics {' and '.join(BUILTIN_METRICS)}, "
                f"received {task.metric!r}."
            )
        if text is not None and name not in text.items:
            raise TaskError(
                f"Task {name} has no items in the prepared text, which has items for "
                f"{', '.join(sorted(text.items)) or 'no task'}; prepare the text with this task's settings."
            )
    foreign = {name: task for name, task in config.tasks.items() if task.builtin is None}
    if foreign:
        from flp_ray.measure.tasks import load_foreign_task

        for name, task in foreign.items():
            load_foreign_task(name, task)


def check_machine(config: MeasureConfig) -> None:
    """Refuses what this machine has no means for: running generated programs, generating with vLLM.

    Raises:
        TaskError: No sandbox can be made here, or vLLM is not installed.
    """
    code = sorted(name for name, task in config.tasks.items() if task.is_code)
    if code and (found := probe()).launcher is None:
        raise TaskError(f"Task {', '.join(code)} runs generated programs, but {found.advice()}.")
    if config.generation == "vllm" and importlib.util.find_spec("vllm") is None:
        raise TaskError(
            "generation: vllm needs vLLM, which is not installed here; run `pip install 'lm-eval[vllm]'` on every node "
            "with a GPU, or set generation to hf."
        )


def _random_performance(task: TaskConfig) -> float:
    if task.random_performance is not None:
        return task.random_performance
    assert task.builtin is not None  # the config refuses a foreign task without random_performance
    return RANDOM_PERFORMANCE[task.builtin]
