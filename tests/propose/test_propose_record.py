import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.propose.answers import expected_at
from flp_ray.propose.config import SearchConfig
from flp_ray.propose.goals import Goal
from flp_ray.propose.record import record_search


def stored(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]


@pytest.fixture(scope="module")
def three(modelled):
    world = synthetic.many_source_world(3)
    model, search, rows = modelled(world, SearchConfig(max_ratios={"source0": 0.5}))
    runs = {search.space.mixture(row): [f"0.2B-{i}"] for i, row in enumerate(rows)}
    return model, search, runs, Mixture.of({"source0": 0.5, "source1": 0.25, "source2": 0.25})


def test_every_trained_mixture_and_the_found_one_is_a_trial(tmp_path, three):
    model, search, runs, found = three
    path = tmp_path / "studies" / "optuna.journal"
    record_search(path, search, model, search.goals[0], runs, found)
    (study,) = stored(path)
    assert study.study_name.startswith("mean-")
    assert model.fit_id in study.study_name
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    inside = [m for m in runs if m.ratio("source0") <= 0.5]
    assert 0 < len(inside) < len(runs)  # trained before the bound was there: no trial of this space
    assert len(study.trials) == len(inside) + 1
    for trial, mixture in zip(study.trials, [*inside, found], strict=True):
        expected = expected_at(search, model, search.goals[0], mixture)
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert trial.value == pytest.approx(expected.mean)
        assert trial.user_attrs["mixture"] == pytest.approx(mixture.as_dict())
        assert trial.user_attrs["interval"] == pytest.approx([expected.low, expected.high])
        assert trial.user_attrs["runs"] == runs.get(mixture, [])
        assert set(trial.params) == {"stick.source0", "stick.source1"}
        assert all(0 <= v <= 1 for v in trial.params.values())


def test_a_sampler_can_go_on_from_it(tmp_path, three):
    model, search, runs, found = three
    path = tmp_path / "optuna.journal"
    record_search(path, search, model, search.goals[0], runs, found)
    (study,) = stored(path)
    study.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
    number = len(study.trials)
    trial = study.ask({n: optuna.distributions.FloatDistribution(0, 1) for n in ("stick.source0", "stick.source1")})
    study.tell(trial, 0.1)
    assert len(study.trials) == number + 1
    assert study.best_value == pytest.approx(max(t.value for t in study.trials))


def test_recorded_twice_changes_nothing(tmp_path, three):
    model, search, runs, found = three
    path = tmp_path / "optuna.journal"
    record_search(path, search, model, search.goals[0], runs, found)
    before = [(t.params, t.value) for t in stored(path)[0].trials]
    record_search(path, search, model, search.goals[0], runs, found)
    (study,) = stored(path)
    assert [(t.params, t.value) for t in study.trials] == before


def test_each_objective_is_a_study(tmp_path, three):
    model, search, runs, found = three
    path = tmp_path / "optuna.journal"
    for goal in (search.goals[0], Goal(name="task1", weights={"task1": 1.0})):
        record_search(path, search, model, goal, runs, found)
    assert [s.study_name.split("-")[0] for s in stored(path)] == ["mean", "task1"]
    values = [[t.value for t in s.trials] for s in stored(path)]
    assert not np.allclose(*values)


def test_a_found_mixture_that_was_trained_is_one_trial(tmp_path, three):
    model, search, runs, _ = three
    path = tmp_path / "optuna.journal"
    trained = next(m for m in runs if m.ratio("source0") <= 0.5)
    record_search(path, search, model, search.goals[0], runs, trained)
    (study,) = stored(path)
    assert sum(t.user_attrs["mixture"] == trained.as_dict() for t in study.trials) == 1


def test_two_sources_are_recorded_by_ratio(tmp_path, two_sources):
    _, driven = two_sources
    path = tmp_path / "optuna.journal"
    runs = {t.mixture: ["a", "b"] for t in driven.taken}
    record_search(path, driven.search, driven.model, driven.search.goals[0], runs, driven.last.best)
    (study,) = stored(path)
    assert set(study.best_params) == {"ratio.code"}
    ratios = [t.params["ratio.code"] for t in study.trials]
    assert ratios == pytest.approx([t.user_attrs["mixture"]["code"] for t in study.trials])
    assert len(set(ratios)) == len(ratios)
