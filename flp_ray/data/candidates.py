"""What new domains and tasks of a grown study may show: drafted, held against what runs were trained on, written."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flp_ray.core.text import PreparedText
from flp_ray.data.domains import domain_pool, held_groups, sampled_excerpts
from flp_ray.data.drafts import Draft
from flp_ray.data.held import read_held
from flp_ray.data.items import draft_items, draft_texts
from flp_ray.data.job import Job, domain_files, make_domain, make_items
from flp_ray.data.scan import write_array
from flp_ray.data.split import Decontaminator
from flp_ray.data.standing import excerpts_path, trained_on, used_excerpts
from flp_ray.data.tasks import TextTask, write_json
from flp_ray.data.tokenizer import TextEncoder

T = TypeVar("T")

DRAFTS_PER_ITEM = 3
"""Questions that are drafted for each one asked for, since some share text with what runs were trained on."""

STANDS = "shares text with what runs were trained on"


def draft_task(kept: PreparedText, job: Job, files: Mapping[str, Sequence[Path]]) -> TextTask:
    """The task that drafts what new domains and tasks would show.

    Args:
        kept: The text that runs have been trained on.
        job: The preparation of what is new.
        files: Held-out documents of each domain that is new, or that new tasks ask about.
    """
    held = tuple(path for paths in files.values() for path in paths)
    return TextTask(
        name="drafts of new domains and tasks",
        function=draft_candidates,
        arguments=(kept, job, {name: tuple(paths) for name, paths in files.items()}),
        reads=(*held, Path(kept.tokenizer), *(excerpts_path(blocks.path) for blocks in kept.domains.values())),
        writes=(job.folder / "work" / "candidates.json", job.folder / "work" / "drafted.json"),
        here=True,
    )


def draft_candidates(kept: PreparedText, job: Job, files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Drafts excerpts and questions from held-out documents that no loss is measured on yet."""
    encoder = TextEncoder(Path(kept.tokenizer))
    new = {name: domain for name, domain in job.config.domains.items() if name not in kept.domains}
    used = used_excerpts(kept)
    excerpts: dict[str, list[str]] = {}
    drafts: dict[str, list[dict[str, Any]]] = {}
    for name, held in files.items():
        item_sets, enough, documents = job.items_of(name), job.enough_characters(name), read_held(held)
        if name in new:
            pool = domain_pool(
                name, new, documents, with_items=bool(item_sets), max_characters=enough, seed=job.seed, used=used
            )
            excerpts[name] = sampled_excerpts(pool.loss, seed=job.seed)
            texts = list(pool.items)
        else:
            groups = held_groups(documents, max_characters=enough, used=used)
            texts = [text for group in groups.values() for text in group]
        for item_set in item_sets:
            length, wanted = job.config.sequence_length, DRAFTS_PER_ITEM * item_set.items
            drafted = draft_items(item_set, texts, encoder, sequence_length=length, seed=job.seed, wanted=wanted)
            drafts[item_set.task] = [asdict(draft) for draft in drafted]
    write_json(job.folder / "work" / "candidates.json", {"excerpts": excerpts, "drafts": drafts})
    result = {"excerpts": sum(map(len, excerpts.values())), "drafts": sum(map(len, drafts.values()))}
    write_json(job.folder / "work" / "drafted.json", result)
    return result


def seen_tasks(kept: PreparedText, job: Job, candidates: Path) -> list[TextTask]:
    """The tasks that look for the candidates in the kept training text, one a file of token blocks.

    Args:
        kept: The text that runs have been trained on.
        job: The preparation of what is new.
        candidates: What `draft_candidates` has written.
    """
    files = [Path(path) for blocks in kept.sources.values() for path in blocks.files()]
    tokenizer, ngram = Path(kept.tokenizer), job.config.decontamination_ngram
    tasks = []
    for number, path in enumerate(files):
        out = job.folder / "work" / "seen" / f"{number}.npy"
        tasks.append(
            TextTask(
                name=f"candidates in {path.name}",
                function=find_seen,
                arguments=(candidates, path, tokenizer, ngram, out),
                reads=(candidates, path, tokenizer),
                writes=(out, out.with_suffix(".json")),
            )
        )
    return tasks


def find_seen(candidates: Path, blocks: Path, tokenizer: Path, ngram: int, out: Path) -> dict[str, Any]:
    """Finds what of the candidates one file of training text shows; writes keys of texts, then hashes of n-grams."""
    started = time.process_time()
    keys, hashes = _finder(candidates, ngram).known_in(trained_on(blocks, tokenizer))
    write_array(np.concatenate([keys, hashes]), out)
    result = {"keys": len(keys), "cpu_seconds": time.process_time() - started}
    write_json(out.with_suffix(".json"), result)
    return result


