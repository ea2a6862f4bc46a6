from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape


class Text:
    """Sequences with something to learn: each token follows from the one before, but for some noise."""

    def __init__(self, spec: RunSpec) -> None:
        rng = np.random.default_rng(7)
        ids = np.zeros((spec.sequences, spec.sequence_length), dtype=np.int64)
        ids[:, 0] = rng.integers(0, spec.vocabulary, spec.sequences)
        for t in range(1, spec.sequence_length):
            noise = rng.integers(0, spec.vocabulary, spec.sequences)
            ids[:, t] = np.where(rng.random(spec.sequences) < 0.2, noise, (ids[:, t - 1] * 3 + 1) % spec.vocabulary)
        self.ids = ids

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        return self.ids[start:stop]


def small_spec(**changes: object) -> RunSpec:
    recipe = {k: changes.pop(k) for k in list(changes) if k in Recipe.__dataclass_fields__}
    spec = RunSpec(
        purpose="sampling",
        size="tiny",
        shape=ModelShape(layers=2, hidden=16, heads=2, ffn=40),
        vocabulary=64,
        sequence_length=16,
        mixture=Mixture.of({"general": 1.0}),
        train_tokens=16 * 93,
        batch_sequences=8,
        learning_rate=1e-2,
        seed=3,
        recipe=Recipe(**{"checkpoints": 6, "warmup_fraction": 0.2, **recipe}),
        text_id="text",
    )
    return replace(spec, **changes)


@pytest.fixture
def make_spec():
    return small_spec


@pytest.fixture
def make_text():
    return Text


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
