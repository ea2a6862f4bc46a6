import subprocess
import sys
from dataclasses import dataclass, field

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.core.surrogate import SurrogatePrediction
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.propose import propose, skipped_objectives
from flp_ray.propose.config import SearchConfig

FLOPS = 1e18


@dataclass
class Bowl:
    """A surrogate with a known best mixture for each task."""

    best: dict[str, dict[str, float]]
    not_emerged: dict[str, str] = field(default_factory=dict)
    fit_id: str = "bowl"
    asked: int = 0

    @property
    def tasks(self):
        return tuple(self.best)

    def predict(self, mixtures, flops):
        self.asked += len(mixtures)
        return [self._one(m) for m in mixtures]

    def _one(self, mixture):
        scores = {t: 0.8 - sum((mixture.ratio(s) - r) ** 2 for s, r in b.items()) for t, b in self.best.items()}
        made = {t: Prediction(mean=v, low=v - 0.1, high=v + 0.1, extrapolated=False) for t, v in scores.items()}
        mean = sum(scores.values()) / max(1, len(scores))
        whole = Prediction(mean=mean, low=mean - 0.1, high=mean + 0.1, extrapolated=False)
        return SurrogatePrediction(domain_loss={}, performance=made, objective=whole)


TWO = {"a": {"x": 0.234, "y": 0.766}, "b": {"x": 0.6, "y": 0.4}}
FOUR = {"a": {"s": 0.4, "t": 0.3, "u": 0.2, "v": 0.1}}


def search(surrogate, sources, *, storage=None, known=(), seed=0, **config):
    return propose(
        surrogate,
        sources=sources,
        size="big",
        train_tokens=10,
        flops=FLOPS,
        config=SearchConfig(**({"trials": 60} | config)),
        storage=storage,
        seed=seed,
        known=known,
    )


def ratios(proposal):
    return proposal.mixture.as_dict()


def test_two_sources_find_the_best_mixture_for_every_objective():
    made = search(Bowl(TWO), ["y", "x"], objectives=["a", "b", "mean"])
    assert [p.objective for p in made] == ["a", "b", "mean"]
    assert [p.mixture.ratio("x") for p in made] == [0.23, 0.6, pytest.approx(0.417, abs=0.006)]
    assert made[0].expected == made[0].performance["a"]
    assert made[0].fit_id == "bowl"
    assert made[0].proposal_id != made[1].proposal_id


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_four_sources_find_the_best_mixture(sampler):
    trials = 25 if sampler == "gp" else 60
    (made,) = search(Bowl(FOUR), list("stuv"), objectives=["a"], sampler=sampler, trials=trials, ratio_step=0.05)
    assert ratios(made) == pytest.approx(FOUR["a"])


def test_one_source_is_proposed_as_it_is():
    (made,) = search(Bowl({"a": {"x": 1.0}}), ["x"], trials=3)
    assert ratios(made) == {"x": 1.0}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [({"x": 0.3}, {}, 0.3), ({}, {"x": 0.2}, 0.2), ({"y": 0.9}, {}, 0.1), ({"x": 0.5}, {"x": 0.5}, 0.5)],
)
def test_bounds_are_kept_and_active(low, high, expected):
    (made,) = search(Bowl(TWO), ["x", "y"], objectives=["a"], min_ratios=low, max_ratios=high)
    assert made.mixture.ratio("x") == pytest.approx(expected)


def test_bounds_of_four_sources_hold_in_every_trial(tmp_path):
    path = tmp_path / "optuna.log"
    (made,) = search(
        Bowl(FOUR), list("stuv"), objectives=["a"], min_ratios={"v": 0.2}, max_ratios={"s": 0.25}, storage=path
    )
    assert made.mixture.ratio("v") == pytest.approx(0.2)
    assert made.mixture.ratio("s") == pytest.approx(0.25)
    for trial in stored(path)[0].trials:
        mixture = trial.user_attrs["mixture"]
        assert mixture["v"] >= 0.2 - 1e-9
        assert mixture["s"] <= 0.25 + 1e-9


def stored(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]


