"""Documents of one origin on disk, split and without duplicates: read once, used several times."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flp_ray.data.documents import Document, text_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """The documents of one origin in two files, those for training and those held out.

    Attributes:
        folder: Where the files are.
        documents: Documents for training.
        characters: Their characters.
        held_out: Documents held out.
        duplicates: Documents dropped because an earlier one has the same text.
    """

    folder: str
    documents: int
    characters: int
    held_out: int
    duplicates: int

    def training(self) -> Iterator[Document]:
        """The documents for training, in order."""
        return _read(Path(self.folder, "train.jsonl"))

    def held(self) -> Iterator[Document]:
        """The documents held out, in order."""
        return _read(Path(self.folder, "held.jsonl"))

    def keys(self) -> NDArray[np.uint64]:
        """Text keys of the documents for training, in order, shape (documents,)."""
        keys: NDArray[np.uint64] = np.load(Path(self.folder, "keys.npy"))
        return keys


def write_spool(documents: Iterable[Document], folder: Path, *, is_held_out: Callable[[Document], bool]) -> Spool:
    """Writes documents to disk, each text once; a folder that is there already is taken as it is.

    Args:
        documents: The documents; not touched where the folder is there.
        folder: Where to; appears only when it is whole.
        is_held_out: Decides which file a document goes to.
    """
    described = folder / "spool.json"
    if described.exists():
        return Spool(folder=str(folder), **json.loads(described.read_text()))
    building = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    seen: set[int] = set()
    keys: list[int] = []
    characters = held = duplicates = 0
    with (building / "train.jsonl").open("w") as train_file, (building / "held.jsonl").open("w") as held_file:
        for document in documents:
            key = text_key(document.text)
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            if is_held_out(document):
                held += 1
                held_file.write(_line(document))
            else:
                keys.append(key)
                characters += len(document.text)
                train_file.write(_line(document))
    np.save(building / "keys.npy", np.array(keys, dtype=np.uint64))
    counts = {"documents": len(keys), "characters": characters, "held_out": held, "duplicates": duplicates}
    (building / "spool.json").write_text(json.dumps(counts))
    building.rename(folder)
    return Spool(folder=str(folder), **counts)


def _line(document: Document) -> str:
    """One JSON line; half a surrogate pair, which no tokenizer takes, becomes a question mark."""
    text = document.text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return json.dumps([document.id, document.group, text]) + "\n"


def _read(path: Path) -> Iterator[Document]:
    with path.open() as file:
        for line in file:
            name, group, text = json.loads(line)
            yield Document(id=name, group=group, text=text)
