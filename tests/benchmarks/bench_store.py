"""The store with many runs: what an append costs early and late, and how long the questions take.

    python tests/benchmarks/bench_store.py --rows 10000000

Rows of 10,000 runs at 30 checkpoints arrive in large batches, as after a merge of two studies; then single
checkpoints are appended one by one, the first of them to a small store and the last to the large one. `status` is asked
as a person would: in a process that has read nothing before, the best of five.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape
from flp_ray.store import TableWriter, attempt_row, final_losses, run_rows

RUNS, CHECKPOINTS = 10_000, 30
_BULK_ROWS = 250_000
_TOKENS_BETWEEN = 1_000_000


def run(rows: int = 1_000_000, appends: int = 150) -> dict[str, float]:
    """Rows, rates, memory and seconds.

    Args:
        rows: Measurements to hold.
        appends: Single appends that are timed, before and after.
    """
    with tempfile.TemporaryDirectory() as place:
        folder, names = Path(place), [f"domain{k:02d}" for k in range(max(1, rows // (RUNS * CHECKPOINTS)))]
        _plan(folder)
        with TableWriter(folder) as writer:
            early = _rate(writer, names, appends, run="early")
            before, began = _memory(), time.perf_counter()
            stored = sum(writer.append("measurements", batch) for batch in _bulk(names))
            filled = time.perf_counter() - began
            grown = _memory() - before
            _rate(writer, names, 100, run="between")  # the large batches are merged once; an append does not pay for it
            late = _rate(writer, names, appends, run="late")
        figures = {
            "store_rows": float(stored),
            "store_rows_per_second": stored / filled,
            "store_appends_per_second_early": early,
            "store_appends_per_second_late": late,
            "store_append_late_vs_early": late / early,
            "store_bytes_per_row": grown / stored,
            "store_open_seconds": _open_seconds(folder),
            "store_final_losses_seconds": _ask(folder, "final_losses(folder)"),
            "store_states_seconds": _ask(folder, "run_states(folder)"),
            "store_specs_seconds": _ask(folder, "load_specs(folder)"),
        }
        print(json.dumps(figures), file=sys.stderr)
        losses = final_losses(folder)
        assert losses.num_rows == (RUNS + 3) * len(names), losses.num_rows
        assert min(losses["tokens"].to_pylist()) == min(appends, CHECKPOINTS, 100) * _TOKENS_BETWEEN
    return figures


def _plan(folder: Path) -> None:
    shape = ModelShape(layers=2, hidden=64, heads=2, ffn=128)
    first = RunSpec(
        purpose="sampling",
        size="64x2",
        shape=shape,
        vocabulary=1024,
        sequence_length=128,
        mixture=Mixture.of({"code": 0.3, "general": 0.7}),
        train_tokens=128 * 16 * 100,
        batch_sequences=16,
        learning_rate=1e-3,
        seed=0,
        recipe=Recipe(),
        text_id="text",
    )
    specs = [replace(first, seed=seed) for seed in range(RUNS)]
    with TableWriter(folder) as writer:
        writer.append("runs", run_rows(specs))
        for event in ("started", "finished"):
            ended = [attempt_row(run_id=s.run_id, attempt=1, event=event, at=1.0, train_seconds=2.0) for s in specs]
            writer.append("attempts", pa.concat_tables(ended))


def _bulk(names: list[str]) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    runs_at_once = max(1, _BULK_ROWS // (len(names)))
    for checkpoint in range(1, CHECKPOINTS + 1):
        for first in range(0, RUNS, runs_at_once):
            runs = [f"run{number:013d}" for number in range(first, min(RUNS, first + runs_at_once))]
            yield _rows(runs, checkpoint, names, rng)


def _rows(runs: list[str], checkpoint: int, names: list[str], rng: np.random.Generator) -> pa.Table:
    count, tokens = len(runs) * len(names), checkpoint * _TOKENS_BETWEEN
    return pa.table(
        {
            "run_id": pa.array(runs).take(pa.array(np.repeat(np.arange(len(runs)), len(names)))),
            "tokens": np.full(count, tokens),
            "flops": np.full(count, 6e6 * tokens),
            "kind": pa.repeat("domain_loss", count),
            "name": pa.array(names).take(pa.array(np.tile(np.arange(len(names)), len(runs)))),
            "value": 2 + rng.random(count),
            "stderr": 0.01 * rng.random(count),
            "items": np.full(count, 1000),
        }
    )


def _rate(writer: TableWriter, names: list[str], appends: int, *, run: str) -> float:
    rng = np.random.default_rng(1)
    batches = [_rows([run], checkpoint, names, rng) for checkpoint in range(1, appends + 1)]
    writer.append("measurements", batches[0])
    began = time.perf_counter()
    for batch in batches[1:]:
        writer.append("measurements", batch)
    return (appends - 1) / (time.perf_counter() - began)


def _open_seconds(folder: Path) -> float:
    began = time.perf_counter()
    with TableWriter(folder) as writer:
        assert writer.recorded_checkpoints("late")
    return time.perf_counter() - began


def _ask(folder: Path, question: str) -> float:
    code = (
        "import time; from pathlib import Path; from flp_ray.store import *; "
        f"folder = Path({str(folder)!r}); began = time.perf_counter(); {question}; print(time.perf_counter() - began)"
    )
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))


def _memory() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--appends", type=int, default=150)
    print(json.dumps(run(**vars(parser.parse_args()))))
