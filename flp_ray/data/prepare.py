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
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText, TokenBlocks
from flp_ray.data.config import TextConfig
from flp_ray.data.domains import DomainPool, domain_pool, sampled_excerpts
from flp_ray.data.identity import origins_hash, settings_hash
from flp_ray.data.items import draft_items
from flp_ray.data.job import (
    Job,
    domain_spool,
    finished_domain,
    finished_items,
    make_domain,
    make_items,
    make_source,
    source_spool,
    whole,
)
from flp_ray.data.manifest import load_text, read_manifest, write_manifest
from flp_ray.data.split import Decontaminator
from flp_ray.data.spool import Spool
from flp_ray.data.standing import shown
from flp_ray.data.tokenizer import TextEncoder, save_hugging_face, save_trained
from flp_ray.errors import StorageError, TextError

SAMPLE_CHARACTERS_PER_TOKEN = 3000
"""Text that the BPE is trained on, for each token of its vocabulary: 3 M characters for 1,024 tokens."""

_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def prepare_text(
    config: TextConfig,
    items: Sequence[ItemSet],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> PreparedText:
    """Prepares all text of a study, or loads what is already prepared with the same settings.

    A call that was killed goes on at the step where it was. Text whose local files are gone is loaded. Text that runs
    have been trained on is never prepared anew; `grow_text` adds to it.

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
    check_domains(config, items)
    settings = settings_hash(config, items, seed)
    with storage_errors(config, folder):
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
        job = Job(config=config, items=tuple(items), seed=seed, folder=folder.resolve() / fingerprint, say=say)
        job.folder.mkdir(parents=True, exist_ok=True)
        fresh = _prepare(job)
        write_manifest(folder, settings=settings, origins=origins, text=fresh)
        remove_leftovers(folder, fresh)
    return fresh


def check_domains(config: TextConfig, items: Sequence[ItemSet]) -> None:
    """Refuses tasks about a domain that is not there.

    Raises:
        TextError: Names the task and the domains.
    """
    for item_set in items:
        if item_set.domain not in config.domains:
            names = ", ".join(config.domains)
            raise TextError(f"Task {item_set.task!r} asks about domain {item_set.domain!r}; domains are: {names}.")


@contextmanager
def storage_errors(config: TextConfig, folder: Path) -> Iterator[None]:
    """Turns errors of a disk that is full or not writable into a StorageError with the numbers."""
    try:
        yield
    except OSError as error:
        if error.errno in _STORAGE:
            raise StorageError(_storage_message(error, config, folder)) from error
        raise


def remove_leftovers(folder: Path, text: PreparedText) -> None:
    """Removes the spools, and text that was prepared with other settings and is not part of this one."""
    root = folder.resolve()
    blocks = (*text.sources.values(), *text.domains.values())
    paths = [text.tokenizer, *(b.path for b in blocks), *text.items.values()]
    kept = {Path(path).relative_to(root).parts[0] for path in paths}
    for other in folder.iterdir():
        if other.is_dir() and re.fullmatch(r"[0-9a-f]{12}", other.name):
            shutil.rmtree(other / "work" if other.name in kept else other, ignore_errors=True)


def _prepare(job: Job) -> PreparedText:
    config = job.config
    sources = {name: source_spool(job, name) for name in config.sources}
    spools = {
        name: sources[domain.held_out] if domain.held_out is not None else domain_spool(job, name)
        for name, domain in config.domains.items()
    }
    encoder = _tokenizer(job, sources)
    domains = {name: _domain(job, name, spool, encoder) for name, spool in spools.items()}
    text = PreparedText(
        sources={},
        domains=domains,
        items={item_set.task: str(job.items_path(item_set.task)) for item_set in job.items},
        tokenizer=str(job.folder / "tokenizer"),
        vocabulary=config.tokenizer.vocabulary,
        removed={},
        content_id="",
    )
    decontaminator = Decontaminator(shown(text), ngram=config.decontamination_ngram)
    removed: Counter[str] = Counter()
    before: list[NDArray[np.uint64]] = []
    for name, spool in sources.items():
        text.sources[name], dropped = make_source(job, name, spool, before, encoder, decontaminator)
        removed.update(dropped)
        before.append(spool.keys())
    return whole(text, removed)


def _tokenizer(job: Job, sources: Mapping[str, Spool]) -> TextEncoder:
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


def _sample(sources: Mapping[str, Spool], characters: int) -> Iterator[str]:
    """The first documents of each source, equal parts of each."""
    for spool in sources.values():
        left = characters
        for document in spool.training():
            yield document.text[:left]
            left -= len(document.text)
            if left <= 0:
                break


def _domain(job: Job, name: str, spool: Spool, encoder: TextEncoder) -> TokenBlocks:
    """A domain's blocks and the items of its tasks."""
    finished = finished_domain(job, name)
    open_items = [item_set for item_set in job.items_of(name) if finished_items(job, item_set) is None]
    pool = _pool(job, name, spool)
    if finished:
        blocks = finished[0]
    else:
        blocks = make_domain(job, name, sampled_excerpts(pool.loss, seed=job.seed), encoder, removed={})
    job.say(f"domain {name}: {blocks.sequences} of {job.config.domains[name].sequences} sequences")
    for item_set in open_items:
        length = job.config.sequence_length
        drafts = draft_items(item_set, pool.items, encoder, sequence_length=length, seed=job.seed)
        make_items(job, item_set, drafts, removed={})
    return blocks


def _pool(job: Job, name: str, spool: Spool) -> DomainPool:
    return domain_pool(
        name,
        job.config.domains,
        spool,
        with_items=bool(job.items_of(name)),
        max_characters=job.enough_characters(name),
        seed=job.seed,
    )


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
