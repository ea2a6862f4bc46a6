"""The paper's training and validation texts as the hub lays them out, filled with text of the standard library."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flp_ray.data.installed import builtin_documents

BUCKET = "softwareheritage"
DAY = datetime.datetime(2023, 9, 6)


def write_texts(folder: Path, *, documents: int = 160) -> dict[str, bytes]:
    """Writes `<folder>/<owner>/<name>/...` for every text of the paper's studies.

    Args:
        folder: What FLP_RAY_HUB names.
        documents: Documents of each text, about.

    Returns:
        What Software Heritage's bucket holds for The Stack, by key.
    """
    _dclm(folder / "mlfoundations/dclm-baseline-1.0", some_texts("prose", 0, documents))
    _c4(folder / "allenai/c4", some_texts("prose", documents, documents))
    _wikipedia(folder / "wikimedia/wikipedia", some_texts("prose", 2 * documents, documents))
    _proof_pile(folder / "EleutherAI/proof-pile-2", some_texts("prose", 3 * documents, documents))
    _redpajama(folder / "togethercomputer/RedPajama-Data-1T", documents)
    _github_code(folder / "codeparrot/github-code", some_texts("code", documents, documents))
    return _stack(folder / "bigcode/the-stack-v2-train-full-ids", some_texts("code", 0, documents))


@cache
def _prose() -> list[str]:
    """The topics of pydoc in pieces of some size, cut at line ends."""
    pieces = []
    for document in builtin_documents("reference"):
        text = document.text
        while text:
            end = text.find("\n", 600) + 1 or len(text)
            pieces.append(text[:end])
            text = text[end:]
    return [piece for piece in pieces if len(piece) > 200]


@cache
def _code(count: int) -> list[str]:
    return [document.text for document in islice(builtin_documents("code"), count)]


def some_texts(kind: str, start: int, count: int) -> list[str]:
    """Some documents; another start gives others, as long as there are any."""
    texts = _code(start + count) if kind == "code" else _prose()
    return [texts[at % len(texts)] for at in range(start, start + count)]


def _lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    compression = {".zst": "zstd", ".gz": "gzip"}.get(path.suffix)
    with pa.output_stream(str(path), compression=compression) as stream:
        stream.write(data)


def _table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _parts(texts: list[str], count: int) -> Iterable[tuple[int, list[str]]]:
    return ((number, texts[number::count]) for number in range(count))


def _dclm(copy: Path, texts: list[str]) -> None:
    for number, part in _parts(texts, 6):
        place = f"global-shard_0{number // 2 + 1}_of_10/local-shard_{number % 2}_of_10"
        rows = (
            {
                "bff_contained_ngram_count_before_dedupe": 0,
                "language_id_whole_page_fasttext": {"en": 0.97},
                "metadata": {"Content-Length": str(len(text)), "Content-Type": "application/http; msgtype=response"},
                "previous_word_count": len(text.split()),
                "text": text,
                "url": f"https://example.org/{number}/{at}",
                "warcinfo": "warc-type: WARC/1.0",
                "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob": 0.03,
            }
            for at, text in enumerate(part)
        )
        _lines(copy / place / f"shard_0000000{number}_processed.jsonl.zst", rows)
    (copy / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Toy DCLM\n")


def _redpajama(copy: Path, documents: int) -> None:
    """The repository holds lists of URLs; here they name files beside it, as a local mirror would."""
    few = max(documents // 4, 2)
    subsets = ("arxiv", "c4", "common_crawl", "github", "stackexchange", "wikipedia")
    for index, subset in enumerate(subsets):
        suffix = "jsonl.zst" if subset == "common_crawl" else "jsonl"
        kind = "code" if subset == "github" else "prose"
        texts = some_texts(kind, (2 if kind == "code" else 4) * documents + index * few, few)
        urls = []
        for number, part in _parts(texts, 2):
            path = copy.parent / "mirror" / "redpajama-data-1T" / "v1.0.0" / subset / f"{subset}_{number}.{suffix}"
            _lines(path, ({"text": text, "meta": {"url": f"https://example.org/{subset}"}} for text in part))
            urls.append(path.absolute().as_uri())
        (copy / "urls").mkdir(parents=True, exist_ok=True)
        (copy / "urls" / f"{subset}.txt").write_text("\n".join(urls) + "\n")
    (copy / "README.md").write_text("---\npretty_name: Red Pajama 1T\n---\n")


def _github_code(copy: Path, texts: list[str]) -> None:
    for number, part in _parts(texts, 2):
        rows = [
            {
                "code": text,
                "repo_name": f"someone/project{at % 7}",
                "path": f"src/file{at}.py",
                "language": "Python",
                "license": "mit",
                "size": len(text),
            }
            for at, text in enumerate(part)
        ]
        _table(copy / "data" / f"train-0000{number}-of-00002.parquet", rows)


def _c4(copy: Path, texts: list[str]) -> None:
    parts = {"en/c4-train.00000-of-01024.json.gz": texts[::2], "en/c4-validation.00000-of-00008.json.gz": texts[1::2]}
    for name, part in parts.items():
        rows = ({"text": t, "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org"} for t in part)
        _lines(copy / name, rows)
    (copy / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/c4-train.*.json.gz\n"
        "  - split: validation\n    path: en/c4-validation.*.json.gz\n---\n"
    )


def _wikipedia(copy: Path, texts: list[str]) -> None:
    for number, part in _parts(texts, 2):
        rows = [{"id": str(at), "url": "https://example.org", "title": t[:20], "text": t} for at, t in enumerate(part)]
        _table(copy / "20231101.en" / f"train-0000{number}-of-00041.parquet", rows)
    (copy / "README.md").write_text(
        "---\nconfigs:\n- config_name: 20231101.en\n  data_files:\n  - split: train\n    path: 20231101.en/train-*\n"
        "- config_name: 20231101.de\n  data_files:\n  - split: train\n    path: 20231101.de/train-*\n---\n"
    )


def _proof_pile(copy: Path, texts: list[str]) -> None:
    for index, subset in enumerate(("algebraic-stack", "arxiv", "open-web-math")):
        for number, split in enumerate(("train", "validation", "test")):
            part = texts[3 * index + number :: 9]
            suffix = "" if split == "train" else f"-{split}"
            rows = ({"text": text, "meta": {"subset": subset}} for text in part)
            _lines(copy / subset / split / f"{subset}{suffix}_0000.jsonl.zst", rows)


_FILE = pa.struct(
    [
        ("blob_id", pa.string()),
        ("path", pa.string()),
        ("content_id", pa.string()),
        ("language", pa.string()),
        ("length_bytes", pa.int64()),
        ("detected_licenses", pa.list_(pa.string())),
        ("license_type", pa.string()),
        ("src_encoding", pa.string()),
        ("is_vendor", pa.bool_()),
        ("is_generated", pa.bool_()),
        ("alphanum_fraction", pa.float32()),
        ("alpha_fraction", pa.float32()),
        ("num_lines", pa.int32()),
        ("avg_line_length", pa.float32()),
        ("max_line_length", pa.int32()),
    ]
)
_REPOSITORY = pa.schema(
    [
        ("repo_name", pa.string()),
        ("repo_url", pa.string()),
        ("snapshot_id", pa.string()),
        ("revision_id", pa.string()),
        ("directory_id", pa.string()),
        ("branch_name", pa.string()),
        ("visit_date", pa.timestamp("ns")),
        ("revision_date", pa.timestamp("ns")),
        ("committer_date", pa.timestamp("ns")),
        ("github_id", pa.int64()),
        ("star_events_count", pa.int32()),
        ("fork_events_count", pa.int32()),
        ("gha_license_id", pa.string()),
        ("gha_created_at", pa.timestamp("ns")),
        ("gha_language", pa.string()),
        ("files", pa.list_(_FILE)),
        ("num_files", pa.int32()),
    ]
)


def _stack(copy: Path, texts: list[str]) -> dict[str, bytes]:
    blobs: dict[str, bytes] = {}
    for number, part in _parts(texts, 4):
        rows = [_repository(number, at, part[at : at + 3], blobs) for at in range(0, len(part), 3)]
        _table(copy / "data" / f"train-0000{number}-of-00004.parquet", rows, _REPOSITORY)
    return blobs


def _repository(number: int, at: int, texts: list[str], blobs: dict[str, bytes]) -> dict[str, Any]:
    name = f"someone{number}/project{at}"
    files = [_file(f"src/file{k}.py", text, blobs) for k, text in enumerate(texts)]
    return {
        "repo_name": name,
        "repo_url": f"https://github.com/{name}",
        "branch_name": "refs/heads/main",
        "visit_date": DAY,
        "revision_date": DAY,
        "committer_date": DAY,
        "star_events_count": 0,
        "fork_events_count": 0,
        "gha_language": "Python",
        "files": files,
        "num_files": len(files),
    }


def _file(path: str, text: str, blobs: dict[str, bytes]) -> dict[str, Any]:
    encoding = "UTF-8" if not text.isascii() else "ISO-8859-1"
    data = text.encode(encoding)
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    blobs[f"content/{blob}"] = gzip.compress(data, mtime=0)
    lines = text.splitlines()
    return {
        "blob_id": blob,
        "path": f"/{path}",
        "content_id": blob,
        "language": "Python",
        "length_bytes": len(data),
        "detected_licenses": ["MIT"],
        "license_type": "permissive",
        "src_encoding": encoding,
        "is_vendor": False,
        "is_generated": False,
        "num_lines": len(lines),
        "max_line_length": max(map(len, lines), default=0),
    }
