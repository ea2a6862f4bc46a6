"""The model of a run: a Llama of the run's shape, seeded; and the way out of its engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from flp_ray.core.execution import Kernels
from flp_ray.core.run import RunSpec
from flp_ray.core.storage import FileStorage
from flp_ray.errors import ConfigError
from flp_ray.train.state import storage_errors


def build_model(spec: RunSpec) -> LlamaForCausalLM:
    """Builds the model of a run in fp32 on the CPU; its weights depend on shape, vocabulary and seed.

    RMSNorm, gated feed-forward network, rotary positions, untied embeddings, no biases, no dropout. Linear
    and embedding weights are drawn from a normal of standard deviation 0.02, norms start at 1 (the defaults
    of Transformers; the paper names none). The caller's random state is left as it was.

    Args:
        spec: The run.

    Raises:
        ConfigError: The model does not have the parameters that the plan counted.
    """
    shape = spec.shape
    config = LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=spec.sequence_length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        model = LlamaForCausalLM(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    if counted != spec.params:
        raise ConfigError(
            f"Size {spec.size}: the model has {counted} parameters, but the plan counted {spec.params}; "
            "flp_ray.core.shape and the installed Transformers disagree about a Llama."
        )
    return model


def use_kernels(model: LlamaForCausalLM, kernels: Kernels, device: torch.device) -> Callable[[], None]:
    """Makes a model compute its layers with the kernels that are asked for.

    Args:
        model: The model.
        kernels: Which; `torch` takes PyTorch's fused norm on a GPU, `liger` the fused norms, rotations and
            feed-forward networks of liger-kernel.
        device: Where it is trained.

    Returns:
        Ends what holds for the whole process; to be called after the training.

    Raises:
        ConfigError: The kernels cannot be had here.
    """
    if kernels == "torch":
        if device.type == "cuda":
            _fuse_norms(model)
        return lambda: None
    if device.type == "cpu":
        raise ConfigError(
            "kernels: liger needs a GPU, but this worker trains on a CPU. Set kernels: torch, or give its "
            "workers a GPU."
        )
    try:
        from liger_kernel.transformers import apply_liger_kernel_to_llama
    except ImportError as error:
        raise ConfigError(
            f"kernels: liger needs the package liger-kernel with Triton, which cannot be imported ({error}). Install "
            "it on every node (pip install liger-kernel), or set kernels: torch."
        ) from error
    # Liger also patches the module, for every model of this process: the classes are put back at once (this model's
    # parts are patched already), the rotation at the end, because attention looks it up at each call.
    own = {name: getattr(modeling_llama, name) for name in ("LlamaRMSNorm", "LlamaMLP", "apply_rotary_pos_emb")}
    apply_liger_kernel_to_llama(fused_linear_cross_entropy=False, model=model)  # the loss is TokenLoss's own
    rotation = own.pop("apply_rotary_pos_emb")
    for name, value in own.items():
        setattr(modeling_llama, name, value)
    return lambda: setattr(modeling_llama, "apply_rotary_pos_emb", rotation)


def _fuse_norms(model: torch.nn.Module) -> None:
    """One kernel a norm instead of Transformers' seven; equal up to rounding."""
    for norm in model.modules():
        if isinstance(norm, modeling_llama.LlamaRMSNorm):
            norm.forward = lambda x, norm=norm: F.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)


def plain_module(spec: RunSpec, engine: Any, *, on_cpu: bool = False) -> LlamaForCausalLM | None:
    """The engine's model with all weights in place; every rank calls it.

    Up to ZeRO stage 2 that is the model in training. At stage 3 rank 0 gets a copy, for which the ranks gather one
    parameter after the other; the others get None.

    Args:
        spec: The run.
        engine: Its DeepSpeed engine.
        on_cpu: Whether such a copy is made in the host's memory instead of the device's.
    """
    if engine.zero_optimization_stage() < 3:
        return cast(LlamaForCausalLM, engine.module.model)
    import deepspeed

    sources, copy = dict(engine.module.model.named_parameters()), None
    if torch.distributed.get_rank() == 0:
        copy = build_model(spec)
        for parameter in copy.parameters():  # not copy.to(dtype), which would round the rotations' frequencies too
            parameter.data = parameter.data.to(next(iter(sources.values())).dtype)
        copy.to("cpu" if on_cpu else engine.device)
    targets = dict(copy.named_parameters()) if copy is not None else {}
    for name, source in sources.items():
        with deepspeed.zero.GatheredParameters([source]), torch.no_grad():
            if name in targets:
                targets[name].copy_(source)
    return copy


def export_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Saves a model in the form of Transformers, in the precision that it has; the folder appears when it is whole.

    Args:
        model: The model, as `on_checkpoint` is given it.
        folder: Where; one that is there already is left as it is.
    """
    if folder.exists():
        return
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(str(draft))
    draft.rename(folder)


def keep_model(model: LlamaForCausalLM, folder: Path, storage: FileStorage | None, place: str) -> None:
    """Exports a model and, with a storage, moves it there.

    Args:
        model: The model.
        folder: Where it is exported.
        storage: Where it is kept instead; None keeps it in `folder`.
        place: Its name in the storage.

    Raises:
        StorageError: It cannot be written.
    """
    needed = sum(p.numel() * p.element_size() for p in model.parameters()) + 2**20
    with storage_errors(folder, needed, "trained model"):
        export_model(model, folder)
        if storage is not None:
            for file in sorted(folder.iterdir()):
                storage.put(file, f"{place}/{file.name}")
            shutil.rmtree(folder)
