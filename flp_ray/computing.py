"""How a study's runs are computed: its resources, what they leave open chosen from the memory model, and the rates."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.resources import execution_of
from flp_ray.plan import memory_use
from flp_ray.store import run_states


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """How the runs of each size are computed.

    Attributes:
        by_size: Their execution; runs of one size have one shape and one batch.
        rates: FLOP/s of one worker over a run, measured or stated; None where neither is there.
        devices: Devices of the cluster, as far as is known without asking one.
    """

    by_size: Mapping[str, Execution]
    rates: Mapping[str, float | None]
    devices: int

    @property
    def workers(self) -> dict[str, int]:
        """Workers of a run, by size."""
        return {size: execution.workers for size, execution in self.by_size.items()}

    def as_json(self, specs: Iterable[RunSpec]) -> dict[str, Any]:
        """How the sizes of these runs are computed, by size, as `flp-ray plan --json` prints it."""
        found: dict[str, Any] = {}
        for spec in specs:
            if spec.size not in found:
                execution, rate = self.by_size[spec.size], self.rates.get(spec.size)
                found[spec.size] = execution.to_dict() | {
                    "micro_batch_sequences": execution.micro_batch(spec.batch_sequences),
                    "accumulation": execution.accumulation(spec.batch_sequences),
                    "memory_bytes": memory_use(spec, execution).total,
                    "device_hours_per_run": None if rate is None else spec.flops / rate / 3600,
                }
        return found


def computing(specs: Iterable[RunSpec], resources: ResourcesConfig, study_dir: Path) -> Computing:
    """How the sizes of these runs are computed.

    Args:
        specs: Runs, at least one of each size.
        resources: What the study says.
        study_dir: Its folder; the rates are those measured there, where a run of the size is finished.

    Raises:
        ResourceError: A size fits into no device as the resources say.
    """
    by_size: dict[str, Execution] = {}
    for spec in specs:
        if spec.size not in by_size:
            by_size[spec.size] = execution_of(spec, resources)
    return Computing(by_size=by_size, rates=_rates(by_size, resources, study_dir), devices=_devices(by_size, resources))


def _rates(by_size: Mapping[str, Execution], resources: ResourcesConfig, study_dir: Path) -> dict[str, float | None]:
    """Over the whole run, measuring included, because that is what a plan has to pay for.

    Of a run that went on after a failure only the seconds since then are recorded, so those of one attempt count.
    """
    measured: defaultdict[str, list[float]] = defaultdict(list)
    for run in run_states(study_dir):
        busy = sum(s or 0.0 for s in (run.train_seconds, run.measure_seconds, run.save_seconds))
        if run.state == "finished" and run.attempts == 1 and busy and run.size in by_size:
            measured[run.size].append(run.flops / busy / (run.workers or by_size[run.size].workers))
    stated = resources.expected_flops_per_s
    return {size: median(measured[size]) if measured[size] else stated for size in by_size}


def _devices(by_size: Mapping[str, Execution], resources: ResourcesConfig) -> int:
    """As stated, or those of this machine; where runs take GPUs, those of the widest run."""
    widest = max((execution.workers for execution in by_size.values()), default=1)
    if resources.max_workers is not None:
        return max(widest, resources.max_workers)
    if resources.max_concurrent_runs is not None:
        return widest * resources.max_concurrent_runs
    if resources.gpus_per_worker:
        return widest
    return max(widest, int((os.cpu_count() or 1) // resources.cpus_per_worker))
