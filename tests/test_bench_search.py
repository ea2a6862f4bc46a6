"""The harness of `make bench-search`: looking costs, the truth judges, and the baselines do what they say."""

import csv
import json

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.propose.simplex import Bounds
from tests.benchmarks.search import baselines_grid, baselines_swarm, baselines_target, figure, regmix_table, runs
from tests.benchmarks.search.highest import even, highest
from tests.benchmarks.search.log_linear import fit_log_linear
from tests.benchmarks.search.problem import Answer, BudgetSpent, Problem, final_scores
from tests.benchmarks.search.replay import Point, Trajectory, quantiles, replay
from tests.benchmarks.search.strategies import COMPETITORS, OURS
from tests.benchmarks.search.summary import criteria, markdown, summarise, table_rows
from tests.benchmarks.search.worlds import LADDER, TARGET, best_value, bounds_of, planted_cases

CASES = {case.name: case for case in planted_cases()}
MIX = Mixture.of({"code": 0.3, "general": 0.7})


def path(*losses, step=1.0):
    """A trajectory with these losses, each answer `step` dearer than the one before."""
    points = tuple(Point(spent=step * (i + 1), loss=loss) for i, loss in enumerate(losses))
    return Trajectory(points=points, spent=step * len(losses), ended="stopped", seconds=0.0)


def problem(name="two-sources", seed=0):
    return CASES[name].make(seed)[0]


# Paying


def test_a_run_is_seen_by_paying_its_flops_and_known_runs_are_free():
    bill = problem()
    first = bill.pay(MIX, LADDER[0])
    assert bill.spent == LADDER[0].flops
    assert bill.pay(MIX, LADDER[0]) is first
    assert (bill.spent, bill.runs) == (LADDER[0].flops, 1)
    again = bill.pay(MIX, LADDER[0], seed=1)
    assert bill.spent == 2 * LADDER[0].flops
    assert final_scores(again) != final_scores(first)
    assert {r.purpose for r in first.runs} == {"sampling"}
    assert len(first.checkpoints()) == 30


def test_no_two_problems_share_noise():
    world = synthetic.two_source_world()
    made = [
        Problem.of("w", world, seed=s, sizes=LADDER, target=TARGET, bounds=bounds_of(world), goal=None, cap_flops=1e25)
        for s in (0, 1)
    ]
    one, other = (final_scores(p.pay(MIX, LADDER[5])) for p in made)
    assert one != other


def test_the_cap_ends_a_replay_and_nothing_is_paid_for_what_would_pass_it():
    bill, judge = CASES["two-sources"].make(0)

    def endless(problem):
        for seed in range(100):
            problem.pay(MIX, problem.target, seed, checkpoints=1)
            yield Answer(mixture=MIX)

    made = replay(endless(bill), bill, judge)
    assert made.ended == "cap"
    assert bill.runs == len(made.points) == 15
    assert made.spent == pytest.approx(15 * TARGET.flops)
    with pytest.raises(BudgetSpent):
        bill.pay(MIX, bill.target, 200)


@pytest.mark.parametrize(
    ("mixture", "size", "words"),
    [
        (Mixture.of({"code": 0.6, "general": 0.4}), LADDER[0], "breaks the bounds"),
        (Mixture.of({"code": 0.3, "books": 0.7}), LADDER[0], "breaks the bounds"),
        (MIX, synthetic.PlantedSize(name="2B", params=1, train_tokens=1, flops=1.0), "no size of the problem"),
    ],
)
def test_what_the_problem_has_not_is_refused(mixture, size, words):
    bill = problem()
    with pytest.raises(ValueError, match=words):
        bill.pay(mixture, size)
    assert bill.spent == 0


def test_a_run_cannot_be_measured_twice_with_other_noise_for_one_price():
    bill = problem()
    bill.pay(MIX, LADDER[0], checkpoints=1)
    with pytest.raises(ValueError, match="cannot be had"):
        bill.pay(MIX, LADDER[0])


# Judging


@pytest.mark.parametrize("name", ["two-sources", "five-sources-inside", "five-sources-corner", "optimum-moves"])
def test_who_knows_the_truth_reaches_the_goal_with_its_first_run(name):
    bill, judge = CASES[name].make(3)
    world = bill._world
    best = highest(lambda ratios: world.objective_at("mean", ratios, TARGET.flops), bill.bounds)

    def knows(problem):
        problem.pay(best, problem.sizes[0])
        yield Answer(mixture=best)

    made = replay(knows(bill), bill, judge)
    assert made.points[0].loss < 1e-4
    assert made.cost_to_goal(0.002) == LADDER[0].flops
    assert made.ended == "stopped"


