"""Tuned hyperparameters in a study's plan, without a cluster: what comes from where, and when it stands still."""

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flp_ray.config import load_config
from flp_ray.core.tuning import TrialReport
from flp_ray.errors import ConfigError
from flp_ray.store import TableWriter, attempt_row, run_rows, tuned_row, tuning_rows
from flp_ray.study import StudyPlan, make_plan
from flp_ray.tune import fit_tuning, rung_tokens

ROOT = Path(__file__).parent.parent
TUNING = {"sizes": ["16x2"], "trials": 4, "learning_rate": {"low": 1e-3, "high": 1e-1}}
BEST = 0.02


def study(folder: Path, tuning: dict | None = TUNING, **changes) -> tuple[Path, dict]:
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text()) | changes
    if tuning is not None:
        value["tuning"] = tuning
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(value))
    return path, value


def plan(folder: Path, tuning: dict | None = TUNING, **changes) -> StudyPlan:
    path, _ = study(folder, tuning, **changes)
    return make_plan(load_config(path), folder / "s")


def tune(made: StudyPlan, folder: Path) -> None:
    """Stores what trials of a world would give whose best learning rate is 0.02 at the tuned size."""
    assert made.tuning is not None
    reports = [
        TrialReport(
            run_id=trial.run_id,
            size=trial.size,
            tokens=tokens,
            event="measured",
            loss=5 + 0.2 * math.log(trial.learning_rate / BEST) ** 2,
        )
        for trial in made.tuning.trials
        for tokens in rung_tokens(trial, made.tuning.config).values()
    ]
    laws = fit_tuning(made.tuning.trials, reports, made.tuning.config)
    with TableWriter(folder / "s") as writer:
        writer.append("tunings", tuning_rows(reports, at=time.time()))
        writer.append("tuned", tuned_row(law_id=laws.law_id, payload=laws.to_dict(), created=time.time()))


def begin(made: StudyPlan, folder: Path) -> None:
    with TableWriter(folder / "s") as writer:
        writer.append("runs", run_rows(made.sampling[:1]))
        writer.append("attempts", attempt_row(run_id=made.sampling[0].run_id, attempt=1, event="started", at=1.0))


def rates(made: StudyPlan) -> dict[str, float]:
    return {spec.size: spec.learning_rate for spec in made.specs}


def test_before_the_tuning_the_plan_shows_its_cost_and_stated_values(tmp_path):
    made, stated = plan(tmp_path), plan(tmp_path, tuning=None)
    assert rates(made) == rates(stated) == {"16x2": 0.01, "24x2": 0.01}
    assert made.totals["tuned"] is False
    assert made.totals["tuning_trials"] == 4
    assert made.total.flops == pytest.approx(stated.total.flops + made.totals["tuning_flops"])
    assert made.to_do.flops == pytest.approx(made.total.flops)
    assert "tuned" not in stated.totals and stated.tuning is None
    assert {trial.mixture.as_dict()["code"] for trial in made.tuning.trials} == {0.5}


def test_tuned_values_replace_the_stated_ones_at_every_size(tmp_path):
    tune(plan(tmp_path), tmp_path)
    made = plan(tmp_path)
    found = rates(made)
    assert found["16x2"] == pytest.approx(BEST, rel=0.1)
    assert found["24x2"] < found["16x2"]  # a larger model, by the published exponents alone
    assert made.totals["tuning_trials"] == 0
    assert made.to_do.flops == pytest.approx(plan(tmp_path, tuning=None).to_do.flops)
    view = made.tuning_view(tmp_path / "s")
    assert [(c.size, c.tuned, c.stated) for c in view.carried] == [("16x2", True, 0.01), ("24x2", False, 0.01)]
    assert all(c.low < c.value < c.high and c.value == found[c.size] for c in view.carried)
    narrow, wide = (math.log(c.high / c.low) for c in view.carried)
    assert narrow < wide
    assert "One size (16x2) is tuned" in view.notes[0]


def test_a_target_with_other_tokens_gets_the_value_of_these_tokens(tmp_path):
    tune(plan(tmp_path), tmp_path)
    usual = plan(tmp_path).factory
    mixture = plan(tmp_path).mixtures[0]
    few, many = (usual.run("24x2", mixture, "validation", train_tokens=tokens) for tokens in (131_072, 1_310_720))
    assert many.learning_rate / few.learning_rate == pytest.approx(10**0.307, rel=0.01)
    assert usual.run("24x2", mixture, "validation") == few


def test_values_stand_still_once_runs_have_begun(tmp_path):
    tune(plan(tmp_path), tmp_path)
    before = plan(tmp_path)
    begin(before, tmp_path)
    path, value = study(tmp_path)
    value["training"]["weight_decay"] = 0.2  # names other trials
    path.write_text(yaml.safe_dump(value))
    assert rates(make_plan(load_config(path), tmp_path / "s")) == rates(before)
    grown = dict(value["ladder"]["shapes"])
    grown["40x2"] = grown["24x2"] | {"hidden": 40, "ffn": 108, "train_tokens": 262_144}
    more = plan(tmp_path, ladder={"shapes": grown})
    assert rates(more)["40x2"] < rates(more)["24x2"]
    assert {s.run_id for s in before.specs} <= {s.run_id for s in more.specs}
    with pytest.raises(ConfigError, match=r"section tuning differs from what the learning rates.*stand still"):
        plan(tmp_path, tuning=TUNING | {"trials": 5})


def test_before_runs_have_begun_a_changed_section_is_tuned_anew_and_trials_are_kept(tmp_path):
    tune(plan(tmp_path), tmp_path)
    made = plan(tmp_path, tuning=TUNING | {"trials": 6})
    assert made.totals["tuned"] is False
    assert (len(made.tuning.trials), made.totals["tuning_trials"]) == (6, 2)


def test_a_stopped_trial_is_over_and_a_measured_one_is_not(tmp_path):
    made = plan(tmp_path)
    first, second, *_ = made.tuning.trials
    report = TrialReport(run_id=first.run_id, size=first.size, tokens=16_384, event="measured", loss=5.0)
    with TableWriter(tmp_path / "s") as writer:
        rows = [report, replace(report, event="stopped", loss=None), replace(report, run_id=second.run_id)]
        writer.append("tunings", tuning_rows(rows, at=1.0))
    assert first.run_id not in {t.run_id for t in plan(tmp_path).tuning.missing}
    assert second.run_id in {t.run_id for t in plan(tmp_path).tuning.missing}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ["16x3"]}, r"tuning.sizes names the size '16x3'.*Did you mean 16x2\?"),
        ({"mixture": {"cod": 1.0}}, r"tuning.mixture.*cod"),
        ({"learning_rate": {"low": 0.1, "high": 0.01}}, "tuning.learning_rate: low must be below high"),
        ({"trials": 2}, "tuning: 2 trials a size cannot show an optimum"),
        ({"eta": 2}, "unknown key tuning.eta"),
        ({"rungs": 5, "reduction_factor": 8}, "4096 parts, but size 16x2 takes 64 steps"),
    ],
)
def test_wrong_settings_are_refused_with_what_to_change(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        plan(tmp_path, tuning=TUNING | changes)
