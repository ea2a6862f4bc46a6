"""Many runs on a local Ray with a trainer that does nothing: what a run costs the driver, and whether that grows.

    late_vs_early_seconds   seconds a run of the last quarter / seconds a run of the second quarter
    driver_bytes_per_run    growth of the driver's resident memory over the last half, bytes a run
    seconds_per_run         wall time a run, its two records in `attempts` and one checkpoint of ten values included

`python tests/benchmarks/bench_runs.py 10000` is the size of the issue; `make bench` takes fewer.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.core.text import PreparedText
from flp_ray.distributed.cluster import connected
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.context import StudyContext
from flp_ray.measure.config import MeasureConfig
from flp_ray.store import attempt_row, measurement_rows, run_rows, run_states

DEFAULT_RUNS = 1200
VALUES = 10


def run(runs: int = DEFAULT_RUNS) -> dict[str, float]:
    """Seconds and memory a run; checks that every run is recorded as finished."""
    with tempfile.TemporaryDirectory() as folder:
        study_dir = Path(folder, "study")
        study_dir.mkdir()
        context = _context(study_dir)
        specs = [_spec(number) for number in range(runs)]
        follower = _Clock()
        with connected(study_dir, context.resources, widest=1):
            from flp_ray.distributed.launch import train_runs
            from flp_ray.distributed.store_actor import start_store

            store = start_store(study_dir)
            store.append("runs", run_rows(specs))
            began = time.perf_counter()
            failures = train_runs(specs, context, watcher=follower, trial=_nothing)
            seconds = time.perf_counter() - began
        assert not failures, failures
        began = time.perf_counter()
        states = run_states(study_dir)
        states_seconds = time.perf_counter() - began
        assert sum(state.state == "finished" for state in states) == runs
    quarter = runs // 4
    at, resident = follower.at, follower.resident
    return {
        "runs": runs,
        "seconds_per_run": seconds / runs,
        "late_vs_early_seconds": (at[-1] - at[-1 - quarter]) / (at[2 * quarter] - at[quarter]),
        "driver_bytes": float(resident[-1]),
        "driver_bytes_per_run": (resident[-1] - resident[len(resident) // 2]) / (runs / 2),
        "run_states_seconds": states_seconds,
    }


@dataclass(slots=True)
class _Clock:
    """Notes when each run ended, and how much memory the driver held."""

    at: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    process: psutil.Process = field(default_factory=psutil.Process)

    def finished(self, run_id: str) -> None:
        self.at.append(time.perf_counter())
        self.resident.append(self.process.memory_info().rss)
        if len(self.at) % 500 == 0:
            print(f"{len(self.at)} runs, {self.resident[-1] / 2**20:.0f} MiB", file=sys.stderr, flush=True)

    def started(self, run_id: str) -> None: ...

    def progress(self, run_id: str, tokens: int, train_loss: float) -> None: ...

    def retried(self, run_id: str, reason: str) -> None:
        raise AssertionError(f"run {run_id}: {reason}")

    failed = retried


def _nothing(config: dict[str, Any], context: StudyContext) -> None:
    """A run that trains nothing and records what a run records."""
    import ray.tune

    from flp_ray.distributed.store_actor import RemoteWriter

    spec, store = RunSpec.from_dict(config["spec"]), RemoteWriter.find(context.study_dir)
    key: dict[str, Any] = {"run_id": spec.run_id, "attempt": 1 + store.ask("attempts", spec.run_id)}
    store.append("attempts", attempt_row(**key, event="started", at=time.time(), session="s", node="n"))
    measured = [
        Measurement(
            run_id=spec.run_id,
            tokens=spec.train_tokens,
            flops=spec.flops,
            kind="domain_loss",
            name=f"domain {k}",
            value=1.0 + k,
            stderr=None,
            items=None,
        )
        for k in range(VALUES)
    ]
    store.append("measurements", measurement_rows(measured))
    store.tell("note_progress", spec.run_id, spec.train_tokens, 1.0)
    store.append("attempts", attempt_row(**key, event="finished", at=time.time(), session="s", node="n"))
    ray.tune.report({"run_id": spec.run_id, "finished": True})


def _spec(seed: int) -> RunSpec:
    return RunSpec(
        purpose="sampling",
        size="tiny",
        shape=ModelShape(layers=1, hidden=16, heads=2, ffn=32),
        vocabulary=300,
        sequence_length=8,
        mixture=Mixture.of({"code": 0.25, "general": 0.75}),
        train_tokens=8000,
        batch_sequences=4,
        learning_rate=1e-3,
        seed=seed,
        recipe=Recipe(),
        text_id="text",
    )


def _context(study_dir: Path) -> StudyContext:
    task = {"builtin": "continuation", "domain": "code"}
    return StudyContext(
        study_dir=study_dir,
        session="bench",
        text=PreparedText(
            sources={}, domains={}, items={}, tokenizer="", vocabulary=300, removed={}, content_id="none"
        ),
        measure=MeasureConfig.model_validate({"tasks": {"task": task}}),
        resources=ResourcesConfig(),
        max_epochs=1.0,
        keep_checkpoints="none",
    )


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_RUNS)))
