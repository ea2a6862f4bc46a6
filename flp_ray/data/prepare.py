"""All of a study's text, from origins to token blocks and items, in steps that a kill does not undo.

    documents of each source and domain -> spools (split, duplicates dropped)
    sample of the sources               -> tokenizer
    held-out documents of each domain   -> domain blocks, items
    the sources' other documents        -> decontaminated against what domains and items show -> source blocks

Everything is written below a folder named by its fingerprint; `text.json` is written last and makes it valid.
The tokenizer sees the sources before decontamination, but never a document that is held out.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText, TokenBlocks
from flp_ray.data.config import TextConfig, TextOrigin
from flp_ray.data.domains import CHARACTERS_PER_TOKEN, domain_pool, domain_texts, write_domain
from flp_ray.data.identity import origins_hash, settings_hash
from flp_ray.data.items import item_texts, items_hash, write_items
from flp_ray.data.manifest import load_text, read_manifest, write_json, write_manifest
from flp_ray.data.origins import read_documents
from flp_ray.data.sources import write_source
from flp_ray.data.split import Decontaminator, held_out
from flp_ray.data.spool import Spool, write_spool
from flp_ray.data.tokenizer import TextEncoder, save_hugging_face, save_trained
from flp_ray.errors import StorageError, TextError

SAMPLE_CHARACTERS_PER_TOKEN = 3000
"""Text that the BPE is trained on, for each token of its vocabulary: 3 M characters for 1,024 tokens."""

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One preparation: its settings and its folder."""

    config: TextConfig
    items: tuple[ItemSet, ...]
    seed: int
    folder: Path
    say: Callable[[str], None]

    def path(self, kind: str, name: str, suffix: str = "") -> Path:
        """Where one text's file goes; a name that is no plain file name gets a hash."""
        plain = re.sub(r"[^\w-]", "_", name)
        return self.folder / kind / (plain + ("" if plain == name else "-" + stable_hash(name, length=6)) + suffix)


