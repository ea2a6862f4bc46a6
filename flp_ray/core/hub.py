"""Local copies of data sets and tokenizers of the Hugging Face hub, for nodes that do not reach it."""

from __future__ import annotations

import os
from pathlib import Path

HUB_VARIABLE = "FLP_RAY_HUB"
"""Environment variable that names the folder which `flp-ray data fetch` fills: `<folder>/<owner>/<name>/...`."""


def hub_folder() -> Path | None:
    """The folder of local copies; None where none is named."""
    named = os.environ.get(HUB_VARIABLE)
    return Path(named) if named else None


def local_copy(repository: str) -> Path | None:
    """The local copy of a repository of the hub, e.g. `allenai/c4`; None where there is none."""
    folder = hub_folder()
    if folder is None:
        return None
    place = folder / repository
    return place if place.is_dir() else None