def test_the_best_within_the_bounds_is_that_of_a_dense_grid():
    world = synthetic.optimum_moves(synthetic.two_source_world(), drift=0.02)
    bounds, flops = bounds_of(world), TARGET.flops
    assert world.optimum("mean", flops).ratio("code") > 0.5
    grid = synthetic.two_source_mixtures("code", "general", np.linspace(0, 0.5, 2001).tolist())
    assert best_value(world, bounds, flops) == pytest.approx(world.objective("mean", grid, flops).max(), abs=1e-9)


def test_every_seed_is_another_world():
    for case in CASES.values():
        laws = [case.make(seed)[0]._world.domains for seed in (0, 1)]
        assert laws[0] != laws[1], case.name


# Cost to the goal


@pytest.mark.parametrize(
    ("losses", "cost"),
    [
        ([0.5, 0.1, 0.1], 2.0),
        ([0.1, 0.5, 0.1, 0.1], 3.0),  # reached by luck and lost again
        ([0.1, 0.5], None),
        ([None, 0.1], 2.0),
        ([0.1, None, 0.1], 3.0),  # an answer taken back is no answer
        ([0.2], 1.0),  # the goal itself counts
        ([], None),
    ],
)
def test_the_goal_counts_from_where_it_is_held(losses, cost):
    assert path(*losses).cost_to_goal(0.2) == cost


def test_a_quantile_is_none_where_too_few_seeds_reach_the_goal():
    assert quantiles([1.0, 2.0, 3.0, 4.0]) == [1.75, 2.5, 3.25]
    assert quantiles([1.0, 2.0, None]) == [1.5, 2.0, None]
    assert quantiles([1.0, None]) == [None, None, None]
    assert quantiles([1.0, 3.0, None], at=(0.25,)) == [2.0]


def test_an_answer_stands_until_the_next():
    at = path(0.5, 0.25).loss_at(np.array([0.5, 1.0, 1.9, 2.0, 9.0]))
    assert np.isnan(at[0])
    assert at[1:].tolist() == [0.5, 0.5, 0.25, 0.25]


def test_a_trajectory_comes_back_from_json():
    made = path(None, 0.5)
    assert Trajectory.from_dict(json.loads(json.dumps(made.as_dict()))) == made


# Tables


def figures_of(strategies, world="two-sources"):
    return summarise({world: strategies}, CASES)


def test_the_json_says_null_where_the_goal_was_not_reached():
    made = figures_of({"random": [path(0.5), path(0.5), path(0.001)], OURS: [path(0.001)] * 3})["two-sources"]
    assert made["random"]["cost_to_goal"] is None
    assert made["random"]["reached"] == pytest.approx(1 / 3)
    assert made[OURS]["cost_to_goal"] == 1.0
    assert made[OURS]["quartiles"] == [1.0, 1.0]
    assert "null" in json.dumps(made)


def test_criteria_say_reached_or_missed():
    slow, quick = [path(1.0, 1.0, 0.001, step=2.0)] * 3, [path(0.001)] * 3
    assert criteria(figures_of({"full-grid": slow, OURS: quick}))[0].endswith("reached")
    assert criteria(figures_of({"full-grid": quick, OURS: slow}))[0].endswith("MISSED")
    assert criteria(figures_of({"full-grid": quick, OURS: [path(1.0)] * 3}))[0].endswith("MISSED")
    assert criteria(figures_of({"full-grid": quick})) == []
    free = {"even-mixture": [path(0.001, step=0.0)] * 3, "olmix": slow, OURS: quick}
    said = criteria(figures_of(free, "five-sources-edge"))[0]
    assert "olmix" in said, "a guess that pays nothing is not the next best"


def test_a_hostile_world_shows_who_can_tell():
    sure = Trajectory(points=(Point(spent=1.0, loss=0.01),), spent=1.0, ended="stopped", seconds=0.0)
    unsure = Trajectory(points=(Point(spent=1.0, loss=0.03, confident=False),), spent=1.0, ended="cap", seconds=0.0)
    row = figures_of({OURS: [sure, unsure, unsure, path(None)]}, "noise")["noise"][OURS]
    assert row["cannot_tell"] == 0.75
    assert row["loss_of_confident"] == [0.01, 0.01]
    assert row["cost_to_goal"] is None


