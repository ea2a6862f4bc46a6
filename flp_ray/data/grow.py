"""More sources, domains and tasks for a study whose runs have begun: what they were trained on stands still.

    new source          the kept tokenizer, decontaminated against all domains and items -> source blocks
    new domain or task  held against the kept training text: its excerpts and questions that share an n-gram with it
                        are left out, since the training text can no longer give way -> domain blocks, items

Kept parts stay the files that they are; `text.json` then names them and the new ones, and is written last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data.candidates import draft_task, make_task, seen_tasks
from flp_ray.data.config import TextConfig
from flp_ray.data.held import held_again_task, held_files, own_task
from flp_ray.data.identity import PREPARATION, contents, origins_hash, source_settings
from flp_ray.data.job import Job, domain_blocks, whole
from flp_ray.data.manifest import load_text, read_manifest, write_manifest
from flp_ray.data.passes import ReadSources, cut_sources, read_sources, tokenise_sources
from flp_ray.data.prepare import check_domains, remove_leftovers, storage_errors
from flp_ray.data.shards import Shard, moved, shards_hash, source_shards
from flp_ray.data.steps import Steps
from flp_ray.data.tasks import RunTasks, TextTask, run_here


def grow_text(
    kept: PreparedText,
    config: TextConfig,
    items: Sequence[ItemSet],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
    run_tasks: RunTasks = run_here,
    local: bool = True,
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
        run_tasks: Runs the tasks of a step; the bytes do not depend on where and in which order.
        local: Whether all files are, and will be, below `folder`. Where tasks leave them elsewhere, neither its free
            space nor whether they are there is looked at: what `text.json` names is taken to be whole.

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
        folder=folder.resolve(),
    )
    with storage_errors(config, folder):
        settings, origins = _settings(kept, job), origins_hash(_new_parts(kept, config))
        manifest = read_manifest(folder)
        if manifest is not None and (manifest.settings, manifest.origins) == (settings, origins):
            grown = load_text(folder, local=local)
            if grown is not None:
                remove_leftovers(folder, grown, spools_alone=True)
                return grown
        shards = cut_sources(job, [name for name in config.sources if name not in kept.sources])
        job = replace(job, folder=job.folder / stable_hash([settings, origins, shards_hash(shards)]))
        job.folder.mkdir(parents=True, exist_ok=True)
        steps = Steps(run_tasks=run_tasks, say=say)
        shards = moved(shards, folder.resolve(), job.folder)
        grown, rate = _grow(kept, job, steps, shards, local=local)
        write_manifest(folder, settings=settings, origins=origins, text=grown, rate=rate)
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


def _grow(
    kept: PreparedText, job: Job, steps: Steps, shards: dict[str, tuple[Shard, ...]], *, local: bool
) -> tuple[PreparedText, float | None]:
    text = replace(
        kept,
        sources=dict(kept.sources),
        domains=dict(kept.domains),
        items=kept.items | {item_set.task: str(job.items_path(item_set.task)) for item_set in job.items},
    )
    read = read_sources(job, steps, shards, kept=kept.sources, local=local)
    removed = _add_domains(kept, text, job, steps, read)
    if not shards:
        return whole(text, removed), None
    dropped, rate = tokenise_sources(job, steps, read, text, local=local)
    removed.update(dropped)
    return whole(text, removed), rate


def _add_domains(kept: PreparedText, text: PreparedText, job: Job, steps: Steps, read: ReadSources) -> Counter[str]:
    """Makes new domains and items, and enters the domains into `text`; returns what was left out, by reason."""
    names = [name for name in job.config.domains if name not in kept.domains]
    touched = [name for name in job.config.domains if name in names or job.items_of(name)]
    removed: Counter[str] = Counter()
    if not touched:
        return removed
    make = make_task(kept, job, touched)
    if make.result() is None:
        files = _held_documents(job, steps, read, touched)
        drafted = draft_task(kept, job, files)
        steps.run([drafted])
        steps.say("holding new domains and tasks against what runs were trained on")
        seen = seen_tasks(kept, job, drafted.writes[0])
        steps.run(seen, "held against what runs were trained on")
        make = make_task(kept, job, touched, drafted, seen)
    (result,) = steps.run([make])
    for name in names:
        text.domains[name] = domain_blocks(job, name, result["domains"][name])
        sequences = job.config.domains[name].sequences
        steps.say(f"domain {name}: {text.domains[name].sequences} of {sequences} sequences")
    for item_set in job.items:
        steps.say(f"task {item_set.task}: {item_set.items} items")
    removed.update(result["removed"])
    return removed


def _held_documents(job: Job, steps: Steps, read: ReadSources, domains: Sequence[str]) -> dict[str, list[Path]]:
    """Files with the held-out documents that domains are made of: a new source's, a kept source's, or their own."""
    files: dict[str, list[Path]] = {}
    for name in domains:
        source = job.config.domains[name].held_out
        # Twice, since documents that losses are measured on already are passed over.
        enough = 2 * sum(job.enough_characters(d) for d in domains if job.config.domains[d].held_out == source)
        if source is None:
            steps.say(f"reading domain {name}")
            task = own_task(job.own_origin(name), name, job.path("work/domains", name))
            steps.run([task])
            files[name] = [task.writes[0]]
        elif source in read.shards:
            files[name] = read.held(job, steps, source, enough)
        else:
            steps.say(f"reading what is held out of source {source}")
            files[name] = _held_again(job, steps, source, enough)
    return files


def _held_again(job: Job, steps: Steps, source: str, enough: int) -> list[Path]:
    folder = job.path("work/again", source)
    fraction, seed = job.config.held_out_fraction, job.seed

    def task_of(shard: Shard, limit: int | None) -> TextTask:
        return held_again_task(shard, fraction, seed, folder, limit)

    shards = source_shards(job.config.sources[source], source, folder / "shards" / "0")
    return held_files(shards, task_of, enough=enough, steps=steps)
