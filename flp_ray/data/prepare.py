"""All of a study's text, from origins to token blocks and items, in steps that a kill does not undo.

    every shard of the sources          -> keys of its documents (and the documents, where the source is one stream)
    keys of all sources                 -> documents that repeat others, for one part of the key space at a time
    sample of the sources               -> tokenizer
    held-out documents of each domain   -> domain blocks, items
    every shard again, its other documents decontaminated against what domains and items show -> source blocks

Everything is written below a folder named by its fingerprint; `text.json` is written last and makes it valid. Each step
is made of tasks that an executor may run anywhere; the result is the same bytes. The tokenizer sees the sources before
decontamination, but never a document that is held out.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flp_ray.core.run import stable_hash
from flp_ray.core.text import ItemSet, PreparedText
from flp_ray.data.config import TextConfig
from flp_ray.data.disk import STORAGE, free_bytes
from flp_ray.data.documents import encodable, text_key
from flp_ray.data.domains import domain_pool, sampled_excerpts
from flp_ray.data.held import own_task, read_held
from flp_ray.data.identity import origins_hash, settings_hash
from flp_ray.data.items import draft_items
from flp_ray.data.job import Job, domain_blocks, domain_files, make_domain, make_items, whole
from flp_ray.data.manifest import load_text, read_manifest, write_manifest
from flp_ray.data.passes import ReadSources, cut_sources, read_sources, tokenise_sources
from flp_ray.data.shards import Shard, moved, shard_documents, shards_hash
from flp_ray.data.split import held_out
from flp_ray.data.steps import Steps
from flp_ray.data.tasks import RunTasks, TextTask, run_here, write_json
from flp_ray.data.tokenizer import TextEncoder, save_hugging_face, save_trained
from flp_ray.errors import StorageError, TextError

SAMPLE_CHARACTERS_PER_TOKEN = 3000
"""Text that the BPE is trained on, for each token of its vocabulary: 3 M characters for 1,024 tokens."""


def prepare_text(
    config: TextConfig,
    items: Sequence[ItemSet],
    folder: Path,
    *,
    seed: int,
    progress: Callable[[str], None] | None = None,
    run_tasks: RunTasks = run_here,
    local: bool = True,
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
        run_tasks: Runs the tasks of a step; the bytes do not depend on where and in which order.
        local: Whether all files are, and will be, below `folder`. Where tasks leave them elsewhere, neither its free
            space nor whether they are there is looked at: what `text.json` names is taken to be whole.

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
        prepared = load_text(folder, local=local) if manifest is not None and manifest.settings == settings else None
        try:
            origins = origins_hash(config)
        except TextError:
            if manifest is None or prepared is None:
                raise
            origins = manifest.origins
        if manifest is not None and prepared is not None and manifest.origins == origins:
            say("text is already prepared")
            remove_leftovers(folder, prepared, spools_alone=True)  # a kill may have come before it
            return prepared
        job = Job(config=config, items=tuple(items), seed=seed, folder=folder.resolve())
        shards = cut_sources(job, list(config.sources))
        job = replace(job, folder=job.folder / stable_hash([settings, origins, shards_hash(shards)]))
        shards = moved(shards, folder.resolve(), job.folder)
        job.folder.mkdir(parents=True, exist_ok=True)
        fresh, rate = _prepare(job, Steps(run_tasks=run_tasks, say=say), shards, local=local)
        write_manifest(folder, settings=settings, origins=origins, text=fresh, rate=rate)
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
        if error.errno in STORAGE:
            raise StorageError(_storage_message(error, config, folder)) from error
        raise


def remove_leftovers(folder: Path, text: PreparedText, *, spools_alone: bool = False) -> None:
    """Removes the spools, and text that was prepared with other settings and is not part of this one.

    Args:
        folder: The study's text folder.
        text: What is kept.
        spools_alone: Leaves other text, which may be growth under way.
    """
    root = folder.resolve()
    blocks = (*text.sources.values(), *text.domains.values())
    paths = [text.tokenizer, *(b.path for b in blocks), *text.items.values()]
    kept = {Path(path).relative_to(root).parts[0] for path in paths}
    for other in folder.iterdir():
        if other.is_dir() and re.fullmatch(r"[0-9a-f]{12}", other.name):
            if other.name in kept:
                shutil.rmtree(other / "work", ignore_errors=True)
            elif not spools_alone:
                shutil.rmtree(other, ignore_errors=True)


def _prepare(
    job: Job, steps: Steps, shards: dict[str, tuple[Shard, ...]], *, local: bool
) -> tuple[PreparedText, float | None]:
    config = job.config
    read = read_sources(job, steps, shards, local=local)
    files = _domain_documents(job, steps, read)
    steps.run([_tokenizer_task(job, steps, shards)])
    domains = {}
    for name, held in files.items():
        (result,) = steps.run([_domain_task(job, name, held)])
        domains[name] = domain_blocks(job, name, result["blocks"])
        steps.say(f"domain {name}: {domains[name].sequences} of {config.domains[name].sequences} sequences")
        for item_set in job.items_of(name):
            steps.say(f"task {item_set.task}: {item_set.items} items")
    text = PreparedText(
        sources={},
        domains=domains,
        items={item_set.task: str(job.items_path(item_set.task)) for item_set in job.items},
        tokenizer=str(job.folder / "tokenizer"),
        vocabulary=config.tokenizer.vocabulary,
        removed={},
        content_id="",
    )
    removed, rate = tokenise_sources(job, steps, read, text, local=local)
    return whole(text, removed), rate


def _domain_documents(job: Job, steps: Steps, read: ReadSources) -> dict[str, list[Path]]:
    """Files with the held-out documents that each domain is made of."""
    domains = job.config.domains
    own = [name for name, domain in domains.items() if domain.held_out is None]
    for name in own:
        steps.say(f"reading domain {name}")
    tasks = [own_task(job.own_origin(name), name, job.path("work/domains", name)) for name in own]
    steps.run(tasks)
    files = {name: [task.writes[0]] for name, task in zip(own, tasks, strict=True)}
    for source in read.shards:
        sharing = [name for name, domain in domains.items() if domain.held_out == source]
        if sharing:
            enough = len(sharing) * max(map(job.enough_characters, sharing))
            files |= dict.fromkeys(sharing, read.held(job, steps, source, enough))
    return {name: files[name] for name in domains}


def _tokenizer_task(job: Job, steps: Steps, shards: Mapping[str, tuple[Shard, ...]]) -> TextTask:
    settings, folder = job.config.tokenizer, job.folder / "tokenizer"
    task = TextTask(
        name="tokenizer",
        function=make_tokenizer,
        arguments=(job, dict(shards)),
        reads=tuple(path for of_source in shards.values() for shard in of_source for path in shard.kept_documents),
        writes=(folder, job.folder / "tokenizer.json"),
        here=True,
    )
    if task.result() is None and settings.hugging_face is not None:
        steps.say(f"loading tokenizer {settings.hugging_face}")
    elif task.result() is None:
        steps.say(f"training a tokenizer of {settings.vocabulary} tokens")
    return task


def make_tokenizer(job: Job, shards: Mapping[str, tuple[Shard, ...]]) -> dict[str, Any]:
    """Trains the study's tokenizer on the first training documents of each source, or copies a Hugging Face one."""
    settings, folder = job.config.tokenizer, job.folder / "tokenizer"
    if settings.hugging_face is not None:
        save_hugging_face(settings.hugging_face, settings.vocabulary, folder)
    else:
        characters = SAMPLE_CHARACTERS_PER_TOKEN * settings.vocabulary // len(shards)
        texts = (text for of_source in shards.values() for text in _sample(job, of_source, characters))
        save_trained(texts, settings.vocabulary, folder)
    result = {"vocabulary": settings.vocabulary}
    write_json(job.folder / "tokenizer.json", result)
    return result


