"""Origins, prose, split, tokenizer, blocks and items, each on its own."""

import gzip
import json
import random
import sysconfig
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.data.blocks import write_blocks
from flp_ray.data.config import TextOrigin
from flp_ray.data.documents import Document
from flp_ray.data.drafts import BRACKETS, code_syntaxes, continuations, word_orders
from flp_ray.data.installed import builtin_documents, builtin_versions
from flp_ray.data.origins import read_documents
from flp_ray.data.prose import prose
from flp_ray.data.split import Decontaminator, held_out
from flp_ray.data.spool import read_written, write_documents
from flp_ray.data.tokenizer import TextEncoder, save_hugging_face, save_trained
from flp_ray.errors import TextError

VOCABULARY = 400


def texts_of(origin: TextOrigin) -> list[str]:
    return [document.text for document in read_documents(origin, name="here")]


@pytest.fixture(scope="module")
def topics() -> list[str]:
    return [document.text for document in builtin_documents("reference")]


@pytest.fixture(scope="module")
def encoder(topics, tmp_path_factory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    save_trained(topics[:20], VOCABULARY, folder)
    return TextEncoder(folder)


# Origins


def test_built_in_code_is_the_standard_library_without_tests():
    documents = list(islice(builtin_documents("code"), 40))
    folder = Path(sysconfig.get_path("stdlib"))
    for document in documents:
        assert document.text in (folder / document.group).read_text(encoding="utf-8", errors="ignore")
        assert not {"test", "tests", "idlelib", "site-packages"} & set(Path(document.group).parts)
        assert "topics" not in document.group


def test_pieces_of_a_file_are_the_whole_file_in_order():
    found = [d for d in builtin_documents("code") if d.group == "argparse.py"]
    whole = Path(sysconfig.get_path("stdlib"), "argparse.py").read_text()
    assert len(found) > 5
    assert "".join("".join(d.text for d in found).split()) == "".join(whole.split())


@pytest.mark.parametrize("builtin", ["general", "math", "science"])
def test_built_in_docstrings_are_prose_without_doctests(builtin):
    documents = list(islice(builtin_documents(builtin), 300))
    assert len(documents) == 300
    assert not any(">>>" in document.text for document in documents)
    assert all(len(document.text) >= 200 for document in documents)
    versions = builtin_versions(builtin)
    assert {document.id.split("/")[0] for document in documents} <= set(versions)
    assert ("scipy" in versions) == (builtin == "science")
    assert ("sympy" in versions) == (builtin == "math")


def test_built_in_documents_come_in_the_same_order_each_time():
    first, again = (list(islice(builtin_documents("math"), 50)) for _ in range(2))
    assert first == again


def test_prose_keeps_sentences_and_drops_code():
    text = """Return the sum of ``x``, as :func:`math.fsum` does.

    See [1]_ for more, or :class:`~numpy.ndarray`.

    Parameters
    ----------
    x : list
        What to add.

    Examples
    --------
    >>> fsum([1, 2])
    3.0

    An aside. Code follows::

        y = fsum(x)
        print(y)

    .. code-block:: python

        import math

    .. note::
        Mind the order.

    ```python
    fsum([])
    ```
    Raises
    ------
    """
    assert prose(text) == (
        "Return the sum of x, as math.fsum does.\n\nSee for more, or numpy.ndarray.\n\nParameters\n"
        "x : list\n    What to add.\n\nExamples\n\nAn aside. Code follows:\n\n    Mind the order."
    )


def test_files_of_every_kind_give_the_same_texts(tmp_path):
    texts = ["first\ntext", "second", "naïve third"]
    lines = "".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    with pa.output_stream(str(tmp_path / "c.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines.encode())
    (tmp_path / "d.json").write_text(json.dumps([{"text": text} for text in texts]))
    pq.write_table(pa.table({"text": texts, "n": [1, 2, 3]}), tmp_path / "e.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.json", "e.parquet"):
        assert texts_of(TextOrigin(files=[str(tmp_path / name)])) == texts, name
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(text)
    assert sorted(texts_of(TextOrigin(files=[str(tmp_path / "*.txt")]))) == sorted(texts)


def test_files_come_in_an_order_that_does_not_depend_on_their_folder(tmp_path):
    for folder in ("x/deep", "y"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        for number in range(12):
            (tmp_path / folder / "sub" / f"{number}.txt").write_text(f"text {number}")
    one, two = (
        list(read_documents(TextOrigin(files=[str(tmp_path / folder / "**/*.txt")]), name="here"))
        for folder in ("x/deep", "y")
    )
    assert one == two
    assert [d.text for d in one] != sorted(d.text for d in one)


def test_max_characters_ends_with_the_document_that_reaches_it(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": "x" * 10}) + "\n" for _ in range(9)))
    assert len(texts_of(TextOrigin(files=[str(tmp_path / "a.jsonl")], max_characters=35))) == 4


def test_wrong_files_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "x"}\n')
    (tmp_path / "bad.jsonl").write_text("{not json\n")
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "empty.jsonl").write_text('{"text": "  "}\n')
    (tmp_path / "bad.parquet").write_text("x")
    cases = {
        "nothing*.txt": r"no file matches",
        "a.jsonl": r"no key 'text', found body; set `column`",
        "bad.jsonl": r"cannot be read as \.jsonl",
        "bad.parquet": r"cannot be read as \.parquet",
        "a.csv": r"no known kind '\.csv'; known: \.parquet",
        "empty.jsonl": r"is empty.*holds no text",
    }
    for name, message in cases.items():
        with pytest.raises(TextError, match=message):
            texts_of(TextOrigin(files=[str(tmp_path / name)]))


# Split


def test_held_out_documents_are_a_fraction_and_groups_stay_together():
    documents = [Document(id=f"{n}", text=f"text {n}") for n in range(4000)]
    out = [held_out(document, fraction=0.1, seed=0) for document in documents]
    assert 0.08 < np.mean(out) < 0.12  # 0.1 with a standard deviation of 0.005
    assert out != [held_out(document, fraction=0.1, seed=1) for document in documents]
    spaced = [held_out(Document(id="other", text=f" text\n{n} "), fraction=0.1, seed=0) for n in range(4000)]
    assert out == spaced
    grouped = [Document(id=f"{n}", text=f"text {n}", group=f"g{n % 50}") for n in range(500)]
    sides = {document.group: held_out(document, fraction=0.3, seed=0) for document in grouped}
    assert all(held_out(document, fraction=0.3, seed=0) == sides[document.group] for document in grouped)


def naive_overlap(text: str, domain: list[str], n: int) -> bool:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}

    return any(grams(text) & grams(other) for other in domain) or text.split() in [d.split() for d in domain]


word_texts = st.lists(st.lists(st.sampled_from("abc"), max_size=14).map(" ".join), min_size=1, max_size=6)


@given(word_texts, word_texts, st.integers(1, 5))
@settings(deadline=None)
def test_decontamination_finds_what_a_plain_search_finds(training, domain, n):
    found = Decontaminator(domain, ngram=n).overlapping(training)
    assert found.tolist() == [naive_overlap(text, domain, n) for text in training]


def test_decontamination_of_thirteen_words_ignores_case_and_punctuation():
    words = [f"word{k}" for k in range(40)]
    decontaminator = Decontaminator([" ".join(words)], ngram=13)
    texts = [
        "Before, " + ", ".join(words[5:18]).upper() + " after",
        " ".join(words[5:17]) + " other " + " ".join(words[18:30]),
        " ".join(words[:12]),
        "nothing of it",
    ]
    assert decontaminator.overlapping(texts).tolist() == [True, False, False, False]
    assert Decontaminator([texts[0]], ngram=0).overlapping(texts).tolist() == [True, False, False, False]


def test_documents_are_kept_whole_and_appear_when_the_last_one_is_taken(tmp_path):
    documents = [
        Document(id="1", text="a  b", group="f"),
        Document(id="2", text="a\nb"),
        Document(id="3", text="\ud800c", group="g"),
    ]
    path = tmp_path / "deep" / "kept.jsonl"
    passing = write_documents(documents, path)
    assert [next(passing), next(passing)] == documents[:2]
    assert not path.exists()
    assert list(passing) == documents[2:]
    assert list(read_written(path)) == documents


# Tokenizer and blocks


def test_training_twice_gives_the_same_files_and_transformers_loads_them(topics, tmp_path):
    for folder in ("one", "two"):
        save_trained(topics[:10], VOCABULARY, tmp_path / folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "flp_ray.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert len(tokenizer) == VOCABULARY
    text = topics[30] + " naïve 漢字"
    encoder = TextEncoder(tmp_path / "one")
    (ids,) = encoder.encode([text])
    assert tokenizer(text)["input_ids"] == ids.tolist()
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == encoder.end
    assert tokenizer.pad_token_id not in (None, encoder.end)


def test_a_hugging_face_tokenizer_is_copied_or_refused(topics, tmp_path):
    save_trained(topics[:10], VOCABULARY, tmp_path / "own")
    save_hugging_face(str(tmp_path / "own"), VOCABULARY, tmp_path / "copy")
    own, copy = TextEncoder(tmp_path / "own"), TextEncoder(tmp_path / "copy")
    assert own.end == copy.end
    assert np.array_equal(own.encode(topics[:1])[0], copy.encode(topics[:1])[0])
    with pytest.raises(TextError, match=r"has 400 tokens, the models are built for 399.*at least 400"):
        save_hugging_face(str(tmp_path / "own"), 399, tmp_path / "small")
    with pytest.raises(TextError, match="cannot be loaded"):
        save_hugging_face(str(tmp_path / "nowhere"), VOCABULARY, tmp_path / "none")


def test_blocks_are_the_documents_end_to_end(encoder, topics, tmp_path):
    path = tmp_path / "b.npy"
    blocks = write_blocks(topics[:30], encoder, path, vocabulary=VOCABULARY, sequence_length=32)
    ids = np.concatenate([np.append(found, encoder.end) for found in encoder.encode(topics[:30])])
    rows = blocks.open()
    assert rows.dtype == np.uint16
    assert rows.shape == (len(ids) // 32, 32) == (blocks.sequences, blocks.sequence_length)
    assert np.array_equal(rows.ravel(), ids[: rows.size])
    assert (blocks.documents, blocks.characters) == (30, sum(map(len, topics[:30])))
    assert [p.name for p in tmp_path.iterdir()] == ["b.npy"]
    wide = write_blocks(topics[:30], encoder, tmp_path / "w.npy", vocabulary=70_000, sequence_length=32)
    assert wide.open().dtype == np.uint32
    few = write_blocks(topics[:30], encoder, tmp_path / "f.npy", vocabulary=VOCABULARY, sequence_length=32, sequences=3)
    assert np.array_equal(few.open(), rows[:3])
    hashes = {blocks.content_hash, wide.content_hash, few.content_hash}
    assert len(hashes) == 3


def test_the_size_of_encoding_batches_changes_nothing(encoder, topics, tmp_path, monkeypatch):
    settings = {"vocabulary": VOCABULARY, "sequence_length": 32}
    whole = write_blocks(topics[:30], encoder, tmp_path / "a.npy", **settings)
    monkeypatch.setattr("flp_ray.data.blocks.CHARACTERS_AT_ONCE", 500)
    parts = write_blocks(topics[:30], encoder, tmp_path / "b.npy", **settings)
    assert whole.content_hash == parts.content_hash


# Items


def test_continuations_go_on_where_the_context_ends(encoder, topics):
    flat = [" ".join(text.split()) for text in topics]
    drafts = list(islice(continuations(flat, encoder, random.Random(0), sequence_length=128, wanted=60), 60))
    assert len(drafts) == 60
    for draft in drafts:
        assert any(f"{draft.question} {draft.right}" in text for text in flat)
        assert not any(f"{draft.question} {wrong}" in text for text in flat for wrong in draft.wrong)
        assert len({draft.right, *draft.wrong}) == 4
        lengths = encoder.lengths([" " + choice for choice in (draft.right, *draft.wrong)])
        assert all(abs(length - lengths[0]) <= 1 for length in lengths)
        assert 22 <= min(lengths) <= max(lengths) <= 36


def test_word_orders_swap_two_neighbours_of_a_real_sentence(topics):
    drafts = list(islice(word_orders(topics, random.Random(0)), 80))
    assert len(drafts) == 80
    flat = [" ".join(text.split()) for text in topics]
    for draft in drafts:
        right, (wrong,) = draft.right.split(" "), (w.split(" ") for w in draft.wrong)
        assert 8 <= len(right) <= 20
        assert any(draft.right in text for text in flat)
        moved = [k for k, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b]
        assert len(moved) == 2
        assert moved[1] == moved[0] + 1
        assert [right[k] for k in moved] == [wrong[k] for k in reversed(moved)]


def test_code_syntaxes_parse_and_do_not_parse_and_are_not_told_by_their_length(encoder):
    texts = [document.text for document in islice(builtin_documents("code"), 60)]
    drafts = list(islice(code_syntaxes(texts, encoder, random.Random(0), max_characters=256), 120))
    assert len(drafts) == 120
    edits = set()
    for draft in drafts:
        (wrong,) = draft.wrong
        compile(draft.right, "right", "exec", flags=0x400, dont_inherit=True)  # ast only: a bare return is fine
        with pytest.raises(SyntaxError):
            compile(wrong, "wrong", "exec", flags=0x400, dont_inherit=True)
        assert abs(len(wrong) - len(draft.right)) <= 1
        edits.add(len(wrong) - len(draft.right))
        bare = str.maketrans("", "", BRACKETS)
        assert draft.right.translate(bare) == wrong.translate(bare)
    assert {-1, 0} <= edits <= {-1, 0, 1}
    lengths = [encoder.lengths([f" {draft.right}", f" {draft.wrong[0]}"]) for draft in drafts]
    equal = sum(right == wrong for right, wrong in lengths)
    assert equal > 0.6 * len(drafts)
    # Whoever takes the shorter choice, and guesses where both are equally long, is right hardly more often than half.
    assert sum(right < wrong for right, wrong in lengths) + equal / 2 < 0.6 * len(drafts)
