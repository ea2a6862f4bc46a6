"""Training speed: our step, data and bookkeeping included, against a torch loop written by hand.

Both sides train the same model on the same real text with the same recipe, in turns within one process; each
ratio is the median over the turns. Run alone: python tests/benchmarks/bench_train.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.data import MixedStream, prepare_text
from flp_ray.data.config import TextConfig
from flp_ray.train import build_model, train
from flp_ray.train.engine import learning_rate_factor

SHAPES = {
    "32x2": ModelShape(layers=2, hidden=32, heads=2, ffn=88),
    "48x3": ModelShape(layers=3, hidden=48, heads=3, ffn=128),
    "64x4": ModelShape(layers=4, hidden=64, heads=2, ffn=176),
}
COMPARED = "64x4"
STEPS, TURNS = 50, 5


def make_spec(name: str) -> RunSpec:
    """A run of the demo's kind, short."""
    return RunSpec(
        purpose="sampling",
        size=name,
        shape=SHAPES[name],
        vocabulary=1024,
        sequence_length=128,
        mixture=Mixture.of({"code": 1.0}),
        train_tokens=128 * 16 * STEPS,
        batch_sequences=16,
        learning_rate=3e-3,
        seed=0,
        recipe=Recipe(checkpoints=1),
        text_id="bench",
    )


def make_stream(folder: Path) -> MixedStream:
    """Standard library sources, tokenised."""
    text = prepare_text(
        TextConfig.model_validate(
            {
                "sources": {"code": {"builtin": "code", "max_characters": 1_500_000}},
                "domains": {"code": {"held_out": "code", "sequences": 16}},
            }
        ),
        [],
        folder,
        seed=0,
    )
    return MixedStream(text.sources, Mixture.of({"code": 1.0}), seed=0, sequences=STEPS * 16)


def ours(spec: RunSpec, stream: MixedStream, folder: Path) -> float:
    """Tokens a second of `train`, checkpoints and set-up not counted."""
    return train(spec, stream, folder, on_checkpoint=lambda checkpoint, module: None).tokens_per_s


def by_hand(spec: RunSpec, stream: MixedStream) -> float:
    """Tokens a second of the same training in plain torch."""
    model = build_model(spec)
    recipe = spec.recipe
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=spec.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(spec, step))
    start = time.perf_counter()
    for step in range(spec.steps):
        ids = torch.from_numpy(stream.tokens(step * 16, step * 16 + 16))
        logits = model(input_ids=ids[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return spec.train_tokens / (time.perf_counter() - start)


def run() -> dict[str, float]:
    """The ratio for the demo's largest shape, and tokens a second of every shape, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory() as place:
            stream = make_stream(Path(place) / "text")
            spec = make_spec(COMPARED)
            ours(spec, stream, Path(place) / "warm")
            turns = []
            for turn in range(TURNS):
                pair = [0.0, 0.0]
                for side in (0, 1) if turn % 2 else (1, 0):
                    pair[side] = by_hand(spec, stream) if side else ours(spec, stream, Path(place) / "run")
                turns.append(pair)
            figures["deepspeed_vs_torch"] = statistics.median(a / b for a, b in turns)
            figures["torch_tokens_per_s_64x4"] = statistics.median(b for _, b in turns)
            figures["train_tokens_per_s_64x4"] = statistics.median(a for a, _ in turns)
            for name in SHAPES:
                if name != COMPARED:
                    speeds = [ours(make_spec(name), stream, Path(place) / "run") for _ in range(3)]
                    figures[f"train_tokens_per_s_{name}"] = statistics.median(speeds)
    finally:
        torch.set_num_threads(threads)
    return figures


if __name__ == "__main__":
    for figure, value in run().items():
        sys.stdout.write(f"{figure} {value:.4g}\n")
