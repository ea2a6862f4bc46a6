"""Runs on a real private Ray cluster: several workers, a run that diverges, requests that can never be met."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flp_ray.config import study_place
from flp_ray.mirror import bring_study
from flp_ray.store import files_at, load_records, read_table, run_states
from tests.store.object_store import credentials, new_address, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SHAPE = {"layers": 1, "hidden": 16, "heads": 2, "ffn": 32, "train_tokens": 16_384, "batch_sequences": 8}


def study(folder: Path, **changes) -> Path:
    """A study of one small run, from the smoke study."""
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text())
    value["ladder"] = {"shapes": {"tiny": SHAPE | {"learning_rate": 0.01}}}
    value["grid"] = {"ratios": {"code": [0.5]}}
    value["training"] = {"checkpoints": 2}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(value | changes))
    return path


def run(path: Path, study_dir: str | None = None) -> tuple[int, str]:
    command = [sys.executable, "-m", "flp_ray", "run", str(path), "--study-dir", study_dir or str(path.parent / "s")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def final_losses(study_dir: Path) -> dict[str, float]:
    [final] = load_records(study_dir).final_checkpoints()
    assert final.tokens == SHAPE["train_tokens"]
    return final.domain_loss


def test_two_workers_through_ray_train_learn_what_one_learns(tmp_path):
    losses = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        code, said = run(study(folder, resources={"workers": workers}))
        assert code == 3, said  # one run is trained; there is too little for a fit
        assert "No mixture can be proposed" in said
        losses.append(final_losses(folder / "s"))
    # The same gradients up to the order of additions in fp32, over 32 steps.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_evaluators_beside_the_training_record_what_the_training_itself_would(tmp_path, monkeypatch):
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path / "cache"))
    evaluators, found = {"evaluators": {"count": 1, "cpus": 1, "waiting": 1}}, []
    with s3_server() as endpoint:
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        address = new_address()
        for resources, uri in (({}, None), (evaluators, None), (evaluators, address)):
            folder = tmp_path / str(len(found))
            folder.mkdir()
            code, said = run(study(folder, resources=resources, training={"checkpoints": 4}), uri)
            assert code == 3, said
            study_dir = folder / "s" if uri is None else bring_study(study_place(uri, "smoke"))
            rows = read_table(study_dir, "measurements").to_pylist()
            found.append({(r["tokens"], r["kind"], r["name"]): (r["value"], r["items"]) for r in rows})
            assert not list((study_dir / "checkpoints").glob("*/measure/*"))
        assert not [name for name in files_at(address).names("checkpoints") if "/measure/" in name]
    assert len({tokens for tokens, _, _ in found[0]}) >= 3
    assert found[2] == found[1] == found[0]


def test_a_run_that_diverges_is_recorded_tried_again_and_the_study_goes_on(tmp_path):
    shapes = {"tiny": SHAPE | {"learning_rate": 0.01}, "wild": SHAPE | {"layers": 2, "learning_rate": 1e30}}
    path = study(
        tmp_path, ladder={"shapes": shapes}, resources={"retries": 1}, training={"checkpoints": 2, "clip_norm": None}
    )
    code, said = run(path)
    assert code == 3, said
    states = {state.size: state for state in run_states(tmp_path / "s")}
    assert (states["tiny"].state, states["wild"].state) == ("finished", "failed")
    assert states["wild"].attempts == 2
    assert "DivergedError" in (states["wild"].reason or "")
    assert "not a finite number" in said or "DivergedError" in said


def test_a_request_that_can_never_be_met_is_refused_with_the_numbers(tmp_path):
    code, said = run(study(tmp_path, resources={"cpus_per_worker": 4096}))
    assert code == 2
    assert "asks for 1 worker(s) of 4096 CPUs" in said


def test_more_tokens_than_text_is_refused_before_training(tmp_path):
    shapes = {"tiny": SHAPE | {"learning_rate": 0.01, "train_tokens": 64 * 10**6}}
    code, said = run(study(tmp_path, ladder={"shapes": shapes}))
    assert code == 2, said
    assert "max_epochs" in said
    assert not run_states(tmp_path / "s")[0].attempts


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({"files": ["nothere/*.txt"]}, "nothere"),
        ({"files": ["empty.txt"]}, "empty"),
    ],
)
def test_text_that_is_not_there_is_named(sources, words, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    sources = {"files": [str(tmp_path / name) for name in sources["files"]]}
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text())["text"]
    value["sources"]["code"] = sources
    code, said = run(study(tmp_path, text=value))
    assert code == 2, said
    assert words in said
