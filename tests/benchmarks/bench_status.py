"""`flp-ray status` of a study of 10,000 finished runs, beside that of a study with nothing in its folder.

    status_seconds        the command, from its start to its end, the best of three
    status_floor_seconds  the same command on a study of three runs that has not begun: Python and its imports

`python tests/benchmarks/bench_status.py`
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from flp_ray.config import load_config
from flp_ray.store import TableWriter, attempt_row, run_rows
from flp_ray.study import make_plan

STUDY = Path(__file__).resolve().parents[2] / "jobs" / "demo.yaml"
FLP_RAY = shutil.which("flp-ray", path=str(Path(sys.executable).parent))
MIXTURES = 3334
"""At the three sizes of the demo: 10,002 runs."""


def run(mixtures: int = MIXTURES) -> dict[str, float]:
    """Seconds with many runs and with almost none; checks that all are counted as finished."""
    with tempfile.TemporaryDirectory() as place:
        many = _study(Path(place, "many"), [k / (mixtures - 1) for k in range(mixtures)])
        few = _study(Path(place, "few"), [0.5])
        runs = _finish_all(many, Path(place, "many", "study"))
        shown = json.loads(_status(many, "--json"))
        assert shown["counts"] == {"finished": runs}, shown["counts"]
        return {"status_runs": runs, "status_seconds": _seconds(many), "status_floor_seconds": _seconds(few)}


def _study(folder: Path, ratios: list[float]) -> Path:
    study: dict[str, Any] = yaml.safe_load(STUDY.read_text())
    study["grid"] = {"ratios": {"code": [round(ratio, 6) for ratio in ratios]}}
    folder.mkdir()
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def _finish_all(study: Path, study_dir: Path) -> int:
    specs = make_plan(load_config(study), study_dir).specs
    with TableWriter(study_dir) as writer:
        writer.append("runs", run_rows(specs))
        for event in ("started", "finished"):
            rows = [attempt_row(run_id=s.run_id, attempt=1, event=event, at=1.0, train_seconds=2.0) for s in specs]
            writer.append("attempts", pa.concat_tables(rows))
    return len(specs)


def _status(study: Path, *options: str) -> str:
    assert FLP_RAY is not None, "flp-ray is not installed beside this Python"
    command = [FLP_RAY, "status", str(study), "--study-dir", str(study.parent / "study"), *options]
    return subprocess.check_output(command, text=True)


def _seconds(study: Path) -> float:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        _status(study)
        taken.append(time.perf_counter() - began)
    return min(taken)


if __name__ == "__main__":
    print(json.dumps(run()))
