"""The command line: frozen, quick to start, and with exit codes that scripts can rely on."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml

from flp_ray.cli import main, parser

JOBS = Path(__file__).parent.parent / "jobs"

GOLDEN = {
    "plan": ["--json", "--study-dir", "STUDY"],
    "run": ["--study-dir", "STUDY"],
    "data": ["STEP"],
    "data fetch": ["--out", "STUDY"],
    "data prepare": ["--study-dir", "STUDY"],
    "status": ["--json", "--study-dir", "STUDY"],
    "fit": ["--domains", "--json", "--method", "--out", "--study-dir", "--tasks", "STUDY"],
    "predict": ["--domains", "--json", "--method", "--params", "--ratio", "--tasks", "--tokens", "RECORDS"],
    "backtest": ["--domains", "--json", "--method", "--out", "--tasks", "RECORDS"],
    "propose": ["--json", "--study-dir", "STUDY"],
    "power": ["--draws", "--json", "--study-dir", "STUDY"],
    "report": ["--json", "--study-dir", "STUDY"],
    "export": ["--format", "--json", "--out", "--study-dir", "STUDY"],
    "doctor": ["--json"],
}


def test_the_command_line_is_what_it_was():
    found = {}
    waiting = [("", parser())]
    while waiting:
        prefix, sub = waiting.pop()
        if prefix:
            actions = [a for a in sub._actions if a.dest != "help"]
            found[prefix] = sorted(a.option_strings[-1] if a.option_strings else a.metavar for a in actions)
        for action in sub._actions:
            if isinstance(action.choices, dict):
                waiting += [(f"{prefix} {name}".strip(), inner) for name, inner in action.choices.items()]
    assert found == {name: sorted(options) for name, options in GOLDEN.items()}


def test_plan_of_the_paper_has_37_sampling_runs_with_the_flops_of_table_1(capsys, tmp_path):
    assert main(["plan", str(JOBS / "paper-flpm.yaml"), "--json", "--study-dir", str(tmp_path / "s")]) == 0
    plan = json.loads(capsys.readouterr().out)
    sampling = [run for run in plan["runs"] if run["purpose"] == "sampling"]
    assert len(sampling) == 37
    expected = {
        "0.12B": "6.81931E+18",
        "0.2B": "2.63435E+19",
        "0.32B": "8.01571E+19",
        "0.5B": "2.05963E+20",
        "0.72B": "4.70331E+20",
        "1B": "9.75926E+20",
        "3B": "9.63212E+21",
    }
    assert {run["size"]: f"{run['flops']:.5E}" for run in sampling} == expected
    assert all(abs(sum(run["ratios"].values()) - 1) < 1e-12 for run in plan["runs"])
    assert len({run["run_id"] for run in plan["runs"]}) == len(plan["runs"])
    assert plan["totals"]["runs"] == len(plan["runs"])
    assert not (tmp_path / "s").exists(), "a plan writes nothing"


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("search.min_ratios", {"code": 0.7, "general": 0.7}, "min_ratios"),
        ("search.ratio_step", 0.3, "must divide 1"),
        ("search.trials", 0, "greater than or equal to 1"),
        ("fit.members", 0, "fit.members must be at least 2"),
        ("fit.weights", {"nothing": 1}, "fit.weights names 'nothing'"),
        ("validation.seeds", [1, 1], "must differ"),
        ("ladder.sizes", [], "sizes"),
        ("training.clip_norm", float("inf"), "finite"),
        ("grid.mixtures", [{"code": float("nan")}], "finite"),
        ("grid.targets", [{"size": "24x2", "mixtures": [{"code": 0.5}]}], "must not be fitted on"),
        ("measure.tasks.mean", {"builtin": "word_order", "domain": "general"}, "name of the objective"),
    ],
)
def test_wrong_settings_are_refused_by_the_plan(place, value, words, capsys, tmp_path):
    study = yaml.safe_load((JOBS / "smoke.yaml").read_text())
    *parents, last = place.split(".")
    section = study
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    assert main(["plan", str(path), "--study-dir", str(tmp_path / "s")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_mistyped_folder_is_no_study(command, capsys, tmp_path):
    more = ["--out", str(tmp_path / "out")] if command == "export" else []
    assert main([command, str(JOBS / "smoke.yaml"), "--study-dir", str(tmp_path / "s"), *more]) == 2
    assert "There is no study in" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_fit_without_records_says_what_is_missing_and_exits_with_3(capsys, tmp_path):
    assert main(["fit", str(JOBS / "smoke.yaml"), "--study-dir", str(tmp_path / "s")]) == 3
    assert "flp-ray run" in capsys.readouterr().err


def test_a_budget_that_is_too_small_is_refused_before_anything_starts(capsys, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text((JOBS / "smoke.yaml").read_text() + "\nbudget: {flops: 1e6}\n")
    for command in ("plan", "run"):
        assert main([command, str(study), "--study-dir", str(tmp_path / "s")]) == 2
        assert "the budget allows 1e+06" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_study_in_use_is_refused(capsys, tmp_path):
    from flp_ray.store import FolderLock

    lock = FolderLock(tmp_path / "s", wait_seconds=0)
    try:
        began = time.monotonic()
        assert main(["run", str(JOBS / "smoke.yaml"), "--study-dir", str(tmp_path / "s")]) == 2
        assert time.monotonic() - began < 30
    finally:
        lock.release()
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["run", str(JOBS / "smoke.yaml"), "--study-dir", str(tmp_path / "file" / "s")]) == 2
    assert "cannot be written" in capsys.readouterr().err
