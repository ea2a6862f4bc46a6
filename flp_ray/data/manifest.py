"""`text.json`: what was prepared, from which settings; written last, so what it names is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flp_ray.core.text import PreparedText, TokenBlocks
from flp_ray.data.standing import excerpts_path, keys_path

NAME = "text.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What stands in a text folder.

    Attributes:
        settings: Hash of the settings that it was made with.
        origins: Hash of what the origins held then.
        prepared: The prepared text as JSON, its paths relative to the folder.
    """

    settings: str
    origins: str
    prepared: dict[str, Any]


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest; None where there is none."""
    path = folder / NAME
    return Manifest(**json.loads(path.read_text())) if path.exists() else None


def write_manifest(folder: Path, *, settings: str, origins: str, text: PreparedText) -> None:
    """Declares a text prepared.

    Args:
        folder: The study's text folder.
        settings: Hash of the settings.
        origins: Hash of what the origins hold.
        text: The prepared text, with absolute paths inside the folder.
    """
    root = folder.resolve()
    relative = _moved(text, lambda path: Path(path).relative_to(root).as_posix())
    write_json(folder / NAME, {"settings": settings, "origins": origins, "prepared": relative.to_dict()})


def load_text(folder: Path) -> PreparedText | None:
    """Loads prepared text.

    Args:
        folder: The study's text folder, wherever it has been moved to.

    Returns:
        The prepared text with absolute paths; None where nothing whole is there.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    root = folder.resolve()
    text = _moved(PreparedText.from_dict(manifest.prepared), lambda path: str(root / path))
    blocks = (*text.sources.values(), *text.domains.values())
    paths: list[str | Path] = [*(b.path for b in blocks), *text.items.values(), text.tokenizer]
    paths += [keys_path(b.path) for b in text.sources.values()]
    paths += [excerpts_path(b.path) for b in text.domains.values()]
    return text if all(Path(path).exists() for path in paths) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON so that a kill leaves either the old file or the new one."""
    building = path.with_name(path.name + ".tmp")
    with building.open("w") as file:
        file.write(json.dumps(value, indent=1, sort_keys=True))
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)


def _moved(text: PreparedText, place: Callable[[str], str]) -> PreparedText:
    """The same text with every path changed."""

    def blocks(named: dict[str, TokenBlocks]) -> dict[str, TokenBlocks]:
        return {name: replace(value, path=place(value.path)) for name, value in named.items()}

    return replace(
        text,
        sources=blocks(text.sources),
        domains=blocks(text.domains),
        items={task: place(path) for task, path in text.items.items()},
        tokenizer=place(text.tokenizer),
    )
