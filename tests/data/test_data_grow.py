"""A study's text grows while what runs were trained on stands still, byte for byte."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data import contents, grow_text, load_text, prepare_text
from flp_ray.data.config import TextConfig
from flp_ray.data.installed import GENERAL_PACKAGES, builtin_documents
from flp_ray.data.split import Decontaminator
from flp_ray.errors import TextError
from tests.data.test_data_prepare import decoded, grams, shown_texts, write_jsonl

FIRST = (
    ItemSet(task="order", kind="word_order", domain="prose", items=20),
    ItemSet(task="syntax", kind="code_syntax", domain="code", items=20),
)
MORE = (
    *FIRST,
    ItemSet(task="next", kind="continuation", domain="prose", items=30),
    ItemSet(task="sums", kind="word_order", domain="maths", items=15),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Real text: standard library and topics; sympy's docstrings with pieces of the other two mixed in."""
    folder = tmp_path_factory.mktemp("raw")
    code = [d.text for d, _ in zip(builtin_documents("code"), range(160), strict=False)]
    topics = "\n\n".join(d.text for d in builtin_documents("reference"))
    prose = [topics[k : k + 900] for k in range(0, 240_000, 900)]
    maths = [d.text for d, _ in zip(builtin_documents("math"), range(220), strict=False)]
    maths[10:10] = code[:20]
    return {
        "code": write_jsonl(folder / "code.jsonl", code),
        "prose": write_jsonl(folder / "prose.jsonl", prose),
        "maths": write_jsonl(folder / "maths.jsonl", maths),
        "mixed": write_jsonl(folder / "mixed.jsonl", [*prose[::3], *maths[60:]]),
    }


def config_of(files: dict[str, str], *, grown: bool, **domains) -> TextConfig:
    sources, named = ["code", "prose"], {name: {"held_out": name, "sequences": 20} for name in ("code", "prose")}
    if grown:
        sources.append("maths")
        named |= {
            "maths": {"held_out": "maths", "sequences": 16},
            "mixed": {"files": [files["mixed"]], "sequences": 16},
            "more prose": {"held_out": "prose", "sequences": 16},
        }
    return TextConfig.model_validate(
        {
            "sources": {name: {"files": [files[name]]} for name in sources},
            "domains": named | domains,
            "tokenizer": {"vocabulary": 400},
            "sequence_length": 64,
            "held_out_fraction": 0.25,
        }
    )


def first(files: dict[str, str], folder: Path) -> PreparedText:
    return prepare_text(config_of(files, grown=False), FIRST, folder, seed=0)


@pytest.fixture(scope="module")
def texts(files, tmp_path_factory) -> tuple[PreparedText, PreparedText]:
    folder = tmp_path_factory.mktemp("study") / "text"
    kept = first(files, folder)
    return kept, grow_text(kept, config_of(files, grown=True), MORE, folder, seed=0)


def test_what_was_there_is_the_same_files(texts):
    kept, grown = texts
    assert {name: grown.sources[name] for name in kept.sources} == kept.sources
    assert {name: grown.domains[name] for name in kept.domains} == kept.domains
    assert kept.items.items() <= grown.items.items()
    assert grown.tokenizer == kept.tokenizer
    assert contents(kept).items() < contents(grown).items()
    assert set(grown.sources) == {"code", "prose", "maths"}
    assert set(grown.domains) == {"code", "prose", "maths", "mixed", "more prose"}
    assert set(grown.items) == {"order", "syntax", "next", "sums"}
    assert {name: grown.removed[name] for name in kept.removed} == kept.removed
    assert load_text(Path(kept.tokenizer).parents[1]) == grown
    assert not list(Path(kept.tokenizer).parents[1].rglob("work"))


def test_no_training_text_old_or_new_shares_thirteen_words_with_what_is_shown(texts):
    _, grown = texts
    shown = set().union(*(grams(text) for text in shown_texts(grown)))
    assert len(shown) > 500
    for source in grown.sources:
        training = [grams(text) for text in decoded(grown, source)]
        assert sum(map(len, training)) > 3_000
        assert not any(found & shown for found in training)


