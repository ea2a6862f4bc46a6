"""`flp-ray power`: does it judge a fit by the truth, and does it tell a good design from a poor one?"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from flp_ray import synthetic
from flp_ray.cli import main
from flp_ray.config import load_config
from flp_ray.core.mixture import Mixture
from flp_ray.errors import ConfigError
from flp_ray.fit import FitSettings, fit_surrogate
from flp_ray.power import DesignPower, conclusion, judge, measure_power, planned_runs, study_world
from flp_ray.propose import search_lattice
from flp_ray.propose.config import SearchConfig
from flp_ray.study import make_plan

JOBS = Path(__file__).parent.parent / "jobs"


def plan_of(tmp_path, job="demo.yaml", **changed):
    study = yaml.safe_load((JOBS / job).read_text()) | changed
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return make_plan(load_config(path), tmp_path / "none")


def three_sources(tmp_path, **changed):
    study = yaml.safe_load((JOBS / "demo.yaml").read_text())
    domains = {name: {"held_out": name} for name in ("general", "code")}
    text = study["text"] | {"sources": study["text"]["sources"] | {"third": {"builtin": "math"}}, "domains": domains}
    grid = {"ratios": {"code": [0.1, 0.3, 0.5], "third": [0.1, 0.3, 0.5]}}
    tasks = {
        "code_syntax": study["measure"]["tasks"]["code_syntax"],
        "word_order": study["measure"]["tasks"]["word_order"],
    }
    return plan_of(tmp_path, text=text, grid=grid, measure={"tasks": tasks}, search={}, **changed)


def test_half_and_twice_cover_every_size_and_mixture(tmp_path):
    plan = plan_of(tmp_path)
    half, planned, twice = (planned_runs(plan, d) for d in ("half", "planned", "twice"))
    assert (len(half), len(planned), len(twice)) == (9, 18, 36)
    assert {s.mixture for s, _ in half} == {s.mixture for s, _ in planned}
    assert {s.size for s, _ in half} == {s.size for s, _ in planned}
    assert len({(s.run_id, repeat) for s, repeat in twice}) == 36


@pytest.mark.parametrize("job", ["demo.yaml", "paper-flpm.yaml"])
def test_the_worlds_of_a_study_emerge_within_its_ladder_and_peak_within_its_grid(job, tmp_path):
    plan = plan_of(tmp_path, job)
    flops = [s.flops for s in plan.sampling]
    for draw in range(3):
        world = study_world(plan, draw)
        assert world == study_world(plan, draw)
        assert world.sources == tuple(sorted(plan.config.sources))
        assert list(world.tasks) == list(plan.config.measure.tasks)
        assert {n: t.items for n, t in world.tasks.items()} == {
            n: t.items for n, t in plan.config.measure.tasks.items()
        }
        assert 0 < world.optimum("mean", plan.target_flops).ratio("code") < 0.5
        middle = np.array([[0.5, 0.5]])
        low, high = (world.scores(world.losses(middle, f))[0] for f in (min(flops), max(flops)))
        chance = np.array([t.random_performance for t in world.tasks.values()])
        assert (low < chance + 0.05).all()
        assert (high > chance + 0.1).all()


def test_more_sources_take_the_study_s_names(tmp_path):
    plan = three_sources(tmp_path)
    world = study_world(plan, 0)
    assert world.sources == ("code", "general", "third")
    assert set(world.tasks) == {"code_syntax", "word_order"}
    assert all(set(law.exponents) == set(world.sources) for law in world.domains.values())


@pytest.mark.parametrize("sources", [2, 3])
def test_a_fit_is_judged_by_the_truth(sources):
    world = synthetic.many_source_world(sources)
    rows = np.concatenate([np.eye(sources), np.random.default_rng(0).dirichlet(np.ones(sources), 9)])
    mixtures = [Mixture.of(dict(zip(world.sources, row, strict=True))) for row in rows]
    sizes = tuple(synthetic.paper_size(n) for n in ("0.2B", "0.5B", "1B"))
    design = synthetic.Design(sizes=sizes, mixtures=tuple(mixtures), checkpoints=6)
    silent = replace(world, run_noise=0.0, checkpoint_noise=0.0, items=None)
    fitted = fit_surrogate(silent.records(design, 0), FitSettings(members=4, steps=200))
    lattice = search_lattice(SearchConfig(), world.sources)
    found = judge(fitted, silent, sizes[-1], lattice=lattice, objectives=["mean"], mixtures=mixtures[-3:], seed=1)
    # Without noise only the lattice's step and stage 2 are left; the law is Eq. 5's own.
    assert found.distances["mean"] <= 0.02
    assert 0 <= found.regrets["mean"] < 1e-4
    assert max(found.score_errors) < 0.02
    assert max(found.loss_errors) < 1e-4


def test_a_task_that_never_emerges_is_not_found_and_the_rest_is_judged(tmp_path):
    world = synthetic.nothing_emerges(synthetic.two_source_world())
    sizes = tuple(synthetic.paper_size(n) for n in ("0.2B", "0.5B"))
    mixtures = synthetic.two_source_mixtures("code", "general", [0.0, 0.2, 0.5])
    fitted = fit_surrogate(
        world.records(synthetic.Design(sizes=sizes, mixtures=mixtures, checkpoints=4), 0),
        FitSettings(members=4, steps=9),
    )
    lattice = search_lattice(SearchConfig(), world.sources)
    found = judge(fitted, world, sizes[-1], lattice=lattice, objectives=["mean"], mixtures=mixtures, seed=1)
    assert found.distances == {"mean": None}
    assert found.score_errors == ()
    assert set(found.inside) == {"loss"}


def power(name, runs, share, regret=0.01):
    return DesignPower(
        name=name,
        runs=runs,
        flops=1.0,
        worlds=20,
        found={"mean": share},
        distance={"mean": 0.01},
        regret_points={"mean": regret},
        score_error=0.01,
        score_error_90=0.02,
        coverage={"loss": 0.8},
        refused=0,
    )


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.85, 0.95, 1.0), "Half as many (18) would do: 85 %"),
        ((0.5, 0.85, 1.0), "That is enough (80 %); half as many are not"),
        ((0.2, 0.5, 0.9), "Plan about twice as many (74): 90 %"),
        ((0.1, 0.2, 0.5), "Not even twice as many runs reach 80 %"),
    ],
)
def test_the_conclusion_says_how_many_runs_are_needed(shares, words):
    said = conclusion(
        [power(n, r, s) for n, r, s in zip(("half", "planned", "twice"), (18, 37, 74), shares, strict=True)]
    )
    assert words in said
    assert "The planned 37 runs" in said


def test_a_study_that_mixes_nothing_and_no_draws_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least 1, received 0"):
        measure_power(plan_of(tmp_path), 0)
    with pytest.raises(ConfigError, match="mixes nothing"):
        measure_power(plan_of(tmp_path, grid={"ratios": {"code": [0.3]}}), 1)


def test_the_command_prints_a_table_and_json_and_writes_nothing(capsys, tmp_path):
    arguments = ["power", str(JOBS / "smoke.yaml"), "--draws", "2", "--study-dir", str(tmp_path / "s")]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "world 2 of 2: off by half" in shown
    assert "The planned" in shown
    assert main([*arguments, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [d["name"] for d in value["designs"]] == ["half", "planned", "twice"]
    assert value["conclusion"] in " ".join(shown.split())
    assert not (tmp_path / "s").exists()
    assert main(["power", str(JOBS / "smoke.yaml"), "--draws", "0"]) == 2
    assert "--draws must be at least 1" in capsys.readouterr().err


def test_a_power_of_three_sources(tmp_path):
    powers = measure_power(three_sources(tmp_path), 1)
    assert [p.runs for p in powers] == [len(planned_runs(three_sources(tmp_path), p.name)) for p in powers]
    assert all(set(p.found) == {"mean"} for p in powers)
    assert powers[1].coverage