def _sample(job: Job, shards: Sequence[Shard], characters: int) -> Iterator[str]:
    """The first documents of a source that may be trained on, each text once."""
    seen: set[int] = set()
    for shard in shards:
        for document in shard_documents(shard):
            key = text_key(document.text)
            new = key not in seen
            seen.add(key)
            if not new or held_out(document, fraction=job.config.held_out_fraction, seed=job.seed, key=key):
                continue
            yield encodable(document.text)[:characters]
            characters -= len(document.text)
            if characters <= 0:
                return


def _domain_task(job: Job, name: str, files: Sequence[Path]) -> TextTask:
    items = [job.items_path(item_set.task) for item_set in job.items_of(name)]
    return TextTask(
        name=f"domain {name}",
        function=prepare_domain,
        arguments=(job, name, tuple(files)),
        reads=(*files, job.folder / "tokenizer"),
        writes=(*domain_files(job, name), *items, job.path("domains", name, ".json")),
        here=True,
    )


def prepare_domain(job: Job, name: str, files: Sequence[Path]) -> dict[str, Any]:
    """Makes a domain's blocks and the items of its tasks from files of held-out documents."""
    encoder = TextEncoder(job.folder / "tokenizer")
    item_sets = job.items_of(name)
    pool = domain_pool(
        name,
        job.config.domains,
        read_held(files),
        with_items=bool(item_sets),
        max_characters=job.enough_characters(name),
        seed=job.seed,
    )
    blocks = make_domain(job, name, sampled_excerpts(pool.loss, seed=job.seed), encoder)
    for item_set in item_sets:
        length = job.config.sequence_length
        make_items(job, item_set, draft_items(item_set, pool.items, encoder, sequence_length=length, seed=job.seed))
    result = {"blocks": blocks}
    write_json(job.path("domains", name, ".json"), result)
    return result


def _storage_message(error: OSError, config: TextConfig, folder: Path) -> str:
    free = free_bytes(folder)
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
