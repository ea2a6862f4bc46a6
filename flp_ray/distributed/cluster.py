"""The Ray cluster of a study: an existing one where there is one, a private one otherwise."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.context import namespace
from flp_ray.distributed.resources import check_fits
from flp_ray.errors import ResourceError

# Set before Ray is imported. Each is a measured default: quiet logs, no second copy of the records in Tune's own
# files, a Ctrl-C that reaches the study instead of Tune.
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # a study goes on from its store, never from Tune's own snapshots
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Tune lets one trial wait where the searcher is not its own, so a cluster that grows would be asked for one node
    # after the other; `Pool` bounds how many wait.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

_PASSED_ON = (
    HUB_VARIABLE,
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "FLP_RAY_CACHE",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Where the driver has these set, its workers on other nodes get them too: one set of credentials for all."""


def worker_environment(config: ResourcesConfig) -> dict[str, str]:
    """Environment of the processes that train: threads as granted, no accelerator looked for where none is used."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    threads = str(max(1, int(config.cpus_per_worker)))
    environment |= {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
        # Tune trains each run in a thread of its own; with an arena each, a process would grow from run to run.
        "MALLOC_ARENA_MAX": "2",
    }
    if not config.gpus_per_worker:
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment


@contextmanager
def connected(study_dir: Path, config: ResourcesConfig, *, widest: int) -> Iterator[None]:
    """Connects to the cluster that RAY_ADDRESS names (a Ray job has it set), or starts a private one.

    Args:
        study_dir: The study's folder; gives the namespace.
        config: What each run gets.
        widest: Workers of the widest run.

    Raises:
        ResourceError: A run can never start on this cluster.
    """
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    environment = worker_environment(config)
    common = {
        "namespace": namespace(study_dir),
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(runtime_env={"env_vars": beside_job(_ENVIRONMENT | environment)}, **common)
        else:
            os.environ.update(environment)  # the private cluster's processes inherit it, which costs no runtime_env
            ray.init(address="local", include_dashboard=False, **common)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _not_connected(error, address, environment) from None  # the cause may hold credentials
    try:
        check_fits(live_nodes(), config, widest)
        yield
    finally:
        sys.stdout.flush()
        ray.shutdown()


def beside_job(environment: dict[str, str]) -> dict[str, str]:
    """Those variables that the job's own runtime environment leaves open.

    Workers inherit the job's, and Ray refuses a variable that both give, even with the same value.
    """
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    given = (job.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in environment.items() if name not in given}


def _not_connected(error: Exception, address: str | None, environment: dict[str, str]) -> ResourceError:
    said = str(error)
    if "runtime env" in said or "runtime_env" in said:  # Ray prints the variables with their values
        return ResourceError(
            f"Ray at {address} refuses the runtime environment of the study ({type(error).__name__}; its message is "
            "withheld, since it may hold credentials), which sets "
            f"{', '.join(sorted(_ENVIRONMENT | environment))}. Leave out those that the job or the cluster sets too, "
            "or set RAY_OVERRIDE_JOB_RUNTIME_ENV=1."
        )
    return ResourceError(
        f"Cannot connect to Ray at {address or 'a private cluster of this machine'}: {said}. RAY_ADDRESS must "
        "name a running head as host:port (not its dashboard), or be unset for a private cluster."
    )


def live_nodes() -> list[dict[str, float]]:
    """Resources of the nodes that are there now."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def on_this_node() -> Any:
    """The scheduling strategy of an actor that stays on the node of the process that starts it, or dies with it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
