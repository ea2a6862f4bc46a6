"""Contents of files that a data set names by id: The Stack v2 keeps them in Software Heritage's archive on S3."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from flp_ray.data.network import patiently
from flp_ray.data.parts import Part, opened

BUCKET = "softwareheritage/content"
REGION = "us-east-1"

_READERS = 32
"""Contents that are asked for at once: each is small, so waiting is most of the time."""

_FILES_AT_ONCE = 1024
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def contents_of(part: Part) -> Iterator[tuple[str, str]]:
    """Repository and text of every file that a file of ids names; what the archive no longer has is passed over.

    Args:
        part: A parquet file, one row a repository with `repo_name` and `files`, a list with `blob_id` and
            `src_encoding`; or what `fetch_texts` has made of one.
    """
    import pyarrow.parquet as parquet

    with opened(part.place) as source, parquet.ParquetFile(source) as file:
        if part.fetched:
            for batch in file.iter_batches(batch_size=_FILES_AT_ONCE):
                yield from zip(batch["repo_name"].to_pylist(), batch["content"].to_pylist(), strict=True)
            return
        missing = {"repo_name", "files"} - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"no column {', '.join(sorted(missing))}, found {', '.join(file.schema_arrow.names)}")
        rows = (
            (repository, entry)
            for batch in file.iter_batches(batch_size=64, columns=["repo_name", "files"])
            for repository, entries in zip(batch["repo_name"].to_pylist(), batch["files"].to_pylist(), strict=True)
            for entry in entries or ()
        )
        archive = _archive()
        with ThreadPoolExecutor(_READERS) as pool:
            while stretch := list(islice(rows, _FILES_AT_ONCE)):
                texts = pool.map(lambda row: _content(archive, row[1]), stretch)
                yield from ((row[0], text) for row, text in zip(stretch, texts, strict=True) if text is not None)


def _archive() -> Any:
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    anonymous = not any(os.environ.get(name) for name in _CREDENTIALS)
    return S3FileSystem(anonymous=anonymous, region=REGION, endpoint_override=endpoint)


def _content(archive: Any, entry: Mapping[str, Any]) -> str | None:
    """The text of one file; None where it is gone (its author may ask for that)."""
    data = patiently(lambda: _bytes(archive, f"{BUCKET}/{entry['blob_id']}"))
    if data is None:
        return None
    try:
        return data.decode(entry.get("src_encoding") or "utf-8", "replace")
    except LookupError:  # an encoding that Python does not know
        return data.decode("utf-8", "replace")


def _bytes(archive: Any, place: str) -> bytes | None:
    try:
        with archive.open_input_stream(place, compression="gzip") as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        if "ACCESS_DENIED" in str(error):
            raise
        raise ConnectionError(f"{place}: {error}") from error  # pyarrow's errors of S3 are of no closer kind
