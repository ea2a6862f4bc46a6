"""The measurer of a process, made once: for trainings that measure themselves and for evaluators alike."""

from __future__ import annotations

import time
from dataclasses import replace

from flp_ray.core.run import stable_hash
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.store_actor import RemoteWriter
from flp_ray.measure import Measurer, task_records
from flp_ray.store import task_rows

_measurers: dict[str, Measurer] = {}
"""The process's measurer: its tasks and tokenised questions serve all runs of the slot."""


def measurer(context: StudyContext) -> Measurer:
    """The process's measurer of a study."""
    key = stable_hash([context.text.content_id, context.measure.model_dump(mode="json")])
    if key not in _measurers:
        _measurers.clear()
        _measurers[key] = Measurer(context.measure, context.text, context.study_dir / "tasks")
        _record_versions(_measurers[key], context)
    return _measurers[key]


def _record_versions(measures: Measurer, context: StudyContext) -> None:
    """Writes down once a call of the study which versions of the tasks its scores are measured with."""
    store = RemoteWriter.find(context.study_dir)
    if store.ask("first", "versions of tasks"):
        versions = measures.task_versions()
        tasks = [replace(task, version=versions.get(task.task)) for task in task_records(context.measure)]
        store.append("tasks", task_rows(tasks, recorded=time.time()))
