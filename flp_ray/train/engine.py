"""The DeepSpeed engine of a run: process group, optimiser, schedule, precision, ZeRO stage.

DeepSpeed is imported inside the functions: its import picks an accelerator from the environment, which has to
be settled first.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed

from flp_ray.core.execution import Execution
from flp_ray.core.run import RunSpec
from flp_ray.errors import RunError


def training_device() -> torch.device:
    """The device that this process trains on: its own GPU where it has one, otherwise the CPU.

    DS_ACCELERATOR=cpu, which DeepSpeed obeys, keeps it on the CPU of a machine with GPUs.
    """
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def import_deepspeed(device: torch.device) -> Any:
    """Imports DeepSpeed without its chatter and without the compile that its first use starts on a CPU.

    On a CPU, DeepSpeed compiles a shared-memory all-reduce when it attaches to a process group (about two
    minutes). It only serves inference, so it is marked as not available here. The mark is a private table of
    DeepSpeed: where a later version has no such table, training still works, after the compile.

    Args:
        device: The device to train on.
    """
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # DeepSpeed logs to stdout, where flp-ray prints its answers.
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Deprecations inside DeepSpeed and what it imports; nothing that a study could change.
        warnings.simplefilter("ignore")
        import deepspeed
        import deepspeed.ops
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if device.type == "cpu":
        table = getattr(deepspeed.ops, "__compatible_ops__", None)
        if isinstance(table, dict):
            table["deepspeed_shm_comm"] = False
    return deepspeed


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps off what DeepSpeed's own code is warned of while it trains."""
    with warnings.catch_warnings():
        # DeepSpeed calls collectives by names that this torch deprecates, twice a step at ZeRO 3.
        warnings.filterwarnings("ignore", message=".*torch.distributed.*is deprecated", category=FutureWarning)
        yield


def join_process_group(device: torch.device, *, rank: int, world: int) -> None:
    """Makes sure that a process group of `world` processes exists, and attaches DeepSpeed to it.

    A group that is already there with the same size is used as it is (Ray Train made it, or an earlier run in
    this process did). A group of one needs no port: its store lives in this process.

    Args:
        device: The device to train on; gloo on the CPU, nccl on CUDA.
        rank: This process, 0 to world - 1.
        world: Number of processes.

    Raises:
        RunError: A group of another size exists, or several workers have no address to meet at.
    """
    deepspeed = import_deepspeed(device)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # DeepSpeed refuses to start without it
    backend = "nccl" if device.type == "cuda" else "gloo"
    group = torch.distributed
    if group.is_initialized():
        if (group.get_rank(), group.get_world_size()) != (rank, world):
            raise RunError(
                f"This process is rank {group.get_rank()} of a group of {group.get_world_size()} workers, "
                f"but the run asks for rank {rank} of {world}; start the run in a fresh process."
            )
    elif world == 1:
        store = group.HashStore()  # type: ignore[attr-defined]  # public, but missing from torch's stubs
        group.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise RunError(
                f"A run of {world} workers needs a process group or the environment variables "
                f"MASTER_ADDR and MASTER_PORT; not set: {', '.join(missing)}."
            )
        group.init_process_group(backend, rank=rank, world_size=world)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)


def learning_rate_factor(spec: RunSpec, step: int) -> float:
    """Share of the peak learning rate that optimiser step `step` (0, 1, ...) uses.

    Rises linearly over the warm-up steps, reaches 1 at the last of them, then follows a cosine down to
    `final_learning_rate_fraction`, which the run's last step uses.
    """
    recipe, steps = spec.recipe, spec.steps
    warmup = min(steps - 1, math.ceil(recipe.warmup_fraction * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step + 1 - warmup) / (steps - warmup))
    final = recipe.final_learning_rate_fraction
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(spec: RunSpec, model: torch.nn.Module) -> torch.optim.AdamW:
    # Norm gains are not decayed: pulling them to zero would shrink the activations, not regularise the model.
    matrices = [p for p in model.parameters() if p.dim() > 1]
    gains = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": spec.recipe.weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        lr=spec.learning_rate,
        betas=(spec.recipe.beta1, spec.recipe.beta2),
        fused=True,  # one kernel instead of ten operations a parameter; bit-reproducible (tested)
    )


def engine_stage(spec: RunSpec, execution: Execution) -> int:
    """The ZeRO stage that the engine runs: bf16 takes at least 1.

    Stage 0 in bf16 goes through DeepSpeed's fp16 wrapper, whose losses differed from the other stages (5.654
    against 5.599 after twelve steps); stage 1 keeps fp32 master weights and shards them.
    """
    return max(execution.zero_stage, 1 if spec.recipe.precision == "bf16" else 0)


def engine_config(spec: RunSpec, execution: Execution, device: torch.device) -> dict[str, Any]:
    """DeepSpeed's own configuration of a run."""
    recipe, stage = spec.recipe, engine_stage(spec, execution)
    config: dict[str, Any] = {
        # The loop cuts batches and scales losses itself: shares may be uneven and the last batch short.
        # DeepSpeed only needs numbers that agree with each other.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "train_batch_size": execution.workers,
        # At stage 0 the loop clips: the gradients are whole, and torch's own clipping is faster.
        "gradient_clipping": (recipe.clip_norm or 0.0) if stage > 0 else 0.0,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # DeepSpeed leaves out a step whose gradient is not finite, and the loop then ends the run. Unchecked, stage 2
        # would take it into the weights, and a run whose last step it is would end as if nothing had happened.
        "bf16": {"enabled": recipe.precision == "bf16", "check_grad_overflow": True},
        "steps_per_print": 10**12,
    }
    if recipe.precision == "bf16":
        # Tens of passes make a batch on few workers; summed in bf16 their gradients would lose the small ones.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    if device.type == "cuda" and execution.workers > 1:
        config["zero_optimization"]["overlap_comm"] = True
    return config


def build_engine(spec: RunSpec, loss: torch.nn.Module, device: torch.device, execution: Execution) -> Any:
    """Wraps a model under its loss into a DeepSpeed engine with AdamW.

    The loop sets the learning rate of each step (`learning_rate_factor`), so no schedule has a state to save.

    Args:
        spec: The run.
        loss: Its model, fp32, in a `TokenLoss`.
        device: The device to train on; the process group exists.
        execution: How it is computed.
    """
    deepspeed = import_deepspeed(device)
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer

    # Its bf16 optimiser of stage 1 prints what memory it takes, to stdout.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # as above; also hardware hints about CPU-only machines
        engine, *_ = deepspeed.initialize(
            # DeepSpeed moves it to the device, after the cast to bf16: half the room.
            model=loss,
            optimizer=_optimizer(spec, loss),
            config=engine_config(spec, execution, device),
            dist_init_required=False,
        )
    whole_gradients = engine_stage(spec, execution) == 0 or isinstance(engine.optimizer, BF16_Optimizer)
    if execution.workers == 1 and whole_gradients:
        # Nobody to average with: DeepSpeed would copy all gradients into a buffer and back at each step.
        engine.enable_backward_allreduce = False
    return engine
