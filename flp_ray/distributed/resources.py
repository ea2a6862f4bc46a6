"""Whether runs fit on the cluster, and how many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flp_ray.distributed.config import ResourcesConfig
from flp_ray.errors import ResourceError


def count_slots(nodes: Sequence[Mapping[str, float]], config: ResourcesConfig) -> int:
    """How many runs the cluster holds at once.

    Args:
        nodes: Resources (`CPU`, `GPU`) of every live node.
        config: What each run gets.

    Returns:
        At least 1, and at most `max_concurrent_runs`.

    Raises:
        ResourceError: A single run can never start here; gives the numbers.
    """
    workers = sum(_workers_on(node, config) for node in nodes)
    if workers < config.workers:
        have = "; ".join(f"{n.get('CPU', 0):g} CPUs and {n.get('GPU', 0):g} GPUs" for n in nodes) or "no node"
        raise ResourceError(
            f"A run asks for {config.workers} worker(s) of {config.cpus_per_worker:g} CPUs and "
            f"{config.gpus_per_worker:g} GPUs each; the cluster has {len(nodes)} node(s) with {have}, "
            f"which hold {workers} such worker(s). Lower resources.workers, cpus_per_worker or gpus_per_worker, "
            "or start a larger cluster."
        )
    return min(workers // config.workers, config.max_concurrent_runs or workers)


def _workers_on(node: Mapping[str, float], config: ResourcesConfig) -> int:
    by_cpu = math.floor(node.get("CPU", 0) / config.cpus_per_worker)
    by_gpu = math.floor(node.get("GPU", 0) / config.gpus_per_worker) if config.gpus_per_worker else by_cpu
    return min(by_cpu, by_gpu)


def trial_resources(config: ResourcesConfig) -> dict[str, float]:
    """What the Tune trial itself holds.

    A run of one worker trains in the trial's own process. With more workers the trial only watches over Ray Train,
    whose workers hold the CPUs and GPUs; it then asks for a mebibyte of memory, since Ray refuses an empty request
    and a CPU share could keep the last worker from starting.
    """
    if config.workers > 1:
        return {"memory": float(2**20)}
    resources = {"CPU": config.cpus_per_worker}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    return resources
