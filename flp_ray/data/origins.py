"""Documents of one text origin: a built-in, local files, or a data set of the Hugging Face hub."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import Document, hash64
from flp_ray.data.installed import builtin_documents, builtin_versions
from flp_ray.errors import TextError

_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_KINDS = (".parquet", ".jsonl", ".ndjson", ".json", ".txt")
_ROWS_AT_ONCE = 256


def read_documents(origin: TextOrigin, *, name: str) -> Iterator[Document]:
    """The documents of an origin, one after the other, in an order that does not depend on the machine.

    With `max_characters` the reading stops at the document that reaches the limit; that document is the last.

    Args:
        origin: Where the text is.
        name: The source or domain, for messages.

    Raises:
        TextError: The origin is not there, cannot be read, or holds no text.
    """
    if origin.builtin is not None:
        documents = builtin_documents(origin.builtin)
    elif origin.files is not None:
        documents = _file_documents(origin, name)
    else:
        documents = _hub_documents(origin, name)
    characters = 0
    for document in documents:
        if not document.text.strip():
            continue
        yield document
        characters += len(document.text)
        if origin.max_characters is not None and characters >= origin.max_characters:
            break
    if not characters:
        raise TextError(f"Text {name!r} is empty: {_described(origin)} holds no text; give another origin.")


def origin_state(origin: TextOrigin, *, name: str) -> dict[str, Any]:
    """What tells, without reading the text, whether an origin is still the same: versions, or file sizes.

    Raises:
        TextError: No file is there.
    """
    if origin.builtin is not None:
        return dict(builtin_versions(origin.builtin))
    if origin.files is not None:
        stats = {relative: path.stat() for path, relative in _matched_files(origin, name)}
        return {relative: [stat.st_size, stat.st_mtime_ns] for relative, stat in stats.items()}
    return {}


def _described(origin: TextOrigin) -> str:
    if origin.builtin is not None:
        return f"built-in {origin.builtin}"
    return f"files {', '.join(origin.files)}" if origin.files is not None else f"hub data set {origin.hub}"


def _matched_files(origin: TextOrigin, name: str) -> list[tuple[Path, str]]:
    """All files of an origin with their names below their pattern's fixed folder, by hash of that name."""
    found: dict[Path, str] = {}
    for pattern in origin.files or ():
        # Path.glob takes no absolute pattern.
        matches = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
        matches = [path for path in matches if path.is_file()]
        if not matches:
            raise TextError(
                f"Text {name!r}: no file matches {pattern!r} (from {Path.cwd()}); "
                f"give paths or globs of {', '.join(_KINDS)}."
            )
        fixed = _fixed_folder(pattern)
        for path in matches:
            found.setdefault(path, path.relative_to(fixed).as_posix())
    return sorted(found.items(), key=lambda file: (hash64(file[1], salt="order"), file[1]))


def _fixed_folder(pattern: str) -> Path:
    """The part of a glob before its first wildcard; a plain path's folder."""
    parts = Path(pattern).parts
    fixed = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:fixed]) if fixed else Path()


def _file_documents(origin: TextOrigin, name: str) -> Iterator[Document]:
    for path, relative in _matched_files(origin, name):
        suffixes = [suffix for suffix in path.suffixes if suffix not in _COMPRESSED]
        kind = suffixes[-1] if suffixes else ""
        if kind not in _KINDS:
            raise TextError(
                f"Text {name!r}: {relative} is of no known kind {kind or '(no suffix)'!r}; "
                f"known: {', '.join(_KINDS)}, also with .gz, .zst or .bz2."
            )
        try:
            texts = _texts(path, kind, origin.column)
            for number, text in enumerate(texts):
                if isinstance(text, str):
                    yield Document(id=f"{relative}#{number}", text=text)
        except (OSError, ValueError) as error:  # errors of pyarrow and json are ValueErrors
            raise TextError(f"Text {name!r}: {relative} cannot be read as {kind}: {error}") from error


def _texts(path: Path, kind: str, column: str) -> Iterator[Any]:
    """The texts of one file."""
    if kind == ".parquet":
        yield from _parquet_texts(path, column)
        return
    import pyarrow

    with pyarrow.input_stream(str(path), compression=_COMPRESSED.get(path.suffix)) as stream:
        if kind == ".txt":
            yield stream.read().decode("utf-8", "replace")
        elif kind == ".json":
            yield from _json_texts(stream.read().decode(), column)
        else:
            yield from (_field(json.loads(line), column) for line in _lines(stream) if line.strip())


def _lines(stream: Any) -> Iterator[bytes]:
    """Lines of a pyarrow stream, which has no fast readline of its own."""
    rest = b""
    while chunk := stream.read(1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


def _json_texts(text: str, column: str) -> Iterator[Any]:
    """A .json file is one list of objects, or one object a line."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = [json.loads(line) for line in text.splitlines() if line.strip()]
    yield from (_field(row, column) for row in (value if isinstance(value, list) else [value]))


def _field(row: Any, column: str) -> Any:
    if isinstance(row, str):
        return row
    if not isinstance(row, dict) or column not in row:
        keys = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"no key {column!r}, found {keys}; set `column`")
    return row[column]


def _parquet_texts(path: Path, column: str) -> Iterator[Any]:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            raise ValueError(f"no column {column!r}, found {', '.join(file.schema_arrow.names)}; set `column`")
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[column]):
            yield from batch.column(0).to_pylist()


def _hub_documents(origin: TextOrigin, name: str) -> Iterator[Document]:
    """Streams a hub data set, so that no more is fetched than is used."""
    try:
        import datasets

        rows = datasets.load_dataset(origin.hub, name=origin.hub_config, split=origin.split, streaming=True)
        for number, row in enumerate(rows):
            if origin.column not in row:
                raise TextError(
                    f"Text {name!r}: hub data set {origin.hub!r} has no column {origin.column!r}; "
                    f"columns: {', '.join(row)}; set `column`."
                )
            if isinstance(row[origin.column], str):
                yield Document(id=f"{origin.hub}/{origin.split}#{number}", text=row[origin.column])
    except (OSError, ValueError, RuntimeError, ImportError) as error:  # offline, unknown id, config or split
        raise TextError(
            f"Text {name!r}: hub data set {origin.hub!r} (config {origin.hub_config or 'default'}, "
            f"split {origin.split}) cannot be loaded: {error}. Where the hub cannot be reached, fetch it "
            "beforehand on a machine that can, and give the files as `files`."
        ) from error
