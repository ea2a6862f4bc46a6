"""How runs are computed, whether they fit on the cluster, and which of them hold it now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.distributed.config import EvaluatorsConfig, ResourcesConfig
from flp_ray.errors import ResourceError
from flp_ray.plan import Wish, choose_execution

Nodes = Sequence[Mapping[str, float]]
"""Resources (`CPU`, `GPU`) of every live node."""

LOOK_SECONDS = 1.0
"""Nodes come and go; they are counted at most so often."""


def execution_of(spec: RunSpec, resources: ResourcesConfig) -> Execution:
    """How a run is computed.

    Raises:
        ResourceError: It fits into no device as the resources say.
    """
    hours, rate = resources.max_hours_per_run, resources.expected_flops_per_s
    in_time = 1 if hours is None or rate is None else math.ceil(spec.flops / rate / 3600 / hours)
    wish = Wish(
        workers=None if resources.workers == "auto" else resources.workers,
        zero_stage=resources.zero_stage,
        micro_batch_sequences=resources.micro_batch_sequences,
        activation_checkpointing=resources.activation_checkpointing,
        kernels=resources.kernels,
        memory_bytes=resources.device_memory_bytes,
        least_workers=in_time,
        most_workers=resources.max_workers,
    )
    return choose_execution(spec, wish)


def count_workers(nodes: Nodes, config: ResourcesConfig) -> int:
    """How many workers the nodes hold at once, beside the evaluators."""
    left, _ = _beside_evaluators(nodes, config)
    return sum(_fitting(node, config) for node in left)


def _beside_evaluators(nodes: Nodes, config: ResourcesConfig) -> tuple[list[dict[str, float]], int]:
    """What the evaluators leave of the nodes, and how many of them have a place."""
    left, placed = [dict(node) for node in nodes], 0
    if config.evaluators is not None:
        placed = sum(_place(config.evaluators, left, config) for _ in range(config.evaluators.count))
    return left, placed


def _place(evaluators: EvaluatorsConfig, nodes: list[dict[str, float]], config: ResourcesConfig) -> bool:
    """Takes one evaluator's share off the node that loses the fewest workers by it; False where it fits on none."""
    best: tuple[int, int] | None = None
    for number, node in enumerate(nodes):
        rest = _without(node, evaluators)
        if min(rest["CPU"], rest["GPU"]) >= 0:
            loss = _fitting(node, config) - _fitting(rest, config)
            best = min(best or (loss, number), (loss, number))
    if best is None:
        return False
    nodes[best[1]] = _without(nodes[best[1]], evaluators)
    return True


def _without(node: Mapping[str, float], evaluators: EvaluatorsConfig) -> dict[str, float]:
    return {"CPU": node.get("CPU", 0) - evaluators.cpus, "GPU": node.get("GPU", 0) - evaluators.gpus}


def check_fits(nodes: Nodes, config: ResourcesConfig, widest: int) -> None:
    """Refuses runs that can never start, and evaluators that have no place.

    Args:
        nodes: The nodes that are there.
        config: What each run gets.
        widest: Workers of the widest run.

    Raises:
        ResourceError: They cannot, now or once the cluster has grown to `max_workers`; gives the numbers.
    """
    workers = max(count_workers(nodes, config), config.max_workers or 0)
    have = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes) or "no node"
    _, placed = _beside_evaluators(nodes, config)
    if config.evaluators is not None and config.max_workers is None and placed < config.evaluators.count:
        raise ResourceError(
            f"resources.evaluators asks for {config.evaluators.count} of {config.evaluators.cpus:g} CPUs and "
            f"{config.evaluators.gpus:g} GPUs each; the cluster has {len(nodes)} node(s) with {have}, on which "
            f"{placed} have a place. Lower their count, cpus or gpus, leave evaluators out (the trainings then measure "
            "themselves), or, where the cluster grows by itself, state resources.max_workers."
        )
    if workers < widest:
        beside = f" beside {config.evaluators.count} evaluator(s)" if config.evaluators else ""
        raise ResourceError(
            f"A run asks for {widest} worker(s) of {config.cpus_per_worker:g} CPUs and "
            f"{config.gpus_per_worker:g} GPUs each; the cluster has {len(nodes)} node(s) with {have}, "
            f"which hold {max(workers, 0)} such worker(s){beside}. Lower resources.workers, cpus_per_worker or "
            "gpus_per_worker, start a larger cluster, or, where the cluster grows by itself, state "
            "resources.max_workers."
        )


def _fitting(node: Mapping[str, float], config: ResourcesConfig) -> int:
    by_cpu, gpus = math.floor(node.get("CPU", 0) / config.cpus_per_worker), config.gpus_per_worker
    if not gpus:
        return by_cpu
    left = node.get("GPU", 0)
    if gpus >= 1:
        return min(by_cpu, math.floor(left / gpus))
    # A share lies on one GPU; what evaluators have left of a GPU may hold some too.
    part = math.floor(round(left % 1 / gpus, 4))
    return min(by_cpu, math.floor(left) * math.floor(1 / gpus) + part)


@dataclass(slots=True)
class Pool:
    """The workers of a cluster, whose nodes come and go, and the runs that hold them.

    Ray Train places the workers of a run outside of Tune's own bookkeeping, so a run is only started once all its
    workers have room: two runs that each hold half of what they need would wait for each other for ever.

    Attributes:
        config: What each run gets.
        nodes: Gives the nodes that are there.
    """

    config: ResourcesConfig
    nodes: Callable[[], Nodes]
    _held: dict[str, int] = field(init=False, default_factory=dict)
    _counted: int = field(init=False, default=0)
    _looked: float = field(init=False, default=-math.inf)

    def has_room(self, workers: int) -> bool:
        """Whether a run of so many workers can start now; one that must wait for the cluster to grow counts."""
        most = self.config.max_concurrent_runs
        if most is not None and len(self._held) >= most:
            return False
        return sum(self._held.values()) + workers <= self.size()

    def size(self) -> int:
        """Workers that the cluster holds, now or once it has grown as stated."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._counted = max(count_workers(self.nodes(), self.config), self.config.max_workers or 0)
            self._looked = time.monotonic()
        return self._counted

    def hold(self, run_id: str, workers: int) -> None:
        """A run starts."""
        self._held[run_id] = workers

    def release(self, run_id: str) -> None:
        """A run has ended; nothing if it does not hold any."""
        self._held.pop(run_id, None)


def trial_resources(config: ResourcesConfig, execution: Execution) -> dict[str, float]:
    """What the Tune trial of a run itself holds.

    A run of one worker trains in the trial's own process. With more workers the trial only watches over Ray Train,
    whose workers hold the CPUs and GPUs; it then asks for a mebibyte of memory, since Ray refuses an empty request
    and a CPU share could keep the last worker from starting.
    """
    if execution.workers > 1:
        return {"memory": float(2**20)}
    resources = {"CPU": config.cpus_per_worker}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    return resources
