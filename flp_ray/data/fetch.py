"""Copies of what a study reads from the hub, for nodes that do not reach it: `<folder>/<owner>/<name>/...`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from flp_ray.core.text import ItemSet
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.disk import STORAGE, check_space, free_bytes
from flp_ray.data.job import enough_characters
from flp_ray.data.network import network_errors, passing, patiently
from flp_ray.data.origins import read_documents
from flp_ray.data.parts import Part, opened
from flp_ray.data.repositories import CONTENTS, LISTING, Repository, listed_sizes, unreachable, url_name
from flp_ray.data.software_heritage import contents_of
from flp_ray.data.tasks import write_json
from flp_ray.errors import StorageError, TextError

_TOKENIZER = (
    "tokenizer*",
    "*.model",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
_COPIED_AT_ONCE = 16 << 20
_ROWS_AT_ONCE = 1024


def fetch_texts(
    config: TextConfig,
    folder: Path,
    *,
    items: Sequence[ItemSet] = (),
    progress: Callable[[str], None] | None = None,
) -> None:
    """Copies the files that a study's sources, domains and tokenizer need from the hub; goes on where it was killed.

    Of a text with `max_characters`, and of a domain, files are fetched in the order in which they are read, until
    there is enough. With FLP_RAY_HUB set to the folder, preparing then gives what it would give with the hub.

    Args:
        config: Settings of the text.
        folder: Where to.
        items: The built-in tasks, which need text of their domains.
        progress: Called with a line of text for each file.

    Raises:
        TextError: A data set or a tokenizer cannot be fetched, or no file of it matches.
        StorageError: The disk has no room, or the folder cannot be written.
    """
    say = progress if progress is not None else lambda _line: None
    for name, origin in _texts(config, items).items():
        try:
            _fetch_text(name, origin, folder, say)
        except network_errors() as error:
            _check_disk(error, folder, f"Hub data set {origin.hub!r} (text {name!r})")
            raise unreachable(origin, name, error) from error
    tokenizer = config.tokenizer.hugging_face
    if tokenizer is not None and not Path(tokenizer).is_dir():
        say(f"fetching tokenizer {tokenizer}")
        _fetch_tokenizer(tokenizer, folder)


def _texts(config: TextConfig, items: Sequence[ItemSet]) -> dict[str, TextOrigin]:
    """The hub texts of a study with the limits that they are read to."""
    texts: dict[str, TextOrigin] = {name: source for name, source in config.sources.items() if source.hub is not None}
    asked: Counter[str] = Counter()
    for item_set in items:
        asked[item_set.domain] += item_set.items
    for name, domain in config.domains.items():
        if domain.hub is not None:
            enough = domain.max_characters or enough_characters(config, name, asked[name])
            texts[f"domain {name}"] = domain.model_copy(update={"max_characters": enough})
    return texts


def _fetch_text(name: str, origin: TextOrigin, folder: Path, say: Callable[[str], None]) -> None:
    assert origin.hub is not None
    copy = folder / origin.hub
    repository = Repository(name=origin.hub, copy=copy)
    sizes = _listing(copy) | listed_sizes(origin.hub)
    write_json(copy / LISTING, sizes)
    for small in ("README.md", origin.urls):
        if small is not None and small in sizes:
            patiently(partial(_fetch_file, origin.hub, small, sizes[small], copy))
    parts = repository.parts(origin, name)
    write_json(copy / LISTING, sizes | {part.name: part.size for part in parts})
    if origin.max_characters is None:
        missing = [part for part in parts if not _is_there(copy, part.name, part.size)]
        check_space(folder, sum(part.size for part in missing), f"the files of {origin.hub}")
    left = origin.max_characters
    for number, part in enumerate(parts, 1):
        if left is not None and left <= 0:
            break
        say(f"fetching {name}: {part.name} ({number} of {len(parts)})")
        patiently(partial(_fetch_file, origin.hub, part.name, part.size, copy))
        fetched = Part(name=part.name, place=repository.place(part.name), size=part.size)
        if origin.contents is not None:
            fetched = _fetch_contents(fetched, copy)
        if left is not None:
            read = read_documents(origin.model_copy(update={"max_characters": left}), name=name, parts=[fetched])
            left -= sum(len(document.text) for document in read)


def _listing(copy: Path) -> dict[str, int]:
    """What an earlier call has listed: the sizes of URLs are not in the hub's own list."""
    path = copy / LISTING
    return json.loads(path.read_text()) if path.exists() else {}


def _path(copy: Path, name: str) -> Path:
    return copy / (url_name(name) if "://" in name else name)


def _is_there(copy: Path, name: str, size: int) -> bool:
    path = _path(copy, name)
    return path.exists() and path.stat().st_size == size


def _fetch_file(repository: str, name: str, size: int, copy: Path) -> None:
    """Fetches a file, or what is behind a URL; what an earlier call has got of it is not fetched again."""
    if _is_there(copy, name, size):
        return
    if "://" not in name:
        from huggingface_hub import hf_hub_download

        hf_hub_download(repository, name, repo_type="dataset", local_dir=copy)
        return
    path = _path(copy, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(path.name + ".part")
    with opened(name) as source, building.open("ab") as target:
        if target.tell():
            source.seek(target.tell())
        while data := source.read(_COPIED_AT_ONCE):
            target.write(data)
    if building.stat().st_size != size:
        building.unlink()
        raise OSError(f"{name} is not as large as its server says ({size} bytes); fetch it again")
    building.replace(path)


def _fetch_contents(part: Part, copy: Path) -> Part:
    """Fetches the contents that a file of ids names into a parquet file of the same name."""
    import pyarrow
    import pyarrow.parquet as parquet

    path = copy / CONTENTS / part.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_name(path.name + ".part")
        schema = pyarrow.schema([("repo_name", pyarrow.string()), ("content", pyarrow.large_string())])
        with parquet.ParquetWriter(building, schema, compression="zstd") as writer:
            for rows in _stretches(contents_of(part)):
                repositories, texts = zip(*rows, strict=True)
                writer.write_table(pyarrow.table([list(repositories), list(texts)], schema=schema))
        building.replace(path)
    return Part(name=part.name, place=str(path), size=part.size, fetched=True)


def _stretches(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while stretch := list(islice(rows, _ROWS_AT_ONCE)):
        yield stretch


def _fetch_tokenizer(name: str, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(name, local_dir=folder / name, allow_patterns=list(_TOKENIZER))
    except network_errors() as error:
        _check_disk(error, folder, f"Tokenizer {name!r}")
        raise TextError(
            f"Tokenizer {name!r} cannot be fetched: {error}. Give the id of a model on the hub, or a folder that holds "
            "a tokenizer; a gated model needs HF_TOKEN."
        ) from error


def _check_disk(error: Exception, folder: Path, what: str) -> None:
    """Raises what an error of this machine's disk means; those of the network are left to the caller."""
    if isinstance(error, OSError) and error.errno in STORAGE and not passing(error):
        raise StorageError(
            f"{what} cannot be fetched into {folder}: {error.strerror or error}. {free_bytes(folder)} bytes are free; "
            "free space, or choose a folder with room that can be written."
        ) from error
