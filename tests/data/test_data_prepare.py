"""The whole preparation on small files, resumed, refused, and against what training must not see."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from flp_ray.core.mixture import Mixture
from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data import load_text, prepare_text, text_identity
from flp_ray.data.config import TextConfig
from flp_ray.data.installed import builtin_documents
from flp_ray.data.tokenizer import TextEncoder, save_trained
from flp_ray.errors import StorageError, TextError

WORDS = re.compile(r"\w+")


def write_jsonl(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Real text as local files: standard library pieces and topics cut into paragraphs of some size."""
    folder = tmp_path_factory.mktemp("raw")
    code = [d.text for d, _ in zip(builtin_documents("code"), range(120), strict=False)]
    topics = "\n\n".join(d.text for d in builtin_documents("reference"))
    prose = [topics[k : k + 900] for k in range(0, 240_000, 900)]
    return {
        "code": write_jsonl(folder / "code.jsonl", [*code, code[3], code[3] + "\n"]),
        "prose": write_jsonl(folder / "prose.jsonl", [*prose, code[5]]),
    }


def config_of(files: dict[str, str], **changes) -> TextConfig:
    value = {
        "sources": {"code": {"files": [files["code"]]}, "prose": {"files": [files["prose"]]}},
        "domains": {
            "code": {"held_out": "code", "sequences": 20},
            "prose": {"held_out": "prose", "sequences": 20},
            # The same text as a source's: what it takes must leave the training text.
            "again": {"files": [files["prose"]], "sequences": 20},
        },
        "tokenizer": {"vocabulary": 400},
        "sequence_length": 64,
        "held_out_fraction": 0.25,
    }
    return TextConfig.model_validate(value | changes)


ITEMS = (
    ItemSet(task="next", kind="continuation", domain="prose", items=40),
    ItemSet(task="order", kind="word_order", domain="prose", items=20),
    ItemSet(task="syntax", kind="code_syntax", domain="code", items=30),
)


@pytest.fixture(scope="module")
def prepared(files, tmp_path_factory) -> PreparedText:
    return prepare_text(config_of(files), ITEMS, tmp_path_factory.mktemp("study") / "text", seed=0)


