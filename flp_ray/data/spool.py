"""Documents as JSON lines on disk: where reading them again would cost more than the space."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from flp_ray.data.documents import Document


def write_documents(documents: Iterable[Document], path: Path) -> Iterator[Document]:
    """Passes documents on and writes them on the way; the file appears when the last one has been taken.

    Args:
        documents: The documents.
        path: Where to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".tmp")
    with building.open("w") as file:
        for document in documents:
            _write(document, file)
            yield document
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)


def read_written(path: Path) -> Iterator[Document]:
    """The documents of a file that `write_documents` wrote, in order."""
    with path.open() as file:
        for line in file:
            name, group, text = json.loads(line)
            yield Document(id=name, group=group, text=text)


def _write(document: Document, file: IO[str]) -> None:
    file.write(json.dumps([document.id, document.group, document.text]) + "\n")
