"""Two-worker runs over two nodes, one of which is lost, and on an object store: the same records each time."""

import os
from pathlib import Path

import pytest

from flp_ray.config import load_config
from flp_ray.mirror import bring_study
from flp_ray.store import read_table, run_states
from tests.distributed.nodes_study import finish, recorded, start, wait_for, write_study
from tests.store.object_store import BUCKET, credentials, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """What the study records when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    path = write_study(folder)
    finish(start(path, folder / "log", RAY_AUTH_MODE="disabled"), folder / "log")
    study_dir = folder / "runs" / "two-workers"
    assert {(run.state, run.attempts) for run in run_states(study_dir)} == {("finished", 1)}
    assert {row["workers"] for row in read_table(study_dir, "attempts").to_pylist()} == {2}
    return recorded(study_dir)


def test_a_node_is_lost_and_another_joins_and_the_records_are_the_same(tmp_path, undisturbed, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        lost = cluster.add_node(num_cpus=1)
        path, log = write_study(tmp_path), tmp_path / "log"
        study_dir = tmp_path / "runs" / "two-workers"
        study = start(path, log, RAY_ADDRESS=cluster.address, RAY_AUTH_MODE="disabled")
        wait_for(lambda: len({key[1] for key in recorded(study_dir)}) >= 3, study, log)
        cluster.remove_node(lost, allow_graceful=False)
        wait_for(lambda: "failed" in events(study_dir), study, log)
        cluster.add_node(num_cpus=1)
        finish(study, log)
    finally:
        cluster.shutdown()
    assert recorded(study_dir) == undisturbed
    assert {run.state for run in run_states(study_dir)} == {"finished"}
    assert max(run.attempts for run in run_states(study_dir)) > 1


def events(study_dir: Path) -> list[str]:
    return read_table(study_dir, "attempts", ["event"])["event"].to_pylist()


@pytest.fixture
def s3(monkeypatch):
    """An object store on loopback, with a bucket."""
    with s3_server() as endpoint:
        for name, value in credentials(endpoint).items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/runs"


def test_the_same_study_on_an_object_store_is_stopped_and_goes_on_on_another_machine(
    tmp_path, undisturbed, s3, monkeypatch
):
    path, log = write_study(tmp_path, storage=s3), tmp_path / "log"
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path / "here"))
    here = bring_study(load_config(path).place())
    study = start(path, log, RAY_AUTH_MODE="disabled")
    wait_for(lambda: len({key[1] for key in recorded(here)}) >= 3, study, log)
    os.killpg(study.pid, 9)  # the driver; Ray's own processes notice and end
    study.wait()
    monkeypatch.setenv("FLP_RAY_CACHE", str(tmp_path / "elsewhere"))
    finish(start(path, log, RAY_AUTH_MODE="disabled"), log)
    elsewhere = bring_study(load_config(path).place())
    assert elsewhere != here
    assert recorded(elsewhere) == undisturbed
    assert (elsewhere / "study.yaml").exists()
    assert not list(Path.cwd().glob("s3:*"))
