"""`text.json`: what was prepared, from which settings; written last, so what it names is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flp_ray.core.text import PreparedText, TokenBlocks
from flp_ray.data.standing import excerpts_path, key_files
from flp_ray.data.tasks import write_json

NAME = "text.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What stands in a text folder.

    Attributes:
        settings: Hash of the settings that it was made with.
        origins: Hash of what the origins held then.
        prepared: The prepared text as JSON, its paths relative to the folder.
        tokens_per_core_second: Tokens a second that one core has made of text, reading included; None where nothing
            was measured.
    """

    settings: str
    origins: str
    prepared: dict[str, Any]
    tokens_per_core_second: float | None = None


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest; None where there is none."""
    path = folder / NAME
    return Manifest(**json.loads(path.read_text())) if path.exists() else None


def text_rate(folder: Path) -> float | None:
    """Tokens a second that one core made when the text in a folder was prepared.

    Args:
        folder: The study's text folder.

    Returns:
        The rate, over the CPU time of all readings, of finding duplicates and of tokenising; None where nothing is
        prepared, or where it was not measured.
    """
    manifest = read_manifest(folder)
    return None if manifest is None else manifest.tokens_per_core_second


def write_manifest(folder: Path, *, settings: str, origins: str, text: PreparedText, rate: float | None) -> None:
    """Declares a text prepared.

    Args:
        folder: The study's text folder.
        settings: Hash of the settings.
        origins: Hash of what the origins hold.
        text: The prepared text, with absolute paths inside the folder.
        rate: Tokens a second and core; None keeps what was measured before.
    """
    root = folder.resolve()
    relative = _moved(text, lambda path: Path(path).relative_to(root).as_posix())
    rate = text_rate(folder) if rate is None else rate
    value = {"settings": settings, "origins": origins, "prepared": relative.to_dict(), "tokens_per_core_second": rate}
    write_json(folder / NAME, value)


def load_text(folder: Path, *, local: bool = True) -> PreparedText | None:
    """Loads prepared text.

    Args:
        folder: The study's text folder, wherever it has been moved to.
        local: Whether its files are to be found there; else the manifest is believed.

    Returns:
        The prepared text with absolute paths; None where nothing whole is there.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    root = folder.resolve()
    text = _moved(PreparedText.from_dict(manifest.prepared), lambda path: str(root / path))
    blocks = (*text.sources.values(), *text.domains.values())
    paths: list[str | Path] = [*(file for b in blocks for file in b.files()), *text.items.values(), text.tokenizer]
    paths += [path for b in text.sources.values() for path in key_files(b)]
    paths += [excerpts_path(b.path) for b in text.domains.values()]
    return text if not local or all(Path(path).exists() for path in paths) else None


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
