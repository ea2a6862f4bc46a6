"""A tiny study in rounds over two sources and two sizes, and the calls that a person makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
SMALL, LARGE = 825_753_600.0, 2_190_213_120.0
"""FLOPs of a run of each size."""
FIRST = 3 * (SMALL + LARGE)
"""FLOPs of the first runs."""
BUDGET = 1.5e10
"""Holds the first six runs, one validation at the larger size, and one to four runs more."""


def shape(hidden: int, train_tokens: int) -> dict[str, Any]:
    return {
        "layers": 2,
        "hidden": hidden,
        "heads": 2,
        "ffn": 44,
        "train_tokens": train_tokens,
        "batch_sequences": 16,
        "learning_rate": 0.01,
    }


def study(**changes: Any) -> dict[str, Any]:
    """The study with keys changed, given by dotted path with `__` for the dot; None takes a key out."""
    value: dict[str, Any] = {
        "study": "rounds",
        "text": {
            "sources": {name: {"builtin": name, "max_characters": 900_000} for name in ("general", "code")},
            "domains": {name: {"held_out": name, "sequences": 16} for name in ("general", "code")},
            "tokenizer": {"vocabulary": 400},
            "sequence_length": 64,
        },
        "ladder": {"shapes": {"16x2": shape(16, 16_384), "20x2": shape(20, 32_768)}},
        "rounds": {"budget_flops": BUDGET, "start_mixtures": 3},
        "training": {"checkpoints": 3},
        "measure": {
            "tasks": {
                "syntax": {"builtin": "code_syntax", "domain": "code", "items": 20, "emergence_margin": 0},
                "order": {"builtin": "word_order", "domain": "general", "items": 20, "emergence_margin": 0},
            }
        },
        "fit": {"members": 4, "steps": 50},
        "search": {"objectives": ["syntax"], "trials": 10, "ratio_step": 0.1},
    }
    for path, new in changes.items():
        *way, last = path.split("__")
        place = value
        for key in way:
            place = place.setdefault(key, {})
        if new is None:
            place.pop(last, None)
        else:
            place[last] = new
    return value


def write(folder: Path, **changes: Any) -> Path:
    """The study as a file."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study(**changes), sort_keys=False))
    return path


def command(name: str, file: Path, study_dir: Path, *more: object) -> list[str]:
    return [sys.executable, "-m", "flp_ray", name, str(file), "--study-dir", str(study_dir), *map(str, more)]


def call(name: str, file: Path, study_dir: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(name, file, study_dir, *more), capture_output=True, text=True, cwd=ROOT)


def answer(name: str, file: Path, study_dir: Path, *more: object) -> Any:
    done = call(name, file, study_dir, *more, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
