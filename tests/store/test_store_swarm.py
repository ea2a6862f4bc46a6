from __future__ import annotations

import math
from pathlib import Path

import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Run
from flp_ray.errors import RecordsError
from flp_ray.store import read_swarm

RATIOS = """run,name,index,code,general
a,first,0,0.25,0.75
b,second,1,0.5,0.5
c,third,2,1,0
"""
METRICS = """run,name,index,gsm,mmlu
a,first,0,1.5,0.9
b,second,1,1.25,
c,third,2,1,0.8
"""


def folder_of(folder: Path, ratios: str = RATIOS, metrics: str = METRICS) -> Path:
    (folder / "ratios.csv").write_text(ratios)
    (folder / "metrics.csv").write_text(metrics)
    return folder


def test_reads_runs_of_one_nominal_size(tmp_path: Path) -> None:
    records = read_swarm(folder_of(tmp_path))
    mixture = Mixture.of({"code": 0.25, "general": 0.75})
    assert records.runs[0] == Run(run_id="a", purpose="sampling", params=1, train_tokens=1, mixture=mixture)
    assert records.runs[2].mixture == Mixture.of({"code": 1, "general": 0})
    assert records.measurements[0] == Measurement(
        run_id="a", tokens=1, flops=1.0, kind="domain_loss", name="gsm", value=1.5
    )
    values = {(m.run_id, m.name): m.value for m in records.measurements}
    assert values == {("a", "gsm"): 1.5, ("a", "mmlu"): 0.9, ("b", "gsm"): 1.25, ("c", "gsm"): 1, ("c", "mmlu"): 0.8}
    assert records.domains == ("gsm", "mmlu")
    assert [len(c.domain_loss) for c in records.final_checkpoints()] == [2, 1, 2]


@pytest.mark.parametrize(
    ("ratios_key", "metrics_key"), [("run_id", "run_id"), ("run_id", "run"), ("run", "run_id"), ("run", "run")]
)
def test_the_runs_column_has_either_name(tmp_path: Path, ratios_key: str, metrics_key: str) -> None:
    expected = read_swarm(folder_of(tmp_path))
    folder_of(tmp_path, RATIOS.replace("run", ratios_key, 1), METRICS.replace("run", metrics_key, 1))
    assert read_swarm(tmp_path) == expected


def test_two_run_columns_are_joined_on_the_one_that_both_files_have(tmp_path: Path) -> None:
    expected = read_swarm(folder_of(tmp_path))
    rows = [f"{i if i else 'run_id'},{line}" for i, line in enumerate(RATIOS.splitlines())]
    assert read_swarm(folder_of(tmp_path, "\n".join(rows))) == expected