def test_what_gave_way_is_counted(texts):
    """The domain `mixed` holds a third of the trained-on prose, the source `maths` documents of the code."""
    _, grown = texts
    assert grown.removed["domain mixed: shares text with what runs were trained on"] > 40
    assert grown.removed["maths: exact duplicate"] > 5
    for name, blocks in grown.domains.items():
        assert blocks.sequences >= 16, name
    assert [len(Path(path).read_text().splitlines()) for path in grown.items.values()] == [20, 20, 30, 15]


def test_a_second_domain_of_one_source_shows_other_documents(texts):
    _, grown = texts
    one, other = (
        {" ".join(text.split()) for text in decoded(grown, name, "domains")} for name in ("prose", "more prose")
    )
    assert not (one & other) - {""}


def test_a_new_task_asks_about_documents_that_no_loss_is_measured_on(texts):
    _, grown = texts
    losses = set().union(*(grams(text) for text in decoded(grown, "prose", "domains")))
    rows = list(map(json.loads, Path(grown.items["next"]).read_text().splitlines()))
    asked = [grams(f"{row['question']} {row['choices'][row['gold']]}") for row in rows]
    # Neighbouring documents of this file were cut from one text and repeat some phrases.
    assert sum(bool(found & losses) for found in asked) <= 0.1 * len(asked)


def test_growing_again_or_after_an_interruption_gives_the_same(texts, files, tmp_path):
    class StopError(Exception):
        pass

    folder, stops = tmp_path / "text", 0
    kept = first(files, folder)
    while True:
        left = stops

        def progress(_line: str) -> None:
            nonlocal left
            if left == 0:
                raise StopError
            left -= 1

        try:
            again = grow_text(kept, config_of(files, grown=True), MORE, folder, seed=0, progress=progress)
            break
        except StopError:
            stops += 1
            assert load_text(folder) == kept
    assert stops >= 6
    assert (again.content_id, again.removed) == (texts[1].content_id, texts[1].removed)
    lines: list[str] = []
    assert grow_text(kept, config_of(files, grown=True), MORE, folder, seed=0, progress=lines.append) == again
    assert lines == []  # nothing is read