def test_the_tables_and_the_figure_show_every_strategy(tmp_path):
    results = {"two-sources": {"random": [path(0.5, 0.1)] * 3, OURS: [path(0.1, 0.001, step=1e20)] * 3}}
    tables = table_rows(summarise(results, CASES), CASES)
    assert [row[0] for row in tables[0][2]] == [OURS, "random"]
    assert "| random | never |" in markdown(tables)
    figure.draw(results, CASES, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 10_000


# Keeping


def test_a_stopped_bench_goes_on_and_keeps_what_it_has(tmp_path, monkeypatch):
    chosen = [c for c in COMPETITORS if c.name == "even-mixture"]
    jobs = runs.jobs_of([CASES["two-sources"]], chosen, 3, None)
    said = []
    first = runs.run_jobs(jobs[:2], tmp_path, processes=1, said=said.append)
    assert len(first["two-sources"]["even-mixture"]) == 2
    done = []
    real = runs.run_job
    monkeypatch.setattr(runs, "run_job", lambda job, folder: done.append(job.seed) or real(job, folder))
    both = runs.run_jobs(jobs, tmp_path, processes=1, said=said.append)
    assert done == [2]
    assert both["two-sources"]["even-mixture"][:2] == first["two-sources"]["even-mixture"]
    assert any("2 kept from before" in line for line in said)


def test_every_competitor_enters_some_world_and_its_sources_exist():
    for competitor in COMPETITORS:
        assert competitor.worlds
        assert len(competitor.fingerprint()) == 12
    names = [(c.name, kind) for c in COMPETITORS for kind in c.worlds]
    assert len(names) == len(set(names))


# The baselines


@pytest.mark.parametrize(
    ("strategy", "size"),
    [
        (baselines_target.random_search, TARGET),
        (baselines_target.sobol_search, TARGET),
        (baselines_target.tpe_search, TARGET),
        (baselines_swarm.olmix, LADDER[0]),
    ],
)
def test_a_baseline_trains_its_size_alone_and_answers_within_the_bounds(strategy, size):
    bill = problem("five-sources-inside", seed=1)
    answers = strategy(bill, 1)
    for _ in range(3):
        answer = next(answers)
    assert bill.spent == pytest.approx(bill.runs * size.flops)
    assert bill.bounds.contains(answer.mixture)
    one, again = (next(strategy(problem("five-sources-inside", seed=1), 1)) for _ in range(2))
    assert one == again


def test_the_full_grid_is_the_papers_design_and_finds_the_optimum():
    bill, judge = CASES["two-sources"].make(0)
    made = replay(baselines_grid.full_grid(bill, 0), bill, judge)
    paid = synthetic.paper_design().runs()
    assert bill.runs == len(paid) == 37
    assert bill.spent == pytest.approx(sum(size.flops for size, _ in paid))
    assert made.points[0].loss <= 0.002


def test_the_lattice_holds_every_mixture_of_its_step():
    rows = baselines_grid._lattice(3, 2)
    assert sorted(rows) == sorted([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])


def test_scores_are_sought_at_the_smallest_size_that_has_risen():
    bill = problem("five-sources-inside", seed=1)
    answers = baselines_swarm.olmix_scores(bill, 0)
    waited = 0
    while next(answers) is None:
        waited += 1
    paid = {size for _, size, _ in bill._paid}
    assert paid == {s.name for s in LADDER[: waited + 1]}
    assert waited >= 1


def test_the_highest_point_is_found_inside_and_at_corners():
    bounds = Bounds.of(("a", "b", "c"), {}, {})
    inside = np.array([0.2, 0.5, 0.3])
    found = highest(lambda x: -((x - inside) ** 2).sum(axis=1), bounds)
    assert found.ratios == pytest.approx(inside, abs=0.01)
    assert highest(lambda x: x[:, 1], bounds).ratios == (0.0, 1.0, 0.0)
    capped = Bounds.of(("a", "b", "c"), {"a": 0.1}, {"b": 0.6})
    assert highest(lambda x: x[:, 1] - x[:, 2], capped).ratios == pytest.approx((0.4, 0.6, 0.0), abs=1e-9)
    assert even(bounds) == pytest.approx(np.full(3, 1 / 3))
    assert even(Bounds.of(("a", "b"), {}, {"a": 0.5})) == pytest.approx([0.25, 0.75])
    assert capped.contains(Mixture.of(dict(zip("abc", even(capped).tolist(), strict=True))))


def test_the_log_linear_law_is_recovered():
    ratios = np.random.default_rng(0).dirichlet(np.ones(4), 64)
    targets = 1.5 + np.exp(0.3 + ratios @ np.array([-1.0, 0.5, 0.0, -0.3]))
    new = np.random.default_rng(1).dirichlet(np.ones(4), 50)
    expected = 1.5 + np.exp(0.3 + new @ np.array([-1.0, 0.5, 0.0, -0.3]))
    assert fit_log_linear(ratios, targets).predict(new) == pytest.approx(expected, abs=2e-3)


def test_olmix_moves_from_the_prior_as_far_as_the_divergence_lets_it():
    bounds = Bounds.of(("a", "b", "c"), {}, {})
    ratios = np.random.default_rng(0).dirichlet(np.ones(3), 64)
    metrics = 2.0 + np.exp(ratios @ np.array([-1.0, 0.0, 0.0]))[:, None]
    near, far = (
        baselines_swarm.olmix_proposal(bounds, ratios, metrics, 0, kl_weight=w).ratio("a") for w in (1.0, 0.01)
    )
    assert 1 / 3 < near < far
    assert far > 0.95


def test_regmix_finds_what_trees_can_tell_and_is_silent_without_a_split():
    pytest.importorskip("lightgbm")
    bounds = Bounds.of(("a", "b", "c"), {}, {})
    ratios = baselines_swarm.draw_mixtures(bounds, 256, np.random.default_rng(0))
    metrics = ((ratios - [0.6, 0.3, 0.1]) ** 2).sum(axis=1, keepdims=True)
    assert baselines_swarm.regmix_proposal(bounds, ratios[:32], metrics[:32], 0) is None
    found = baselines_swarm.regmix_proposal(bounds, ratios, metrics, 0)
    assert found.ratios == pytest.approx((0.6, 0.3, 0.1), abs=0.05)


# The table


@pytest.fixture
def table(tmp_path):
    """A table in the form of RegMix's: 40 runs of a small model, 12 held-out ones of a larger."""
    ratios = np.random.default_rng(0).dirichlet(np.ones(3), 52)
    losses = 3 + ratios @ np.array([0.0, 1.0, 2.0])
    with (tmp_path / "runs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run_id", "purpose", "params", "train_tokens", "ratio.web", "ratio.law", "ratio.art"])
        for i, row in enumerate(ratios):
            held = i >= 40
            writer.writerow([f"r{i:02d}", "target" if held else "sampling", 60_000_000 if held else 1000, 100, *row])
    with (tmp_path / "measurements.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run_id", "tokens", "flops", "kind", "name", "value"])
        for i, loss in enumerate(losses):
            writer.writerow([f"r{i:02d}", 100, 1e6, "domain_loss", "pile_cc", loss])
    return regmix_table.load_regmix(tmp_path)


