"""The rates that a plan counts with."""

import pytest

from flp_ray.computing import computing
from flp_ray.core.run import RunSpec
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.store import TableWriter, attempt_row, run_rows
from tests.store.store_samples import SPEC

OTHER = RunSpec.from_dict(SPEC.to_dict() | {"seed": 1})
STATED = ResourcesConfig(peak_flops_per_s=2e9, utilisation=0.5)
SECONDS = {"train_seconds": 6.0, "measure_seconds": 3.0, "save_seconds": 1.0}


@pytest.fixture
def store(tmp_path):
    with TableWriter(tmp_path) as writer:
        writer.append("runs", run_rows([SPEC, OTHER]))
        yield writer


def finish(store, spec, attempts, **seconds):
    """A run whose last attempt ended it; those before failed and left no seconds."""
    for attempt in range(1, attempts):
        store.append(
            "attempts", attempt_row(run_id=spec.run_id, attempt=attempt, event="failed", at=1.0, reason="lost")
        )
    end = {"run_id": spec.run_id, "attempt": attempts, "event": "finished", "at": 2.0, "workers": 1}
    store.append("attempts", attempt_row(**end | SECONDS | seconds))


def rate(folder):
    return computing([SPEC], STATED, folder).rates[SPEC.size]


def test_a_rate_is_that_of_a_run_of_one_attempt(store, tmp_path):
    finish(store, SPEC, 1)
    assert rate(tmp_path) == pytest.approx(SPEC.flops / 10)


def test_the_seconds_of_a_last_attempt_are_not_taken_for_those_of_the_whole_run(store, tmp_path):
    finish(store, OTHER, 2, train_seconds=0.1, measure_seconds=0.0, save_seconds=0.0)
    assert rate(tmp_path) == 1e9
    finish(store, SPEC, 1)
    assert rate(tmp_path) == pytest.approx(SPEC.flops / 10)
