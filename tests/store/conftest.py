from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.store.object_store import credentials, new_address, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3_address(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty study on S3, reachable from this process."""
    for name, value in credentials(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    return new_address()
