"""Training on one GPU: tokens a second and MFU of shapes of the paper's ladder, beside a torch loop written by hand.

Both sides train the same model on the same random tokens with the batch of the paper's Table 1 (by accumulation) in
bf16, AdamW with fp32 master weights, sequences of 2,048; each side takes the largest micro batch that fits, found by
halving. One JSON line on stdout; `vs_hand` is ours over the loop's. The loop has no DeepSpeed and no Transformers:
its own Llama, scaled-dot-product attention, fused AdamW.

    python tests/benchmarks/bench_gpu.py [--sizes 0.12B 1B] [--kernels torch liger] [--dry-run-cpu]

Exits with 2 where there is no GPU; `--dry-run-cpu` runs a toy shape through the same code on the CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from flp_ray.core.execution import Execution, Kernels
from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.errors import ConfigError, OutOfMemoryError
from flp_ray.plan.ladder import PAPER_LADDER
from flp_ray.train import accelerator_peak_flops, train
from flp_ray.train.engine import learning_rate_factor
from flp_ray.train.memory import memory_errors

SEQUENCE_LENGTH, VOCABULARY = 2048, 50304
WARM_STEPS, TIMED_STEPS = 1, 3
FIRST_MICRO_BATCH = 64


class RandomTokens:
    """A stream of nothing: the same tokens for both sides, made beforehand."""

    def __init__(self, spec: RunSpec) -> None:
        rng = np.random.default_rng(0)
        shape = (spec.batch_sequences, spec.sequence_length)
        self._batch = rng.integers(0, spec.vocabulary, shape, dtype=np.int64)

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """One batch, again and again."""
        return self._batch[: stop - start]


def paper_spec(size: str) -> RunSpec:
    """A few steps of a rung of the paper's ladder."""
    rung = next(rung for rung in PAPER_LADDER if rung.size == size)
    return RunSpec(
        purpose="sampling",
        size=size,
        shape=rung.shape,
        vocabulary=VOCABULARY,
        sequence_length=SEQUENCE_LENGTH,
        mixture=Mixture.of({"random": 1.0}),
        train_tokens=SEQUENCE_LENGTH * rung.batch_sequences * (WARM_STEPS + TIMED_STEPS),
        batch_sequences=rung.batch_sequences,
        learning_rate=1e-4,
        seed=0,
        recipe=Recipe(precision="bf16", checkpoints=1),
        text_id="bench",
    )


def toy_spec() -> RunSpec:
    """What the dry run trains."""
    shape = ModelShape(layers=2, hidden=32, heads=2, ffn=88)
    small = {"vocabulary": 128, "sequence_length": 32, "batch_sequences": 8}
    return replace(
        paper_spec("43M"), size="toy", shape=shape, train_tokens=32 * 8 * (WARM_STEPS + TIMED_STEPS), **small
    )


def ours(spec: RunSpec, micro: int, kernels: Kernels, checkpointing: bool) -> float:
    """Tokens a second of `train` in the steps after the first."""
    execution = Execution(micro_batch_sequences=micro, kernels=kernels, activation_checkpointing=checkpointing)
    warm = replace(spec, train_tokens=spec.batch_sequences * spec.sequence_length * WARM_STEPS)
    seconds = []
    for part in (warm, warm, spec):  # the first of all loads kernels; after it, first steps cost the same
        with tempfile.TemporaryDirectory() as place:
            done = train(
                part, RandomTokens(part), Path(place), on_checkpoint=lambda checkpoint, model: None, execution=execution
            )
        seconds.append(done.training_seconds)
    return (spec.train_tokens - warm.train_tokens) / max(seconds[2] - seconds[1], 1e-9)


class Block(torch.nn.Module):
    """One layer of the loop's own Llama."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        d, self.heads = shape.hidden, shape.heads
        self.norms = torch.nn.ModuleList(torch.nn.RMSNorm(d, eps=1e-5) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(d, 3 * d, bias=False), torch.nn.Linear(d, d, bias=False)
        self.up, self.down = torch.nn.Linear(d, 2 * shape.ffn, bias=False), torch.nn.Linear(shape.ffn, d, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        b, s, d = x.shape
        q, k, v = (t.view(b, s, self.heads, -1).transpose(1, 2) for t in self.qkv(self.norms[0](x)).chunk(3, -1))
        q, k = (t * cos + torch.cat((-t.chunk(2, -1)[1], t.chunk(2, -1)[0]), -1) * sin for t in (q, k))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, s, d))
        gate, up = self.up(self.norms[1](x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class HandLlama(torch.nn.Module):
    """The loop's own Llama."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        d, width = spec.shape.hidden, spec.shape.hidden // spec.shape.heads
        self.embedding = torch.nn.Embedding(spec.vocabulary, d)
        self.blocks = torch.nn.ModuleList(Block(spec.shape) for _ in range(spec.shape.layers))
        self.norm, self.head = torch.nn.RMSNorm(d, eps=1e-5), torch.nn.Linear(d, spec.vocabulary, bias=False)
        frequencies = 10000.0 ** (-torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(spec.sequence_length), frequencies).repeat(1, 2)
        self.rotation = (angles.cos(), angles.sin())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        cos, sin = (t[: ids.shape[1]].to(x) for t in self.rotation)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))


