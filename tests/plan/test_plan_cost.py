"""The bill: totals, epochs, time, budgets."""

import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe
from flp_ray.core.text import TextIdentity
from flp_ray.errors import BudgetError, ConfigError
from flp_ray.plan import DEMO_LADDER, RunFactory, check_budget, cost, ladder
from flp_ray.plan.config import BudgetConfig, ExtraRuns, GridConfig, LadderConfig, SizeConfig


def factory(**changes) -> RunFactory:
    rungs = ladder(LadderConfig(preset="demo"))
    fields = {
        "rungs": rungs,
        "sizes": tuple(rungs),
        "sources": ("general", "code"),
        "vocabulary": 1024,
        "sequence_length": 128,
        "recipe": Recipe(),
        "text": TextIdentity(shared="t", sources={"general": "g", "code": "c"}),
        "seed": 0,
    }
    return RunFactory(**(fields | changes))


def bill(specs, rate=1e9, slots=2, tokens=None):
    return cost(
        specs,
        workers={rung.size: 1 for rung in DEMO_LADDER},
        devices=slots,
        flops_per_s_per_device={rung.size: rate for rung in DEMO_LADDER},
        source_tokens=tokens or {"general": 3_932_160, "code": None},
        measurements_per_checkpoint=10,
    )


def test_totals_are_sums_over_runs():
    specs = factory().sampling(GridConfig(ratios={"code": [0, 0.5]}))
    total = bill(specs)
    assert total.runs == 6
    assert total.tokens == 2 * sum(r.train_tokens for r in DEMO_LADDER)
    assert total.flops == pytest.approx(2 * sum(r.shape.flops(r.train_tokens, 128) for r in DEMO_LADDER))
    assert total.device_hours == pytest.approx(total.flops / 1e9 / 3600)
    assert total.wall_hours == pytest.approx(total.device_hours / 2)


def test_epochs_are_those_of_the_hungriest_run_and_unknown_without_text():
    total = bill(factory().sampling(GridConfig(ratios={"code": [0, 0.5]})))
    assert total.epochs == {"general": 0.5, "code": None}


def test_unknown_rates_leave_the_time_unknown():
    specs = factory().sampling(GridConfig(ratios={"code": [0]}))
    total = bill(specs, rate=None)
    assert (total.device_hours, total.wall_hours) == (None, None)
    with pytest.raises(BudgetError, match="no rate is known"):
        check_budget(total, total, BudgetConfig(device_hours=1))


def test_a_budget_is_refused_by_name_and_number():
    total = bill(factory().sampling(GridConfig(ratios={"code": [0]})))
    check_budget(total, total, BudgetConfig(flops=total.flops))
    with pytest.raises(BudgetError, match=r"2\.00 times"):
        check_budget(total, total, BudgetConfig(flops=total.flops / 2))


def test_runs_are_distinct_and_extra_runs_join_them():
    grid = GridConfig(
        ratios={"code": [0, 0.5]},
        extra=[ExtraRuns(size="64x4", mixtures=[{"code": 0.5}, {"code": 0.25}])],
        targets=[ExtraRuns(size="64x4", mixtures=[{"code": 0.1}])],
    )
    specs = factory().sampling(grid)
    assert len(specs) == 7
    assert [t.mixture for t in factory().targets(grid)] == [Mixture.of({"code": 0.1, "general": 0.9})]
    assert factory().targets(grid)[0].purpose == "target"


def test_every_run_has_a_seed_of_its_own_and_keeps_it_when_the_grid_grows():
    small = factory().sampling(GridConfig(ratios={"code": [0, 0.5]}))
    large = factory().sampling(GridConfig(ratios={"code": [0, 0.25, 0.5]}))
    assert len({s.seed for s in large}) == len(large) == 9
    assert {s.run_id for s in small} < {s.run_id for s in large}
    again = factory().run("64x4", small[0].mixture, "validation", seed=1)
    assert again.seed != factory().run("64x4", small[0].mixture, "sampling").seed


def test_a_size_that_is_not_there_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 64x4"):
        ladder(LadderConfig(preset="demo", sizes=["64x5"]))


def test_own_shapes_replace_those_of_the_preset_and_sizes_are_ordered():
    own = SizeConfig(layers=1, hidden=16, heads=2, ffn=32, train_tokens=1280, batch_sequences=2, learning_rate=0.1)
    rungs = ladder(LadderConfig(preset="demo", shapes={"64x4": own, "big": own.model_copy(update={"layers": 99})}))
    assert list(rungs) == ["64x4", "32x2", "48x3", "big"]


def test_a_study_that_gains_a_source_keeps_its_runs_and_their_seeds():
    two = factory().sampling(GridConfig(ratios={"code": [0, 0.5]}))
    text = TextIdentity(shared="t", sources={"general": "g", "code": "c", "math": "m"})
    three = factory(sources=("general", "code", "math"), text=text).sampling(
        GridConfig(ratios={"code": [0, 0.5], "math": [0, 0.25]})
    )
    assert {s.run_id: s.seed for s in two}.items() < {s.run_id: s.seed for s in three}.items()
    assert len(three) == 2 * len(two)
    assert len({s.seed for s in three}) == len(three)
