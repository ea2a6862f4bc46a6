"""The demo study's own clock: how close the grid comes to slots that never wait, and what measuring costs.

    makespan_vs_ideal       wall time of the grid / ((training + measuring seconds) / slots)
    measuring_vs_training   measuring seconds / training seconds, over the grid
    peak_trial_bytes        largest memory of a trial's process
    peak_driver_bytes       largest memory of the driver

Reads `runs/demo` where one call trained its whole grid; trains the demo into `results/` otherwise.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from flp_ray.config import load_config
from flp_ray.store import load_specs, read_table
from flp_ray.study import make_plan

ROOT = Path(__file__).resolve().parents[2]
STAGE = "train the grid"


def run() -> dict[str, float]:
    """Measures the demo; prints what the makespan went to."""
    for study_dir in (ROOT / "runs" / "demo", ROOT / "results" / "demo"):
        if (found := _grid(study_dir)) is not None:
            return _figures(study_dir, *found)
    study_dir = ROOT / "results" / "demo"
    command = [sys.executable, "-m", "flp_ray", "run", "jobs/demo.yaml", "--study-dir", str(study_dir)]
    subprocess.run(command, cwd=ROOT, check=True)
    found = _grid(study_dir)
    if found is None:
        raise SystemExit(f"{study_dir} was not trained in one call; remove it and run the benchmark again.")
    return _figures(study_dir, *found)


def _grid(study_dir: Path) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The stage's row and the grid's finished attempts, where a single call trained it all without a failure."""
    stages = [row for row in read_table(study_dir, "stages").to_pylist() if row["stage"] == STAGE]
    sampling = {spec.run_id for spec in load_specs(study_dir) if spec.purpose == "sampling"}
    attempts = [row for row in read_table(study_dir, "attempts").to_pylist() if row["run_id"] in sampling]
    finished = [row for row in attempts if row["event"] == "finished"]
    whole = {row["run_id"] for row in finished} == sampling and len(attempts) == 2 * len(sampling)
    if len(stages) != 1 or not whole or {row["session"] for row in attempts} != {stages[0]["session"]}:
        return None
    started = {row["run_id"]: row["at"] for row in attempts if row["event"] == "started"}
    return stages[0], [row | {"started": started[row["run_id"]]} for row in finished]


def _figures(study_dir: Path, stage: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, float]:
    training = sum(row["train_seconds"] for row in runs)
    measuring = sum(row["measure_seconds"] for row in runs)
    slots = make_plan(load_config(ROOT / "jobs" / "demo.yaml"), study_dir).computing.devices  # one worker a run
    ideal = (training + measuring) / slots
    for what, seconds in _rest(stage, runs, slots).items():
        print(
            f"  {what}: {seconds:.1f} slot seconds ({100 * seconds / (ideal * slots):.1f} % of training and measuring)"
        )
    return {
        "makespan_vs_ideal": stage["seconds"] / ideal,
        "measuring_vs_training": measuring / training,
        "peak_trial_bytes": max(row["peak_bytes"] for row in runs),
        "peak_driver_bytes": max(row["peak_bytes"] or 0 for row in read_table(study_dir, "stages").to_pylist()),
    }


def _rest(stage: dict[str, Any], runs: list[dict[str, Any]], slots: int) -> dict[str, float]:
    """Slot seconds of the makespan that are neither training nor measuring, by what they went to."""
    inside = sum((row["at"] - row["started"]).total_seconds() for row in runs)
    busy = sum(row["train_seconds"] + row["measure_seconds"] + row["save_seconds"] for row in runs)
    ends = sorted((row["at"] for row in runs), reverse=True)[:slots]
    began = sorted(row["started"] for row in runs)[:slots]
    return {
        "processes starting, before the first runs": sum((at - stage["started"]).total_seconds() for at in began),
        "set-up of each run": inside - busy,
        "saving states": sum(row["save_seconds"] for row in runs),
        "slots idle at the end": sum((ends[0] - at).total_seconds() for at in ends),
        "between runs, and Tune's end": slots * stage["seconds"]
        - inside
        - sum((at - stage["started"]).total_seconds() for at in began)
        - sum((ends[0] - at).total_seconds() for at in ends),
    }


if __name__ == "__main__":
    print(run())