def by_hand(spec: RunSpec, micro: int, device: torch.device) -> float:
    """Tokens a second of the same training in plain torch, steps after the first."""
    torch.manual_seed(0)
    model = HandLlama(spec).to(device)
    masters = [p.detach().clone().requires_grad_() for p in model.parameters()]
    model = model.to(torch.bfloat16)
    optimizer = torch.optim.AdamW(masters, lr=spec.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    stream, parameters, start = RandomTokens(spec), list(model.parameters()), 0.0
    for step in range(spec.steps):
        if step == WARM_STEPS:
            _finish(device)
            start = time.perf_counter()
        ids = torch.from_numpy(stream.tokens(0, spec.batch_sequences)).to(device)
        for part in ids.split(micro):
            logits = model(part[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten(), reduction="sum")
            (loss / (len(ids) * (spec.sequence_length - 1))).backward()
            for master, parameter in zip(masters, parameters, strict=True):  # summed in fp32, as ours are
                gradient = parameter.grad
                assert gradient is not None
                master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.param_groups[0]["lr"] = spec.learning_rate * learning_rate_factor(spec, step)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_copy_(parameters, masters)
    _finish(device)
    return spec.batch_sequences * spec.sequence_length * (spec.steps - WARM_STEPS) / (time.perf_counter() - start)


def largest(spec: RunSpec, run: Callable[[int], float]) -> tuple[float, int]:
    """Speed at the largest micro batch that fits, and that micro batch."""
    micro = min(FIRST_MICRO_BATCH, spec.batch_sequences)
    while True:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            with memory_errors(spec, Execution(micro_batch_sequences=micro)):
                return run(micro), micro
        except OutOfMemoryError:
            if micro == 1:
                raise
        micro //= 2


def compare(spec: RunSpec, kernels: list[Kernels], device: torch.device, checkpointing: bool) -> dict[str, Any]:
    """Both sides of one shape."""
    peak = accelerator_peak_flops(device, "bf16")

    def row(speed: float, micro: int) -> dict[str, Any]:
        flops_per_s = speed * spec.shape.flops_per_token(spec.sequence_length)
        return {
            "tokens_per_s": round(speed, 1),
            "flops_per_s": flops_per_s,
            "mfu": None if peak is None else round(flops_per_s / peak, 4),
            "micro_batch_sequences": micro,
        }

    hand = largest(spec, lambda micro: by_hand(spec, micro, device))
    result: dict[str, Any] = {"batch_sequences": spec.batch_sequences, "hand": row(*hand)}
    for name in kernels:
        try:
            speed, micro = largest(spec, lambda micro, name=name: ours(spec, micro, name, checkpointing))
        except ConfigError as error:
            result[name] = {"failed": str(error)}
            continue
        result[name] = {**row(speed, micro), "vs_hand": round(speed / hand[0], 4)}
    return result


def main() -> int:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["0.12B", "1B"], choices=[rung.size for rung in PAPER_LADDER])
    parser.add_argument("--kernels", nargs="+", default=["torch", "liger"], choices=["torch", "liger"])
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--dry-run-cpu", action="store_true", help="a toy shape on the CPU")
    given = parser.parse_args()
    if not given.dry_run_cpu and not torch.cuda.is_available():
        sys.stderr.write("bench_gpu needs a GPU and this machine has none; --dry-run-cpu runs its code on a toy.\n")
        return 2
    if given.dry_run_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # on a machine with a GPU too
    device = torch.device("cpu") if given.dry_run_cpu else torch.device("cuda", 0)
    specs = [toy_spec()] if given.dry_run_cpu else [paper_spec(size) for size in given.sizes]
    figures: dict[str, Any] = {
        "device": "cpu" if given.dry_run_cpu else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
    }
    for spec in specs:
        figures[spec.size] = compare(spec, given.kernels, device, given.activation_checkpointing)
    print(json.dumps(figures), flush=True)
    return 0


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
