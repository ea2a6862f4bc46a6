"""The stages of the pipeline around validation, on a real store and a planted fit: no training."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flp_ray.config import StudyConfig
from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment, Proposal
from flp_ray.core.records import Measurement
from flp_ray.pipeline import experiment_stage, report_content, validate_stage
from flp_ray.store import TableWriter, attempt_row, experiment_rows, load_experiments, measurement_rows, run_rows
from flp_ray.study import make_plan
from tests.validate.validate_samples import around

SMOKE = Path(__file__).parents[2] / "jobs" / "smoke.yaml"
TASKS = ("code_syntax", "word_order")
WRITTEN, BEGAN = 1000.0, 1010.5


class Planted:
    """A fit whose scores fall off from a share of code of 0.3."""

    fit_id = "planted"
    notes = tuple

    def score(self, mixture):
        return 0.7 - abs(mixture.ratio("code") - 0.3)

    def predict(self, mixtures, flops):
        from flp_ray.core.surrogate import SurrogatePrediction

        return [
            SurrogatePrediction(
                domain_loss={},
                performance=dict.fromkeys(TASKS, around(self.score(m))),
                objective=around(self.score(m)),
            )
            for m in mixtures
        ]


def mix(code):
    return Mixture.of({"code": code, "general": 1 - code})


def planned(tmp_path, **validation):
    config = StudyConfig.model_validate(yaml.safe_load(SMOKE.read_text()) | {"validation": validation})
    return make_plan(config, tmp_path)


def proposal(plan, code=0.3):
    said = around(Planted().score(mix(code)))
    return Proposal(
        objective="mean",
        mixture=mix(code),
        size=plan.target.size,
        train_tokens=plan.target.train_tokens,
        flops=plan.target_flops,
        expected=said,
        performance=dict.fromkeys(TASKS, said),
        domain_loss={},
        fit_id=Planted.fit_id,
    )


def finish(writer, specs, at, score):
    """Leaves what trained and measured runs leave."""
    writer.append("runs", run_rows(specs))
    for spec in specs:
        common = {"run_id": spec.run_id, "tokens": spec.train_tokens, "flops": spec.flops, "stderr": 0.01}
        rows = [Measurement(**common, kind="performance", name=t, value=score(spec.mixture)) for t in TASKS]
        writer.append("attempts", attempt_row(run_id=spec.run_id, attempt=1, event="started", at=at))
        writer.append("measurements", measurement_rows(rows))
        writer.append("attempts", attempt_row(run_id=spec.run_id, attempt=1, event="finished", at=at + 5))


def test_both_mixtures_are_trained_as_often_as_told_with_fresh_seeds(tmp_path):
    plan = planned(tmp_path, seeds=3)
    experiment = Experiment(proposal=proposal(plan), best_known=mix(0.25))
    runs = plan.validation([experiment])
    assert [r.mixture for r in runs] == [mix(0.3)] * 3 + [mix(0.25)] * 3
    assert {r.purpose for r in runs} == {"validation"}
    assert {r.size for r in runs} == {plan.target.size}
    assert len({r.run_id for r in runs} - {s.run_id for s in plan.specs}) == 6
    assert len({r.seed for r in runs} | {s.seed for s in plan.specs}) == 6 + len(plan.specs)
    assert plan.totals["validation_runs"] == 6


def test_one_training_leaves_the_best_known_mixture_to_the_grid(tmp_path):
    for seeds in (1, [1]):
        plan = planned(tmp_path, seeds=seeds)
        (run,) = plan.validation([Experiment(proposal=proposal(plan), best_known=mix(0.25))])
        assert run == plan.factory.run(plan.target.size, mix(0.3), "validation", 1)
        assert plan.totals["validation_runs"] == 1


def test_a_seed_that_a_sampling_run_has_is_passed_over(tmp_path):
    plan = planned(tmp_path, seeds=2)
    repeat = plan.factory.run(plan.target.size, mix(0.3), "sampling", 1)
    grown = replace(plan, sampling=(*plan.sampling, repeat))
    runs = grown.validation([Experiment(proposal=proposal(plan))])
    assert runs == tuple(plan.factory.run(plan.target.size, mix(0.3), "validation", seed) for seed in (2, 3))


def test_mixtures_that_come_twice_are_trained_once(tmp_path):
    plan = planned(tmp_path, seeds=2)
    one = proposal(plan)
    other = replace(one, objective="word_order", mixture=mix(0.25))
    experiments = [Experiment(proposal=one, best_known=mix(0.25)), Experiment(proposal=other, best_known=mix(0.25))]
    assert len(plan.validation(experiments)) == 4
    assert len(plan.validation([Experiment(proposal=one, best_known=one.mixture)])) == 2


def test_nothing_is_trained_where_validation_is_off(tmp_path):
    plan = planned(tmp_path, enabled=False, seeds=3)
    assert plan.validation([Experiment(proposal=proposal(plan), best_known=mix(0.25))]) == ()
    assert plan.totals["validation_runs"] == 0


def test_the_prediction_is_written_down_before_training_and_judged_after_it(tmp_path):
    plan = planned(tmp_path, seeds=2)
    proposals, planted = (proposal(plan),), Planted()
    with TableWriter(tmp_path) as writer:
        # At x = 0 the grid measures best, by luck; the fit says 0.25.
        finish(writer, plan.sampling, 900.0, lambda m: 0.9 if m == mix(0) else planted.score(m))
        (settled,) = experiment_stage(plan, tmp_path, proposals, planted)
        assert (settled.best_known, settled.written) == (mix(0.25), None)
        writer.append("experiments", experiment_rows([settled], written=WRITTEN))
        assert writer.append("experiments", experiment_rows([settled], written=WRITTEN + 1)) == 0
        # Once written it stands, without a fit and whatever another fit says.
        assert experiment_stage(plan, tmp_path, proposals) == load_experiments(tmp_path)
        assert experiment_stage(plan, tmp_path, proposals)[0].written == WRITTEN
        assert validate_stage(plan, tmp_path, proposals) == ()
        finish(writer, plan.validation([settled]), BEGAN, planted.score)
    (found,) = validate_stage(plan, tmp_path, proposals)
    assert (found.written, found.began) == (WRITTEN, BEGAN)
    assert found.inside_interval
    assert (found.best_known_source, found.runs, found.best_known_runs) == ("validation", 2, 2)
    assert found.best_known_measured == pytest.approx(0.65)
    assert found.verdict == "better"
    content = report_content(plan, tmp_path, None, proposals, [found])
    assert len([r for r in content.records.runs if r.purpose == "validation"]) == 4


def test_an_unfinished_best_known_run_is_waited_for(tmp_path):
    plan = planned(tmp_path, seeds=2)
    proposals, planted = (proposal(plan),), Planted()
    with TableWriter(tmp_path) as writer:
        finish(writer, plan.sampling, 900.0, planted.score)
        experiments = experiment_stage(plan, tmp_path, proposals, planted)
        writer.append("experiments", experiment_rows(experiments, written=WRITTEN))
        runs = plan.validation(experiments)
        finish(writer, runs[:3], BEGAN, planted.score)
        (early,) = validate_stage(plan, tmp_path, proposals)
        assert (early.runs, early.best_known_runs, early.planned) == (2, 1, 2)
        from flp_ray.store import comparison_rows

        writer.append("comparisons", comparison_rows([early]))
        assert validate_stage(plan, tmp_path, proposals) == (early,)
        finish(writer, runs[3:], BEGAN + 60, planted.score)
    (late,) = validate_stage(plan, tmp_path, proposals)
    assert (late.runs, late.best_known_runs) == (2, 2)


def test_a_study_of_an_earlier_version_is_compared_with_its_grid(tmp_path):
    plan = planned(tmp_path, seeds=1)
    proposals, planted = (proposal(plan),), Planted()
    with TableWriter(tmp_path) as writer:
        finish(writer, plan.sampling, 900.0, planted.score)
        finish(writer, plan.validation([Experiment(proposal=proposals[0])]), BEGAN, planted.score)
    (found,) = validate_stage(plan, tmp_path, proposals)
    assert (found.best_known, found.written, found.best_known_source) == (mix(0.25), None, "sampling")
