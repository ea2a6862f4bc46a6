"""Fetching from a hub on loopback, and preparing from it and from the copies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.data.tokenizer import save_trained
from tests.toy_hub.archive import software_heritage
from tests.toy_hub.server import serve
from tests.toy_hub.texts import write_texts

SCRIPT = """
import json, sys
from pathlib import Path
from flp_ray.data import fetch_texts, prepare_text
from flp_ray.data.config import TextConfig
what, config, folder = sys.argv[1], TextConfig.model_validate(json.loads(sys.argv[2])), Path(sys.argv[3])
if what == "fetch":
    fetch_texts(config, folder, progress=print)
else:
    text = prepare_text(config, (), folder, seed=0)
    print(json.dumps([text.content_id, text.removed, {n: b.content_hash for n, b in text.sources.items()}]))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with the toy texts and a tokenizer, whose lists of URLs name files on the same server."""
    root = tmp_path_factory.mktemp("hub")
    blobs = write_texts(root, documents=64)
    save_trained(["some text of its own " * 20], 300, root / "someone" / "tokenizer")
    with serve(root) as (address, requests):
        for path in (root / "togethercomputer" / "RedPajama-Data-1T" / "urls").iterdir():
            path.write_text(path.read_text().replace(root.absolute().as_uri(), address))
        yield root, address, requests, blobs


@pytest.fixture(scope="module")
def archive(hub):
    with software_heritage(hub[3]) as (endpoint, _):
        yield endpoint


def call(what: str, folder: Path, address: str, home: Path, **environment: str) -> str:
    config = {
        "sources": {
            "general": {"hub": "mlfoundations/dclm-baseline-1.0", "max_characters": 12_000},
            "code": {"hub": "bigcode/the-stack-v2-train-full-ids", "contents": "software_heritage"},
        },
        "domains": {
            "science": {"hub": "togethercomputer/RedPajama-Data-1T", "urls": "urls/arxiv.txt", "sequences": 16},
            "wikipedia": {"hub": "wikimedia/wikipedia", "hub_config": "20231101.en", "sequences": 16},
        },
        "tokenizer": {"vocabulary": 300, "hugging_face": "someone/tokenizer"},
        "sequence_length": 32,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HF_", "FLP_RAY"))}
    kept |= {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"} | environment
    argv = [sys.executable, "-c", SCRIPT, what, json.dumps(config), str(folder)]
    result = subprocess.run(argv, env=kept, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_a_study_prepares_from_copies_as_from_the_hub(hub, archive, tmp_path):
    root, address, requests, _ = hub
    home = tmp_path / "home"
    there = json.loads(call("prepare", tmp_path / "one", address, home, AWS_ENDPOINT_URL=archive))
    copies = tmp_path / "copies"
    url = root / "togethercomputer" / "mirror" / "redpajama-data-1T" / "v1.0.0" / "arxiv" / "arxiv_0.jsonl"
    building = copies / "togethercomputer" / "RedPajama-Data-1T" / "urls" / address.removeprefix("http://")
    building = building / url.relative_to(root).with_name(url.name + ".part")
    building.parent.mkdir(parents=True)
    building.write_bytes(url.read_bytes()[:1000])  # what a killed call has left
    requests.clear()
    call("fetch", copies, address, home, AWS_ENDPOINT_URL=archive)
    assert building.with_suffix("").read_bytes() == url.read_bytes()
    shards = sorted(path.name for path in (copies / "mlfoundations").rglob("*.zst"))
    assert 0 < len(shards) < 6  # no more than max_characters asks for
    assert len(list((copies / "bigcode").rglob(".contents/data/*.parquet"))) == 4
    assert not list((copies / "togethercomputer").rglob("c4*.jsonl"))
    fetched = [line for line in requests if line.startswith("GET") and ("resolve" in line or "mirror" in line)]
    requests.clear()
    call("fetch", copies, address, home)  # nothing is left to fetch, not even from the archive
    again = [line for line in requests if line.startswith("GET") and ("resolve" in line or "mirror" in line)]
    assert fetched
    assert not [line for line in again if line in fetched and "tokenizer" not in line]
    requests.clear()
    here = json.loads(call("prepare", tmp_path / "two", address, home, **{HUB_VARIABLE: str(copies)}))
    assert here == there
    assert requests == []


def test_what_cannot_be_fetched_is_refused_with_its_name(hub, tmp_path):
    _, address, _, _ = hub
    script = (
        "import sys; from pathlib import Path\n"
        "from flp_ray.data import fetch_texts; from flp_ray.data.config import TextConfig\n"
        "from flp_ray.errors import TextError\n"
        "def refused(message, **tokenizer):\n"
        "    hub = 'allenai/c4' if tokenizer else 'nobody/nothing'\n"
        "    source = {'hub': hub, 'hub_config': 'en', 'max_characters': 1}\n"
        "    config = {'sources': {'s': source}, 'domains': {'d': {'held_out': 's'}}, 'tokenizer': tokenizer}\n"
        "    try:\n"
        "        fetch_texts(TextConfig.model_validate(config), Path(sys.argv[1]))\n"
        "    except TextError as error:\n"
        "        assert message in str(error), error\n"
        "    else:\n"
        "        raise AssertionError(message)\n"
        "refused(\"hub data set 'nobody/nothing'\")\n"
        "refused(\"Tokenizer 'someone/else' cannot be fetched\", hugging_face='someone/else')\n"
    )
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
    argv = [sys.executable, "-c", script, str(tmp_path / "copies")]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


FULL = """
import errno, sys
from pathlib import Path
import huggingface_hub
from flp_ray.data import fetch_texts
from flp_ray.data.config import TextConfig
from flp_ray.errors import StorageError

def refused(message, **tokenizer):
    value = {"sources": {"s": {"hub": "togethercomputer/RedPajama-Data-1T", "urls": "urls/arxiv.txt"}}}
    if tokenizer:
        value["sources"] = {"s": {"builtin": "code"}}
    value |= {"domains": {"d": {"held_out": "s"}}, "tokenizer": tokenizer}
    try:
        fetch_texts(TextConfig.model_validate(value), Path(sys.argv[1]))
    except StorageError as error:
        assert message in str(error) and sys.argv[1] in str(error) and " bytes are free" in str(error), error
    else:
        raise AssertionError(message)

def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")

refused("Hub data set 'togethercomputer/RedPajama-Data-1T' (text 's') cannot be fetched into ")
huggingface_hub.snapshot_download = full
refused("Tokenizer 'someone/tokenizer' cannot be fetched into ", hugging_face="someone/tokenizer")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_an_unreachable_hub(hub, tmp_path):
    root, address, _, _ = hub
    copies = tmp_path / "copies"
    there = root / "togethercomputer" / "mirror" / "redpajama-data-1T" / "v1.0.0" / "arxiv"
    for path in there.glob("*.jsonl"):  # what is written of them goes to a device that is always full
        place = copies / "togethercomputer/RedPajama-Data-1T/urls" / address.removeprefix("http://")
        place = place / path.relative_to(root).with_name(path.name + ".part")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to("/dev/full")
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    argv = [sys.executable, "-c", FULL, str(copies)]
    result = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
