"""More sources, domains and tasks for a study whose runs have begun: what they were trained on stands still.

    new source          the kept tokenizer, decontaminated against all domains and items -> source blocks
    new domain or task  held against the kept training text: its excerpts and questions that share an n-gram with it
                        are left out, since the training text can no longer give way -> domain blocks, items

Kept parts stay the files that they are; `text.json` then names them and the new ones, and is written last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data.config import TextConfig
from flp_ray.data.documents import Document
from flp_ray.data.domains import domain_pool, held_groups, sampled_excerpts
from flp_ray.data.drafts import Draft
from flp_ray.data.identity import PREPARATION, contents, origins_hash, source_settings
from flp_ray.data.items import draft_items, draft_texts
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
from flp_ray.data.origins import read_documents
from flp_ray.data.prepare import check_domains, remove_leftovers, storage_errors
from flp_ray.data.split import Decontaminator, held_out
from flp_ray.data.spool import Spool, write_spool
from flp_ray.data.standing import shown, source_keys, trained_on, used_excerpts
from flp_ray.data.tokenizer import TextEncoder

T = TypeVar("T")

DRAFTS_PER_ITEM = 3
"""Questions that are drafted for each one asked for, since some share text with what runs were trained on."""

STANDS = "shares text with what runs were trained on"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidates:
    """What new domains and tasks would show, before it is held against the training text."""

    excerpts: dict[str, list[str]]
    drafts: dict[str, list[Draft]]

    def texts(self) -> list[str]:
        """All of it."""
        texts = [excerpt for excerpts in self.excerpts.values() for excerpt in excerpts]
        return texts + [text for drafts in self.drafts.values() for draft in drafts for text in draft_texts(draft)]


def grow_text(
    kept: PreparedText,
    config: TextConfig,
    items: Sequence[ItemSet],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> PreparedText:
    """Adds sources, domains and tasks to prepared text; what is there already is taken as it is.

    Domains and items of a source that was there before are made of its held-out documents, which are read again. The
    same kept text and settings give the same text, and a call that was killed goes on at the step where it was.

    Args:
        kept: The text that runs have been trained on.
        config: Settings of all text. Sources, domains and tasks that `kept` has are not looked at.
        items: All built-in tasks.
        folder: The study's text folder, where `kept` is.
        seed: The study's seed.
        progress: Called with a line of text at each step.

    Returns:
        The kept parts and the new ones, with absolute paths.

    Raises:
        TextError: A new text is missing or empty, or what is left of it is too short.
        StorageError: The folder cannot be written, or the disk is full.
    """
    say = progress if progress is not None else lambda _line: None
    check_domains(config, items)
    job = Job(
        config=config,
        items=tuple(item_set for item_set in items if item_set.task not in kept.items),
        seed=seed,
        folder=folder,
        say=say,
    )
    with storage_errors(config, folder):
        settings, origins = _settings(kept, job), origins_hash(_new_parts(kept, config))
        manifest = read_manifest(folder)
        if manifest is not None and (manifest.settings, manifest.origins) == (settings, origins):
            grown = load_text(folder)
            if grown is not None:
                return grown
        job = replace(job, folder=folder.resolve() / stable_hash([settings, origins]))
        job.folder.mkdir(parents=True, exist_ok=True)
        grown = _grow(kept, job)
        write_manifest(folder, settings=settings, origins=origins, text=grown)
        remove_leftovers(folder, grown)
    return grown


def _new_parts(kept: PreparedText, config: TextConfig) -> TextConfig:
    """The settings with the new sources and domains alone; unchecked, since a domain may be held out of a kept one."""
    return config.model_copy(
        update={
            "sources": {name: source for name, source in config.sources.items() if name not in kept.sources},
            "domains": {name: domain for name, domain in config.domains.items() if name not in kept.domains},
        }
    )


def _settings(kept: PreparedText, job: Job) -> str:
    new = _new_parts(kept, job.config)
    return stable_hash(
        [
            PREPARATION,
            contents(kept),
            [[name, source_settings(source)] for name, source in new.sources.items()],
            {name: domain.model_dump(mode="json") for name, domain in new.domains.items()},
            [asdict(item_set) for item_set in sorted(job.items, key=lambda item_set: item_set.task)],
            [job.config.held_out_fraction, job.config.decontamination_ngram, job.seed],
        ]
    )


def _grow(kept: PreparedText, job: Job) -> PreparedText:
    new = _new_parts(kept, job.config)
    encoder = TextEncoder(Path(kept.tokenizer))
    spools = {name: source_spool(job, name) for name in new.sources}
    text = replace(
        kept,
        sources=dict(kept.sources),
        domains=dict(kept.domains),
        items=kept.items | {item_set.task: str(job.items_path(item_set.task)) for item_set in job.items},
    )
    removed = _add_domains(kept, text, job, spools, encoder)
    if spools:
        decontaminator = Decontaminator(shown(text), ngram=job.config.decontamination_ngram)
        before = source_keys(kept)
        for name, spool in spools.items():
            text.sources[name], dropped = make_source(job, name, spool, before, encoder, decontaminator)
            removed.update(dropped)
            before.append(spool.keys())
    return whole(text, removed)


def _add_domains(
    kept: PreparedText, text: PreparedText, job: Job, spools: dict[str, Spool], encoder: TextEncoder
) -> Counter[str]:
    """Makes new domains and items, and enters the domains into `text`; returns what was left out, by reason."""
    domains = [name for name in job.config.domains if name not in kept.domains]
    removed: Counter[str] = Counter()
    finished = {name: found for name in domains if (found := finished_domain(job, name)) is not None}
    open_items = [item_set for item_set in job.items if finished_items(job, item_set) is None]
    if open_items or len(finished) < len(domains):
        candidates = _candidates(kept, job, spools, encoder)
        if candidates.texts():
            job.say("holding new domains and tasks against what runs were trained on")
        everything = Decontaminator(candidates.texts(), ngram=job.config.decontamination_ngram)
        seen = everything.seen_in(trained_on(kept))
        for name in domains:
            if name not in finished:
                excerpts = candidates.excerpts[name]
                clean = _clean(excerpts, [[excerpt] for excerpt in excerpts], seen)
                count = len(excerpts) - len(clean)
                reasons = {f"domain {name}: {STANDS}": count}
                make_domain(job, name, clean, encoder, removed=reasons, left_out=_left_out(count, len(excerpts)))
        for item_set in open_items:
            drafts = candidates.drafts[item_set.task]
            clean_drafts = _clean(drafts, [draft_texts(draft) for draft in drafts], seen)
            count = len(drafts) - len(clean_drafts)
            reasons = {f"task {item_set.task}: {STANDS}": count}
            make_items(job, item_set, clean_drafts, removed=reasons, left_out=_left_out(count, len(drafts)))
    for name in domains:
        found = finished_domain(job, name)
        assert found is not None  # written above, or by an earlier call
        job.say(f"domain {name}: {found[0].sequences} of {job.config.domains[name].sequences} sequences")
        text.domains[name] = found[0]
        removed.update(found[1])
    for item_set in job.items:
        removed.update(finished_items(job, item_set) or {})
    return removed


def _candidates(kept: PreparedText, job: Job, spools: dict[str, Spool], encoder: TextEncoder) -> _Candidates:
    """What new domains and tasks would show, from held-out documents that no loss is measured on yet."""
    new = _new_parts(kept, job.config).domains
    used = used_excerpts(kept)
    excerpts: dict[str, list[str]] = {}
    drafts: dict[str, list[Draft]] = {}
    for name in job.config.domains:
        item_sets = job.items_of(name)
        if name not in new and not item_sets:
            continue
        spool = _held_spool(job, name, spools)
        enough = job.enough_characters(name)
        if name in new:
            pool = domain_pool(
                name, new, spool, with_items=bool(item_sets), max_characters=enough, seed=job.seed, used=used
            )
            excerpts[name] = sampled_excerpts(pool.loss, seed=job.seed)
            documents = list(pool.items)
        else:
            groups = held_groups(spool, max_characters=enough, used=used)
            documents = [document for group in groups.values() for document in group]
        for item_set in item_sets:
            length, wanted = job.config.sequence_length, DRAFTS_PER_ITEM * item_set.items
            drafts[item_set.task] = draft_items(
                item_set, documents, encoder, sequence_length=length, seed=job.seed, wanted=wanted
            )
    return _Candidates(excerpts=excerpts, drafts=drafts)


def _held_spool(job: Job, domain: str, spools: dict[str, Spool]) -> Spool:
    """The held-out documents that a domain is made of: a new source's, a kept source's read again, or its own."""
    source = job.config.domains[domain].held_out
    if source is None:
        return domain_spool(job, domain)
    if source in spools:
        return spools[source]
    job.say(f"reading what is held out of source {source}")

    def is_held_out(document: Document) -> bool:
        return held_out(document, fraction=job.config.held_out_fraction, seed=job.seed)

    documents = read_documents(job.config.sources[source], name=source)
    return write_spool(filter(is_held_out, documents), job.path("work/held", source), is_held_out=lambda document: True)


def _clean(candidates: Sequence[T], texts: Sequence[Sequence[str]], seen: Decontaminator) -> list[T]:
    """Those candidates none of whose texts the training text shows."""
    flat = [text for group in texts for text in group]
    flags: NDArray[np.bool_] = seen.overlapping(flat)
    owner = np.repeat(np.arange(len(texts)), [len(group) for group in texts])
    out = set(owner[flags].tolist())
    return [candidate for number, candidate in enumerate(candidates) if number not in out]


def _left_out(count: int, of: int) -> str:
    return f" ({count} of {of} looked at are left out: they share text with what runs were trained on)" if count else ""