def make_task(
    kept: PreparedText,
    job: Job,
    domains: Sequence[str],
    drafted: TextTask | None = None,
    seen: Sequence[TextTask] = (),
) -> TextTask:
    """The task that writes new domains and tasks from what no training text shows.

    Args:
        kept: The text that runs have been trained on.
        job: The preparation of what is new.
        domains: Domains that are new, or that new tasks ask about.
        drafted: The task that has drafted them; needed unless this one is done.
        seen: The tasks that have looked for them.
    """
    new = tuple(name for name in domains if name not in kept.domains)
    candidates = job.folder / "work" / "candidates.json" if drafted is None else drafted.writes[0]
    return TextTask(
        name="new domains and tasks",
        function=make_unseen,
        arguments=(job, new, Path(kept.tokenizer), candidates, tuple(task.writes[0] for task in seen)),
        reads=(candidates, Path(kept.tokenizer), *(path for task in seen for path in task.writes)),
        writes=(
            *(path for name in new for path in domain_files(job, name)),
            *(job.items_path(item_set.task) for item_set in job.items),
            job.folder / "grown.json",
        ),
        here=True,
    )


def make_unseen(
    job: Job, domains: Sequence[str], tokenizer: Path, candidates: Path, seen: Sequence[Path]
) -> dict[str, Any]:
    """Writes domains and items, leaving out excerpts and questions that training text shows.

    Raises:
        TextError: What is left is too little.
    """
    value = json.loads(candidates.read_text())
    finder, encoder = _only(seen, _finder(candidates, job.config.decontamination_ngram)), TextEncoder(tokenizer)
    blocks: dict[str, Any] = {}
    removed: dict[str, int] = {}
    for name in domains:
        excerpts = value["excerpts"][name]
        clean = _clean(excerpts, [[excerpt] for excerpt in excerpts], finder)
        count = len(excerpts) - len(clean)
        removed[f"domain {name}: {STANDS}"] = count
        blocks[name] = make_domain(job, name, clean, encoder, left_out=_left_out(count, len(excerpts)))
    for item_set in job.items:
        drafts = _drafts(value, item_set.task)
        clean_drafts = _clean(drafts, [draft_texts(draft) for draft in drafts], finder)
        count = len(drafts) - len(clean_drafts)
        removed[f"task {item_set.task}: {STANDS}"] = count
        make_items(job, item_set, clean_drafts, left_out=_left_out(count, len(drafts)))
    result = {"domains": blocks, "removed": removed}
    write_json(job.folder / "grown.json", result)
    return result


def _drafts(value: Mapping[str, Any], task: str) -> list[Draft]:
    return [Draft(**{**draft, "wrong": tuple(draft["wrong"])}) for draft in value["drafts"][task]]


@functools.lru_cache(maxsize=1)
def _finder(candidates: Path, ngram: int) -> Decontaminator:
    """Knows all candidates; kept for the next file in this process."""
    value = json.loads(candidates.read_text())
    texts = [excerpt for excerpts in value["excerpts"].values() for excerpt in excerpts]
    texts += [text for task in value["drafts"] for draft in _drafts(value, task) for text in draft_texts(draft)]
    return Decontaminator(texts, ngram=ngram)


def _only(seen: Sequence[Path], everything: Decontaminator) -> Decontaminator:
    """A finder of what the files of training text have shown."""
    keys: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    hashes: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
    for path in seen:
        found = np.load(path)
        count = json.loads(path.with_suffix(".json").read_text())["keys"]
        keys.append(found[:count])
        hashes.append(found[count:])
    return everything.limited_to(np.concatenate(keys), np.concatenate(hashes))


def _clean(candidates: Sequence[T], texts: Sequence[Sequence[str]], seen: Decontaminator) -> list[T]:
    """Those candidates none of whose texts the training text shows."""
    flat = [text for group in texts for text in group]
    flags: NDArray[np.bool_] = seen.overlapping(flat)
    owner = np.repeat(np.arange(len(texts)), [len(group) for group in texts])
    out = set(owner[flags].tolist())
    return [candidate for number, candidate in enumerate(candidates) if number not in out]


def _left_out(count: int, of: int) -> str:
    return f" ({count} of {of} looked at are left out: they share text with what runs were trained on)" if count else ""
