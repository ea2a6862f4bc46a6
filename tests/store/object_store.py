"""An S3 server of this machine for tests: moto's, in a process of its own on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pyarrow.fs import S3FileSystem

BUCKET = "studies"

# Not a thread of the tests' process: deltalake waits for answers while it holds the interpreter's lock.
_SERVE = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server(bucket: str = BUCKET) -> Iterator[str]:
    """Starts a server with an empty bucket; gives its endpoint."""
    silent = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with subprocess.Popen(
        [sys.executable, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | silent,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            client(endpoint).create_dir(bucket)
            yield endpoint
        finally:
            process.stdin.close()
            process.terminate()


def client(endpoint: str) -> S3FileSystem:
    """The server's buckets as a file system."""
    return S3FileSystem(
        access_key="test",
        secret_key="test",
        region="us-east-1",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
    )


def credentials(endpoint: str) -> dict[str, str]:
    """The environment variables that lead to the server."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }


def new_address() -> str:
    """An address at which nothing is stored."""
    return f"s3://{BUCKET}/{uuid4().hex}"
