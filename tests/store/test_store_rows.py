from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.prediction import Prediction
from flp_ray.errors import RecordsError
from flp_ray.store import TABLES, fit_row, measurement_rows, proposal_rows, run_rows
from flp_ray.store.reader import measurements_of
from flp_ray.store.rows import canonical_json, proposal_from_dict, proposal_to_dict
from tests.store.store_samples import SPEC, key, measurements, mixtures, predictions, proposals


@given(st.lists(measurements(st.sampled_from(["a", "b"])), max_size=5, unique_by=key))
def test_measurements_round_trip_through_arrow(measured: list) -> None:
    rows = measurement_rows(measured)
    assert rows.schema == TABLES["measurements"].schema
    assert measurements_of(rows) == measured


@given(proposals)
def test_proposals_round_trip_through_json(proposal) -> None:
    again = proposal_from_dict(proposal_to_dict(proposal))
    assert again == proposal
    assert again.proposal_id == proposal.proposal_id


@given(mixtures(), st.permutations(range(4)))
def test_canonical_json_does_not_depend_on_the_order_of_keys(mixture, order) -> None:
    ratios = list(mixture.as_dict().items())
    shuffled = dict(ratios[i] for i in order if i < len(ratios))
    assert canonical_json(shuffled, what="it") == canonical_json(mixture.as_dict(), what="it")


def test_a_run_row_holds_the_numbers_of_its_spec() -> None:
    row = run_rows([SPEC]).to_pylist()[0]
    assert row["run_id"] == SPEC.run_id
    assert row["params"] == SPEC.shape.params(300)
    assert row["flops"] == 8000 * SPEC.shape.flops_per_token(8)
    assert row["mixture"] == '{"code":0.25,"general":0.75}'


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RecordsError, match=r"Fit f cannot be stored.*not finite"):
        fit_row(fit_id="f", method="flp", observations=1, payload={"a": [float("nan")]}, created=0.0)


@given(proposals, predictions, st.sampled_from(["performance", "domain_loss"]))
def test_a_prediction_without_a_number_is_refused(proposal, prediction: Prediction, field: str) -> None:
    bad = replace(proposal, **{field: {"code": replace(prediction, high=float("inf"))}})
    with pytest.raises(RecordsError, match="not finite"):
        proposal_rows([bad])