def prepare_text(
    config: TextConfig,
    items: Sequence[ItemSet],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> PreparedText:
    """Prepares all text of a study, or loads what is already prepared with the same settings.

    A call that was killed goes on at the step where it was. Text whose local files are gone is loaded.

    Args:
        config: Settings of the text.
        items: Built-in tasks to make items for.
        folder: The study's text folder; made where it is missing.
        seed: The study's seed: draws the held-out documents and the items.
        progress: Called with a line of text at each step.

    Returns:
        The prepared text, with absolute paths.

    Raises:
        TextError: A text is missing, empty or too short, or a tokenizer does not fit.
        StorageError: The folder cannot be written, or the disk is full.
    """
    say = progress if progress is not None else lambda _line: None
    for item_set in items:
        if item_set.domain not in config.domains:
            names = ", ".join(config.domains)
            raise TextError(f"Task {item_set.task!r} asks about domain {item_set.domain!r}; domains are: {names}.")
    settings = settings_hash(config, items, seed)
    try:
        manifest = read_manifest(folder)
        prepared = load_text(folder) if manifest is not None and manifest.settings == settings else None
        try:
            origins = origins_hash(config)
        except TextError:
            if manifest is None or prepared is None:
                raise
            origins = manifest.origins
        if manifest is not None and prepared is not None and manifest.origins == origins:
            say("text is already prepared")
            return prepared
        fingerprint = stable_hash([settings, origins])
        job = _Job(config=config, items=tuple(items), seed=seed, folder=folder.resolve() / fingerprint, say=say)
        job.folder.mkdir(parents=True, exist_ok=True)
        fresh = _prepare(job)
        write_manifest(folder, settings=settings, origins=origins, text=fresh)
        _remove_leftovers(folder, keep=fingerprint)
    except OSError as error:
        if error.errno in _STORAGE:
            raise StorageError(_storage_message(error, config, folder)) from error
        raise
    return fresh


def _prepare(job: _Job) -> PreparedText:
    config = job.config
    sources = {name: _spool(job, "source", name, origin) for name, origin in config.sources.items()}
    spools = {
        name: sources[domain.held_out] if domain.held_out is not None else _spool(job, "domain", name, domain)
        for name, domain in config.domains.items()
    }
    encoder = _tokenizer(job, sources)
    domains: dict[str, TokenBlocks] = {}
    shown: list[str] = []
    for name, spool in spools.items():
        domains[name], texts = _domain(job, name, spool, encoder)
        shown += texts
    decontaminator = Decontaminator(shown, ngram=config.decontamination_ngram)
    blocks: dict[str, TokenBlocks] = {}
    removed: Counter[str] = Counter()
    for name in sources:
        path = job.path("sources", name, ".npy")
        blocks[name], dropped = _once(path, partial(_source, job, name, sources, path, encoder, decontaminator))
        removed.update(dropped)
    items = {item_set.task: job.path("items", item_set.task, ".jsonl") for item_set in job.items}
    hashes = {
        "sources": {name: b.content_hash for name, b in blocks.items()},
        "domains": {name: b.content_hash for name, b in domains.items()},
        "items": {task: items_hash(path) for task, path in items.items()},
        "vocabulary": config.tokenizer.vocabulary,
    }
    return PreparedText(
        sources=blocks,
        domains=domains,
        items={task: str(path) for task, path in items.items()},
        tokenizer=str(job.folder / "tokenizer"),
        vocabulary=config.tokenizer.vocabulary,
        removed={reason: count for reason, count in sorted(removed.items()) if count},
        content_id=stable_hash(hashes),
    )


def _spool(job: _Job, kind: str, name: str, origin: TextOrigin) -> Spool:
    """Reads an origin to disk; all of a domain's own text counts as held out."""
    job.say(f"reading {kind} {name}")
    fraction = job.config.held_out_fraction if kind == "source" else 1.0
    if kind == "domain" and origin.max_characters is None:
        origin = origin.model_copy(update={"max_characters": _enough_characters(job, name)})
    return write_spool(
        read_documents(origin, name=name),
        job.path(f"work/{kind}s", name),
        is_held_out=lambda document: held_out(document, fraction=fraction, seed=job.seed),
    )


def _enough_characters(job: _Job, domain: str) -> int:
    """Text to look at for a domain: a sample of many times what its loss and its items need."""
    items = sum(item_set.items for item_set in job.items if item_set.domain == domain)
    tokens = (job.config.domains[domain].sequences + items) * job.config.sequence_length
    return max(CHARACTERS_PER_TOKEN * tokens, 1_000_000)


def _tokenizer(job: _Job, sources: dict[str, Spool]) -> TextEncoder:
    folder = job.folder / "tokenizer"
    settings = job.config.tokenizer
    if not folder.exists():
        if settings.hugging_face is not None:
            job.say(f"loading tokenizer {settings.hugging_face}")
            save_hugging_face(settings.hugging_face, settings.vocabulary, folder)
        else:
            job.say(f"training a tokenizer of {settings.vocabulary} tokens")
            share = SAMPLE_CHARACTERS_PER_TOKEN * settings.vocabulary // len(sources)
            save_trained(_sample(sources, share), settings.vocabulary, folder)
    return TextEncoder(folder)


def _sample(sources: dict[str, Spool], characters: int) -> Iterator[str]:
    """The first documents of each source, equal parts of each."""
    for spool in sources.values():
        left = characters
        for document in spool.training():
            yield document.text[:left]
            left -= len(document.text)
            if left <= 0:
                break


def _domain(job: _Job, name: str, spool: Spool, encoder: TextEncoder) -> tuple[TokenBlocks, list[str]]:
    """A domain's blocks and the items of its tasks; returns the blocks and all text that is shown."""
    config = job.config
    length, wanted = config.sequence_length, config.domains[name].sequences
    item_sets = [item_set for item_set in job.items if item_set.domain == name]
    pool = domain_pool(
        name,
        config.domains,
        spool,
        with_items=bool(item_sets),
        max_characters=_enough_characters(job, name),
        seed=job.seed,
    )
    texts = domain_texts(pool.loss, encoder, sequences=wanted, sequence_length=length, seed=job.seed)
    path = job.path("domains", name, ".npy")

    def work() -> tuple[TokenBlocks, dict[str, int]]:
        vocabulary = config.tokenizer.vocabulary
        blocks = write_domain(
            name, texts, encoder, path, vocabulary=vocabulary, sequences=wanted, sequence_length=length
        )
        return blocks, {}

    blocks, _ = _once(path, work)
    job.say(f"domain {name}: {blocks.sequences} of {wanted} sequences")
    for item_set in item_sets:
        items = job.path("items", item_set.task, ".jsonl")
        if not items.exists():
            write_items(item_set, pool.items, encoder, items, sequence_length=length, seed=job.seed)
            job.say(f"task {item_set.task}: {item_set.items} items")
        texts += item_texts(items)
    return blocks, texts


def _source(
    job: _Job,
    name: str,
    sources: dict[str, Spool],
    path: Path,
    encoder: TextEncoder,
    decontaminator: Decontaminator,
) -> tuple[TokenBlocks, dict[str, int]]:
    job.say(f"tokenising source {name}")
    return write_source(
        name,
        sources,
        encoder,
        decontaminator,
        path,
        vocabulary=job.config.tokenizer.vocabulary,
        sequence_length=job.config.sequence_length,
    )


def _once(path: Path, work: Callable[[], tuple[TokenBlocks, dict[str, int]]]) -> tuple[TokenBlocks, dict[str, int]]:
    """Does a step once: what it gave stands beside its file."""
    done = path.with_suffix(".json")
    if done.exists() and path.exists():
        value = json.loads(done.read_text())
        return TokenBlocks(**{**value["blocks"], "path": str(path)}), value["removed"]
    blocks, removed = work()
    write_json(done, {"blocks": asdict(blocks), "removed": removed})
    return blocks, removed


def _remove_leftovers(folder: Path, *, keep: str) -> None:
    """Removes the spools, and text that was prepared with other settings."""
    shutil.rmtree(folder / keep / "work", ignore_errors=True)
    for other in folder.iterdir():
        if other.is_dir() and other.name != keep and re.fullmatch(r"[0-9a-f]{12}", other.name):
            shutil.rmtree(other, ignore_errors=True)


def _storage_message(error: OSError, config: TextConfig, folder: Path) -> str:
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    limits = [origin.max_characters for origin in config.sources.values()]
    known = sum(limit for limit in limits if limit is not None)
    # A character takes about one byte in the spool and less than one as token ids.
    needed = f"about {2 * known}" if None not in limits else f"more than {2 * max(written, known)}"
    return (
        f"Text cannot be prepared in {folder}: {error.strerror or error}. {free} bytes are free, {written} "
        f"are written, {needed} are needed; free space, lower max_characters of the sources, or choose "
        "another folder."
    )
