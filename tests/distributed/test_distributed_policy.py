"""The failure policy and the arithmetic of slots, without a cluster."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.failures import is_retried, reason, too_many_failed
from flp_ray.distributed.resources import count_slots, trial_resources
from flp_ray.errors import DivergedError, ResourceError, StorageError, TextError


def test_wrong_input_is_not_tried_again_and_everything_else_is():
    assert not is_retried(TextError("too short"))
    assert not is_retried(StorageError("disk full"))
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


@given(st.lists(st.integers(1, 64), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 8))
def test_slots_never_ask_for_more_than_there_is(cpus, workers, cpus_per_worker):
    config = ResourcesConfig(workers=workers, cpus_per_worker=cpus_per_worker)
    nodes = [{"CPU": float(c)} for c in cpus]
    try:
        slots = count_slots(nodes, config)
    except ResourceError:
        assert sum(c // cpus_per_worker for c in cpus) < workers
        return
    assert 1 <= slots * workers <= sum(c // cpus_per_worker for c in cpus)


def test_an_impossible_request_is_refused_with_the_numbers():
    with pytest.raises(ResourceError, match=r"1 worker.* 8 CPUs and 2 GPUs.*2 node.*4 CPUs and 1 GPUs; 2 CPUs and 0"):
        count_slots([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 2.0}], ResourcesConfig(cpus_per_worker=8, gpus_per_worker=2))


def test_gpus_bound_the_slots():
    node = {"CPU": 64.0, "GPU": 4.0}
    assert count_slots([node], ResourcesConfig(gpus_per_worker=1)) == 4
    assert count_slots([node], ResourcesConfig(gpus_per_worker=0.5)) == 8
    assert count_slots([node], ResourcesConfig(gpus_per_worker=1, max_concurrent_runs=3)) == 3
    assert count_slots([node], ResourcesConfig(workers=3, gpus_per_worker=1)) == 1


def test_a_run_of_several_workers_leaves_the_cpus_to_them():
    assert trial_resources(ResourcesConfig(workers=2)) == {"memory": 2**20}
    assert trial_resources(ResourcesConfig(gpus_per_worker=1)) == {"CPU": 1, "GPU": 1}