def test_the_journal_is_a_plain_optuna_study(tmp_path):
    path = tmp_path / "studies" / "optuna.log"
    search(Bowl(TWO), ["x", "y"], objectives=["a", "mean"], storage=path)
    studies = stored(path)
    assert [s.study_name.split("-")[0] for s in studies] == ["a", "mean"]
    for study in studies:
        assert "bowl" in study.study_name
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        assert [t.state for t in study.trials] == [optuna.trial.TrialState.COMPLETE] * 60
        assert [t.number for t in study.trials] == list(range(60))
        assert set(study.best_params) == {"ratio.x"}
    assert studies[0].best_value == pytest.approx(0.8, abs=1e-3)


def test_the_grid_and_the_corners_are_tried_first(tmp_path):
    path = tmp_path / "optuna.log"
    known = [Mixture.of({"s": 0.7, "t": 0.1, "u": 0.1, "v": 0.1}), Mixture.of({"s": 0.25, "t": 0.25, "u": 0.5})]
    search(Bowl(FOUR), list("stuv"), objectives=["a"], storage=path, known=known)
    tried = [t.user_attrs["mixture"] for t in stored(path)[0].trials]
    assert tried[0] == pytest.approx(known[0].as_dict())
    assert tried[1] == pytest.approx({"s": 0.25, "t": 0.25, "u": 0.5, "v": 0.0})
    for source, mixture in zip("stuv", tried[2:6], strict=True):
        assert mixture == pytest.approx({s: float(s == source) for s in "stuv"})


def test_the_same_fit_again_tries_nothing_more(tmp_path):
    path = tmp_path / "optuna.log"
    surrogate = Bowl(TWO)
    first = search(surrogate, ["x", "y"], storage=path)
    asked = surrogate.asked
    assert search(surrogate, ["x", "y"], storage=path) == first
    assert len(stored(path)[0].trials) == 60
    assert surrogate.asked - asked < 60


def test_an_interrupted_search_goes_on_as_it_would_have(tmp_path):
    whole, parts = tmp_path / "whole.log", tmp_path / "parts.log"
    expected = search(Bowl(FOUR), list("stuv"), storage=whole, trials=60)
    for trials in (20, 40, 60):
        made = search(Bowl(FOUR), list("stuv"), storage=parts, trials=trials)
    assert made == expected
    assert [t.params for t in stored(parts)[0].trials] == [t.params for t in stored(whole)[0].trials]


def test_another_fit_target_or_bound_is_another_study(tmp_path):
    path = tmp_path / "optuna.log"
    search(Bowl(TWO), ["x", "y"], storage=path, trials=5)
    search(Bowl(TWO, fit_id="other"), ["x", "y"], storage=path, trials=5)
    search(Bowl(TWO), ["x", "y"], storage=path, trials=5, max_ratios={"x": 0.5})
    assert [len(s.trials) for s in stored(path)] == [5, 5, 5]


def test_a_task_that_has_not_emerged_is_left_out_and_said():
    surrogate = Bowl(TWO, not_emerged={"c": "0 of 9 checkpoints"})
    config = SearchConfig(objectives=["c", "a"])
    assert skipped_objectives(surrogate, config) == {"c": "0 of 9 checkpoints"}
    assert [p.objective for p in search(surrogate, ["x", "y"], objectives=["c", "a"])] == ["a"]


@pytest.mark.parametrize("objectives", [["c"], ["mean"], ["mean", "c"]])
def test_nothing_to_propose_is_refused_with_the_reason(objectives):
    with pytest.raises(NotEnoughDataError, match=r"0 of 9 checkpoints|no task has emerged"):
        search(Bowl({}, not_emerged={"c": "0 of 9 checkpoints"}), ["x", "y"], objectives=objectives)


def test_an_unknown_objective_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        search(Bowl(TWO), ["x", "y"], objectives=["meen"])


def test_flat_surfaces_end():
    (made,) = search(Bowl({"a": {}}), ["x", "y"], trials=5)
    assert sum(made.mixture.ratios) == pytest.approx(1)


def test_a_line_that_a_dying_process_left_unfinished_is_cut(tmp_path):
    journal = tmp_path / "optuna.journal"
    first = search(Bowl(TWO), ["x", "y"], storage=journal)
    with journal.open("a") as file:
        file.write('{"op_code": 4, "wor')
    assert search(Bowl(TWO), ["x", "y"], storage=journal) == first


def test_the_stage_loads_optuna_at_first_use():
    code = "import flp_ray.propose, flp_ray.propose.config, sys; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
