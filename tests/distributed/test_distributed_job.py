"""A study sent to a running cluster with `ray job submit`, as jobs/README.md says."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from flp_ray.store import run_states

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def head():
    """A head of its own, on ports of its own; its address and environment."""
    dashboard, environment = free_port(), os.environ | {"RAY_AUTH_MODE": "token", "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    # Sockets need short paths, so not below pytest's own folder.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [BIN / "ray", "start", "--head", "--block", f"--port={free_port()}", "--num-cpus=2"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--temp-dir={folder}/r"]
        command += [f"--dashboard-agent-listen-port={free_port()}"]  # the default may be that of another head
        with Path(folder, "head.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + 180
            environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
            while time.monotonic() < deadline and process.poll() is None:
                # The dashboard answers before the agent that starts jobs does.
                tried = subprocess.run(
                    [BIN / "ray", "job", "submit", "--", "true"], env=environment, capture_output=True
                )
                if tried.returncode == 0:
                    break
                time.sleep(0.5)
            else:
                pytest.fail(Path(folder, "head.log").read_text())
            yield environment
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def job(head, *arguments, cwd) -> str:
    command = [BIN / "ray", "job", *arguments]
    done = subprocess.run(command, cwd=cwd, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_stopped_job_goes_on_when_it_is_submitted_again_with_another_package(head, tmp_path):
    package, study_dir = tmp_path / "elsewhere", tmp_path / "s"
    for folder in ("flp_ray", "jobs"):
        shutil.copytree(ROOT / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    study = ["python", "jobs/run_study.py", "jobs/smoke.yaml", "--study-dir", study_dir]
    job(head, "submit", "--no-wait", "--submission-id=first", "--working-dir", package, "--", *study, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while not any(run.state == "finished" for run in run_states(study_dir)):
        assert time.monotonic() < deadline, job(head, "logs", "first", cwd=tmp_path)[-4000:]
        time.sleep(0.5)
    job(head, "stop", "first", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while "was stopped" not in (said := job(head, "status", "first", cwd=tmp_path)):  # it saves first
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
    before = {run.run_id: run.attempts for run in run_states(study_dir) if run.state == "finished"}
    (package / "jobs" / "note.txt").write_text("a file that the first package did not have")
    said = job(head, "submit", "--submission-id=second", "--working-dir", package, "--", *study, cwd=tmp_path)
    assert "succeeded" in said
    after = {run.run_id: run for run in run_states(study_dir)}
    assert {run.state for run in after.values()} == {"finished"}
    assert {run_id: after[run_id].attempts for run_id in before} == before
    assert len(after) > len(before)


def test_a_submitted_study_succeeds_and_its_records_stay(head, tmp_path):
    given = [
        "--runtime-env-json",
        '{"env_vars": {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}}',
    ]  # the study sets both
    arguments = [*given, "--working-dir", ".", "--", "python", "jobs/run_study.py", "jobs/smoke.yaml"]
    command = [BIN / "ray", "job", "submit", *arguments, "--study-dir", tmp_path / "s"]
    done = subprocess.run(command, cwd=ROOT, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "succeeded" in done.stdout
    assert {state.state for state in run_states(tmp_path / "s")} == {"finished"}
    assert (tmp_path / "s" / "report.html").exists()
