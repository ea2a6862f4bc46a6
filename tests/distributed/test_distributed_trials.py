"""How runs and tuning trials end and are counted, against the store actor's own code and a training that is played."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ray.tune

import flp_ray.train
from flp_ray.core.mixture import Mixture
from flp_ray.distributed import tuning
from flp_ray.distributed.config import ResourcesConfig
from flp_ray.distributed.context import StudyContext
from flp_ray.distributed.failures import LOST
from flp_ray.distributed.launch import MOST_FAILURES
from flp_ray.distributed.store_actor import RemoteWriter, StoreActor
from flp_ray.distributed.trial import run_trial
from flp_ray.errors import OutOfMemoryError, StorageError
from flp_ray.store import read_table
from flp_ray.train import TrainingCheckpoint
from flp_ray.tune import TuningConfig
from tests.store.store_samples import SPEC

COSTS = {"train_seconds": 1.0, "save_seconds": 0.0, "measure_seconds": 0.0}
TUNING = TuningConfig(sizes=["tiny", "b"], trials=4, rungs=2, learning_rate={"low": 1e-3, "high": 1e-1})
TRIAL = replace(SPEC, recipe=replace(SPEC.recipe, checkpoints=20), mixture=Mixture.of({"code": 1.0}))


class Store:
    """The store actor in this process; `restart` is what Ray does when it dies."""

    def __init__(self, folder):
        self.folder, self.actor = folder, StoreActor(folder)

    def ask(self, method, *arguments, **named):
        return asyncio.run(getattr(self.actor, method)(*arguments, **named))

    tell = ask

    def append(self, table, batch):
        return self.ask("append", table, batch)

    def restart(self):
        self.actor._writer.close()
        self.actor = StoreActor(self.folder)

    def events(self):
        rows = read_table(self.folder, "attempts").to_pylist()
        return sorted((row["attempt"], row["event"]) for row in rows)


@pytest.fixture
def store(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setattr(RemoteWriter, "find", lambda study_dir: store)
    yield store
    store.actor._writer.close()


@pytest.fixture
def told(monkeypatch):
    """What Tune is told."""
    told = []
    monkeypatch.setattr(ray.tune, "report", told.append)
    return told


def context(folder, retries=2):
    text = SimpleNamespace(sources={}, domains={})
    return StudyContext(
        study_dir=folder,
        session="s",
        text=text,
        measure=None,
        resources=ResourcesConfig(retries=retries),
        max_epochs=1.0,
        keep_checkpoints="none",
    )


@pytest.fixture
def trained(monkeypatch):
    """The runs that have been trained."""
    trained = []

    def launch(spec, context, execution):
        trained.append(spec.run_id)
        return dict(COSTS)

    monkeypatch.setattr("flp_ray.distributed.trial._launch", launch)
    return trained


@pytest.mark.parametrize("restarted", [False, True])
def test_a_finished_run_whose_process_is_lost_is_not_trained_again(store, told, trained, restarted, tmp_path):
    run_trial({"spec": SPEC.to_dict()}, context(tmp_path, retries=0))
    store.ask("lose_attempt", SPEC.run_id, LOST, session="s")  # its node, before Tune had the result
    if restarted:
        store.restart()
    left = tmp_path / "checkpoints" / SPEC.run_id / "step-1"
    left.mkdir(parents=True)
    run_trial({"spec": SPEC.to_dict()}, context(tmp_path, retries=0))
    assert trained == [SPEC.run_id]
    assert told == [{"run_id": SPEC.run_id, "finished": True}] * 2
    assert store.events() == [(1, "finished"), (1, "started")]
    assert not left.exists()


def test_only_a_finished_run_is_finished(store, told, monkeypatch, tmp_path):
    def launch(spec, context, execution):
        raise RuntimeError("broken")

    monkeypatch.setattr("flp_ray.distributed.trial._launch", launch)
    run_trial({"spec": SPEC.to_dict()}, context(tmp_path, retries=0))
    assert told == [{"run_id": SPEC.run_id, "failed": "RuntimeError: broken"}]
    store.restart()
    assert not store.ask("finished", SPEC.run_id)
    assert store.events() == [(1, "failed"), (1, "started")]


@pytest.mark.parametrize("error", [StorageError("the bucket is away"), OSError("so is the disk")])
def test_states_that_cannot_be_removed_leave_a_finished_run_finished(
    store, told, trained, error, monkeypatch, tmp_path
):
    def clear(*arguments, **named):
        raise error

    monkeypatch.setattr("flp_ray.distributed.trial.clear_states", clear)
    run_trial({"spec": SPEC.to_dict()}, context(tmp_path))
    assert told == [{"run_id": SPEC.run_id, "finished": True}]
    assert store.events() == [(1, "finished"), (1, "started")]


class Tune:
    """Tune around one tuning trial: starts it anew after each failure, as often as it may."""

    def __init__(self, folder, monkeypatch, retries):
        self.study = tuning._Study(context=context(folder, retries), tuning=TUNING)
        self.failed = []
        watcher = SimpleNamespace(failed=lambda spec, why, *, again: self.failed.append((why, again)))
        self.follower = tuning._Follower(watcher, self.study, set())
        self.trial = SimpleNamespace(config={"spec": TRIAL.to_dict()}, error_file=None)
        self._plays = iter(())
        monkeypatch.setitem(vars(flp_ray.train), "train", self._train)
        monkeypatch.setattr(tuning, "bring_text", lambda *arguments, **named: None)
        monkeypatch.setattr(tuning, "stream_of", lambda *arguments: None)

    def _train(self, spec, stream, folder, *, on_checkpoint, **named):
        steps, error = next(self._plays)
        for step in steps:
            tokens = spec.tokens_at(step)
            on_checkpoint(
                TrainingCheckpoint(step=step, tokens=tokens, flops=1.0, train_loss=1.0, final=False), model=None
            )
        if error is not None:
            raise error

    def fit(self, *plays):
        """Each attempt's checkpoints and error; returns how many attempts were made."""
        self._plays, attempts = iter(plays), 0
        while attempts < len(plays):
            attempts += 1
            try:
                tuning.run_tuning_trial(self.trial.config, self.study)
            except RuntimeError:
                self.follower.on_trial_recover(1, [], self.trial)
            else:
                break
        return attempts