def test_a_table_is_paid_by_the_run_and_judged_on_the_held_out_mixtures(table):
    bill = table.problem(0.02)
    assert (len(bill.pool), len(table.held_out)) == (40, 12)
    slopes = dict(zip(table.sources, (0.0, 1.0, 2.0), strict=True))  # in the order of the file's columns
    row = 3 + bill.pool[5] @ np.array([slopes[s] for s in bill.sources])
    assert bill.pay(5) == pytest.approx({"pile_cc": row})
    bill.pay(5)
    bill.pay(7)
    assert bill.spent == 2
    assert bill.paid().tolist() == [5, 7]
    truth = np.array([slopes[s] for s in table.sources])
    assert table.judge(regmix_table.Ranking(model=lambda x: x @ truth)) == pytest.approx(0.0)
    assert table.judge(regmix_table.Ranking(model=lambda x: -(x @ truth))) == pytest.approx(2.0)
    assert table.judge(regmix_table.Ranking(model=lambda x: np.ones(len(x)))) == 1.0


def test_a_process_ranks_a_small_table_from_few_runs(table):
    from tests.benchmarks.search.baselines_table import log_linear_random, process_random, process_variance

    for strategy in (process_variance, process_random, log_linear_random):
        bill = table.problem(0.05)
        made = replay(strategy(bill, 0), bill, table.judge)
        assert made.spent == 40
        assert made.points[-1].loss <= 0.05


def test_a_table_ends_once_the_goal_has_held_for_long_enough():
    enough = runs._held(0.2)
    assert not enough([Point(spent=8.0, loss=0.1), Point(spent=64.0, loss=0.1)])
    assert enough([Point(spent=8.0, loss=0.1), Point(spent=72.0, loss=0.1)])
    assert not enough([Point(spent=8.0, loss=0.1), Point(spent=64.0, loss=0.5), Point(spent=72.0, loss=0.1)])
