"""Speed of the predictor: all networks of stage 2 at once, a whole backtest, a prediction from a saved fit.

`fit_vs_torch_loop` is the time of single torch networks, one after the other, over that of the batched ones, for 6
tasks x 100 members on 700 points of 5 domains; the loop is timed on a few networks in the same process and its
time multiplied, both on one thread. `backtest_ladder_seconds` and `predict_seconds` time whole commands, start-up
included: on the public ladder where it lies beside the project, else on a planted one of its size (`planted` 1).
Run alone: python tests/benchmarks/bench_predictor.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from flp_ray.fit.network import initial_networks, train_networks
from flp_ray.synthetic import LADDER_SIZES, LadderWorld, join

TASKS, MEMBERS, POINTS, DOMAINS, STEPS = 6, 100, 700, 5, 2000
LOOPED = 3
"""Single torch networks that are timed; each takes seconds."""

LADDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "olmo-ladder"


def run() -> dict[str, float]:
    """All figures by name."""
    loop, batched = _torch_loop(), _batched()
    figures = {"fit_vs_torch_loop": loop * TASKS * MEMBERS / batched}
    print(f"  one torch network {loop:.2f} s; {TASKS * MEMBERS} batched {batched:.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = LADDER if LADDER.is_dir() else _planted(Path(scratch) / "ladder")
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        figures["backtest_ladder_seconds"] = _command("backtest", folder, "--method", "auto", "--json")
        ask = ("--params", "6.9e9", "--tokens", "3.9e12")
        _command("predict", folder, *ask)
        figures["predict_seconds"] = min(_command("predict", folder, *ask) for _ in range(5))
        figures["planted"] = float(folder != LADDER)
    return figures


def _problem() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((POINTS, DOMAINS))
    targets = np.tanh(inputs @ generator.standard_normal((DOMAINS, TASKS))).T
    return inputs, targets


def _batched() -> float:
    inputs, targets = _problem()
    weights = np.ones((MEMBERS * TASKS, POINTS))
    seeds = [[m, t] for m in range(MEMBERS) for t in range(TASKS)]
    start = initial_networks(seeds, DOMAINS)
    began = time.perf_counter()
    train_networks(start, inputs, np.tile(targets, (MEMBERS, 1)), weights, steps=STEPS)
    return time.perf_counter() - began


def _torch_loop() -> float:
    """Seconds of one network: the median of a few."""
    torch.set_num_threads(1)
    inputs, targets = _problem()
    x = torch.tensor(inputs, dtype=torch.float32)
    took = []
    for k in range(LOOPED):
        y = torch.tensor(targets[k], dtype=torch.float32)[:, None]
        torch.manual_seed(k)
        network = torch.nn.Sequential(torch.nn.Linear(DOMAINS, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
        optimiser = torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
        began = time.perf_counter()
        for _ in range(STEPS):
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(network(x), y).backward()
            optimiser.step()
            schedule.step()
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def _command(*arguments: object) -> float:
    command = [sys.executable, "-m", "flp_ray", *map(str, arguments)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _planted(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    world = LadderWorld()
    records = join(
        world.records([(n, d * f) for n, d in LADDER_SIZES for f in (1.0, 1.4)][:25], 0, checkpoints=130),
        world.records([(6.9e9, 3.9e12), (13.2e9, 5e12)], 0, purpose="target", checkpoints=1),
    )
    folder.mkdir()
    names = ("run_id", "purpose", "params", "train_tokens")
    pq.write_table(
        pa.Table.from_pylist([{n: getattr(r, n) for n in names} for r in records.runs]), folder / "runs.parquet"
    )
    names = ("run_id", "tokens", "flops", "kind", "name", "value")
    rows = [{n: getattr(m, n) for n in names} for m in records.measurements]
    pq.write_table(pa.Table.from_pylist(rows), folder / "measurements.parquet")
    return folder


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name, value in run().items():
        print(f"{name:32} {value:.4g}")
