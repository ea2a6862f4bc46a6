import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture


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
