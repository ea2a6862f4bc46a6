"""Measuring speed: tokens scored a second, lm-eval and padding included, against bare forward passes.

A measurement is the demo's: five domains of 128 sequences and four built-in tasks of 640 items. Bare passes
are the same model on full batches, of the faster of two batch sizes. Both go in turns within one process; each
ratio is the median over the turns. `measuring` counts a context once for each of its choices, as a plain
scoring would compute it; `computing` counts what went through the model.
Run alone: python tests/benchmarks/bench_measure.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data import prepare_text
from flp_ray.data.config import TextConfig
from flp_ray.measure import Measurer
from flp_ray.measure.config import MeasureConfig
from flp_ray.train import build_model

SHAPES = {
    "32x2": ModelShape(layers=2, hidden=32, heads=2, ffn=88),
    "48x3": ModelShape(layers=3, hidden=48, heads=3, ffn=128),
    "64x4": ModelShape(layers=4, hidden=64, heads=2, ffn=176),
}
COMPARED = "64x4"
TASKS: dict[str, dict[str, Any]] = {
    "word_order": {"builtin": "word_order", "domain": "general"},
    "code_syntax": {"builtin": "code_syntax", "domain": "code"},
    "continuation_general": {"builtin": "continuation", "domain": "general"},
    "continuation_code": {"builtin": "continuation", "domain": "code"},
}
TURNS = {"32x2": 3, "48x3": 3, "64x4": 5}
FORWARD_SECONDS = 0.7


def prepare(folder: Path) -> PreparedText:
    """Real text that comes with the installation, in the demo's domains and tasks."""
    some = {"max_characters": 1_500_000}
    config = TextConfig.model_validate(
        {
            "sources": {"code": {"builtin": "code", **some}, "general": {"builtin": "general", **some}},
            "domains": {
                "code": {"held_out": "code"},
                "general": {"held_out": "general"},
                "math": {"builtin": "math", **some},
                "science": {"builtin": "science", **some},
                "reference": {"builtin": "reference"},
            },
            "held_out_fraction": 0.5,
        }
    )
    items = [ItemSet(task=name, kind=task["builtin"], domain=task["domain"], items=640) for name, task in TASKS.items()]
    return prepare_text(config, items, folder, seed=0)


def make_spec(name: str) -> RunSpec:
    """The run that a measured model belongs to."""
    return RunSpec(
        purpose="sampling",
        size=name,
        shape=SHAPES[name],
        vocabulary=1024,
        sequence_length=128,
        mixture=Mixture.of({"code": 1.0}),
        train_tokens=128 * 16,
        batch_sequences=16,
        learning_rate=3e-3,
        seed=0,
        recipe=Recipe(),
        text_id="bench",
    )


@torch.inference_mode()
def bare(model: Any, batch: torch.Tensor) -> float:
    """Tokens a second of forward passes over one full batch."""
    passes, start = 0, time.perf_counter()
    while time.perf_counter() - start < FORWARD_SECONDS:
        model(input_ids=batch)
        passes += 1
    return passes * batch.numel() / (time.perf_counter() - start)


def run() -> dict[str, float]:
    """The ratios, tokens a second and seconds a measurement for every shape, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    try:
        with tempfile.TemporaryDirectory() as place:
            text = prepare(Path(place) / "text")
            ids = torch.from_numpy(text.domains["code"].open().astype("int64"))
            measurer = Measurer(MeasureConfig.model_validate({"tasks": TASKS}), text, Path(place) / "measure")
            for name in SHAPES:
                spec = make_spec(name)
                model = build_model(spec).eval()
                measurer.measure(model, spec, tokens=0, train_loss=0.0, final=True)
                turns = []
                for _ in range(TURNS[name]):
                    forward = max(bare(model, ids[:16]), bare(model, ids[:64]))
                    measurer.measure(model, spec, tokens=0, train_loss=0.0, final=True)
                    assert measurer.work is not None
                    turns.append((forward, measurer.work))
                scored = [w.scored_tokens / w.seconds / f for f, w in turns]
                computed = [w.computed_tokens / w.seconds / f for f, w in turns]
                figures[f"measuring_vs_forward_{name}"] = statistics.median(scored)
                figures[f"computing_vs_forward_{name}"] = statistics.median(computed)
                figures[f"forward_tokens_per_s_{name}"] = statistics.median(f for f, _ in turns)
                figures[f"measure_seconds_{name}"] = statistics.median(w.seconds for _, w in turns)
                figures[f"measure_tokens_per_s_{name}"] = statistics.median(
                    w.scored_tokens / w.seconds for _, w in turns
                )
            figures["measuring_vs_forward"] = figures[f"measuring_vs_forward_{COMPARED}"]
    finally:
        torch.set_num_threads(threads)
    return figures


if __name__ == "__main__":
    for figure, value in run().items():
        sys.stdout.write(f"{figure} {value:.4g}\n")