def test_a_tuning_trial_that_comes_further_is_never_given_up(store, told, monkeypatch, tmp_path):
    lost = RuntimeError("a node was lost")
    tune = Tune(tmp_path, monkeypatch, retries=1)
    plays = [([step], lost) for step in range(1, 7)]
    assert tune.fit(*plays, ([], None)) == 7
    assert not told
    assert tune.failed == [(LOST, True)] * 6
    assert not store.events()


def test_a_tuning_trial_that_comes_no_further_fails_after_its_retries(store, told, monkeypatch, tmp_path):
    tune = Tune(tmp_path, monkeypatch, retries=2)
    assert tune.fit(*[([1], RuntimeError("broken"))] * 9) == 3
    assert told == [{"run_id": TRIAL.run_id, "failed": "RuntimeError: broken"}]


def test_a_tuning_trial_whose_process_dies_each_time_is_given_up(store, told, monkeypatch, tmp_path):
    tune = Tune(tmp_path, monkeypatch, retries=2)
    for _ in range(3):
        tune.follower.on_trial_recover(1, [], tune.trial)
    assert tune.fit(([], None)) == 1
    assert told == [{"run_id": TRIAL.run_id, "failed": f"GaveUpError: {LOST}"}]


def test_a_tuning_trial_without_memory_has_failed(store, told, monkeypatch, tmp_path):
    error = OutOfMemoryError("a micro batch of 4")
    assert Tune(tmp_path, monkeypatch, retries=0).fit(([], error)) == 1
    assert told == [{"run_id": TRIAL.run_id, "failed": "OutOfMemoryError: a micro batch of 4"}]


def test_tune_itself_counts_no_failures_of_tuning_trials(monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(tuning, "Tuner", lambda trainable, **named: given.update(named))
    study = tuning._Study(context=context(tmp_path, retries=1), tuning=TUNING)
    tuning._tuner([TRIAL], study, tuning._Follower(None, study, set()), slots=1, folder=tmp_path)
    assert given["run_config"].failure_config.max_failures == MOST_FAILURES
