from dataclasses import replace

import numpy as np
import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Records, Run
from flp_ray.errors import ConfigError, NotEnoughDataError, RecordsError
from flp_ray.fit.predictor.items import number_of_questions, standard_errors
from flp_ray.fit.predictor.question import question_of, sampling_table
from flp_ray.fit.predictor.rollout import scheme_of
from flp_ray.fit.predictor.warnings import distance_warnings, table_warnings
from flp_ray.synthetic import LadderWorld, join, paper_design, two_source_world


def test_converged_runs_share_the_largest_common_ratio_of_tokens_to_parameters(table):
    chosen = table.take(table.converged())
    assert len(chosen.run_ids) == 5
    assert (chosen.queries.tokens / chosen.queries.params).round() == pytest.approx(200)


def test_all_runs_count_where_no_three_share_a_ratio(world):
    fixed = sampling_table(world.records([(n, 3e11) for n in (1e8, 4e8, 1.6e9, 6e9)], 0), None, None)
    assert fixed.converged().all()


def test_thirty_checkpoints_of_a_run_are_spaced(world):
    long = sampling_table(world.records([(1e9, 2e10)] * 1, 0, checkpoints=200), None, None)
    share = long.points.share[long.points.spaced]
    assert len(share) == 30
    assert np.diff(share) == pytest.approx(1 / 30, abs=1 / 200)
    assert share[-1] == 1


def test_without_training_losses_the_mean_domain_loss_tells_what_improves(ladder):
    one = ladder.of_runs({next(r.run_id for r in ladder.runs if r.purpose == "sampling")})
    table = sampling_table(one, None, None)
    mean = table.points.losses.mean(axis=1)
    best = np.minimum.accumulate(np.r_[np.inf, mean.round(2)[:-1]])
    assert (table.points.improving == (mean.round(2) < best)).all()


def test_the_end_of_a_target_is_the_mean_of_its_settled_checkpoints(world):
    records = world.records([(1e9, 1e11)], 0, purpose="target", checkpoints=200)
    both = join(world.records([(1e8, 1e10), (2e8, 1e10), (4e8, 1e10)], 0), records)
    question = question_of(both, None, None)
    losses = [m.value for m in records.measurements if m.kind == "domain_loss" and m.name == "web"]
    assert question.targets.losses[0, 2] == pytest.approx(np.mean(losses[-5:]))
    few = join(
        world.records([(1e8, 1e10), (2e8, 1e10), (4e8, 1e10)], 0), world.records([(1e9, 1e11)], 0, purpose="target")
    )
    assert (
        question_of(few, None, None).targets.losses[0, 2]
        == [m.value for m in few.measurements if m.run_id == "1e+09-1e+11" and m.name == "web"][-1]
    ), "a checkpoint 5 % before the end is not the end"


def test_without_targets_the_largest_size_is_held_out(world):
    question = question_of(world.records([(n, 20 * n) for n in (1e8, 2e8, 4e8, 8e8, 1.6e9)], 0), None, None)
    assert question.targets.run_ids == ("1.6e+09-3.2e+10",)
    assert "held out" in question.held_out


def test_three_runs_and_no_target_are_refused_with_words(world):
    with pytest.raises(NotEnoughDataError, match="nothing can be held out"):
        question_of(world.records([(n, 20 * n) for n in (1e8, 2e8, 4e8)], 0), None, None)


@pytest.mark.parametrize(("domains", "tasks", "words"), [(["wob"], None, "'web'"), (None, ["erly"], "'early'")])
def test_unknown_names_are_refused_with_the_nearest(ladder, domains, tasks, words):
    with pytest.raises(ConfigError, match=words):
        question_of(ladder, domains, tasks)


def test_a_target_of_an_unknown_source_is_refused():
    world, design = two_source_world(), paper_design()
    records = world.records(design, 0)
    target = Run(
        run_id="t", purpose="target", params=10**9, train_tokens=10**10, mixture=Mixture.of({"law": 0.5, "code": 0.5})
    )
    row = Measurement(run_id="t", tokens=10**10, flops=6e19, kind="domain_loss", name="code", value=2.0)
    with pytest.raises(ConfigError, match="from sources that no sampling run has"):
        question_of(
            replace(records, runs=(*records.runs, target), measurements=(*records.measurements, row)), None, None
        )
    bare = replace(target, mixture=None)
    with pytest.raises(RecordsError, match="has no mixture"):
        question_of(replace(records, runs=(*records.runs, bare), measurements=(*records.measurements, row)), None, None)


def test_roll_outs_judge_only_larger_runs(table):
    scheme = scheme_of(table)
    assert scheme.over_compute
    assert len(scheme.splits) >= 4
    for split in scheme.splits:
        assert table.queries.flops[split.test].min() >= 2 * table.queries.flops[split.train].max() * (1 - 1e-9)


def test_runs_of_one_size_are_left_out_in_folds():
    design = paper_design()
    one = sampling_table(two_source_world().records(replace(design, sizes=design.sizes[:1], extra=()), 0), None, None)
    assert scheme_of(one).splits == (), "six runs are too few"
    many = sampling_table(
        Records(
            runs=tuple(Run(run_id=f"r{i}", purpose="sampling", params=10**6, train_tokens=10**9) for i in range(20)),
            measurements=tuple(
                Measurement(run_id=f"r{i}", tokens=10**9, flops=6e15, kind="domain_loss", name="web", value=5 + i / 99)
                for i in range(20)
            ),
        ),
        None,
        None,
    )
    scheme = scheme_of(many)
    assert not scheme.over_compute
    assert sum(s.test.astype(int) for s in scheme.splits).tolist() == [1] * 20


def test_warnings_say_what_the_table_cannot_tell(table, question):
    told = " ".join(table_warnings(table))
    assert "collinear" in told
    assert "Tokens per parameter vary" in told
    [far] = distance_warnings((1e18, 1e21), question.targets.queries, question.targets.run_ids)
    assert "More than 30x" in far
    assert distance_warnings((1e18, 1e23), question.targets.queries, question.targets.run_ids) == ()


@pytest.mark.parametrize("questions", [164, 1172, 10042])
def test_the_number_of_questions_shows_in_the_scores(questions):
    right = np.random.default_rng(0).integers(0, questions, 80)
    assert number_of_questions((right / questions).astype(np.float32).astype(float)) == questions


def test_means_over_groups_tell_no_number_of_questions():
    assert number_of_questions(np.random.default_rng(0).uniform(0.2, 0.9, 80)) is None
    assert number_of_questions(np.array([0.25, 0.5])) is None, "too few to tell"


def test_recorded_standard_errors_stay():
    scores = np.tile(np.arange(1, 12)[:, None] / 500, (1, 2))
    recorded = np.full((11, 2), np.nan)
    recorded[0, 0] = 0.01
    filled = standard_errors(recorded, scores, scores)
    assert np.isnan(filled[1, 0])
    assert filled[0, 1] == pytest.approx(np.sqrt(0.002 * 0.998 / 500), rel=1e-6)


def test_a_table_without_losses_still_has_scores():
    world = LadderWorld()
    records = world.records([(n, 20 * n) for n in (1e8, 2e8, 4e8, 8e8)], 0)
    bare = replace(records, measurements=tuple(m for m in records.measurements if m.kind == "performance"))
    assert sampling_table(bare, None, None).domains == ()
