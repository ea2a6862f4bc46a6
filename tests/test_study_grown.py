"""A study that is run, and given again with one more source, domain, task and size, trains no earlier run again."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.deepspeed, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent


def shape(hidden: int, train_tokens: int) -> dict:
    return {
        "layers": 2,
        "hidden": hidden,
        "heads": 2,
        "ffn": 44,
        "train_tokens": train_tokens,
        "batch_sequences": 16,
        "learning_rate": 0.01,
    }


def study(*, grown: bool) -> dict:
    """Four tiny runs; grown by mathematics as a source and a domain, by a task, by a size, by a larger budget."""
    sources, domains = ["general", "code"], {name: {"held_out": name, "sequences": 16} for name in ("general", "code")}
    sizes = {"16x2": shape(16, 16_384), "20x2": shape(20, 32_768)}
    tasks = {"syntax": {"builtin": "code_syntax", "domain": "code", "items": 20, "emergence_margin": 0}}
    mixtures = [{"code": 0.5, "general": 0.5}, {"code": 0.2, "general": 0.8}]
    if grown:
        sources.append("math")
        domains["math"] = {"held_out": "math", "sequences": 16}
        sizes["24x2"] = shape(24, 65_536)
        tasks["order"] = {"builtin": "word_order", "domain": "general", "items": 20, "emergence_margin": 0}
        mixtures += [{"code": 0.2, "general": 0.4, "math": 0.4}]
    return {
        "study": "grown",
        "text": {
            "sources": {name: {"builtin": name, "max_characters": 900_000} for name in sources},
            "domains": domains,
            "tokenizer": {"vocabulary": 400},
            "sequence_length": 64,
        },
        "ladder": {"shapes": sizes},
        "grid": {"mixtures": mixtures},
        "training": {"checkpoints": 3},
        "measure": {"tasks": tasks},
        "fit": {"members": 4, "steps": 50},
        "search": {"objectives": ["syntax"], "trials": 10},
        "validation": {"enabled": False},
        "budget": {"flops": 4e10 if grown else 1e10},
    }


def flp_ray(command: str, file: Path, study_dir: Path, *more: str) -> subprocess.CompletedProcess:
    arguments = [sys.executable, "-m", "flp_ray", command, str(file), "--study-dir", str(study_dir), *more]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)


def answer(command: str, file: Path, study_dir: Path, *more: str) -> dict:
    done = flp_ray(command, file, study_dir, *more, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def measured(file: Path, study_dir: Path, out: Path) -> dict[tuple[str, ...], str]:
    answer("export", file, study_dir, "--out", str(out))
    rows = list(csv.DictReader((out / "measurements.csv").read_text().splitlines()))
    return {(row["run_id"], row["tokens"], row["kind"], row["name"]): row["value"] for row in rows}


def test_a_grown_study_keeps_every_run(tmp_path):
    small, large, study_dir = tmp_path / "small.yaml", tmp_path / "large.yaml", tmp_path / "study"
    small.write_text(yaml.safe_dump(study(grown=False), sort_keys=False))
    large.write_text(yaml.safe_dump(study(grown=True), sort_keys=False))
    first = flp_ray("run", small, study_dir)
    assert first.returncode in (0, 3), first.stdout + first.stderr  # four runs may be too few to propose from
    runs = {run["run_id"] for run in answer("plan", small, study_dir)["runs"]}
    before = measured(small, study_dir, tmp_path / "before")

    planned = answer("plan", large, study_dir)
    assert planned["growth"]["changes"] == [
        "+ source math",
        "+ domain math",
        "+ size 24x2",
        'grid.mixtures + {"code": 0.2, "general": 0.4, "math": 0.4}',
        "+ task order",
        "budget.flops 1e+10 -> 4e+10",
    ]
    assert planned["growth"]["reused_runs"] == 4
    assert planned["growth"]["new_runs"] == planned["totals"]["remaining_runs"] == 5
    assert runs < {run["run_id"] for run in planned["runs"]}

    second = flp_ray("run", large, study_dir)
    assert second.returncode in (0, 3), second.stdout + second.stderr
    assert "Changed since the study was last given: + source math" in second.stdout
    assert "used again: 4 finished runs" in second.stdout
    after = measured(large, study_dir, tmp_path / "after")
    assert before.items() < after.items()
    states = {run["run_id"]: run for run in answer("status", large, study_dir)["runs"]}
    assert {run["state"] for run in states.values()} == {"finished"}
    assert {run["attempts"] for run in states.values()} == {1}
    assert len(states) == 9
    # Earlier runs lack the new domain and task: missing, never 0.
    new = {(kind, name) for run, _, kind, name in after if run not in runs} - {(k, n) for _, _, k, n in before}
    assert new == {("domain_loss", "math"), ("performance", "order"), ("bpb", "order")}
    assert not any(run in runs and (kind, name) in new for run, _, kind, name in after)

    again = flp_ray("run", large, study_dir)
    assert again.returncode == second.returncode, again.stdout + again.stderr
    assert measured(large, study_dir, tmp_path / "again") == after
    refused = flp_ray("run", small, study_dir)
    assert refused.returncode == 2
    assert "text.domains.math is gone" in refused.stderr
