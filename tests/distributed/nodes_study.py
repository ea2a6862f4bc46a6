"""A study of two-worker runs for the tests of clusters: its file, its command, what it has recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from flp_ray.store import read_table

ROOT = Path(__file__).parents[2]

SHAPES = {
    "small": {"layers": 1, "hidden": 16, "heads": 2, "ffn": 32, "train_tokens": 32_768},
    "large": {"layers": 2, "hidden": 32, "heads": 2, "ffn": 64, "train_tokens": 196_608},
}
COMMON = {"batch_sequences": 8, "learning_rate": 0.005}


def write_study(folder: Path, **changes) -> Path:
    """Two sizes x one mixture, each run two workers of one CPU with ZeRO 2; nothing is proposed."""
    value = yaml.safe_load((ROOT / "jobs" / "smoke.yaml").read_text())
    value |= {
        "study": "two-workers",
        "storage": str(folder / "runs"),
        "ladder": {"shapes": {size: shape | COMMON for size, shape in SHAPES.items()}},
        "grid": {"ratios": {"code": [0.25]}},
        "training": {"checkpoints": 8},
        "search": {"objectives": ["mean"]},
        "validation": {"enabled": False},
        "resources": {"workers": 2, "zero_stage": 2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(value | changes))
    return path


def start(path: Path, log: Path, **environment: str) -> subprocess.Popen:
    """`flp-ray run` in a process of its own."""
    with log.open("a") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "flp_ray", "run", str(path)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def finish(process: subprocess.Popen, log: Path, *, seconds: float = 600) -> str:
    """Waits for the study's end and returns what it said; a grid of one mixture is too little for a proposal."""
    process.wait(timeout=seconds)
    said = log.read_text()
    assert process.returncode == 3, said[-6000:]
    assert "No mixture can be proposed" in said, said[-6000:]
    return said


def recorded(study_dir: Path) -> dict[tuple, tuple]:
    """Every measurement, by run, tokens, kind and name."""
    rows = read_table(study_dir, "measurements").to_pylist()
    return {(r["run_id"], r["tokens"], r["kind"], r["name"]): (r["value"], r["stderr"], r["items"]) for r in rows}


def wait_for(happened, process: subprocess.Popen, log: Path, *, seconds: float = 300) -> None:
    """Waits until something has happened while a study runs."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, log.read_text()[-6000:]
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(0.2)