def decoded(prepared: PreparedText, name: str, kind: str = "sources") -> list[str]:
    """The documents of a token block as text, split where the end-of-text token stands."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{prepared.tokenizer}/tokenizer.json")
    end = TextEncoder(Path(prepared.tokenizer)).end
    ids = getattr(prepared, kind)[name].open().ravel().astype(int)
    return [tokenizer.decode(part.tolist()) for part in np.split(ids, np.flatnonzero(ids == end))]


def grams(text: str) -> set[tuple[str, ...]]:
    words = WORDS.findall(text.lower())
    return {tuple(words[k : k + 13]) for k in range(len(words) - 12)}


def shown_texts(prepared: PreparedText) -> list[str]:
    texts = [text for name in prepared.domains for text in decoded(prepared, name, "domains")]
    for path in prepared.items.values():
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            texts += [f"{row['question']} {choice}" for choice in row["choices"]]
    return texts


def test_training_text_shares_no_thirteen_words_with_domains_or_items(prepared):
    shown = set().union(*(grams(text) for text in shown_texts(prepared)))
    assert len(shown) > 500
    for source in prepared.sources:
        training = [grams(text) for text in decoded(prepared, source)]
        assert sum(map(len, training)) > 10_000
        assert not any(found & shown for found in training)


def test_losses_and_items_come_from_different_documents(prepared):
    for domain in ("code", "prose"):
        losses = set().union(*(grams(text) for text in decoded(prepared, domain, "domains")))
        for item_set in ITEMS:
            if item_set.domain == domain:
                rows = map(json.loads, Path(prepared.items[item_set.task]).read_text().splitlines())
                asked = [grams(f"{row['question']} {row['choices'][row['gold']]}") for row in rows]
                # Neighbouring documents of these files were cut from one text and repeat some phrases.
                assert sum(bool(found & losses) for found in asked) <= 0.1 * len(asked)


def test_what_was_prepared_is_described(prepared):
    assert {name: blocks.sequences for name, blocks in prepared.domains.items()} == dict.fromkeys(
        ("code", "prose", "again"), 20
    )
    assert prepared.removed["code: exact duplicate"] == 2
    assert prepared.removed["prose: shares text with a domain or task"] > 0
    for blocks in (*prepared.sources.values(), *prepared.domains.values()):
        assert blocks.open().shape == (blocks.sequences, 64)
        assert blocks.open().max() < 400
    root = Path(prepared.tokenizer).parent.parent
    assert sorted(path.name for path in root.iterdir()) == sorted([Path(prepared.tokenizer).parent.name, "text.json"])
    assert not list(root.rglob("work"))


def test_items_are_balanced_and_fit(prepared):
    encoder = TextEncoder(Path(prepared.tokenizer))
    for item_set in ITEMS:
        rows = [json.loads(line) for line in Path(prepared.items[item_set.task]).read_text().splitlines()]
        choices = 4 if item_set.kind == "continuation" else 2
        assert len(rows) == len({row["id"] for row in rows}) == item_set.items
        assert np.bincount([row["gold"] for row in rows]).tolist() == [item_set.items // choices] * choices
        for row in rows:
            assert len(set(row["choices"])) == choices
            assert max(encoder.lengths([f"{row['question']} {c}" for c in row["choices"]])) < 64


def test_the_same_settings_give_the_same_text_anywhere_and_other_seeds_do_not(prepared, files, tmp_path):
    copies = {name: str(shutil.copy(path, tmp_path / Path(path).name)) for name, path in files.items()}
    lines: list[str] = []
    again = prepare_text(config_of(copies), ITEMS, tmp_path / "text", seed=0, progress=lines.append)
    assert again.content_id == prepared.content_id
    assert again.removed == prepared.removed
    assert any("tokenising source code" in line for line in lines)
    other = prepare_text(config_of(copies), ITEMS, tmp_path / "other", seed=1)
    assert other.content_id != prepared.content_id


def test_prepared_text_is_loaded_moved_and_redone_when_settings_change(files, tmp_path):
    config = config_of(files)
    first = prepare_text(config, ITEMS, tmp_path / "text", seed=0)
    (tmp_path / "text").rename(tmp_path / "moved")
    assert load_text(tmp_path / "text") is None
    moved = load_text(tmp_path / "moved")
    assert moved.content_id == first.content_id
    assert str(tmp_path / "moved") in moved.sources["code"].path
    assert np.array_equal(moved.sources["code"].open()[:1].shape, (1, 64))
    lines: list[str] = []
    assert prepare_text(config, ITEMS, tmp_path / "moved", seed=0, progress=lines.append) == moved
    assert lines == ["text is already prepared"]
    fewer = prepare_text(config, ITEMS[:1], tmp_path / "moved", seed=0)
    assert fewer.content_id != first.content_id
    assert len(list((tmp_path / "moved").iterdir())) == 2  # the older text is gone
    Path(fewer.sources["code"].path).unlink()
    assert load_text(tmp_path / "moved") is None
    assert prepare_text(config, ITEMS[:1], tmp_path / "moved", seed=0).content_id == fewer.content_id


def test_prepared_text_outlives_its_raw_files_but_not_their_change(files, tmp_path):
    copies = {name: str(shutil.copy(path, tmp_path / Path(path).name)) for name, path in files.items()}
    first = prepare_text(config_of(copies), ITEMS[:1], tmp_path / "text", seed=0)
    with Path(copies["code"]).open("a") as file:
        file.write(json.dumps({"text": "new words " * 200}) + "\n")
    changed = prepare_text(config_of(copies), ITEMS[:1], tmp_path / "text", seed=0)
    assert changed.content_id != first.content_id
    Path(copies["code"]).unlink()
    assert prepare_text(config_of(copies), ITEMS[:1], tmp_path / "text", seed=0) == changed
    with pytest.raises(TextError, match="no file matches"):
        prepare_text(config_of(copies), ITEMS[:1], tmp_path / "text", seed=5)


def test_an_interruption_at_any_step_changes_nothing(prepared, files, tmp_path):
    class StopError(Exception):
        pass

    stops = 0
    while True:
        left = stops

        def progress(_line: str) -> None:
            nonlocal left
            if left == 0:
                raise StopError
            left -= 1

        try:
            again = prepare_text(config_of(files), ITEMS, tmp_path / "text", seed=0, progress=progress)
            break
        except StopError:
            stops += 1
            assert load_text(tmp_path / "text") is None
    assert stops >= 8
    assert (again.content_id, again.removed) == (prepared.content_id, prepared.removed)


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_nothing(prepared, files, tmp_path):
    script = (
        "import json, sys; from pathlib import Path\n"
        "from flp_ray.core.text import ItemSet; from flp_ray.data import prepare_text\n"
        "from flp_ray.data.config import TextConfig\n"
        "config, items, folder = json.loads(sys.argv[1])\n"
        "items = [ItemSet(**item) for item in items]\n"
        "prepare_text(TextConfig.model_validate(config), items, Path(folder), seed=0)\n"
    )
    items = [asdict(item_set) for item_set in ITEMS]
    argument = json.dumps([config_of(files).model_dump(exclude_unset=True), items, str(tmp_path / "text")])
    rng = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", script, argument])
        time.sleep(rng.uniform(0.5, 2.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([sys.executable, "-c", script, argument], check=True, timeout=120)
    again = load_text(tmp_path / "text")
    assert (again.content_id, again.removed) == (prepared.content_id, prepared.removed)


def test_a_kill_before_the_clean_up_leaves_nothing_once_it_is_called_again(files, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def killed(*_) -> None:
        raise KilledError

    monkeypatch.setattr("flp_ray.data.prepare.remove_leftovers", killed)
    with pytest.raises(KilledError):
        prepare_text(config_of(files), (), tmp_path / "text", seed=0)
    monkeypatch.undo()
    assert list((tmp_path / "text").rglob("work"))
    growing = tmp_path / "text" / "0123456789ab" / "sources"
    growing.mkdir(parents=True)
    text = prepare_text(config_of(files), (), tmp_path / "text", seed=0)
    assert not list((tmp_path / "text").rglob("work"))
    assert load_text(tmp_path / "text") == text
    assert growing.exists()  # it goes on from there


def test_a_hugging_face_tokenizer_serves_a_study(files, tmp_path):
    save_trained(["some text of its own " * 20], 300, tmp_path / "own")
    tokenizer = {"vocabulary": 512, "hugging_face": str(tmp_path / "own")}
    text = prepare_text(config_of(files, tokenizer=tokenizer), (), tmp_path / "text", seed=0)
    assert text.vocabulary == 512
    assert text.sources["code"].open().max() < 300


def test_wrong_text_is_refused_with_the_numbers(files, tmp_path):
    def refused(message: str, items=(), **changes) -> None:
        with pytest.raises(TextError, match=message):
            prepare_text(config_of(files, **changes), items, tmp_path / "text", seed=0)
        assert load_text(tmp_path / "text") is None

    short = write_jsonl(tmp_path / "short.jsonl", ["few words"])
    refused(
        "Domain 'short' is too short.*give 0 sequences of 64.*at least 16",
        domains={"short": {"files": [short]}},
    )
    refused(
        "Source 'short' is shorter than one sequence of 64 tokens",
        sources={"short": {"files": [short]}},
        domains={"again": {"files": [files["prose"]], "sequences": 20}},
    )
    refused(
        "no file matches",
        sources={"gone": {"files": [str(tmp_path / "gone*")]}},
        domains={"c": {"files": [short]}},
    )
    many = ItemSet(task="next", kind="continuation", domain="prose", items=100_000)
    refused(r"Task 'next'.*100000 items are wanted.*'prose' give \d+; ask for at most \d+", items=[many])
    other = ItemSet(task="next", kind="continuation", domain="physics", items=1)
    refused("Task 'next' asks about domain 'physics'; domains are: code, prose, again", items=[other])
    tokenizer = {"vocabulary": 300, "hugging_face": str(tmp_path / "nowhere")}
    refused("Tokenizer .* cannot be loaded", tokenizer=tokenizer)


def test_a_domain_takes_what_is_there_down_to_sixteen_sequences(files, tmp_path):
    lines: list[str] = []
    domains = {"prose": {"held_out": "prose", "sequences": 100_000}}
    text = prepare_text(config_of(files, domains=domains), (), tmp_path / "text", seed=0, progress=lines.append)
    assert 16 <= text.domains["prose"].sequences < 100_000
    assert f"domain prose: {text.domains['prose'].sequences} of 100000 sequences" in lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_storage_error_with_free_and_needed_bytes(files, tmp_path, monkeypatch):
    # The block file is a link to a device that is always full, so the write fails as on a full disk.
    import flp_ray.data.blocks as blocks

    original = blocks.write_blocks

    def onto_full(texts, encoder, path, **settings):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".tmp").symlink_to("/dev/full")
        return original(texts, encoder, path, **settings)

    monkeypatch.setattr("flp_ray.data.sources.write_blocks", onto_full)
    with pytest.raises(StorageError, match=r"No space left on device\. \d+ bytes are free.*more than \d+ are needed"):
        prepare_text(config_of(files), (), tmp_path / "text", seed=0)
    monkeypatch.undo()
    for link in tmp_path.rglob("*.tmp"):
        link.unlink()
    assert prepare_text(config_of(files), (), tmp_path / "text", seed=0).sources["code"].sequences > 0


def test_a_folder_that_cannot_be_used_is_a_storage_error(files, tmp_path):
    (tmp_path / "text").write_text("a file in the way")
    with pytest.raises(StorageError, match="Text cannot be prepared in"):
        prepare_text(config_of(files), (), tmp_path / "text", seed=0)


def test_a_run_is_named_by_the_text_that_it_has_and_by_no_other(files):
    def named(seed=0, tokenizer=None, mixture=None, **changes) -> str:
        identity = text_identity(config_of(files, **changes), seed, tokenizer=tokenizer)
        return identity.of(Mixture.of(mixture or {"code": 0.5, "prose": 0.5}))

    both = {name: {"files": [path]} for name, path in files.items()}
    same = [
        named(domains={"d": {"held_out": "code"}}),
        named(max_epochs=4.0),
        named(sources={name: source | {"tokens": 5} for name, source in both.items()}),
        named(mixture={"code": 0.3, "prose": 0.7}),
    ]
    assert set(same) == {named()}
    others = [
        named(seed=1),
        named(sequence_length=32),
        named(held_out_fraction=0.3),
        named(decontamination_ngram=8),
        named(tokenizer="kept"),
        named(mixture={"code": 1.0}),
        named(sources=both | {"code": {"files": [files["code"]], "max_characters": 9}}),
        named(sources=both | {"third": {"builtin": "math"}}),  # the tokenizer would be trained on it too
    ]
    assert len({named(), *others}) == 1 + len(others)
    kept = [
        named(tokenizer="kept", sources=both | {"third": {"builtin": "math"}}),
        named(
            tokenizer="kept", mixture={"code": 0.5, "prose": 0.5, "third": 0}, sources=both | {"third": both["code"]}
        ),
    ]
    assert set(kept) == {named(tokenizer="kept")}


def test_importing_the_stage_loads_nothing_heavy():
    script = (
        "import sys, flp_ray.data; from flp_ray.data import text_identity\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'datasets', 'pyarrow', 'ray'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60).stderr == b""
