"""Studies in rounds: the decisions alone, run by run on planted measurements, and whole studies on real Ray."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flp_ray.config import load_config
from flp_ray.core.records import Measurement
from flp_ray.core.run import RunSpec
from flp_ray.measure import task_records
from flp_ray.rounds import Rounds, over_budget
from flp_ray.stages import fit_settings
from flp_ray.store import (
    TableWriter,
    attempt_row,
    finished_runs,
    first_starts,
    load_decisions,
    load_specs,
    measurement_rows,
    run_rows,
    run_states,
    task_rows,
)
from flp_ray.study import StudyPlan, make_plan
from tests.rounds_study import BUDGET, FIRST, LARGE, ROOT, answer, call, command, write

real = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(900)]


def on_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that runs a study on a real cluster."""
    for mark in real:
        test = mark(test)
    return test


class KilledError(Exception):
    """Stands for the end of the process."""


@dataclass
class Study:
    """A study whose runs are measured from a formula instead of trained.

    Attributes:
        folder: The study's folder.
        changes: Of the study file.
        appends: How many appends its process outlives; None for all.
        handed: Runs that were given out, in order.
    """

    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    appends: int | None = None
    handed: list[str] = field(default_factory=list)

    def plan(self) -> StudyPlan:
        return make_plan(load_config(write(self.folder.parent, **self.changes)), self.folder)

    def run(self, *, slots: int = 2, lost: Callable[[int], bool] = lambda number: False) -> list[str]:
        """One call; returns what was said. `lost` tells which of the runs handed out (from 0) fail for good."""
        plan, said = self.plan(), list[str]()
        with TableWriter(self.folder) as writer:

            def append(table: str, rows: Any) -> int:
                if self.appends is not None:
                    if self.appends == 0:
                        raise KilledError
                    self.appends -= 1
                return writer.append(table, rows)

            append("runs", run_rows(plan.specs))
            append("tasks", task_rows(task_records(plan.config.measure), recorded=1.0))
            rounds = Rounds(plan=plan, study_dir=self.folder, settings=fit_settings(plan.config), append=append)
            rounds.follow(planned=lambda spec: None, say=said.append)
            training: list[tuple[int, RunSpec]] = []
            number, over = 0, False
            while training or not over:
                spec = rounds.ask() if len(training) < slots and not over else None
                if isinstance(spec, RunSpec):
                    assert spec in load_specs(self.folder), "a run must be durable before it starts"
                    assert spec.run_id in {d.run_id for d in load_decisions(self.folder)[0]}, "and so must its reason"
                    self.handed.append(spec.run_id)
                    training.append((number, spec))
                    number += 1
                    continue
                over = over or spec == "end"
                assert training or over, "it waits for nothing"
                if training:
                    which, spec = training.pop(0)
                    if lost(which):
                        rounds.failed(spec.run_id)
                    else:
                        append("measurements", measurement_rows(measured(spec)))
                        append("attempts", attempt_row(run_id=spec.run_id, attempt=1, event="finished", at=time.time()))
        return said


def measured(spec: RunSpec) -> list[Measurement]:
    """What a planted law and some noise give: code for the one task, general text for the other."""
    draw, rows = np.random.default_rng(spec.seed), []
    for share in (1 / 3, 2 / 3, 1):
        tokens = int(spec.train_tokens * share)
        flops = spec.flops * share

        def put(kind: str, name: str, value: float, stderr: float | None, tokens=tokens, flops=flops) -> float:
            made = Measurement(
                run_id=spec.run_id,
                tokens=tokens,
                flops=flops,
                kind=kind,
                name=name,
                value=value,
                stderr=stderr,
                items=20,
            )
            rows.append(made)
            return value

        losses = {}
        for domain in ("code", "general"):
            learned = 31 * flops**-0.086 * (1 + 0.1 * (1 - spec.mixture.ratio(domain)) ** 2)
            losses[domain] = put("domain_loss", domain, learned + 0.01 * draw.standard_normal(), 0.01)
        for task, domain in (("syntax", "code"), ("order", "general")):
            score = np.clip(0.6 + 0.4 * (5 - losses[domain]) + 0.02 * draw.standard_normal(), 0.01, 0.99)
            put("performance", task, float(score), 0.02)
    return rows


