from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flp_ray.core.fingerprint import finished_form, records_fingerprint
from flp_ray.errors import RecordsError

FORMS = {
    "study": ["tables/runs/_delta_log/00000000000000000000.json", "tables/measurements/_delta_log/00.json"],
    "import": ["runs.csv", "measurements.parquet"],
    "swarm": ["ratios.csv", "metrics.csv"],
}


def folder_of(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_is_known_by_its_names_and_hashed_by_its_bytes(tmp_path: Path, form: str) -> None:
    folder = folder_of(tmp_path / "one", FORMS[form])
    assert finished_form(folder) == finished_form(str(folder)) == form
    first = records_fingerprint(folder)
    assert len(first) == 16 and int(first, 16) >= 0
    (folder / "notes.txt").write_text("beside the records")
    other = shutil.copytree(folder, tmp_path / "elsewhere" / "other")
    assert records_fingerprint(folder) == records_fingerprint(str(other)) == first
    for name in FORMS[form]:
        (other / name).write_text("changed")
        assert records_fingerprint(other) != first
        (other / name).write_text(name)
    assert records_fingerprint(other) == first


def test_one_more_change_of_a_studys_table_gives_another_hash(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, FORMS["study"])
    first = records_fingerprint(folder)
    folder_of(folder, ["tables/fits/_delta_log/00.json"])
    assert records_fingerprint(folder) == first  # no records
    folder_of(folder, ["tables/measurements/_delta_log/01.json"])
    second = records_fingerprint(folder)
    assert second != first
    (folder / "tables/measurements/_delta_log/00.json").unlink()  # the log is shortened
    assert records_fingerprint(folder) == second


def test_bytes_count_by_the_file_that_holds_them(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one", ["runs.csv"]), folder_of(tmp_path / "other", ["runs.csv"])
    (one / "measurements.csv").write_text("x")
    (other / "tasks.csv").write_text("x")
    assert records_fingerprint(one) != records_fingerprint(other)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    forms = r"a study's folder .*tables/.*; the import form .*runs and measurements.*; Olmix's form .*ratios\.csv"
    with pytest.raises(RecordsError, match=rf"There is no folder .*gone\. Known forms.*{forms}.*Check") as caught:
        finished_form(tmp_path / "gone")
    assert caught.value.exit_code == 2
    folder_of(tmp_path, ["study.yaml", "runs.csv"])
    with pytest.raises(RecordsError, match=rf"study\.yaml is a study file.*the study's folder is wanted.*{forms}"):
        finished_form(tmp_path / "study.yaml")
    with pytest.raises(RecordsError, match=rf"runs\.csv is a file; give the folder that holds it, .*{forms}"):
        records_fingerprint(tmp_path / "runs.csv")


def test_a_folder_of_no_form_or_of_two(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"holds no finished runs, only nothing\. Known forms.*Give a folder of one"):
        finished_form(tmp_path)
    folder_of(tmp_path, [f"{letter}.txt" for letter in "abcdefg"] + ["data/x", "metrics.csv"])
    with pytest.raises(RecordsError, match=r"only a\.txt, b\.txt, .*data/, e\.txt and 3 more\. Known") as caught:
        finished_form(tmp_path)
    assert "Give a folder of one of these forms." in str(caught.value)
    folder_of(tmp_path / "inner", FORMS["swarm"])
    with pytest.raises(RecordsError, match=r"/inner is in a known form: give that folder"):
        finished_form(tmp_path)
    folder_of(tmp_path / "inner" / "deeper", ["x"])
    with pytest.raises(RecordsError, match=r"only x\. .*/inner is in a known form: give that folder"):
        finished_form(tmp_path / "inner" / "deeper")
    folder_of(tmp_path / "inner", FORMS["import"])
    with pytest.raises(RecordsError, match=r"in more than one form: the import form .* and Olmix's.*Move one"):
        finished_form(tmp_path / "inner")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").mkdir()
    with pytest.raises(RecordsError, match=r"cannot be read: .*runs\.csv"):
        records_fingerprint(tmp_path)


def test_hashing_loads_no_table_library() -> None:
    code = (
        "import sys; from flp_ray.core.fingerprint import records_fingerprint;"
        "print([m for m in ('pyarrow', 'deltalake', 'numpy', 'pandas', 'flp_ray.store') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
