"""Text over connections that break: what passes by itself is outlasted, anything else is refused at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.core.text import PreparedText
from flp_ray.data import network, prepare_text, run_here
from flp_ray.data.config import TextConfig
from flp_ray.data.network import passing, patiently
from flp_ray.data.software_heritage import _content
from flp_ray.errors import TextError
from tests.toy_hub.server import serve
from tests.toy_hub.texts import some_texts

ATTEMPTS = 1 + len(network.WAITS_SECONDS)


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(network.time, "sleep", waited.append)
    return waited


class Wire:
    """A server of one text, which cuts the connections of the requests that it is told to."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.cuts, self.asked, self.kind = 0, 0, kind
        self.root, self.copies = folder / "there", folder / "copies"
        self.root.mkdir()
        texts = some_texts("prose", 0, 120)
        if kind == "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.table({"text": texts}), self.root / "text.parquet")
        else:
            import json

            (self.root / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))

    def cut(self, _path: str) -> bool:
        self.asked += 1
        self.cuts -= 1
        return self.cuts >= 0

    def prepare(self, address: str, folder: Path, run_tasks) -> PreparedText:
        urls = self.copies / "some" / "set" / "urls.txt"
        urls.parent.mkdir(parents=True, exist_ok=True)
        urls.write_text(f"{address}/text.{self.kind}\n")
        config = {
            "sources": {"far": {"hub": "some/set", "urls": "urls.txt"}},
            "domains": {"far": {"held_out": "far", "sequences": 16}},
            "tokenizer": {"vocabulary": 300},
            "sequence_length": 32,
            "held_out_fraction": 0.2,
        }
        return prepare_text(TextConfig.model_validate(config), (), folder, seed=0, run_tasks=run_tasks)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("executor", ["here", "ray"])
def test_a_connection_that_breaks_is_outlasted_and_one_that_always_breaks_is_refused(
    kind, executor, waits, tmp_path, monkeypatch
):
    """The Ray executor runs so few tasks in this process, and starts no cluster."""
    wire = Wire(tmp_path, kind)
    monkeypatch.setenv(HUB_VARIABLE, str(wire.copies))

    def tasks_of(folder: Path):
        if executor == "here":
            return run_here
        from flp_ray.distributed.text import text_tasks

        return text_tasks(folder, None)

    with serve(wire.root, wire.cut) as (address, _):
        whole = wire.prepare(address, tmp_path / "whole", tasks_of(tmp_path / "whole"))
        assert waits == []
        wire.cuts = 1
        cut = wire.prepare(address, tmp_path / "cut", tasks_of(tmp_path / "cut"))
        assert waits == [1.0]
        assert (cut.content_id, cut.removed) == (whole.content_id, whole.removed)
        waits.clear()
        wire.cuts, wire.asked = 10**9, 0
        with pytest.raises(TextError, match=rf"Text 'far': http://\S+/text.{kind} cannot be read as .{kind}: "):
            wire.prepare(address, tmp_path / "gone", tasks_of(tmp_path / "gone"))
        assert waits == list(network.WAITS_SECONDS) and wire.asked >= ATTEMPTS


def test_what_is_not_there_is_not_waited_for(waits, tmp_path, monkeypatch):
    wire = Wire(tmp_path, "jsonl")
    monkeypatch.setenv(HUB_VARIABLE, str(wire.copies))

    def losing(tasks):
        (wire.root / "text.jsonl").unlink(missing_ok=True)
        return run_here(tasks)

    with serve(wire.root) as (address, _), pytest.raises(TextError, match=r"text\.jsonl cannot be read"):
        wire.prepare(address, tmp_path / "text", losing)
    with pytest.raises(FileNotFoundError):
        patiently(lambda: (tmp_path / "nowhere").read_text())
    assert waits == []


def status(code: int) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(SimpleNamespace(real_url="http://there"), (), status=code)


def test_what_passes():
    from huggingface_hub.errors import OfflineModeIsEnabled

    assert all(map(passing, (ConnectionResetError(), TimeoutError(), aiohttp.ClientPayloadError(), status(503))))
    assert passing(status(429)) and not passing(status(404)) and not passing(status(403))
    assert not any(map(passing, (FileNotFoundError(), PermissionError(), OSError(28, "full"), ValueError("no json"))))
    assert not passing(OfflineModeIsEnabled())  # a person asked for it
    wrapped = TextError("cannot be read")
    wrapped.__cause__ = FileNotFoundError()  # which is how fsspec calls any failure to ask for a file's size
    assert not passing(wrapped)
    wrapped.__cause__.__cause__ = aiohttp.ServerDisconnectedError()
    assert passing(wrapped)


def test_one_object_of_the_archive_is_asked_for_again(waits):
    class Archive:
        def __init__(self, *failures: Exception) -> None:
            self.left = list(failures)

        def open_input_stream(self, _place: str, compression: str):
            if self.left:
                raise self.left.pop(0)
            import io

            return io.BytesIO(b"x = 1")

    entry = {"blob_id": "ab", "src_encoding": "utf-8"}
    broken = OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56")
    assert _content(Archive(broken, broken), entry) == "x = 1" and waits == [1.0, 2.0]
    waits.clear()
    assert _content(Archive(FileNotFoundError("ab")), entry) is None
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        _content(Archive(OSError("AWS Error ACCESS_DENIED during GetObject operation")), entry)
    assert waits == []
    with pytest.raises(ConnectionError, match="softwareheritage/content/ab: AWS Error NETWORK_CONNECTION"):
        _content(Archive(*[broken] * ATTEMPTS), entry)
    assert waits == list(network.WAITS_SECONDS)
