"""Documents of one text origin: a built-in, local files, or files of a data set of the Hugging Face hub."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import Document, hash64
from flp_ray.data.installed import builtin_documents, builtin_versions
from flp_ray.data.network import network_errors
from flp_ray.data.parts import COMPRESSED, KINDS, LINES, Part, lines_of, opened, unpacked
from flp_ray.data.repositories import hub_parts
from flp_ray.data.software_heritage import contents_of
from flp_ray.errors import TextError

_ROWS_AT_ONCE = 256


def origin_parts(origin: TextOrigin, *, name: str) -> list[Part]:
    """The files of an origin in the order in which they are read; none for a built-in.

    Args:
        origin: Where the text is.
        name: The source or domain, for messages.

    Raises:
        TextError: No file is there, one is of no known kind, or the hub cannot be reached.
    """
    if origin.builtin is not None:
        return []
    if origin.hub is not None:
        return hub_parts(origin, name)
    return [
        Part(name=relative, place=str(path), size=path.stat().st_size)
        for path, relative in _matched_files(origin, name)
    ]


def read_documents(origin: TextOrigin, *, name: str, parts: Iterable[Part] | None = None) -> Iterator[Document]:
    """The documents of an origin, one after the other, in an order that does not depend on the machine.

    With `max_characters` the reading stops at the document that reaches the limit; that document is the last.

    Args:
        origin: Where the text is.
        name: The source or domain, for messages.
        parts: The parts to read, which may be empty of text; None reads all, and refuses an origin without text.

    Raises:
        TextError: The origin is not there, cannot be read, or holds no text.
    """
    if origin.builtin is not None:
        documents: Iterator[Document] = builtin_documents(origin.builtin)
    else:
        chosen = origin_parts(origin, name=name) if parts is None else parts
        documents = chain.from_iterable(_part_documents(origin, part, name) for part in chosen)
    characters = 0
    for document in documents:
        if not document.text.strip():
            continue
        yield document
        characters += len(document.text)
        if origin.max_characters is not None and characters >= origin.max_characters:
            break
    if not characters and parts is None:
        raise empty(origin, name)


def empty(origin: TextOrigin, name: str) -> TextError:
    """The refusal of an origin without text."""
    if origin.builtin is not None:
        described = f"built-in {origin.builtin}"
    elif origin.hub is not None:
        described = f"hub data set {origin.hub}"
    else:
        described = f"files {', '.join(origin.files or ())}"
    return TextError(f"Text {name!r} is empty: {described} holds no text; give another origin.")


def origin_state(origin: TextOrigin, *, name: str) -> dict[str, Any]:
    """What tells, without reading the text, whether an origin is still the same: versions, or file sizes.

    Raises:
        TextError: No file is there.
    """
    if origin.builtin is not None:
        return dict(builtin_versions(origin.builtin))
    if origin.hub is None:
        stats = {relative: path.stat() for path, relative in _matched_files(origin, name)}
        return {relative: [stat.st_size, stat.st_mtime_ns] for relative, stat in stats.items()}
    return {}


def _matched_files(origin: TextOrigin, name: str) -> list[tuple[Path, str]]:
    """All files of an origin with their names below their pattern's fixed folder, by hash of that name."""
    found: dict[Path, str] = {}
    for pattern in origin.files or ():
        # Path.glob takes no absolute pattern.
        matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        matches = [path for path in matches if path.is_file()]
        if not matches:
            raise TextError(
                f"Text {name!r}: no file matches {pattern!r} (from {Path.cwd()}); give paths or globs of "
                f"{', '.join(KINDS)}."
            )
        fixed = _fixed_folder(pattern)
        for path in matches:
            found.setdefault(path.absolute(), path.relative_to(fixed).as_posix())
    return sorted(found.items(), key=lambda file: (hash64(file[1], salt="order"), file[1]))


def _fixed_folder(pattern: str) -> Path:
    """The part of a glob before its first wildcard; a plain path's folder."""
    parts = Path(pattern).parts
    fixed = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed]) if fixed else Path()


def _part_documents(origin: TextOrigin, part: Part, name: str) -> Iterator[Document]:
    if part.kind not in KINDS:
        raise TextError(
            f"Text {name!r}: {part.name} is of no known kind {part.kind or '(no suffix)'!r}; "
            f"known: {', '.join(KINDS)}, also with {', '.join(COMPRESSED)}."
        )
    try:
        if origin.contents is not None:
            for number, (repository, text) in enumerate(contents_of(part)):
                yield Document(id=f"{part.name}#{number}", text=text, group=repository)
            return
        for number, value in enumerate(_texts(part, origin.column)):
            if isinstance(value, str):
                yield Document(id=f"{part.name}#{number}", text=value)
    except network_errors() as error:
        local = origin.hub is not None and "://" not in part.place
        gone = local and isinstance(error, FileNotFoundError)
        missing = "; the local copy lacks it: run `flp-ray data fetch` again" if gone else ""
        raise TextError(f"Text {name!r}: {part.name} cannot be read as {part.kind}: {error}{missing}") from error


def _texts(part: Part, column: str) -> Iterator[Any]:
    """The texts of one part."""
    if part.kind == ".parquet":
        yield from _parquet_texts(part, column)
        return
    with unpacked(part) as stream:
        if part.kind == ".txt":
            yield stream.read().decode("utf-8", "replace")
        elif part.kind in LINES:
            lines = lines_of(stream, part.start, part.stop)
            yield from (_field(json.loads(line), column) for line in lines if line.strip())
        else:
            yield from _json_texts(lines_of(stream), column)


def _json_texts(lines: Iterator[bytes], column: str) -> Iterator[Any]:
    """A .json file is one list of objects, or one object a line; only a list is held in memory."""
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        return
    try:
        value = json.loads(first)
    except json.JSONDecodeError:  # it goes on over several lines
        value, lines = json.loads(b"\n".join([first, *lines])), iter(())
    for row in value if isinstance(value, list) else [value]:
        yield _field(row, column)
    yield from (_field(json.loads(line), column) for line in lines if line.strip())


def _field(row: Any, column: str) -> Any:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict) or column not in row:
        keys = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"no key {column!r}, found {keys}; set `column`")
    return row[column]


def _parquet_texts(part: Part, column: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with opened(part.place) as source, parquet.ParquetFile(source) as file:
        if column not in file.schema_arrow.names:
            raise ValueError(f"no column {column!r}, found {', '.join(file.schema_arrow.names)}; set `column`")
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
            yield from batch.column(0).to_pylist()
