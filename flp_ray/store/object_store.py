"""How an object store is reached: credentials, endpoint, Arrow's and deltalake's settings, faults in words.

Credentials and endpoint come from the environment, the same for files and tables. S3: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION, AWS_ENDPOINT_URL (http is allowed). Google
Cloud Storage: application default credentials, as with GOOGLE_APPLICATION_CREDENTIALS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
from pyarrow.fs import FileType

from flp_ray.errors import StorageError

CONNECT_SECONDS = 3.0
"""How long a connection may take to open; a wrong endpoint is then told in seconds."""

_VARIABLES = {
    "access_key": ("AWS_ACCESS_KEY_ID",),
    "secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
}
_FAULTS = {
    "NETWORK_CONNECTION": "the endpoint {endpoint} cannot be reached. Correct AWS_ENDPOINT_URL or the network",
    "NO_SUCH_BUCKET": "there is no such bucket. Make it, or correct the address",
    "ACCESS_DENIED": "the credentials may not do that. Give others, or correct the bucket's rules",
    "INVALID_ACCESS_KEY_ID": "the access key is not known there. Correct AWS_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key is wrong. Correct AWS_SECRET_ACCESS_KEY",
    "redentials": "no credentials were found, or they are not valid",  # Google's words have no code
}
"""What an error's text holds, and what that means."""


def table_options(uri: str) -> dict[str, str]:
    """Settings for deltalake at an address: credentials, endpoint, and that no commit replaces another."""
    if urlparse(uri).scheme == "gs":
        return {}  # deltalake finds Google's credentials itself, and its commits there never replace another
    found = _environment()
    names = {"endpoint": "AWS_ENDPOINT_URL", "region": "AWS_REGION"}
    options = {names.get(name, _VARIABLES[name][0]): value for name, value in found.items()}
    plain = found.get("endpoint", "").startswith("http://")
    return options | {"aws_conditional_put": "etag"} | ({"allow_http": "true"} if plain else {})


def arrow_files(uri: str) -> tuple[Any, str]:
    """Arrow's file system for an address, and the path there.

    Raises:
        StorageError: The credentials cannot be used.
    """
    parts = urlparse(uri)
    path = (parts.netloc + parts.path).rstrip("/")
    with in_words(uri):
        return _file_system(parts.scheme, tuple(sorted(_environment().items()))), path


def reach(uri: str) -> None:
    """Checks that the bucket of an address can be used, once a process.

    Raises:
        StorageError: It cannot be reached, is not there, or is not allowed.
    """
    parts = urlparse(uri)
    _reach(f"{parts.scheme}://{parts.netloc}", tuple(sorted(_environment().items())))


@lru_cache
def _reach(bucket: str, environment: tuple[tuple[str, str], ...]) -> None:
    scheme, path = bucket.split("://")
    with in_words(bucket):
        found = _file_system(scheme, environment, patient=False).get_file_info(path).type
    if found == FileType.NotFound:
        raise StorageError(f"{bucket} cannot be used: {_FAULTS['NO_SUCH_BUCKET']}.")


@lru_cache
def _file_system(scheme: str, environment: tuple[tuple[str, str], ...], patient: bool = True) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, GcsFileSystem, S3FileSystem

    if scheme == "gs":
        return GcsFileSystem(retry_time_limit=None if patient else timedelta(seconds=1))
    given: dict[str, Any] = dict(environment)
    endpoint = urlparse(given.pop("endpoint", ""))
    if endpoint != urlparse(""):
        if endpoint.scheme not in ("http", "https") or not endpoint.netloc:
            raise StorageError(
                f"AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3) must begin with http:// or https://, received "
                f"{endpoint.geturl()!r}. Correct it, or unset it for Amazon's own."
            )
        given |= {"scheme": endpoint.scheme, "endpoint_override": endpoint.netloc}
    retries = AwsStandardS3RetryStrategy(max_attempts=10 if patient else 2)
    return S3FileSystem(**given, connect_timeout=CONNECT_SECONDS, retry_strategy=retries)


def _environment() -> dict[str, str]:
    found = {}
    for name, variables in _VARIABLES.items():
        if value := next((v for variable in variables if (v := os.environ.get(variable))), None):
            found[name] = value
    return found


def checked_address(uri: str) -> str:
    """An address without a slash at its end.

    Raises:
        StorageError: It is not of the form `s3://bucket/prefix` or `gs://bucket/prefix`.
    """
    parts = urlparse(uri)
    if parts.scheme not in ("s3", "gs") or not parts.netloc or parts.query or parts.fragment:
        raise StorageError(f"{uri!r} is no address of an object store; it has the form s3://bucket/prefix or gs://...")
    return uri.rstrip("/")


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """Turns what Arrow raises into a StorageError that says what failed and what to do."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        text = str(error)
        endpoint = _environment().get("endpoint", "of AWS")
        words = next((said.format(endpoint=endpoint) for sign, said in _FAULTS.items() if sign in text), None)
        raise StorageError(f"{what} cannot be used: {words + f' ({text})' if words else text}.") from error
