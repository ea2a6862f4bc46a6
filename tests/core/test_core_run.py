"""What defines a run defines its id, and nothing else does."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec, stable_hash
from flp_ray.core.shape import ModelShape
from flp_ray.core.text import TextIdentity
from flp_ray.errors import ConfigError


def spec(**changes) -> RunSpec:
    fields = {
        "purpose": "sampling",
        "size": "s",
        "shape": ModelShape(layers=2, hidden=32, heads=2, ffn=88),
        "vocabulary": 512,
        "sequence_length": 64,
        "mixture": Mixture.of({"general": 0.7, "code": 0.3}),
        "train_tokens": 64 * 1000,
        "batch_sequences": 16,
        "learning_rate": 0.01,
        "seed": 0,
        "recipe": Recipe(),
        "text_id": "t",
    }
    return RunSpec(**(fields | changes))


def test_the_id_changes_with_every_field_but_the_purpose():
    changes = {
        "size": "other",
        "shape": ModelShape(layers=3, hidden=32, heads=2, ffn=88),
        "vocabulary": 513,
        "sequence_length": 32,
        "mixture": Mixture.of({"general": 0.6, "code": 0.4}),
        "train_tokens": 64 * 999,
        "batch_sequences": 8,
        "learning_rate": 0.02,
        "seed": 1,
        "recipe": Recipe(weight_decay=0.2),
        "text_id": "u",
    }
    assert set(changes) == {f.name for f in dataclasses.fields(RunSpec) if f.init} - {"purpose"}
    ids = {spec(**{key: value}).run_id for key, value in changes.items()}
    assert len(ids | {spec().run_id}) == len(changes) + 1
    assert spec(purpose="validation").run_id == spec().run_id


def test_a_source_at_ratio_0_changes_nothing_in_a_run():
    named = spec(mixture=Mixture.of({"general": 0.7, "code": 0.3, "math": 0}))
    assert named.run_id == spec().run_id
    assert named.mixture.used() == {"code": 0.3, "general": 0.7}
    identity = TextIdentity(shared="s", sources={"general": "g", "code": "c", "math": "m"})
    fewer = TextIdentity(shared="s", sources={"general": "g", "code": "c"})
    assert identity.of(named.mixture) == fewer.of(spec().mixture)
    assert identity.of(Mixture.of({"math": 1.0})) != identity.of(Mixture.of({"code": 1.0}))


def test_the_id_is_the_same_in_another_process():
    code = "from tests.core.test_core_run import spec; print(spec().run_id)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == spec().run_id


def test_json_round_trip():
    assert RunSpec.from_dict(spec().to_dict()) == spec()


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 40))
def test_checkpoints_are_evenly_spaced_and_end_with_the_run(sequences, batch, checkpoints):
    s = spec(train_tokens=64 * sequences, batch_sequences=batch, recipe=Recipe(checkpoints=checkpoints))
    steps = s.checkpoint_steps()
    assert steps == tuple(sorted(set(steps)))
    assert steps[-1] == s.steps
    assert len(steps) == min(checkpoints, s.steps)
    assert s.tokens_at(steps[-1]) == s.train_tokens
    gaps = [b - a for a, b in zip((0, *steps), steps, strict=False)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    "bad", [{"train_tokens": 100}, {"train_tokens": 0}, {"batch_sequences": 0}, {"learning_rate": 0}]
)
def test_what_makes_no_training_is_refused(bad):
    with pytest.raises(ConfigError, match="received"):
        spec(**bad)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_values_without_a_stable_identity_are_not_hashed(value):
    with pytest.raises(TypeError):
        stable_hash(value)