def test_a_kill_before_the_clean_up_leaves_nothing_once_it_grows_again(texts, files, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def killed(*_) -> None:
        raise KilledError

    folder = tmp_path / "text"
    kept = first(files, folder)
    monkeypatch.setattr("flp_ray.data.grow.remove_leftovers", killed)
    with pytest.raises(KilledError):
        grow_text(kept, config_of(files, grown=True), MORE, folder, seed=0)
    monkeypatch.undo()
    assert list(folder.rglob("work"))
    again = grow_text(kept, config_of(files, grown=True), MORE, folder, seed=0)
    assert not list(folder.rglob("work"))
    assert load_text(folder) == again and again.content_id == texts[1].content_id


def test_growth_in_two_steps_keeps_the_first(texts, files, tmp_path):
    folder = tmp_path / "text"
    kept = first(files, folder)
    whole = config_of(files, grown=True)
    only_source = whole.model_copy(update={"domains": config_of(files, grown=False).domains})
    half = grow_text(kept, only_source, FIRST, folder, seed=0)
    grown = grow_text(half, whole, MORE, folder, seed=0)
    assert grown.sources == half.sources
    assert set(grown.domains) == set(texts[1].domains)
    for path in (*(b.path for b in grown.sources.values()), *grown.items.values()):
        assert Path(path).exists()
    # Now the source `maths` stood before its domain, so the domain had to give way.
    shown = set().union(*(grams(text) for text in shown_texts(grown)))
    assert not any(grams(text) & shown for source in grown.sources for text in decoded(grown, source))


def test_a_source_that_left_the_file_keeps_its_text(texts, files, tmp_path):
    folder = tmp_path / "text"
    kept = first(files, folder)
    config = config_of(files, grown=True, **{"more prose": {"held_out": "maths"}})
    without = config.model_copy(update={"sources": {n: s for n, s in config.sources.items() if n != "code"}})
    grown = grow_text(kept, without, MORE, folder, seed=0)
    assert grown.sources["code"] == kept.sources["code"]
    assert "maths" in grown.sources


def test_a_new_domain_that_was_trained_on_is_refused_with_the_numbers(files, tmp_path):
    folder = tmp_path / "text"
    kept = first(files, folder)
    trained_on = write_jsonl(tmp_path / "same.jsonl", decoded(kept, "prose")[:60])
    config = config_of(files, grown=False, same={"files": [trained_on], "sequences": 100})
    with pytest.raises(TextError, match=r"Domain 'same' is too short.*60 of 60 looked at are left out"):
        grow_text(kept, config, FIRST, folder, seed=0)
    assert load_text(folder) == kept
    many = ItemSet(task="many", kind="word_order", domain="prose", items=5000)
    with pytest.raises(TextError, match="ask for at most"):
        grow_text(kept, config_of(files, grown=False), (*FIRST, many), folder, seed=0)
    nowhere = replace(many, domain="physics")
    with pytest.raises(TextError, match="Task 'many' asks about domain 'physics'"):
        grow_text(kept, config_of(files, grown=False), (*FIRST, nowhere), folder, seed=0)


def test_seen_in_finds_what_overlapping_finds_from_the_other_side(files):
    rows = [json.loads(line)["text"] for line in Path(files["prose"]).read_text().splitlines()]
    held, training = rows[:60:2], [f"Before. {rows[0][100:400]} after.", *rows[80:120], rows[2]]
    decontaminator = Decontaminator(held, ngram=8)
    seen = decontaminator.seen_in([training[:10], training[10:]])
    flags = seen.overlapping(held)
    assert flags[0]
    assert flags[1]
    for text, flag in zip(held, flags, strict=True):
        shares = [bool(eight(text) & eight(other)) for other in training]
        assert flag == any(shares)
    assert not Decontaminator(held, ngram=8).seen_in([]).overlapping(held).any()


def eight(text: str) -> set[tuple[str, ...]]:
    import re

    words = re.findall(r"\w+", text.lower())
    return {tuple(words[k : k + 8]) for k in range(len(words) - 7)}


def test_training_text_is_read_back_whole_across_batches(texts, monkeypatch):
    from flp_ray.data import standing

    kept, _ = texts
    expected = "".join(decoded(kept, "code"))
    monkeypatch.setattr(standing, "TOKENS_AT_ONCE", 640)
    monkeypatch.setattr(standing, "_OVERLAP_TOKENS", 0)
    batches = list(standing.trained_on(Path(kept.sources["code"].path), Path(kept.tokenizer)))
    assert len(batches) > 20
    assert "".join(text for batch in batches for text in batch) == expected


def test_the_sources_that_come_with_the_installation_do_not_hold_each_others_text():
    assert "sympy" not in GENERAL_PACKAGES
    assert "scipy" not in GENERAL_PACKAGES


def test_a_built_in_text_is_either_trained_on_or_held_out():
    def config(**domains) -> TextConfig:
        sources = {"general": {"builtin": "general"}, "math": {"builtin": "math"}}
        return TextConfig.model_validate({"sources": sources, "domains": domains})

    with pytest.raises(ValueError, match=r"domain sympy is the built-in text math, which source math trains on"):
        config(sympy={"builtin": "math"})
    assert config(math={"held_out": "math"}, science={"builtin": "science"}).domains["math"].held_out == "math"


def test_the_built_in_math_is_a_source_beside_its_own_domain(tmp_path):
    value = {
        "sources": {name: {"builtin": name, "max_characters": 300_000} for name in ("code", "math")},
        "domains": {name: {"held_out": name, "sequences": 16} for name in ("code", "math")},
        "tokenizer": {"vocabulary": 400},
        "sequence_length": 64,
    }
    text = prepare_text(TextConfig.model_validate(value), (), tmp_path / "text", seed=0)
    assert text.sources["math"].tokens > 50_000
    assert np.all(text.domains["math"].open() < 400)
    shown = set().union(*(grams(t) for t in decoded(text, "math", "domains")))
    assert not any(grams(t) & shown for t in decoded(text, "math"))
