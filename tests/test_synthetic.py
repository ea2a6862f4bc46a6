from dataclasses import replace

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.synthetic.anchor import at_flops, with_sources


def test_losses_are_eq_5_with_the_named_overlap():
    world = synthetic.two_source_world()
    flops, ratio = 3e19, 0.2
    law = world.domains["math"]
    code = (0.99 * ratio + 0.01 * (1 - ratio)) * flops
    general = (0.99 * (1 - ratio) + 0.01 * ratio) * flops
    expected = (
        np.exp(law.log_scale)
        * flops**law.exponent_total
        * code ** law.exponents["code"]
        * general ** law.exponents["general"]
    )
    computed = world.losses(np.array([[ratio, 1 - ratio]]), flops)[0, list(world.domains).index("math")]
    assert computed == pytest.approx(expected, rel=1e-12)


def test_records_are_those_of_the_seed_and_other_runs_do_not_change_them():
    world, design = synthetic.two_source_world(), synthetic.paper_design()
    one, again, other = (world.records(design, s) for s in (1, 1, 2))
    assert one == again
    assert {r.run_id for r in one.runs}.isdisjoint(r.run_id for r in other.runs)
    part = synthetic.Design(sizes=design.sizes[:1], mixtures=design.mixtures)
    ids = {r.run_id for r in world.records(part, 1).runs}
    assert [m for m in one.measurements if m.run_id in ids] == list(world.records(part, 1).measurements)


def test_the_paper_design_has_37_runs():
    assert len(synthetic.paper_design().runs()) == 37


