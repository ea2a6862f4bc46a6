"""The paper's texts in the hub sets' own schemas and layouts, at toy size, read from local copies."""

import json
import os
from pathlib import Path

import pytest

from flp_ray.core.hub import HUB_VARIABLE
from flp_ray.data import load_text, prepare_text, text_rate
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.origins import origin_parts, read_documents
from flp_ray.errors import TextError
from tests.toy_hub.archive import software_heritage
from tests.toy_hub.texts import BUCKET, write_texts

DCLM = {"hub": "mlfoundations/dclm-baseline-1.0"}
STACK = {"hub": "bigcode/the-stack-v2-train-full-ids", "contents": "software_heritage"}
PAPER_DOMAINS = {
    "code": {"hub": "codeparrot/github-code", "files": ["data/train-*.parquet"], "column": "code"},
    "science": {"hub": "togethercomputer/RedPajama-Data-1T", "urls": "urls/arxiv.txt"},
    "wikipedia": {"hub": "wikimedia/wikipedia", "hub_config": "20231101.en"},
    "general": {"hub": "allenai/c4", "hub_config": "en", "split": "validation"},
    "math": {"hub": "EleutherAI/proof-pile-2", "files": ["*/validation/*.jsonl.zst"]},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    blobs = write_texts(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HUB_VARIABLE, str(folder))
        yield folder, blobs


@pytest.fixture(scope="module")
def archive(hub):
    with software_heritage(hub[1]) as (endpoint, client), pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield client


def documents(**origin):
    return list(read_documents(TextOrigin.model_validate(origin), name="here"))


def names(**origin) -> list[str]:
    return sorted(part.name for part in origin_parts(TextOrigin.model_validate(origin), name="here"))


def test_files_are_found_by_the_repositorys_own_naming_or_by_patterns(hub):
    assert len(names(**DCLM)) == 6
    assert names(hub="allenai/c4", hub_config="en") == ["en/c4-train.00000-of-01024.json.gz"]
    assert names(**PAPER_DOMAINS["general"]) == ["en/c4-validation.00000-of-00008.json.gz"]
    assert names(**PAPER_DOMAINS["wikipedia"]) == [f"20231101.en/train-0000{n}-of-00041.parquet" for n in (0, 1)]
    assert names(**PAPER_DOMAINS["math"]) == [
        f"{subset}/validation/{subset}-validation_0000.jsonl.zst"
        for subset in ("algebraic-stack", "arxiv", "open-web-math")
    ]
    assert names(hub="EleutherAI/proof-pile-2", split="validation") == names(**PAPER_DOMAINS["math"])
    # A card without configs: the folder is the config, and the file name tells the split.
    assert names(hub="EleutherAI/proof-pile-2", hub_config="arxiv", split="test") == [
        "arxiv/test/arxiv-test_0000.jsonl.zst"
    ]
    assert len(names(hub="codeparrot/github-code")) == 2
    assert all(name.startswith("file://") for name in names(**PAPER_DOMAINS["science"]))


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({**DCLM, "split": "validation"}, "no file of hub data set .* is of config default and split validation"),
        ({**DCLM, "files": ["*.parquet"]}, r"no file .* matches \*.parquet; it holds 6 files of text, e.g. global"),
        ({"hub": "wikimedia/wikipedia", "hub_config": "20231101.de"}, "no file of hub data set"),
        ({**DCLM, "column": "words"}, "no key 'words', found bff_.*; set `column`"),
        ({"hub": "codeparrot/github-code"}, "no column 'text', found code, repo_name.*; set `column`"),
        ({**PAPER_DOMAINS["science"], "urls": "README.md"}, "is no URL of a file"),
    ],
)
def test_what_does_not_fit_a_data_set_is_refused_with_what_is_there(hub, origin, message):
    with pytest.raises(TextError, match=message):
        documents(**origin)


def test_no_more_is_read_than_the_limit(hub):
    everything = documents(**DCLM)
    first = documents(**DCLM, max_characters=2000)
    assert first == everything[: len(first)]
    assert sum(len(d.text) for d in first[:-1]) < 2000 <= sum(len(d.text) for d in first)


def test_settings_that_contradict_are_refused():
    with pytest.raises(ValueError, match="urls names a file inside a hub data set"):
        TextOrigin(files=["x.jsonl"], urls="urls/a.txt")
    with pytest.raises(ValueError, match="needs exactly one of builtin, files, hub"):
        TextOrigin(hub="a/b", builtin="code")


def test_a_file_that_the_local_copy_lacks_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setenv(HUB_VARIABLE, str(tmp_path))
    copy = tmp_path / "some" / "set"
    copy.mkdir(parents=True)
    (copy / ".flp_ray.json").write_text(json.dumps({"data/train-0.jsonl": 100, "data/train-1.jsonl": 100}))
    (copy / "data").mkdir()
    assert len(names(hub="some/set")) == 2
    with pytest.raises(TextError, match="the local copy lacks it: run `flp-ray data fetch` again"):
        documents(hub="some/set")


def test_the_stack_is_the_contents_of_its_ids_by_repository(hub, archive):
    found = documents(**STACK)
    assert len(found) == 160
    assert all(document.group.startswith("someone") for document in found)
    from flp_ray.data.installed import builtin_documents

    texts = {document.text for document, _ in zip(builtin_documents("code"), range(160), strict=False)}
    assert {document.text for document in found} == texts
    key = next(iter(hub[1]))
    archive.delete_file(f"{BUCKET}/{key}")  # its author asked for that
    try:
        assert len(documents(**STACK)) == 159
    finally:
        with archive.open_output_stream(f"{BUCKET}/{key}", compression=None) as stream:
            stream.write(hub[1][key])


@pytest.mark.slow
def test_the_papers_texts_are_prepared_from_local_copies(hub, archive, tmp_path):
    value = {
        "sources": {"general": DCLM, "code": STACK},
        "domains": {name: {**origin, "sequences": 16} for name, origin in PAPER_DOMAINS.items()},
        "tokenizer": {"vocabulary": 400},
        "sequence_length": 64,
    }
    text = prepare_text(TextConfig.model_validate(value), (), tmp_path / "text", seed=0)
    assert {name: blocks.sequences for name, blocks in text.domains.items()} == dict.fromkeys(PAPER_DOMAINS, 16)
    assert min(blocks.tokens for blocks in text.sources.values()) > 20_000
    assert load_text(tmp_path / "text") == text
    assert text_rate(tmp_path / "text") > 0
    assert not list(Path(tmp_path / "text").rglob("work"))


def test_without_the_hub_and_a_copy_the_refusal_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv(HUB_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TextError, match=r"cannot be loaded: .*flp-ray data fetch STUDY --out DIR"):
        documents(hub="nobody/nothing")