def bill(study_dir: Path) -> float:
    """FLOPs of every run that was decided on or finished."""
    paid = finished_runs(study_dir) | {d.run_id for d in load_decisions(study_dir)[0]}
    return sum(s.flops for s in load_specs(study_dir) if s.run_id in paid)


def check_decisions(study_dir: Path, *, stops: int) -> None:
    """Numbered without a gap, each with a reason, no run decided twice, and the last one is the end."""
    decisions, _ = load_decisions(study_dir)
    assert [d.number for d in decisions] == list(range(len(decisions)))
    assert all(d.reason for d in decisions)
    chosen = [d.run_id for d in decisions if d.kind != "stop"]
    assert None not in chosen and max(Counter(chosen).values()) == 1
    assert decisions[-1].kind == "stop" and sum(d.kind == "stop" for d in decisions) == stops
    specs = {s.run_id: s for s in load_specs(study_dir)}
    for d in decisions:
        if d.run_id is not None:
            spec = specs[d.run_id]
            assert (d.size, d.mixture, d.flops) == (spec.size, spec.mixture, spec.flops)


@pytest.mark.parametrize(
    ("tolerance", "words"), [(0.05, "is within the tolerance of 5"), (1e-6, "the budget holds no further run")]
)
def test_a_search_ends_within_tolerance_or_budget_and_stays_ended(tolerance, words, tmp_path):
    study = Study(tmp_path / "s", {"rounds__tolerance": tolerance})
    said = study.run()
    check_decisions(study.folder, stops=1)
    assert "the search ends: " in said[-1]
    decisions, _ = load_decisions(study.folder)
    assert [d.kind for d in decisions[:6]] == ["start"] * 6
    assert words in decisions[-1].reason
    judged = [d for d in decisions[6:] if d.kind != "start"]
    assert all(d.fit_id and d.expected_regret is not None and d.best is not None for d in judged)
    chosen = [d for d in judged if d.kind != "stop"]
    assert chosen or tolerance == 0.05, "runs are chosen by the law"
    assert set(study.handed) == finished_runs(study.folder)
    assert FIRST <= bill(study.folder) <= BUDGET - LARGE
    assert bill(study.folder) == pytest.approx(decisions[-1].spent_flops)
    again = Study(tmp_path / "s", study.changes)
    assert again.run() == [] and again.handed == []
    assert load_decisions(study.folder)[0] == decisions


@pytest.mark.parametrize("changes", [{"search__pinned": {"code": 0.3}}, {"search__max_ratios": {"code": 0.1}}])
def test_a_search_among_one_or_two_mixtures_ends(changes, tmp_path):
    study = Study(tmp_path / "s", changes)
    study.run()
    check_decisions(study.folder, stops=1)
    assert bill(study.folder) <= BUDGET - LARGE


def test_at_most_so_many_runs(tmp_path):
    study = Study(tmp_path / "s", {"rounds__max_runs": 7, "rounds__budget_flops": 1e11, "rounds__tolerance": 1e-9})
    study.run()
    assert len(study.handed) == 7
    assert "7 runs are used up" in load_decisions(study.folder)[0][-1].reason


