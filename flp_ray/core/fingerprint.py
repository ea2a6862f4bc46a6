"""Folders of finished runs: which of the known forms a folder has, and a hash of what it holds.

    study     tables/                                       written by `flp-ray run`
    import    runs and measurements, .csv or .parquet       written by `flp-ray export` or by hand
    swarm     ratios.csv and metrics.csv                    written by Olmix

Only names and bytes are looked at, so that a saved fit can be found again without loading pyarrow;
`flp_ray.store.finished` reads the folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from flp_ray.errors import RecordsError

FinishedForm = Literal["study", "import", "swarm"]
"""How a folder keeps finished runs."""

_FORMS: dict[FinishedForm, str] = {
    "study": "a study's folder (it has tables/)",
    "import": "the import form (runs and measurements, each as .csv or .parquet)",
    "swarm": "Olmix's form (ratios.csv and metrics.csv)",
}
_MARKS: dict[FinishedForm, tuple[str, ...]] = {  # one of these is in a folder of the form
    "study": ("tables",),
    "import": ("runs.csv", "runs.parquet"),
    "swarm": ("ratios.csv",),
}
_TABLES = ("runs", "measurements", "tasks")
_SHOWN_NAMES = 6


def finished_form(path: str | Path) -> FinishedForm:
    """Which form of finished runs a folder has.

    Raises:
        RecordsError: There is no such folder, or it is a file, has none of the forms, or more than one.
    """
    folder = Path(path)
    try:
        if not folder.is_dir():
            raise RecordsError(_no_folder(folder))
        forms = _forms_in(folder)
        if len(forms) == 1:
            return forms[0]
        raise RecordsError(_two_forms(folder, forms) if forms else _no_form(folder))
    except OSError as error:
        raise RecordsError(f"The folder {folder} cannot be read: {error}. Give a folder that can.") from error


def records_fingerprint(path: str | Path) -> str:
    """A hash of the finished runs in a folder: equal bytes, equal hash, wherever the folder lies.

    A study's tables only grow and every change of one is a file in its log, so the newest such file stands
    for the table; runs stored or tables merged since give another hash. Files beside the records do not count.

    Args:
        path: A folder that `flp_ray.store.read_finished` reads.

    Returns:
        Sixteen hexadecimal digits.

    Raises:
        RecordsError: As `finished_form`, or a file cannot be read.
    """
    folder = Path(path)
    form = finished_form(folder)
    whole = hashlib.sha256(form.encode())
    try:
        for file in _files(folder, form):
            with file.open("rb") as opened:
                whole.update(f"\n{file.relative_to(folder).as_posix()} ".encode())
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise RecordsError(f"The finished runs in {folder} cannot be read: {error}.") from error
    return whole.hexdigest()[:16]


def _files(folder: Path, form: FinishedForm) -> list[Path]:
    """The files whose bytes make the records what they are."""
    if form == "study":
        logs = (sorted((folder / "tables" / table / "_delta_log").glob("*.json")) for table in _TABLES)
        return [files[-1] for files in logs if files]
    if form == "swarm":
        names = ["ratios.csv", "metrics.csv"]
    else:
        names = [f"{table}.{ending}" for table in _TABLES for ending in ("csv", "parquet")]
    return [folder / name for name in names if (folder / name).exists()]


def _forms_in(folder: Path) -> list[FinishedForm]:
    return [form for form, marks in _MARKS.items() if any((folder / mark).exists() for mark in marks)]


def _known() -> str:
    return f"Known forms of finished runs: {'; '.join(_FORMS.values())}."


def _no_folder(path: Path) -> str:
    if not path.exists():
        return f"There is no folder {path}. {_known()} Check the path and give such a folder."
    if path.suffix in (".yaml", ".yml"):
        return (
            f"{path} is a study file, which holds no runs; the study's folder is wanted, the one that "
            f"`flp-ray run` filled: STORAGE/STUDY, after the file's entries `storage` (runs where there is none) "
            f"and `study`. {_known()}"
        )
    return f"{path} is a file; give the folder that holds it, {path.parent}. {_known()}"


def _two_forms(folder: Path, forms: list[FinishedForm]) -> str:
    both = " and ".join(_FORMS[form] for form in forms)
    return f"The folder {folder} is in more than one form: {both}. Move one of them into a folder of its own."


def _no_form(folder: Path) -> str:
    entries = sorted(folder.iterdir())
    shown = ", ".join(entry.name + "/" * entry.is_dir() for entry in entries[:_SHOWN_NAMES])
    more = f" and {len(entries) - _SHOWN_NAMES} more" if len(entries) > _SHOWN_NAMES else ""
    near = [entry for entry in [*entries, folder.absolute().parent] if entry.is_dir() and _forms_in(entry)]
    step = f"{near[0]} is in a known form: give that folder." if near else "Give a folder of one of these forms."
    return f"The folder {folder} holds no finished runs, only {shown or 'nothing'}{more}. {_known()} {step}"