def test_noise_has_the_stated_size():
    world, design = synthetic.two_source_world(), synthetic.paper_design()
    finals = [c for s in range(20) for c in world.records(design, s).final_checkpoints()]
    ratios = np.array([[c.run.mixture.ratio("code"), c.run.mixture.ratio("general")] for c in finals])
    true = world.losses(ratios, np.array([c.flops for c in finals]))
    measured = np.array([[c.domain_loss[d] for d in world.domains] for c in finals])
    expected = np.hypot(world.run_noise, world.checkpoint_noise)
    # 740 x 5 draws: the standard error of a standard deviation is 1.2 percent; 5 percent is four of them.
    assert np.std(np.log(measured / true)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("objective", ["mean", "completion", "programs", "reasoning", "recall"])
def test_no_mixture_of_a_dense_grid_beats_the_optimum(objective):
    world, flops = synthetic.two_source_world(), 1e21
    grid = synthetic.two_source_mixtures("code", "general", np.linspace(0, 1, 1001).tolist())
    best = world.optimum(objective, flops)
    assert world.objective(objective, [best], flops)[0] >= world.objective(objective, grid, flops).max() - 1e-9


def test_the_optimum_of_five_sources_beats_random_mixtures():
    world, flops = synthetic.many_source_world(5), 1e21
    drawn = np.random.default_rng(1).dirichlet(np.ones(5), 5000)
    mixtures = [Mixture.of(dict(zip(world.sources, row, strict=True))) for row in drawn]
    best = world.objective("mean", [world.optimum("mean", flops)], flops)[0]
    assert best >= world.objective("mean", mixtures, flops).max()


def test_where_nothing_emerges_scores_stay_at_chance():
    world = synthetic.nothing_emerges(synthetic.two_source_world())
    scores = world.scores(world.losses(np.array([[0.3, 0.7]]), synthetic.paper_size("7B").flops))[0]
    chance = [t.random_performance for t in world.tasks.values()]
    assert scores == pytest.approx(chance, abs=1e-6)


def noise_at(world, ratio, count=4000):
    """Standard deviation of the log losses of many runs at one mixture."""
    size = synthetic.PlantedSize(name="s", params=1, train_tokens=100, flops=1e20)
    mixtures = synthetic.two_source_mixtures("code", "general", [ratio])
    design = synthetic.Design(sizes=(size,), mixtures=mixtures, checkpoints=1)
    made = [c for seed in range(count // 5) for c in world.records(design, seed).final_checkpoints()]
    true = world.losses(np.array([[ratio, 1 - ratio]]), size.flops)[0]
    return np.std([np.log(c.domain_loss[d] / t) for c in made for d, t in zip(world.domains, true, strict=True)])


def test_edge_noise_grows_from_the_even_mixture_to_the_edge():
    world = replace(synthetic.two_source_world(), edge_noise=2.0, checkpoint_noise=0.0)
    middle, edge = noise_at(world, 0.5), noise_at(world, 0.0)
    # 4,000 draws each: the standard error of a ratio of two standard deviations is 1.6 percent; 6 percent is four.
    assert edge / middle == pytest.approx(3.0, rel=0.06)


def test_a_size_shares_its_deviation_and_another_world_has_another():
    quiet = replace(synthetic.two_source_world(), run_noise=0.0, checkpoint_noise=0.0, size_noise=0.02)
    design = synthetic.paper_design()

    def deviations(world, seed):
        finals = world.records(design, seed).final_checkpoints()
        ratios = np.array([[c.run.mixture.ratio("code"), c.run.mixture.ratio("general")] for c in finals])
        true = world.losses(ratios, np.array([c.flops for c in finals]))
        logs = np.log(np.array([[c.domain_loss[d] for d in world.domains] for c in finals]) / true)
        return {s: logs[[c.run.size == s for c in finals]] for s in {c.run.size for c in finals}}

    one, again, other = (deviations(w, s) for w, s in ((quiet, 0), (quiet, 1), (replace(quiet, size_seed=1), 0)))
    for size, logs in one.items():
        assert logs == pytest.approx(np.broadcast_to(logs[:1], logs.shape), abs=1e-12)
        assert again[size][0] == pytest.approx(logs[0], abs=1e-12)
        assert np.abs(other[size][0] - logs[0]).max() > 1e-3


def test_items_may_differ_by_task_and_before_the_last_checkpoint():
    world = synthetic.two_source_world()
    tasks = world.tasks | {"recall": replace(world.tasks["recall"], items=500)}
    world = replace(world, tasks=tasks, intermediate_items=100)
    size = synthetic.paper_size("0.5B")
    design = synthetic.Design(
        sizes=(size,), mixtures=synthetic.two_source_mixtures("code", "general", [0.2]), checkpoints=3
    )
    asked = {(m.tokens == size.train_tokens, m.name, m.items) for m in world.records(design, 0).measurements if m.items}
    assert asked == {(False, n, 100) for n in tasks} | {(True, n, 500 if n == "recall" else 2000) for n in tasks}


def test_drawn_worlds_differ_and_peak_clearly_inside():
    flops = synthetic.paper_size("1B").flops
    peaks = []
    for seed in range(10):
        world = synthetic.drawn_two_source_world(seed)
        assert world == synthetic.drawn_two_source_world(seed)
        peak = synthetic.clear_objectives(world, flops)["mean"]
        assert world.optimum("mean", flops).ratio("code") == pytest.approx(peak, abs=2e-3)
        peaks.append(peak)
    assert len(set(peaks)) > 5


def test_weights_make_the_mean_of_a_world():
    world = replace(synthetic.two_source_world(), weights={"recall": 3.0, "programs": 0.0})
    mixtures, flops = synthetic.two_source_mixtures("code", "general", [0.2]), 1e21
    parts = {n: world.objective(n, mixtures, flops)[0] for n in world.tasks}
    expected = (parts["completion"] + parts["reasoning"] + 3 * parts["recall"]) / 5
    assert world.objective("mean", mixtures, flops)[0] == pytest.approx(expected, rel=1e-12)


def test_a_drift_moves_the_optimum_with_the_size():
    world = synthetic.two_source_world()
    small, large = (synthetic.paper_size(n).flops for n in ("0.2B", "7B"))

    def move(w):
        return w.optimum("recall", large).ratio("code") - w.optimum("recall", small).ratio("code")

    assert abs(move(world)) < 0.01
    assert move(synthetic.optimum_moves(world)) > 0.1


def test_a_floor_keeps_the_loss_where_it_is_and_flattens_what_follows():
    world = synthetic.two_source_world()
    floored = synthetic.losses_with_a_floor(world, share=0.5)
    even = np.array([[0.5, 0.5]])
    assert floored.losses(even, 1e20) == pytest.approx(world.losses(even, 1e20), rel=1e-12)
    near = [w.losses(even, 1.01e20) - w.losses(even, 1e20) for w in (world, floored)]
    assert near[1] == pytest.approx(near[0], rel=0.01)
    assert (floored.losses(even, 1e24) > world.losses(even, 1e24)).all()


@pytest.mark.parametrize("sources", [2, 4])
def test_a_world_put_at_other_flops_emerges_within_its_ladder(sources):
    names = dict(zip(synthetic.many_source_world(sources).sources, "wxyz", strict=False))
    world = with_sources(synthetic.many_source_world(sources), names)
    assert world.sources == tuple("wxyz"[:sources])
    put = at_flops(world, 1e12, 1e14, 1e14, np.random.default_rng(0))
    even = np.full((1, sources), 1 / sources)
    assert put.losses(even, 1e13) == pytest.approx(world.losses(even, 1e20), rel=1e-12)
    low, high = (put.scores(put.losses(even, f))[0] for f in (1e12, 1e14))
    assert (low - 0.25 < 0.05).all()
    assert ((high - 0.25 > 0.15) & (high < 0.9)).all()


@pytest.mark.parametrize("where", ["inside", "edge", "corner"])
def test_drawn_worlds_of_five_sources_have_their_optimum_where_they_are_told(where):
    flops, peaks = synthetic.paper_size("7B").flops, []
    for seed in range(4):
        world = synthetic.drawn_many_source_world(seed, where)
        assert world == synthetic.drawn_many_source_world(seed, where)
        best = world.optimum("mean", flops)
        ratios = np.sort(best.ratios)
        absent = int((ratios < 1e-3).sum())
        assert {"inside": absent == 0, "edge": 1 <= absent <= 2, "corner": absent == 4}[where]
        assert (ratios[absent:] >= 0.04).all()
        value = world.objective("mean", [best], flops)[0]
        drawn = np.random.default_rng(seed).dirichlet(np.full(5, 0.5), 5000)
        assert value >= world.objective_at("mean", drawn, flops).max()
        # Several points lie between good and bad mixtures: half of all lose more than 1.5 points.
        lost = value - world.objective_at("mean", np.random.default_rng(seed).dirichlet(np.ones(5), 5000), flops)
        assert np.median(lost) >= 0.014
        peaks.append(best)
    assert len(set(peaks)) >= 2


def test_drawn_worlds_of_five_sources_emerge_along_the_ladder():
    world = synthetic.drawn_many_source_world(0)
    even = np.full((1, 5), 0.2)
    chance = np.array([t.random_performance for t in world.tasks.values()])
    small, large, target = (
        world.scores(world.losses(even, synthetic.paper_size(n).flops))[0] - chance for n in ("0.12B", "1B", "7B")
    )
    assert small.max() < 0.05
    assert (large > 0.05).all()
    assert (target > large).all()
    assert (target + chance < 0.95).all()


def test_lopsided_worlds_peak_near_either_end_and_a_guess_at_the_middle_loses():
    flops, ratios = synthetic.paper_size("7B").flops, np.linspace(0, 0.5, 251)
    mixtures = synthetic.two_source_mixtures("code", "general", ratios.tolist())
    peaks = []
    for seed in range(12):
        world = synthetic.lopsided_two_source_world(seed)
        values = world.objective("mean", mixtures, flops)
        peaks.append(float(ratios[np.argmax(values)]))
        assert values.max() - values[125] >= 0.0029  # 0.3 points, on a grid twice as fine
    assert min(peaks) < 0.15
    assert max(peaks) > 0.35
    assert synthetic.lopsided_two_source_world(5) == synthetic.lopsided_two_source_world(5)


def test_an_unknown_place_of_the_optimum_is_refused():
    with pytest.raises(ValueError, match="inside, edge, corner"):
        synthetic.drawn_many_source_world(0, "outside")
