"""Finished runs from whatever folder a person gives; `flp_ray.core.fingerprint` tells the forms apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from flp_ray.core.fingerprint import FinishedForm, finished_form
from flp_ray.core.records import Records
from flp_ray.errors import RecordsError
from flp_ray.store.importing import read_records
from flp_ray.store.reader import load_records
from flp_ray.store.swarm import read_swarm

MIN_SAMPLING_RUNS = 3
"""Fewer runs than this show no law: a line goes through any two points."""

_READERS: dict[FinishedForm, Callable[[Path], Records]] = {
    "study": load_records,
    "import": read_records,
    "swarm": read_swarm,
}
_RUNS_FILES: dict[FinishedForm, tuple[str, ...]] = {
    "study": ("tables/runs",),
    "import": ("runs.csv", "runs.parquet"),
    "swarm": ("ratios.csv",),
}


def read_finished(path: str | Path) -> Records:
    """Reads finished runs that a law can be fitted on.

    Args:
        path: A study's folder, a folder in the import form (`read_records`) or one in Olmix's form (`read_swarm`).

    Returns:
        The records. Of a study, runs without a measurement are left out.

    Raises:
        RecordsError: The path is no such folder, a table in it is faulty, or it has fewer than
            MIN_SAMPLING_RUNS runs whose purpose is `sampling`.
        StorageError: A study's table is damaged or of another schema version.
    """
    folder = Path(path)
    form = finished_form(folder)
    records = _READERS[form](folder)
    purposes = Counter(run.purpose for run in records.runs)
    if purposes["sampling"] < MIN_SAMPLING_RUNS:
        file = next((folder / name for name in _RUNS_FILES[form] if (folder / name).exists()), folder)
        others = ", ".join(f"{count} {purpose}" for purpose, count in sorted(purposes.items()) if purpose != "sampling")
        measured = " that has been measured" if form == "study" else ""
        raise RecordsError(
            f"{file}: received {purposes['sampling']} run(s) of purpose sampling{measured}"
            f"{f' (beside {others})' if others else ''}; at least {MIN_SAMPLING_RUNS} are needed, since laws are "
            f"fitted on sampling runs alone. Add runs, or set the purpose of runs that may be fitted on to sampling."
        )
    return records
