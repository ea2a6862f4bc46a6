"""The failure policy and the room for runs, without a cluster."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.execution import Execution
from flp_ray.distributed.config import EvaluatorsConfig, ResourcesConfig
from flp_ray.distributed.failures import LOST, is_out_of_memory, is_retried, out_of_memory, reason, too_many_failed
from flp_ray.distributed.resources import Pool, check_fits, count_workers, trial_resources
from flp_ray.errors import DivergedError, GaveUpError, OutOfMemoryError, ResourceError, StorageError, TextError


def test_wrong_input_is_not_tried_again_and_everything_else_is():
    assert not is_retried(TextError("too short"))
    assert not is_retried(StorageError("disk full"))
    assert not is_retried(GaveUpError("its process died"))
    assert is_retried(DivergedError("nan"))
    assert is_retried(MemoryError())


def test_one_failed_run_never_stops_a_study_and_too_many_do():
    config = ResourcesConfig(max_failed_fraction=0.5)
    assert not too_many_failed(1, 1, config)
    assert not too_many_failed(5, 10, config)
    assert too_many_failed(6, 10, config)


def test_a_reason_is_one_line():
    text = reason(RuntimeError("a\nb" + "x" * 1000))
    assert text.startswith("RuntimeError: a b")
    assert len(text) == 500


def test_running_out_of_memory_is_known_on_whatever_worker_it_happens_and_in_the_store():
    from ray.exceptions import ActorDiedError
    from ray.train import WorkerGroupError

    failed = WorkerGroupError("two", {0: RuntimeError("connection closed"), 1: OutOfMemoryError("micro batch of 8")})
    for error in (failed, pickle.loads(pickle.dumps(failed)), OutOfMemoryError("micro batch of 8")):
        assert out_of_memory(error)
        assert is_out_of_memory(reason(error))
    assert not out_of_memory(WorkerGroupError("two", {0: RuntimeError("connection closed")}))
    lost = WorkerGroupError("two", {0: RuntimeError("connection reset by peer"), 1: ActorDiedError()})
    assert reason(lost) == LOST
    assert not is_out_of_memory(reason(RuntimeError("OutOfMemoryError was not it")))


@given(st.lists(st.integers(0, 64), max_size=8), st.integers(1, 4), st.integers(1, 8))
def test_a_run_that_does_not_fit_is_refused_and_one_that_fits_is_not(cpus, widest, cpus_per_worker):
    config = ResourcesConfig(cpus_per_worker=cpus_per_worker)
    nodes = [{"CPU": float(c)} for c in cpus]
    if sum(c // cpus_per_worker for c in cpus) < widest:
        with pytest.raises(ResourceError):
            check_fits(nodes, config, widest)
    else:
        check_fits(nodes, config, widest)


def test_an_impossible_request_is_refused_with_the_numbers():
    with pytest.raises(ResourceError, match=r"1 worker.* 8 CPUs and 2 GPUs.*2 node.*4 CPUs and 1 GPUs; 2 CPUs and 0"):
        check_fits([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}], ResourcesConfig(cpus_per_worker=8, gpus_per_worker=2), 1)


def test_a_cluster_that_grows_is_taken_at_its_word():
    check_fits([], ResourcesConfig(max_workers=16), 16)
    with pytest.raises(ResourceError):
        check_fits([], ResourcesConfig(max_workers=16), 17)


def test_gpus_bound_the_workers_and_evaluators_take_theirs():
    node = {"CPU": 64.0, "GPU": 4.0}
    assert count_workers([node], ResourcesConfig(gpus_per_worker=1)) == 4
    assert count_workers([node], ResourcesConfig(gpus_per_worker=0.5)) == 8
    beside = EvaluatorsConfig(count=2, gpus=0.5)
    assert count_workers([node], ResourcesConfig(gpus_per_worker=1, evaluators=beside)) == 3


@pytest.mark.parametrize(
    ("gpus", "share", "evaluators", "workers"),
    [(2, 0.6, 0, 2), (2, 0.4, 0, 4), (8, 0.3, 0, 24), (2, 0.1, 0, 20), (1, 0.5, 0.5, 1), (1, 0.1, 0.9, 1)],
)
def test_a_share_of_a_gpu_never_spans_two(gpus, share, evaluators, workers):
    beside = EvaluatorsConfig(count=1, gpus=evaluators) if evaluators else None
    config = ResourcesConfig(gpus_per_worker=share, evaluators=beside)
    assert count_workers([{"CPU": 64.0, "GPU": float(gpus)}], config) == workers


def test_a_run_starts_only_when_all_its_workers_have_room_and_nodes_come_and_go(monkeypatch):
    monkeypatch.setattr("flp_ray.distributed.resources.LOOK_SECONDS", 0.0)
    nodes = [{"CPU": 4.0}]
    pool = Pool(ResourcesConfig(), lambda: nodes)
    assert pool.has_room(4)
    pool.hold("wide", 3)
    assert pool.has_room(1)
    assert not pool.has_room(2)
    nodes.append({"CPU": 4.0})
    assert pool.has_room(5)
    nodes.clear()
    assert not pool.has_room(1)
    pool.release("wide")
    pool.release("never held")
    nodes.append({"CPU": 1.0})
    assert pool.has_room(1)


def test_no_more_runs_at_once_than_allowed():
    pool = Pool(ResourcesConfig(max_concurrent_runs=1), lambda: [{"CPU": 8.0}])
    assert pool.has_room(1)
    pool.hold("a", 1)
    assert not pool.has_room(1)


def test_a_run_of_several_workers_leaves_the_cpus_to_them():
    assert trial_resources(ResourcesConfig(), Execution(workers=2)) == {"memory": 2**20}
    assert trial_resources(ResourcesConfig(gpus_per_worker=1), Execution()) == {"CPU": 1, "GPU": 1}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "at least 1"),
        ({"workers": "auto"}, "accelerator or memory_bytes"),
        ({"accelerator": "H1000"}, "H100, "),
        ({"utilisation": 0.4}, "accelerator or peak_flops_per_s"),
        ({"max_hours_per_run": 3}, "needs a rate"),
        ({"kernels": "liger"}, "gpus_per_worker"),
    ],
)
def test_resources_that_make_no_sense_are_refused_with_what_to_give(settings, words):
    with pytest.raises(ValueError, match=words):
        ResourcesConfig(**settings)
