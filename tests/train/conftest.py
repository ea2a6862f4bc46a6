from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape

HERE = Path(__file__).parent


class StopError(Exception):
    """A death at a chosen place."""


class Text:
    """Sequences with something to learn: each token follows from the one before, but for some noise."""

    def __init__(self, spec: RunSpec, die_at: int | None = None) -> None:
        self.die_at = None if die_at is None else die_at * spec.batch_sequences
        rng = np.random.default_rng(7)
        ids = np.zeros((spec.sequences, spec.sequence_length), dtype=np.int64)
        ids[:, 0] = rng.integers(0, spec.vocabulary, spec.sequences)
        for t in range(1, spec.sequence_length):
            noise = rng.integers(0, spec.vocabulary, spec.sequences)
            ids[:, t] = np.where(rng.random(spec.sequences) < 0.2, noise, (ids[:, t - 1] * 3 + 1) % spec.vocabulary)
        self.ids = ids

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        if self.die_at is not None and stop > self.die_at:
            raise StopError
        return self.ids[start:stop]


class FolderStorage:
    """A storage in a folder; notes what was asked of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []

    def put(self, local: Path, name: str) -> None:
        self.asked.append(("put", name))
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(local, self.root / name)

    def get(self, name: str, local: Path) -> None:
        self.asked.append(("get", name))
        local.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / name, local)

    def names(self, prefix: str) -> dict[str, int]:
        files = (path for path in (self.root / prefix).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.stat().st_size for path in files}

    def remove(self, prefix: str) -> None:
        self.asked.append(("remove", prefix))
        place = self.root / prefix
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)


def run_workers(folder: Path, what: str, world: int = 2) -> tuple[list[int], list[str]]:
    """Runs `train_worker.py` as workers that meet; returns their exit codes and outputs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "train_worker.py"), str(folder)]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(world), what],
            # Each is the only one of its node, as far as it knows.
            env={**environment, "LOCAL_RANK": "0" if what == "with_storage" else str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], outputs


def small_spec(**changes: object) -> RunSpec:
    recipe = {k: changes.pop(k) for k in list(changes) if k in Recipe.__dataclass_fields__}
    spec = RunSpec(
        purpose="sampling",
        size="tiny",
        shape=ModelShape(layers=2, hidden=16, heads=2, ffn=40),
        vocabulary=64,
        sequence_length=16,
        mixture=Mixture.of({"general": 1.0}),
        train_tokens=16 * 93,
        batch_sequences=8,
        learning_rate=1e-2,
        seed=3,
        recipe=Recipe(**{"checkpoints": 6, "warmup_fraction": 0.2, **recipe}),
        text_id="text",
    )
    return replace(spec, **changes)


@pytest.fixture
def make_spec():
    return small_spec


@pytest.fixture
def make_text():
    return Text


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_storage():
    return FolderStorage


@pytest.fixture
def stop_error():
    return StopError


@pytest.fixture(name="run_workers")
def _run_workers():
    return run_workers