def test_killed_between_any_two_writes_nothing_is_decided_or_trained_twice(tmp_path):
    whole = Study(tmp_path / "whole")
    whole.run()
    seed = os.environ.get("FLP_RAY_KILL_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"FLP_RAY_KILL_SEED={seed} repeats these moments")
    moments, study = random.Random(seed), Study(tmp_path / "killed")
    for _ in range(6):
        study.appends, before = moments.randrange(2, 9), finished_runs(study.folder)
        try:
            study.run()
        except KilledError:
            assert before <= finished_runs(study.folder)
            study.handed = [run for run in study.handed if run in finished_runs(study.folder)]
    study.appends = None
    study.run()
    check_decisions(study.folder, stops=1)
    assert max(Counter(study.handed).values()) == 1, "a finished run was handed out again"
    assert set(study.handed) == finished_runs(study.folder)
    assert bill(study.folder) <= BUDGET - LARGE
    first = [d.run_id for d in load_decisions(whole.folder)[0][:6]]
    assert [d.run_id for d in load_decisions(study.folder)[0][:6]] == first


def test_a_run_that_fails_for_good_does_not_stop_the_search(tmp_path):
    study = Study(tmp_path / "s")
    study.run(lost=lambda number: number in (1, 4))
    check_decisions(study.folder, stops=1)
    failed = set(study.handed) - finished_runs(study.folder)
    assert len(failed) == 2 and len(study.handed) > 6
    assert bill(study.folder) <= BUDGET - LARGE
    again = Study(tmp_path / "s")
    again.run()
    assert set(again.handed) == failed, "only what had failed is tried again"
    check_decisions(study.folder, stops=1)


def test_twice_the_budget_uses_every_run_again_and_goes_on(tmp_path):
    study = Study(tmp_path / "s")
    study.run()
    earlier, done = load_decisions(study.folder)[0], finished_runs(study.folder)
    larger = Study(tmp_path / "s", {"rounds__budget_flops": 2 * BUDGET, "rounds__tolerance": 1e-6})
    larger.run()
    check_decisions(study.folder, stops=2)
    later = load_decisions(study.folder)[0]
    assert later[: len(earlier)] == earlier and len(later) > len(earlier) + 1
    assert not set(larger.handed) & done and done < finished_runs(study.folder)
    assert BUDGET < bill(study.folder) <= 2 * BUDGET - LARGE


def test_validation_beyond_the_budget_is_not_trained(tmp_path):
    study = Study(tmp_path / "s")
    study.run()
    plan = study.plan()
    runs = [plan.factory.run("20x2", plan.mixtures[0], "validation", seed) for seed in (1, 2, 3)]
    left = BUDGET - bill(study.folder)
    assert LARGE <= left < 3 * LARGE
    assert over_budget(plan, study.folder, runs[:1]) is None
    words = over_budget(plan, study.folder, runs)
    assert words is not None and f"3 runs would cost {3 * LARGE:.4g} FLOPs, and {left:.4g}" in words
    with TableWriter(study.folder) as writer:
        writer.append("runs", run_rows(runs))
        for run in runs:
            writer.append("attempts", attempt_row(run_id=run.run_id, attempt=1, event="finished", at=1.0))
    assert over_budget(plan, study.folder, runs) is None, "what is trained costs nothing more"


# Whole studies, trained.


def start(file: Path, study_dir: Path) -> subprocess.Popen:
    with (study_dir.parent / f"{study_dir.name}.log").open("a") as log:
        return subprocess.Popen(command("run", file, study_dir), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def finish(file: Path, study_dir: Path, code: int = 0) -> str:
    received = start(file, study_dir).wait()
    log = (study_dir.parent / f"{study_dir.name}.log").read_text()
    assert received == code, log[-4000:]
    return log


def spent(study_dir: Path) -> float:
    """FLOPs of every run that was ever begun."""
    return sum(s.flops for s in run_states(study_dir) if s.attempts)


def check_order(study_dir: Path) -> None:
    """Every decision was stored before its run began."""
    starts = first_starts(study_dir)
    assert all(d.at < starts[d.run_id] for d in load_decisions(study_dir)[0] if d.run_id in starts)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, float, str]:
    """File and folder of an undisturbed study, the seconds that it took and what it said."""
    folder = tmp_path_factory.mktemp("rounds")
    file, began = write(folder, search__pareto=["syntax", "order"]), time.monotonic()
    log = finish(file, folder / "study")
    return file, folder / "study", time.monotonic() - began, log


@on_ray
def test_a_whole_study_in_rounds(trained):
    file, study_dir, _, log = trained
    check_decisions(study_dir, stops=1)
    check_order(study_dir)
    decisions, _ = load_decisions(study_dir)
    assert "the search ends: " + decisions[-1].reason in log
    assert sum(s.purpose == "validation" for s in load_specs(study_dir)) == 1
    assert FIRST + LARGE < spent(study_dir) <= BUDGET
    status = answer("status", file, study_dir)
    assert set(status["counts"]) == {"finished"}
    search = status["search"]
    assert search["stopped"] == decisions[-1].reason
    assert [d["reason"] for d in search["decisions"]] == [d.reason for d in decisions]
    assert search["budget_flops"] == BUDGET
    assert search["spent_flops"] == pytest.approx(spent(study_dir))
    page = (study_dir / "report.html").read_text()
    assert decisions[-1].reason in page and "takes most off the regret per FLOP" in page
    assert "kept for validation" not in page, "the validation is over"


@on_ray
def test_given_again_it_trains_nothing_and_answers_the_same(trained):
    file, study_dir, seconds, _ = trained
    before, states = answer("propose", file, study_dir), run_states(study_dir)
    decisions = load_decisions(study_dir)
    began = time.monotonic()
    log = finish(file, study_dir)
    assert time.monotonic() - began < seconds
    assert log.count("the search ends: ") == 1, "it ended in the first call"
    assert run_states(study_dir) == states and load_decisions(study_dir) == decisions
    assert answer("propose", file, study_dir) == before
    for name in ("fit", "report"):
        assert call(name, file, study_dir).returncode == 0


@on_ray
def test_twice_the_budget_reuses_every_run(trained, tmp_path):
    _, earlier, _, _ = trained
    study_dir = shutil.copytree(earlier, tmp_path / "study")
    file = write(tmp_path, search__pareto=["syntax", "order"], rounds__budget_flops=2 * BUDGET)
    before, decisions = {s.run_id: s for s in run_states(study_dir)}, load_decisions(study_dir)[0]
    growth = answer("plan", file, study_dir)["growth"]
    assert growth["changes"] == ["rounds.budget_flops 1.5e+10 -> 3e+10"]
    assert growth["reused_runs"] == len(before) - 1, "all but the validation, which is not planned beforehand"
    assert growth["new_runs"] == growth["unplanned_runs"] == 0
    log = finish(file, study_dir)
    assert "used again: " in log
    check_decisions(study_dir, stops=2)
    check_order(study_dir)
    after = {s.run_id: s for s in run_states(study_dir)}
    assert all(after[run_id] == state for run_id, state in before.items())
    assert {s.attempts for s in after.values()} == {1}
    later = load_decisions(study_dir)[0]
    assert later[: len(decisions)] == decisions
    assert len(after) > len(before)
    assert spent(study_dir) <= 2 * BUDGET


@on_ray
def test_killed_and_given_again_it_goes_on(trained, tmp_path):
    file, _, seconds, _ = trained
    seed = os.environ.get("FLP_RAY_KILL_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"FLP_RAY_KILL_SEED={seed} repeats these moments")
    study_dir, moments = tmp_path / "killed", random.Random(seed)
    for _ in range(2):
        driver = start(file, study_dir)
        with pytest.raises(subprocess.TimeoutExpired):
            driver.wait(timeout=moments.uniform(0.2, 0.45) * seconds)
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        kept = {s.run_id: s for s in run_states(study_dir) if s.state == "finished"}
        decided = load_decisions(study_dir)[0]
    finish(file, study_dir)
    check_decisions(study_dir, stops=1)
    check_order(study_dir)
    after = {s.run_id: s for s in run_states(study_dir)}
    assert {s.state for s in after.values()} == {"finished"}
    assert all(after[run_id] == state for run_id, state in kept.items())
    assert load_decisions(study_dir)[0][: len(decided)] == decided
    assert spent(study_dir) <= BUDGET


@on_ray
def test_a_run_whose_process_dies_for_good_does_not_stop_the_study(tmp_path):
    # Without validation: once the lost run is there, another proposal's may be more than the budget holds. So narrow a
    # tolerance that the search goes on after its first runs, however sure the law is.
    file, study_dir = (
        write(tmp_path, resources__retries=0, validation__enabled=False, rounds__tolerance=1e-6),
        tmp_path / "study",
    )
    driver = start(file, study_dir)
    while driver.poll() is None and not (study_dir.exists() and any(s.attempts for s in run_states(study_dir))):
        time.sleep(0.1)
    victims = [p for p in psutil.Process(driver.pid).children(recursive=True) if "ray::ImplicitFunc" in _title(p)]
    assert victims
    victims[0].kill()
    assert driver.wait() == 3, "one run is missing"
    log = (tmp_path / "study.log").read_text()
    assert "the run's process died" in log
    failed = [s for s in run_states(study_dir) if s.state == "failed"]
    assert len(failed) == 1
    check_decisions(study_dir, stops=1)
    decisions = load_decisions(study_dir)[0]
    assert len(decisions) > 7
    finish(file, study_dir)  # trains what is missing
    assert load_decisions(study_dir)[0] == decisions
    assert {s.state for s in run_states(study_dir)} == {"finished"}
    assert spent(study_dir) <= BUDGET


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
