"""Measuring: a model at a checkpoint to domain losses, task scores and bits per byte.

`Measurer` is built once a process and study and measures any number of models. `check_tasks` refuses unknown
tasks before anything starts, `task_records` describes the tasks to the fits; neither loads torch for built-in
tasks. `fetch_tasks` copies their data sets from the hub. `Measurer` is looked up on first use, so that importing
this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flp_ray.measure.checks import check_tasks, task_records

if TYPE_CHECKING:
    from flp_ray.measure.lookup import fetch_tasks
    from flp_ray.measure.measurer import Measurer

__all__ = ["Measurer", "check_tasks", "fetch_tasks", "task_records"]


def __getattr__(name: str) -> Any:
    if name == "Measurer":
        from flp_ray.measure.measurer import Measurer

        return Measurer
    if name == "fetch_tasks":
        from flp_ray.measure.lookup import fetch_tasks

        return fetch_tasks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