def test_quotes_line_ends_nameless_columns_and_the_order_of_rows(tmp_path: Path) -> None:
    expected = read_swarm(folder_of(tmp_path))
    head, *rows = METRICS.splitlines()
    lines = [f"Unnamed: 0,,{head}", *(f"{i},{i},{row}" for i, row in reversed(list(enumerate(rows))))]
    cells = [",".join(f'"{cell}"' for cell in line.split(",")) for line in lines]
    (tmp_path / "metrics.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*cells, "", ""]).encode())
    assert read_swarm(tmp_path) == expected


def test_rounded_ratios_are_divided_by_their_sum(tmp_path: Path) -> None:
    mixture = read_swarm(folder_of(tmp_path, RATIOS.replace("0.25,0.75", "0.333,0.6675"))).runs[0].mixture
    assert mixture is not None
    assert math.fsum(mixture.ratios) == pytest.approx(1, abs=1e-15)  # one rounding a ratio
    assert mixture.ratio("code") == 0.333 / 1.0005


FAULTS = {
    "no run column": ("ratios", "run,", "trial,", r"ratios\.csv has no column run_id or run; it has trial, name"),
    "source twice": ("ratios", "code,general", "code,code", r"ratios\.csv, line 1: the column code comes twice"),
    "run twice": ("ratios", "b,", "a,", r"ratios\.csv, line 3, column run: run a comes twice, first in line 2"),
    "no run": ("metrics", "b,", ",", r"metrics\.csv, line 3, column run: received nothing"),
    "only in ratios": (
        "metrics",
        "b,second,1,1.25,\n",
        "",
        r"ratios\.csv, line 3, column run: run b is not in metrics",
    ),
    "only in metrics": ("ratios", "b,second,1,0.5,0.5\n", "", r"metrics\.csv, line 3, column run: run b is not in rat"),
    "two others": ("ratios", "b,second,1,0.5,0.5\nc,third,2,1,0\n", "", r"run b is not in ratios\.csv \(1 more like"),
    "sum above": ("ratios", "0.5,0.5", "0.5,0.502", r"ratios\.csv, line 3, column code to general: .* sum to 1\.002;"),
    "sum below": ("ratios", "0.5,0.5", "0.5,0.498", r"line 3, column code to general: the ratios sum to 0\.998;"),
    "percent": ("ratios", "0.5,0.5", "50,50", r"line 3, .* sum to 100; they must sum to 1 \(shares, not percent\)"),
    "no ratio": ("ratios", "0.5,0.5", ",1", r"line 3, column code: received ''; a ratio is .* 0 for a source"),
    "negative ratio": ("ratios", "0.5,0.5", "-0.5,1.5", r"line 3, column code: received -0\.5; a ratio is"),
    "ratio is nan": ("ratios", "0.5,0.5", "0.5,nan", r"line 3, column general: received 'nan'; a ratio is"),
    "ratio is text": ("ratios", "0.5,0.5", "0.5,half", r"line 3, column general: received 'half'; a ratio is"),
    "loss of 0": ("metrics", "1.25", "0", r"metrics\.csv, line 3, column gsm: received 0; a metric is a loss"),
    "negative loss": ("metrics", "1.25", "-1.25", r"metrics\.csv, line 3, column gsm: received -1\.25; a metric"),
    "metric is nan": ("metrics", "1.25", "NaN", r"metrics\.csv, line 3, column gsm: received 'NaN'; a metric"),
    "metric is infinite": ("metrics", "1.25", "inf", r"metrics\.csv, line 3, column gsm: received 'inf'; a metric"),
    "metric is text": ("metrics", "1.25", "n/a", r"metrics\.csv, line 3, column gsm: received 'n/a'; a metric"),
    "too few cells": ("metrics", ",1.25", "", r"metrics\.csv, line 3: received 4 cells; the header has 5"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_line_and_column(tmp_path: Path, fault: str) -> None:
    name, old, new, words = FAULTS[fault]
    text = {"ratios": RATIOS, "metrics": METRICS}[name]
    assert old in text
    with pytest.raises(RecordsError, match=words):
        read_swarm(folder_of(tmp_path, **{name: text.replace(old, new, 1)}))


def test_a_line_is_the_files_own_whatever_comes_before_it(tmp_path: Path) -> None:
    metrics = METRICS.replace("first", '"first\nof two"').replace("b,", "\n\nb,").replace("1.25", "0")
    with pytest.raises(RecordsError, match=r"metrics\.csv, line 6, column gsm: received 0"):
        read_swarm(folder_of(tmp_path, metrics=metrics))


def test_missing_empty_and_broken_files(tmp_path: Path) -> None:
    folder_of(tmp_path, "run,name\na,first\n")
    with pytest.raises(RecordsError, match=r"ratios\.csv has no column beside run, name; it needs one per source"):
        read_swarm(tmp_path)
    folder_of(tmp_path, "")
    with pytest.raises(RecordsError, match=r"ratios\.csv has no column run_id or run; it has no columns"):
        read_swarm(tmp_path)
    (tmp_path / "ratios.csv").write_bytes(RATIOS.replace("code", "\xe9").encode("latin-1"))
    with pytest.raises(RecordsError, match=r"ratios\.csv is not in UTF-8: .*Save it in UTF-8"):
        read_swarm(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    folder_of(tmp_path).joinpath("metrics.csv").unlink()
    with pytest.raises(RecordsError, match=r"no .*metrics\.csv; Olmix's form needs ratios\.csv and metrics\.csv"):
        read_swarm(tmp_path)
