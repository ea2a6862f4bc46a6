"""Sources in shards: the same bytes in any number of processes, resumed by shard, mixed as if they were one file."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.text import ItemSet, PreparedText, TokenBlocks
from flp_ray.data import MixedStream, TextTask, grow_text, load_text, prepare_text, run_here, text_rate
from flp_ray.data import duplicates as duplicates_module
from flp_ray.data import rows as rows_module
from flp_ray.data import shards as shards_module
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.duplicates import duplicate_tasks
from flp_ray.data.installed import builtin_documents
from flp_ray.data.origins import read_documents
from flp_ray.data.scan import DROPPED, HELD, KEY, document_fates, write_array
from flp_ray.data.shards import source_shards
from flp_ray.errors import StorageError, TextError

ITEMS = (ItemSet(task="order", kind="word_order", domain="prose", items=20),)


def write_lines(path: Path, texts: Sequence[str]) -> None:
    data = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    with pa.output_stream(str(path), compression="zstd" if path.suffix == ".zst" else None) as stream:
        stream.write(data)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Prose in seven files, one of them large; code in three; some documents stand in several."""
    folder = tmp_path_factory.mktemp("raw")
    topics = "\n\n".join(d.text for d in builtin_documents("reference"))
    prose = [topics[k : k + 900] for k in range(0, 300_000, 900)]
    for number in range(6):
        suffix = ".jsonl.zst" if number % 2 else ".jsonl"
        write_lines(folder / f"prose{number}{suffix}", [*prose[number:180:6], prose[0], "lone \ud800 half " * 9])
    write_lines(folder / "prose-large.jsonl", [*prose[180:], prose[190]])
    code = [d.text for d, _ in zip(builtin_documents("code"), range(90), strict=False)]
    for number in range(3):
        write_lines(folder / f"code{number}.jsonl", [*code[number::3], code[7], prose[5 * number]])
    return folder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 40_000)


def config_of(raw: Path, **changes: Any) -> TextConfig:
    value = {
        "sources": {"prose": {"files": [f"{raw}/prose*"]}, "code": {"files": [f"{raw}/code*"]}},
        "domains": {
            "prose": {"held_out": "prose", "sequences": 20},
            "code": {"held_out": "code", "sequences": 16},
        },
        "tokenizer": {"vocabulary": 400},
        "sequence_length": 64,
        "held_out_fraction": 0.25,
    }
    return TextConfig.model_validate(value | changes)


@pytest.fixture(scope="module")
def sharded(raw, tmp_path_factory) -> PreparedText:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards_module, "SHARD_BYTES", 40_000)
        return prepare_text(config_of(raw), ITEMS, tmp_path_factory.mktemp("sharded") / "text", seed=0)


