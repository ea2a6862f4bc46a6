"""What can be said about a study's tasks before any model exists. Loads lm-eval only for its own tasks."""

from __future__ import annotations

from flp_ray.core.records import Task
from flp_ray.core.text import RANDOM_PERFORMANCE, PreparedText
from flp_ray.errors import TaskError
from flp_ray.measure.config import MeasureConfig, TaskConfig

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
    yet; the index of all its tasks alone takes some ten seconds. Built-in tasks take no time.

    Args:
        config: The tasks.
        text: The prepared text; None before it is prepared, then items are not looked for.

    Raises:
        TaskError: A task is unknown, has no items, or its data cannot be loaded here.
    """
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


def _random_performance(task: TaskConfig) -> float:
    if task.random_performance is not None:
        return task.random_performance
    assert task.builtin is not None  # the config refuses a foreign task without random_performance
    return RANDOM_PERFORMANCE[task.builtin]
