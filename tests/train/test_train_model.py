"""The model has the parameters that the plan counts, and its weights follow from the seed alone."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import pytest
import torch

from flp_ray.core.execution import Execution
from flp_ray.core.shape import ModelShape
from flp_ray.train.engine import engine_stage, learning_rate_factor
from flp_ray.train.model import build_model


@pytest.mark.parametrize(
    ("layers", "hidden", "heads", "ffn", "vocabulary"),
    [
        (2, 32, 2, 88, 1024),
        (4, 64, 2, 176, 1024),
        (3, 48, 3, 128, 300),
        (1, 16, 4, 40, 64),
        (3, 384, 3, 1032, 50304),
    ],
)
def test_parameters_are_those_of_the_plan(make_spec, layers, hidden, heads, ffn, vocabulary):
    shape = ModelShape(layers=layers, hidden=hidden, heads=heads, ffn=ffn)
    spec = make_spec(shape=shape, vocabulary=vocabulary)
    model = build_model(spec)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    embeddings = sizes["model.embed_tokens.weight"] + sizes["lm_head.weight"]
    assert sum(sizes.values()) == spec.params
    assert sum(sizes.values()) - embeddings == shape.non_embedding_params
    assert model.config.max_position_embeddings == spec.sequence_length
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


def test_weights_follow_from_the_seed_alone(make_spec):
    torch.manual_seed(1)
    first = build_model(make_spec(seed=5))
    after = torch.rand(1)
    torch.manual_seed(2)
    second, other = build_model(make_spec(seed=5)), build_model(make_spec(seed=6))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_learning_rate_rises_and_falls(make_spec):
    spec = make_spec(train_tokens=16 * 8 * 100, warmup_fraction=0.1, final_learning_rate_fraction=0.2)
    factors = [learning_rate_factor(spec, step) for step in range(spec.steps)]
    assert factors[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert factors[-1] == pytest.approx(0.2) and max(factors) == 1.0
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[54] == pytest.approx(0.2 + 0.8 * 0.5, abs=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.02, 1.0])
def test_learning_rate_of_very_short_runs(make_spec, warmup):
    for sequences in (1, 8, 9, 17):
        spec = make_spec(train_tokens=16 * sequences, warmup_fraction=warmup)
        factors = [learning_rate_factor(spec, step) for step in range(spec.steps)]
        assert all(math.isfinite(f) and 0 < f <= 1 for f in factors)


def test_bf16_shards_at_least_the_optimizer(make_spec):
    asked = [("fp32", 0), ("bf16", 0), ("bf16", 2)]
    assert [engine_stage(make_spec(precision=p), Execution(zero_stage=z)) for p, z in asked] == [0, 1, 2]


def test_importing_the_stage_is_cheap():
    code = "import sys, flp_ray.train; print('torch' in sys.modules, 'deepspeed' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
