"""Saved states: any ZeRO stage and number of workers continues what any other saved; kept in a folder or a storage."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict

import pytest

from flp_ray.core.execution import Execution
from flp_ray.errors import StorageError
from flp_ray.train import clear_finished, clear_states, parts, train

pytestmark = pytest.mark.deepspeed

CASES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16")]

RUN = {"batch_sequences": 3, "train_tokens": 16 * 22, "checkpoints": 4}
"""The runs of train_worker.py: checkpoints after the steps 2, 4, 6 and 8; a death at 5 leaves the state of 4."""


class Losses(dict):
    """Training loss by step."""

    def __call__(self, checkpoint, module) -> None:
        self[checkpoint.step] = checkpoint.train_loss


@pytest.fixture
def attempt(make_spec, make_text, stop_error, tmp_path):
    """Trains one of train_worker.py's runs on one worker; returns its losses."""

    def train_one(name, case, *, die_at=None, **options):
        zero_stage, precision = case
        spec, losses = make_spec(precision=precision, **RUN), Losses()
        execution = Execution(zero_stage=zero_stage)
        with contextlib.suppress(stop_error):
            train(
                spec,
                make_text(spec, die_at=die_at),
                tmp_path / name,
                on_checkpoint=losses,
                execution=execution,
                measure_all=True,
                **options,
            )
        return losses

    return train_one


def tolerance(precision: str) -> float:
    """Order of summation over a few AdamW steps, in fp32 and in bf16's 8 bits."""
    return 1e-4 if precision == "fp32" else 1e-2


@pytest.mark.slow
def test_two_workers_continue_at_every_stage_and_hand_over_to_one(tmp_path, attempt, run_workers):
    whole = {precision: attempt(f"one {precision}", (0, precision)) for precision in ("fp32", "bf16")}
    for zero_stage, precision in CASES:  # what one worker at another stage leaves for two
        attempt(f"given {zero_stage} {precision}", ((zero_stage + 1) % 4, precision), die_at=5)
    codes, outputs = run_workers(tmp_path, "all_stages")
    assert codes == [0, 0], outputs
    results = defaultdict(list)
    for line in outputs[0].splitlines():
        if line.startswith("RESULT"):
            value = json.loads(line.removeprefix("RESULT"))
            results[value["name"]].append(({int(k): v for k, v in value["losses"].items()}, value["weights"]))
    for zero_stage, precision in CASES:
        name, expected = f"{zero_stage} {precision}", whole[precision]
        (complete, weights), (_, (rest, again)) = results[f"whole {name}"][0], results[f"broken {name}"]
        assert complete == pytest.approx(expected, rel=tolerance(precision))
        assert weights == again and rest == {s: loss for s, loss in complete.items() if s in rest} and len(rest) == 2
        (given, _) = results[f"given {name}"][0]
        assert given == pytest.approx({s: expected[s] for s in given}, rel=tolerance(precision)) and len(given) == 2
        ours = attempt(f"left {name}", ((zero_stage + 2) % 4, precision))  # what two left for one at another stage
        assert ours == pytest.approx({s: expected[s] for s in ours}, rel=tolerance(precision)) and len(ours) == 2
    files = sorted(p.name for p in (tmp_path / "broken 2 fp32").glob("step-*/*"))
    assert [f for f in files if f.startswith("rank")] == [f"rank-0000{r}-of-00002-0000.safetensors" for r in (0, 1)]


@pytest.mark.slow
def test_workers_that_share_only_a_storage_continue(tmp_path, run_workers, make_storage):
    codes, outputs = run_workers(tmp_path, "with_storage")
    assert codes == [0, 0], outputs
    results = [json.loads(line.removeprefix("RESULT")) for line in outputs[0].splitlines() if line.startswith("RES")]
    for whole, first, rest in (results[:3], results[3:]):
        assert {**first["losses"], **rest["losses"]} == whole["losses"] and rest["weights"] == whole["weights"]
        assert len(first["losses"]) == 2 == len(rest["losses"])
    storage = make_storage(tmp_path / "storage")
    kept = sorted(storage.names("runs/2 bf16"))
    (step,) = {name.split("/")[2] for name in kept if "/step-" in name}
    assert f"runs/2 bf16/{step}/rank-00001-of-00002-0000.safetensors" in kept
    assert "runs/2 bf16/model/model.safetensors" in kept
    assert not [path for path in tmp_path.glob("node */*") if path.name.startswith((".step", "step"))]
    clear_states(tmp_path / "node 0 1 2 bf16", storage=storage, prefix="runs/2 bf16")
    assert sorted(storage.names("runs/2 bf16")) == [name for name in kept if "/model/" in name]


