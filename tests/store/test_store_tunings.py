"""Tuning trials and tuned laws in the store."""

import pytest

from flp_ray.core.tuning import TrialReport
from flp_ray.errors import ConflictError, RecordsError
from flp_ray.store import TableWriter, load_tuned, load_tunings, tuned_row, tuning_rows

REPORTS = (
    TrialReport(run_id="a", size="tiny", tokens=100, event="measured", loss=4.5),
    TrialReport(run_id="a", size="tiny", tokens=200, event="measured", loss=4.25),
    TrialReport(run_id="b", size="tiny", tokens=100, event="measured", loss=5.5),
    TrialReport(run_id="b", size="tiny", tokens=100, event="stopped"),
    TrialReport(run_id="c", size="tiny", tokens=0, event="diverged", reason="DivergedError: nan"),
)


def test_reports_come_back_in_the_order_of_their_tokens(tmp_path):
    assert load_tunings(tmp_path) == ()
    with TableWriter(tmp_path) as writer:
        assert writer.append("tunings", tuning_rows(REPORTS[::-1], at=1.0)) == 5
        assert writer.append("tunings", tuning_rows(REPORTS, at=2.0)) == 0  # when it came does not matter
    assert load_tunings(tmp_path) == REPORTS
    assert load_tunings(tmp_path, "b") == REPORTS[2:4]


def test_another_loss_of_the_same_trial_is_a_conflict(tmp_path):
    with TableWriter(tmp_path) as writer:
        writer.append("tunings", tuning_rows(REPORTS[:1], at=1.0))
        other = TrialReport(run_id="a", size="tiny", tokens=100, event="measured", loss=4.6)
        with pytest.raises(ConflictError):
            writer.append("tunings", tuning_rows([other], at=1.0))


def test_the_laws_stored_last_count(tmp_path):
    assert load_tuned(tmp_path) is None
    with TableWriter(tmp_path) as writer:
        for created, name in ((1.0, "z"), (3.0, "a"), (2.0, "m")):
            writer.append("tuned", tuned_row(law_id=name, payload={"name": name, "value": 0.1}, created=created))
    assert load_tuned(tmp_path) == {"name": "a", "value": 0.1}
    with pytest.raises(RecordsError, match="not finite"):
        tuned_row(law_id="x", payload={"value": float("nan")}, created=1.0)
