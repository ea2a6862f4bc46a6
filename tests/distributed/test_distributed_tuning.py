"""Tuning trials on a real private Ray cluster: killed and given again, and trials that diverge."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from flp_ray.report.numbers import significant
from flp_ray.store import load_specs, load_tuned, load_tunings, read_table, run_states

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SHAPES = {
    "a": {"layers": 1, "hidden": 16, "heads": 2, "ffn": 32, "train_tokens": 32_768},
    "b": {"layers": 2, "hidden": 24, "heads": 2, "ffn": 64, "train_tokens": 65_536},
}
COMMON = {"batch_sequences": 8, "learning_rate": 0.01}
TUNING = {"sizes": ["a", "b"], "trials": 5, "rungs": 3, "sequences": 8, "learning_rate": {"low": 1e-3, "high": 0.3}}


def study(folder: Path, tuning: dict) -> Path:
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text())
    value["ladder"] = {"shapes": {size: shape | COMMON for size, shape in SHAPES.items()}, "sizes": ["a"]}
    value["grid"] = {"ratios": {"code": [0.5]}}
    value["training"] = {"checkpoints": 2, "clip_norm": None}
    value["search"] = {"objectives": ["mean"], "target_size": "b"}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(value | {"tuning": tuning}))
    return path


def command(path: Path) -> list[str]:
    return [sys.executable, "-m", "flp_ray", "run", str(path), "--study-dir", str(path.parent / "s")]


def run(path: Path) -> tuple[int, str]:
    done = subprocess.run(command(path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def kill_family(process: subprocess.Popen) -> None:
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    for member in family:
        member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=30)


def events(study_dir: Path) -> dict[tuple[str, int, str], object]:
    rows = read_table(study_dir, "tunings").to_pylist()
    return {(row["run_id"], row["tokens"], row["event"]): (row["at"], row["loss"]) for row in rows}


def test_a_killed_tuning_goes_on_and_its_values_train_the_study(tmp_path):
    path, study_dir = study(tmp_path, TUNING), tmp_path / "s"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(path), cwd=ROOT, stdout=log, stderr=log)
    deadline = time.monotonic() + 240
    while len(load_tunings(study_dir)) < 6 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
    kill_family(process)
    before = events(study_dir)
    assert len(before) >= 6 and load_tuned(study_dir) is None

    code, said = run(path)
    assert code == 3, said[-3000:]  # one run is trained; there is too little for a fit
    after = events(study_dir)
    assert before.items() <= after.items()  # nothing was measured anew: time and loss are those of the first call
    stopped = {run_id for run_id, _, event in after if event == "stopped"}
    finished = {r.run_id for r in load_tunings(study_dir) if r.ends(SHAPES[r.size]["train_tokens"])} - stopped
    assert stopped and finished and len(stopped | finished) == 10, said[-3000:]
    assert "Tuned sizes" in said and "Hyperparameters of the study" in said and "80" in said
    [spec] = load_specs(study_dir)
    rows = [line.split() for line in said.splitlines() if line.startswith("learning rate") and "tuned" in line]
    assert [row[2] for row in rows] == ["a", "b"]
    assert significant(spec.learning_rate) in rows[0] and spec.learning_rate != COMMON["learning_rate"]
    assert not any((study_dir / "checkpoints" / trial).exists() for trial in stopped | finished)

    code, said = run(path)
    assert code == 3, said[-3000:]
    assert events(study_dir) == after
    assert [state.attempts for state in run_states(study_dir)] == [1]
    assert "started" not in said


def test_trials_that_diverge_are_an_answer_and_all_diverging_is_said(tmp_path):
    path = study(tmp_path, TUNING | {"sizes": ["a"], "trials": 3, "learning_rate": {"low": 1e30, "high": 1e38}})
    code, said = run(path)
    assert code == 3, said[-3000:]
    assert "Size a has 0 trials with a loss (3 diverged)" in said
    reports = load_tunings(tmp_path / "s")
    assert [report.event for report in reports] == ["diverged"] * 3
    assert all("not a finite number" in report.reason or "has diverged" in report.reason for report in reports)
    assert not run_states(tmp_path / "s")
