"""`make bench`: every benchmark, printed with what it should reach and kept in results/bench.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "results" / "bench.json"

SCRIPTS = (
    "bench_predictor",
    "bench_propose",
    "bench_store",
    "bench_status",
    "bench_runs",
    "bench_train",
    "bench_measure",
    "bench_study",
)

AIMS = {
    "deepspeed_vs_torch": (">=", 0.95),
    "measuring_vs_forward": (">=", 0.7),
    "makespan_vs_ideal": ("<=", 1.15),
    "measuring_vs_training": ("<=", 1.0),
    "fit_vs_torch_loop": (">=", 25.0),
    "backtest_ladder_seconds": ("<=", 60.0),
    "predict_seconds": ("<=", 1.5),
    "propose_seconds": ("<=", 2.0),
    "store_append_late_vs_early": (">=", 0.7),
    "store_final_losses_seconds": ("<=", 1.0),
    "store_states_seconds": ("<=", 1.0),
    "late_vs_early_seconds": ("<=", 1.3),
}
"""What the ratios should reach; figures without an aim are for comparison from change to change."""


def main() -> int:
    """Runs each benchmark in a process of its own; returns 1 where an aim is missed."""
    figures: dict[str, float] = {}
    for script in SCRIPTS:
        print(f"{script}:", flush=True)
        figures |= _run(script)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    missed = 0
    for name, value in sorted(figures.items()):
        aim = AIMS.get(name)
        reached = aim is None or (value >= aim[1] if aim[0] == ">=" else value <= aim[1])
        missed += not reached
        said = "" if aim is None else f"   aim {aim[0]} {aim[1]}: {'reached' if reached else 'MISSED'}"
        print(f"{name:32} {value:>16.6g}{said}")
    print(f"kept in {RESULTS.relative_to(HERE.parents[1])}")
    return int(missed > 0)


def _run(script: str) -> dict[str, float]:
    code = f"import json, {script}; print(json.dumps({script}.run()))"
    places = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))  # Ray's workers import it too
    environment = os.environ | {"PYTHONPATH": places}
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    *said, last = done.stdout.strip().splitlines()
    print("\n".join(said), flush=True)
    return dict(json.loads(last))


if __name__ == "__main__":
    sys.exit(main())
