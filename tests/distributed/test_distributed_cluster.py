"""What the driver passes on to a cluster, and what it says of one that refuses it; no cluster is started."""

import json
import os
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import ray
from ray.runtime_env.runtime_env import _merge_runtime_env
from ray.tune.execution.tune_controller import _get_max_pending_trials
from ray.tune.search import Searcher, SearchGenerator

from flp_ray.distributed.cluster import beside_job, connected
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.errors import ResourceError

SECRET = "secret-of-the-test"
GIVEN = {"AWS_ACCESS_KEY_ID": SECRET, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def cluster(monkeypatch):
    """A cluster that takes a connection as Ray does from a job: what it was given, beside what the job had."""
    found = SimpleNamespace(runtime_env=None)

    def init(*, runtime_env=None, **options):
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env")
        found.runtime_env = _merge_runtime_env(job, runtime_env)
        if found.runtime_env is None:
            raise ValueError(f"Failed to merge the Job's runtime env {job} with a ray.init's runtime env {runtime_env}")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("flp_ray.distributed.cluster.live_nodes", lambda: [{"CPU": 2.0}])
    with patch.dict(os.environ, {"RAY_ADDRESS": "here:6379"} | GIVEN):
        yield found


def submitted(runtime_env):
    return patch.dict(os.environ, {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": runtime_env})})


@pytest.mark.parametrize("given", [GIVEN, {"AWS_ACCESS_KEY_ID": "another"}, {}, None])
def test_variables_of_the_job_are_left_to_it_and_the_others_are_passed_on(cluster, given, tmp_path):
    job = {"working_dir": "gcs://x"} if given is None else {"env_vars": given}
    with submitted(job), connected(tmp_path, ResourcesConfig(), widest=1):
        pass
    passed = cluster.runtime_env["env_vars"]
    assert passed | GIVEN | (given or {}) == passed
    assert passed["TOKENIZERS_PARALLELISM"] == "false"


@pytest.mark.parametrize("job", [None, "{}", '{"runtime_env": null}', '{"runtime_env": {"env_vars": null}}'])
def test_without_a_job_everything_is_passed_on(job):
    with patch.dict(os.environ, {} if job is None else {"RAY_JOB_CONFIG_JSON_ENV_VAR": job}):
        assert beside_job(GIVEN) == GIVEN


def test_a_refused_environment_is_told_without_its_values(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr("flp_ray.distributed.cluster.beside_job", lambda environment: environment)
    refused = pytest.raises(ResourceError, match="AWS_ACCESS_KEY_ID")
    with submitted({"env_vars": GIVEN}), refused as caught, connected(tmp_path, ResourcesConfig(), widest=1):
        pass
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_an_address_that_does_not_answer_is_named(cluster, monkeypatch, tmp_path):
    def init(**options):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", init)
    named = pytest.raises(ResourceError, match="Ray at here:6379: nobody answers")
    with named, connected(tmp_path, ResourcesConfig(), widest=1):
        pass


def test_a_growing_cluster_is_asked_for_all_nodes_at_once(cluster, tmp_path):
    with connected(tmp_path, ResourcesConfig(), widest=1):
        assert _get_max_pending_trials(SearchGenerator(Searcher())) >= 500
