"""Software Heritage's bucket of file contents, on an S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyarrow.fs import S3FileSystem

from tests.store.object_store import client, s3_server
from tests.toy_hub.texts import BUCKET


@contextmanager
def software_heritage(contents: Mapping[str, bytes]) -> Iterator[tuple[str, S3FileSystem]]:
    """Serves contents by their keys; gives the endpoint and the bucket's file system."""
    with s3_server(BUCKET) as endpoint:
        files = client(endpoint)
        for key, data in contents.items():
            with files.open_output_stream(f"{BUCKET}/{key}", compression=None) as stream:
                stream.write(data)
        yield endpoint, files
