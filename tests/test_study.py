"""The smoke study end to end on real Ray, DeepSpeed, lm-eval, Delta Lake and Optuna: whole, again, and killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from flp_ray.store import first_starts, load_experiments, load_specs, run_states

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "jobs" / "smoke.yaml"
TABLES = ("runs.csv", "measurements.csv", "tasks.csv")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "flp_ray", *map(str, arguments)]


def start(study_dir: Path) -> subprocess.Popen:
    arguments = command("run", SMOKE, "--study-dir", study_dir)
    with (study_dir.parent / f"{study_dir.name}.log").open("a") as log:
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def finish(study_dir: Path) -> str:
    code = start(study_dir).wait()
    log = (study_dir.parent / f"{study_dir.name}.log").read_text()
    assert code == 0, log[-4000:]
    return log


def ask(*arguments: object) -> dict:
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def export(study_dir: Path) -> dict[str, str]:
    out = study_dir.parent / f"{study_dir.name}-export"
    ask("export", SMOKE, "--study-dir", study_dir, "--out", out)
    return {name: (out / name).read_text() for name in TABLES}


def attempts_of(study_dir: Path) -> dict[str, int]:
    runs = ask("status", SMOKE, "--study-dir", study_dir)["runs"]
    return {run["run_id"]: run["attempts"] for run in runs}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, str, float]:
    study_dir = tmp_path_factory.mktemp("studies") / "undisturbed"
    began = time.monotonic()
    log = finish(study_dir)
    return study_dir, log, time.monotonic() - began


def test_the_whole_loop_leaves_what_it_promises(undisturbed):
    study_dir, log, _ = undisturbed
    headings = ("Fitted laws", "Proposed mixtures", "Proposals put to the test")
    for words in ("Plan", "finished in", *headings, "report.html"):
        assert words in log
    status = ask("status", SMOKE, "--study-dir", study_dir)
    assert status["counts"] == {"finished": 7}
    assert (study_dir / "report.html").stat().st_size > 10_000
    rows = list(csv.DictReader(export(study_dir)["measurements.csv"].splitlines()))
    assert {row["kind"] for row in rows} == {"train_loss", "domain_loss", "performance", "bpb"}
    for row in rows:
        assert float(row["value"]) >= 0
        if row["kind"] in ("performance", "domain_loss", "bpb"):
            assert float(row["stderr"]) > 0


def test_the_prediction_was_on_the_disk_before_its_validation_began(undisturbed):
    study_dir, log, _ = undisturbed
    (experiment,) = load_experiments(study_dir)
    began = [first_starts(study_dir)[s.run_id] for s in load_specs(study_dir) if s.purpose == "validation"]
    assert len(began) == 1 and experiment.written < began[0]
    assert experiment.best_known is not None
    assert "Prediction: " in log and "written down" in log


def test_given_again_it_trains_nothing_and_changes_nothing(undisturbed):
    study_dir, _, first = undisturbed
    before = export(study_dir)
    attempts = attempts_of(study_dir)
    left = study_dir / "checkpoints" / run_states(study_dir)[0].run_id / "step-4"
    left.mkdir(parents=True)  # by a kill after the run's end was recorded
    began = time.monotonic()
    finish(study_dir)
    assert not left.parent.exists()
    assert time.monotonic() - began < min(60, first)
    assert export(study_dir) == before
    assert attempts_of(study_dir) == attempts


def workers(driver: subprocess.Popen, title: str) -> list[psutil.Process]:
    """Processes of the driver's own Ray cluster with that title."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(driver: subprocess.Popen, title: str) -> list[psutil.Process]:
    while driver.poll() is None:
        if found := workers(driver, title):
            return found
        time.sleep(0.1)
    return []


def test_killed_at_random_moments_the_records_are_those_of_an_undisturbed_study(undisturbed, tmp_path):
    reference, _, duration = undisturbed
    seed = os.environ.get("FLP_RAY_KILL_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"FLP_RAY_KILL_SEED={seed} repeats these moments")
    study_dir, moments = tmp_path / "killed", random.Random(seed)
    for _ in range(3):
        driver = start(study_dir)
        with pytest.raises(subprocess.TimeoutExpired):
            driver.wait(timeout=moments.uniform(0.05, 0.35) * duration)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
    finish(study_dir)
    assert export(study_dir) == export(reference)


def test_a_killed_trial_store_and_surrogate_lose_nothing(undisturbed, tmp_path):
    reference, _, _ = undisturbed
    study_dir, moments = tmp_path / "workers-killed", random.Random(3)
    driver = start(study_dir)
    for title in ("ray::ImplicitFunc", "ray::StoreActor", "ray::SurrogateActor"):
        victims = wait_for(driver, title)
        assert victims, f"no process {title}"
        if title == "ray::ImplicitFunc":  # every slot must have recorded that its run began
            while sum(state.attempts for state in run_states(study_dir)) < len(victims) and driver.poll() is None:
                time.sleep(0.1)
        time.sleep(moments.uniform(0, 2))
        victims[0].kill()
    assert driver.wait() == 0, (tmp_path / "workers-killed.log").read_text()[-4000:]
    assert max(attempts_of(study_dir).values()) == 2
    assert export(study_dir) == export(reference)


def test_one_ctrl_c_saves_exits_with_130_and_the_same_command_goes_on(undisturbed, tmp_path):
    reference, _, _ = undisturbed
    study_dir = tmp_path / "interrupted"
    driver = start(study_dir)
    assert wait_for(driver, "ray::ImplicitFunc")
    time.sleep(6)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    assert "Give the same command to go on" in (tmp_path / "interrupted.log").read_text()
    finish(study_dir)
    assert export(study_dir) == export(reference)


@pytest.mark.parametrize("step", ["plan", "status", "fit", "propose", "report"])
def test_planning_fitting_proposing_and_reporting_load_neither_torch_nor_ray(undisturbed, step):
    study_dir, _, _ = undisturbed
    arguments = [step, str(SMOKE), "--json", "--study-dir", str(study_dir)]
    code = (
        f"import sys; from flp_ray.cli import main; code = main({arguments!r}); "
        "heavy = {'torch', 'ray', 'deepspeed', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules); "
        "print(sorted(heavy), code, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip().splitlines()[-1] == "[] 0", done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"intermediate_items": 63}, "measure.intermediate_items was 64 and is now 63"),
        (
            {"tasks": {"word_order": {"builtin": "word_order", "domain": "general", "items": 128}}},
            "measure.tasks.code_syntax is gone",
        ),
    ],
)
def test_other_measuring_than_the_runs_have_had_is_refused(undisturbed, change, words, tmp_path):
    study_dir, _, _ = undisturbed
    study = yaml.safe_load(SMOKE.read_text())
    study["measure"] |= change
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    before = export(study_dir)
    arguments = command("run", path, "--study-dir", study_dir)
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert words in done.stderr
    assert export(study_dir) == before