def bytes_of(text: PreparedText) -> dict[str, bytes]:
    root = Path(text.tokenizer).parent
    kept = (path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix in (".npy", ".jsonl"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in kept}


class Pool:
    """Runs tasks in other processes and hands their results back in the order in which they are done."""

    def __init__(self, processes: ProcessPoolExecutor) -> None:
        self.processes = processes
        self.names: list[str] = []

    def __call__(self, tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
        self.names += [task.name for task in tasks]
        for task in tasks:
            assert all(path.exists() for path in task.reads), task.name
        futures = {}
        for index, task in reversed(list(enumerate(tasks))):
            if task.here:
                yield index, task.function(*task.arguments)
            else:
                futures[self.processes.submit(task.function, *task.arguments)] = index
        for future in as_completed(futures):
            yield futures[future], future.result()
        for task in tasks:
            assert all(path.exists() for path in task.writes), task.name


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_any_number_of_processes_gives_the_same_bytes(raw, sharded, processes, small_shards, tmp_path):
    pool = Pool(processes)
    text = prepare_text(config_of(raw), ITEMS, tmp_path / "text", seed=0, run_tasks=pool)
    assert text.content_id == sharded.content_id
    assert text.removed == sharded.removed
    assert bytes_of(text) == bytes_of(sharded)
    assert len(text.sources["prose"].shards) > 6
    assert len(text.sources["code"].shards) > 1
    assert text_rate(tmp_path / "text") > 0


def test_shards_hold_what_one_file_would(raw, sharded, tmp_path):
    whole = prepare_text(config_of(raw), ITEMS, tmp_path / "text", seed=0)
    assert whole.removed == sharded.removed
    assert whole.removed["code: exact duplicate"] >= 4
    assert whole.removed["prose: exact duplicate"] >= 11
    # Files as small as these are read whole, so the domains are made of the same documents.
    assert [b.content_hash for b in whole.domains.values()] == [b.content_hash for b in sharded.domains.values()]
    for name, blocks in whole.sources.items():
        shards = sharded.sources[name]
        assert not blocks.shards
        assert (blocks.documents, blocks.characters) == (shards.documents, shards.characters)
        assert 0 <= blocks.sequences - shards.sequences < len(shards.shards)
        assert [np.load(path).shape for path in shards.files()] == [(count, 64) for count in shards.shards]


def test_a_large_file_of_lines_is_read_once_whatever_its_stretches(raw, monkeypatch):
    origin = TextOrigin(files=[f"{raw}/prose-large.jsonl"])
    expected = [document.text for document in read_documents(origin, name="x")]
    for size in (997, 10_007, 52_001):
        monkeypatch.setattr(shards_module, "SHARD_BYTES", size)
        shards = source_shards(origin, "x", raw / "sources" / "x")
        assert len(shards) == -(-(raw / "prose-large.jsonl").stat().st_size // size)
        found = [d.text for shard in shards for d in read_documents(origin, name="x", parts=shard.parts)]
        assert found == expected


def test_small_files_share_a_shard_and_a_large_source_has_no_more_than_the_most(raw, monkeypatch):
    origin = TextOrigin(files=[f"{raw}/prose*"])
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 1)
    monkeypatch.setattr(shards_module, "MAX_SHARDS", 5)
    shards = source_shards(origin, "x", raw / "sources" / "x")
    assert 2 <= len(shards) <= 10  # stretches and what is left over may take one more each
    assert any(len(shard.parts) > 1 for shard in shards)


def test_what_is_done_is_not_done_again_shard_by_shard(raw, sharded, small_shards, tmp_path):
    """Killed after every single task in turn, the same call goes on with the next one."""

    class KilledError(Exception):
        pass

    done: list[str] = []

    def once(tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
        left = 1
        for index, result in run_here(tasks):
            done.append(tasks[index].name)
            left -= 1
            if left < 0:
                raise KilledError
            yield index, result

    kills = 0
    while True:
        try:
            text = prepare_text(config_of(raw), ITEMS, tmp_path / "text", seed=0, run_tasks=once)
            break
        except KilledError:
            kills += 1
    assert kills > 8
    assert len(done) == len(set(done))
    assert bytes_of(text) == bytes_of(sharded)


def test_a_lost_shard_alone_is_made_again(raw, sharded, small_shards, tmp_path):
    config = config_of(raw)
    text = prepare_text(config, ITEMS, tmp_path / "text", seed=0)
    lost = Path(text.sources["prose"].files()[2])
    lost.unlink()
    assert load_text(tmp_path / "text") is None
    names: list[str] = []

    def noting(tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
        names.extend(task.name for task in tasks)
        return run_here(tasks)

    assert bytes_of(prepare_text(config, ITEMS, tmp_path / "text", seed=0, run_tasks=noting)) == bytes_of(sharded)
    assert [name for name in names if name.startswith(("tokenising", "reading"))] == ["tokenising prose, shard 2"]


def test_files_that_change_between_two_readings_are_noticed(raw, small_shards, tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for path in raw.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())

    def changing(tasks: Sequence[TextTask]) -> Iterator[tuple[int, Any]]:
        if tasks[0].name.startswith("tokenising prose"):
            with (folder / "prose0.jsonl").open("a") as file:
                file.write(json.dumps({"text": "one more"}) + "\n")
        return run_here(tasks)

    config = config_of(folder)
    with pytest.raises(TextError, match="Source 'prose' has changed between two readings"):
        prepare_text(config, (), tmp_path / "text", seed=0, run_tasks=changing)
    assert prepare_text(config, (), tmp_path / "text", seed=0).sources["prose"].sequences > 0


def test_a_sharded_study_grows_against_all_its_shards(raw, processes, small_shards, tmp_path):
    folder = tmp_path / "text"
    first = config_of(raw, sources={"prose": {"files": [f"{raw}/prose*"]}}, domains=prose_alone())
    kept = prepare_text(first, (), folder, seed=0)
    domains = prose_alone() | {
        "code": {"held_out": "code", "sequences": 16},
        "seen": {"files": [f"{raw}/prose-large.jsonl", f"{raw}/code0.jsonl"], "sequences": 16},
    }
    whole = config_of(raw, domains=domains)
    grown = grow_text(kept, whole, ITEMS, folder, seed=0, run_tasks=Pool(processes))
    assert grown.sources["prose"] == kept.sources["prose"]
    assert len(grown.sources["code"].shards) > 1
    assert grown.removed["code: exact duplicate"] >= 2  # documents of the prose, and its own
    assert grown.removed["domain seen: shares text with what runs were trained on"] > 20
    assert load_text(folder) == grown


def prose_alone() -> dict[str, Any]:
    return {"prose": {"held_out": "prose", "sequences": 20}}


def test_progress_says_how_many_shards_are_done_and_how_fast(raw, small_shards, tmp_path):
    lines: list[str] = []
    text = prepare_text(config_of(raw), (), tmp_path / "text", seed=0, progress=lines.append)
    count = len(text.sources["prose"].shards)
    assert f"reading: 2 of {count + len(text.sources['code'].shards)} shards" in lines
    (last,) = [line for line in lines if line.startswith(f"tokenising source prose: {count} of {count} shards")]
    assert last.endswith("tokens per second and core")


def test_a_disk_without_room_is_refused_before_anything_is_read(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("flp_ray.data.disk.free_bytes", lambda _folder: 1000)
    with pytest.raises(StorageError, match=r"1000 bytes are free, about \d{5,} are needed for the sources' token ids"):
        prepare_text(config_of(raw), (), tmp_path / "text", seed=0)
    assert not list((tmp_path / "text").rglob("*.npy"))
    assert prepare_text(config_of(raw), (), tmp_path / "text", seed=0, local=False).sources


# Duplicates


documents_of_sources = st.lists(
    st.lists(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=8), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@given(documents_of_sources, st.sampled_from([1, 5, 1000]))
@settings(deadline=None, max_examples=60)
def test_duplicates_are_those_of_a_plain_search(tmp_path_factory, sources, at_once):
    """Within a source the first stays; a text of several sources stays with the first that trains on it."""
    folder = tmp_path_factory.mktemp("keys")
    spread = (1 << 64) // 13
    keys: dict[str, list[Path]] = {}
    expected: list[list[int]] = []
    trained_on: set[int] = set()
    for number, of_source in enumerate(sources):
        seen: set[int] = set()
        own: set[int] = set()
        for index, shard in enumerate(of_source):
            table = np.array([(key * spread, at | (int(HELD) * held)) for at, (key, held) in enumerate(shard)], KEY)
            path = folder / f"{number}-{index}.npy"
            write_array(table[np.argsort(table["key"], kind="stable")], path)
            keys.setdefault(str(number), []).append(path)
            dropped = []
            for at, (key, held) in enumerate(shard):
                if key in seen or (not held and key in trained_on):
                    dropped.append(at)
                if key not in seen and not held:
                    own.add(key)
                seen.add(key)
            expected.append(dropped)
        trained_on |= own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "DOCUMENTS_AT_ONCE", at_once)
        tasks = duplicate_tasks(keys, sum(len(s) for source in sources for s in source), folder / "drops")
    list(run_here(tasks))
    drops = [task.writes[0] for task in tasks]
    paths = [path for of_source in keys.values() for path in of_source]
    found = [np.flatnonzero(document_fates(path, drops, n) == DROPPED).tolist() for n, path in enumerate(paths)]
    assert found == expected


# Mixing


def test_the_mixer_over_shards_equals_one_over_a_single_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    whole: dict[str, TokenBlocks] = {}
    cut: dict[str, TokenBlocks] = {}
    for source, counts in {"a": (30, 0, 7, 1, 12), "b": (5, 25)}.items():
        rows = rng.integers(0, 60_000, (sum(counts), 8)).astype("<u2")
        np.save(tmp_path / f"{source}.npy", rows)
        (tmp_path / source).mkdir()
        for number, part in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
            np.save(tmp_path / source / f"{number:05d}.npy", part)
        whole[source] = TokenBlocks(
            path=str(tmp_path / f"{source}.npy"),
            sequences=len(rows),
            sequence_length=8,
            documents=1,
            characters=1,
            content_hash="x",
        )
        cut[source] = replace(whole[source], path=str(tmp_path / source), shards=counts)
    monkeypatch.setattr(rows_module, "OPEN_FILES", 2)
    mixture = Mixture.of({"a": 0.6, "b": 0.4})
    one, other = (MixedStream(blocks, mixture, seed=1, sequences=90, max_epochs=2.0) for blocks in (whole, cut))
    assert np.array_equal(one.tokens(0, 90), other.tokens(0, 90))
    assert np.array_equal(one.tokens(13, 40), other.tokens(13, 40))
    assert other._rows._open.cache_info().currsize <= 2


def test_blocks_of_many_shards_survive_json(sharded):
    again = PreparedText.from_dict(json.loads(json.dumps(sharded.to_dict())))
    assert again == sharded
    assert isinstance(again.sources["prose"].shards, tuple)