def test_complete_json_is_put_last_and_an_incomplete_state_is_passed_over(tmp_path, attempt, make_storage):
    storage = make_storage(tmp_path / "storage")
    options = {"storage": storage, "prefix": "r"}
    whole = attempt("whole", (0, "fp32"))
    attempt("run", (0, "fp32"), die_at=5, **options)
    steps = [name for what, name in storage.asked if what == "put"]
    part = "rank-00000-of-00001-0000.safetensors"
    assert [name.split("/")[-1] for name in steps] == [part, "position.json", "complete.json"] * 2
    last = max(name.split("/")[1] for name in steps)
    for broken in ("complete.json", part):
        storage.remove(f"r/{last}/{broken}")  # as if the second save had been cut off: nothing older is left
        assert attempt("run", (0, "fp32"), die_at=5, **options).keys() == {2, 4}
    rest = attempt("elsewhere", (0, "fp32"), **options)
    assert rest == {step: loss for step, loss in whole.items() if step > 4}


def test_large_states_are_written_in_parts(tmp_path, attempt, monkeypatch):
    whole = attempt("whole", (0, "fp32"))
    monkeypatch.setattr(parts, "PART_BYTES", 12 * 1000)
    attempt("run", (0, "fp32"), die_at=5)
    files = list((tmp_path / "run").glob("step-*/*.safetensors"))
    assert len(files) == 9 and max(f.stat().st_size for f in files) < 12 * 1000 + 4096  # 8,272 numbers
    rest = attempt("run", (0, "fp32"))
    assert rest == {step: loss for step, loss in whole.items() if step > 4}


def test_a_storage_that_fails_keeps_the_earlier_state(tmp_path, attempt, make_storage):
    storage = make_storage(tmp_path / "storage")
    attempt("run", (0, "fp32"), die_at=3, storage=storage, prefix="r")
    put = storage.put

    def refuse(local, name):
        if name.endswith("position.json"):
            raise StorageError("the bucket is gone")
        put(local, name)

    storage.put = refuse
    with pytest.raises(StorageError, match="the bucket is gone"):
        attempt("run", (0, "fp32"), storage=storage, prefix="r")
    storage.put = put
    assert attempt("run", (0, "fp32"), storage=storage, prefix="r").keys() == {4, 6, 8}


def test_what_is_left_of_finished_runs_is_cleared_and_nothing_else(tmp_path, make_storage):
    names = ("a/step-00000002/complete.json", "a/model/x", "b/step-00000002/part", "c/.step-00000004/part", "d/model/x")
    for root in ("runs", "storage/checkpoints"):
        for name in names:
            (tmp_path / root / name).parent.mkdir(parents=True)
            (tmp_path / root / name).touch()
    storage = make_storage(tmp_path / "storage")
    assert clear_finished(tmp_path / "runs", ["a", "c", "d", "e"]) == ["a", "c"]
    assert sorted(p.name for p in (tmp_path / "runs").glob("*/*")) == ["model", "model", "step-00000002"]
    assert not (tmp_path / "runs" / "c").exists()
    assert clear_finished(tmp_path / "nothing", {"a", "d"}, storage=storage, prefix="checkpoints") == ["a"]
    kept = {f"checkpoints/{name}" for name in names if not name.startswith("a/step")}
    assert set(storage.names("checkpoints")) == kept
    assert clear_finished(tmp_path / "nothing", {"a", "d"}, storage=storage, prefix="checkpoints") == []
