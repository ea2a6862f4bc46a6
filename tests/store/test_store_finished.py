from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flp_ray.core.fingerprint import records_fingerprint
from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement
from flp_ray.errors import RecordsError
from flp_ray.store import (
    TableWriter,
    export_records,
    load_records,
    measurement_rows,
    read_finished,
    read_records,
    read_swarm,
    run_rows,
    stage_row,
)
from tests.store.store_samples import SPEC

RUNS = """run_id,purpose,params,train_tokens
a,sampling,1000,20000
b,sampling,2000,40000
c,sampling,4000,80000
d,target,8000,160000
"""
MEASUREMENTS = """run_id,tokens,flops,kind,name,value
a,20000,1.2e8,domain_loss,code,3.5
b,40000,4.8e8,domain_loss,code,3.25
c,80000,1.92e9,domain_loss,code,3
"""
RATIOS = "run,code,general\na,0.25,0.75\nb,0.5,0.5\nc,0.75,0.25\n"
METRICS = "run,gsm\na,1.5\nb,1.25\nc,1\n"


def written(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def study_of(folder: Path, runs: int) -> Path:
    specs = [replace(SPEC, seed=seed) for seed in range(runs)]
    with TableWriter(folder) as writer:
        writer.append("runs", run_rows([*specs, replace(SPEC, seed=99, purpose="target")]))
        ids = [spec.run_id for spec in specs]
        losses = [Measurement(run_id=i, tokens=8, flops=1.0, kind="domain_loss", name="code", value=2.5) for i in ids]
        writer.append("measurements", measurement_rows(losses))
    return folder


def test_each_form_is_read_by_its_reader(tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", 3)
    assert read_finished(study) == load_records(study)
    export_records(study, tmp_path / "parquet", form="parquet")
    assert read_finished(tmp_path / "parquet") == read_finished(study)
    imported = written(tmp_path / "import", runs=RUNS, measurements=MEASUREMENTS)
    assert read_finished(str(imported)) == read_records(imported)
    swarm = written(tmp_path / "swarm", ratios=RATIOS, metrics=METRICS)
    assert read_finished(swarm) == read_swarm(swarm)


def test_too_few_sampling_runs_are_counted_and_their_file_named(tmp_path: Path) -> None:
    needed = "at least 3 are needed"
    one = RUNS.replace("b,sampling", "b,target").replace("c,sampling", "c,validation")
    folder = written(tmp_path / "import", runs=one, measurements=MEASUREMENTS)
    words = rf"runs\.csv: received 1 run\(s\) of purpose sampling \(beside 2 target, 1 validation\); {needed}"
    with pytest.raises(RecordsError, match=words) as caught:
        read_finished(folder)
    assert caught.value.exit_code == 2
    swarm = written(tmp_path / "swarm", ratios=RATIOS[:-12], metrics=METRICS[:-4])
    with pytest.raises(RecordsError, match=rf"ratios\.csv: received 2 run\(s\) of purpose sampling; {needed}"):
        read_finished(swarm)
    study = study_of(tmp_path / "study", 2)
    words = rf"tables/runs: received 2 run\(s\) of purpose sampling that has been measured; {needed}"
    with pytest.raises(RecordsError, match=words):
        read_finished(study)
    (tmp_path / "empty" / "tables").mkdir(parents=True)
    with pytest.raises(RecordsError, match=rf"empty: received 0 run\(s\).*{needed}"):
        read_finished(tmp_path / "empty")


def test_a_fault_of_a_table_passes_through(tmp_path: Path) -> None:
    folder = written(tmp_path, runs=RUNS, measurements=MEASUREMENTS.replace("3.25", "-1"))
    with pytest.raises(RecordsError, match=r"measurements\.csv, line 3, column value: received -1\.0"):
        read_finished(folder)
    (folder / "measurements.csv").unlink()
    with pytest.raises(RecordsError, match=r"has no measurements\.csv and no measurements\.parquet"):
        read_finished(folder)


def test_one_run_has_one_mixture_whatever_the_sources_order(tmp_path: Path) -> None:
    turned = "run,general,code\na,0.75,0.25\nb,0.5,0.5\nc,0.25,0.75\n"
    one = written(tmp_path / "one", ratios=RATIOS, metrics=METRICS)
    other = written(tmp_path / "other", ratios=turned, metrics=METRICS)
    assert read_finished(one) == read_finished(other)
    assert read_finished(one).runs[0].mixture == Mixture.of({"code": 0.25, "general": 0.75})


def test_a_studys_fingerprint_changes_with_its_records_alone(tmp_path: Path) -> None:
    study = study_of(tmp_path / "study", 3)
    first = records_fingerprint(study)
    study_of(study, 3)  # the same rows again
    with TableWriter(study) as writer:
        writer.append("stages", stage_row(session="s", stage="fit", seconds=1.0, started=0.0))
    assert records_fingerprint(study) == first
    study_of(study, 4)
    assert records_fingerprint(study) != first


def test_reading_files_loads_no_pandas(tmp_path: Path) -> None:
    """Half of the time of a first call would go into it."""
    study = study_of(tmp_path / "study", 3)
    export_records(study, tmp_path / "out", form="parquet")
    written(tmp_path / "csv", runs=RUNS, measurements=MEASUREMENTS)
    code = (
        "import sys; from flp_ray.store import read_finished; [read_finished(p) for p in sys.argv[1:]];"
        "print([m for m in ('pandas', 'pyarrow.dataset') if m in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "out"), str(tmp_path / "csv")]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
