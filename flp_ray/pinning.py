"""What a study's runs were trained on and measured with, part by part: parts may be added, and none may change.

`pinned.json` is written before the first run starts, and again when the study has grown. It holds the settings of
every source, domain and task, what their text holds, and in which generation each was added, so that lost text can be
made again in the same steps. A generation stands once a run has begun after it was written; until then its parts may
still change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flp_ray.config import StudyConfig
from flp_ray.core.text import ItemSet, PreparedText, TextIdentity
from flp_ray.data import (
    PREPARATION,
    contents,
    grow_text,
    load_text,
    prepare_text,
    source_settings,
    text_identity,
    tokenizer_id,
)
from flp_ray.data.config import SourceText, TextConfig
from flp_ray.data.tasks import RunTasks, run_here
from flp_ray.errors import ConfigError, TextError
from flp_ray.store import run_states, storage_uri

PIN = "pinned.json"
FORM = 3
"""Form of `pinned.json`; runs of form 1 were named by all sources of their study, those of form 2 by their memory."""

_SECTIONS = {"sources": "text.sources", "domains": "text.domains", "tasks": "measure.tasks"}
_DESCRIBED = {"weight", "random_performance", "emergence_margin"}  # what a score is held against, not the score

Parts = dict[str, dict[str, dict[str, Any]]]
"""Settings by section of the parts (sources, domains, tasks) and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What a study had from the start, or gained at one time.

    Attributes:
        attempts: Attempts at runs that were recorded before it.
        names: Names of its parts by section.
    """

    attempts: int
    names: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What stands still in a study's folder.

    Attributes:
        tokenizer: Identity of the tokenizer.
        shared: Settings that hold for all runs, by key of the study file.
        parts: Settings of sources, domains and tasks by name.
        items: The built-in tasks' item sets by name.
        generations: The parts in the order in which the study gained them.
        contents: Hash of what each part holds, as `flp_ray.data.contents` gives it.
    """

    tokenizer: str
    shared: dict[str, Any]
    parts: Parts
    items: dict[str, dict[str, Any]]
    generations: list[Generation]
    contents: dict[str, str]


def read_pin(study_dir: Path) -> Pin | None:
    """What is pinned; None as long as no run has begun, when everything may still change.

    Raises:
        ConfigError: The study was begun by a version of flp_ray that named its runs otherwise.
    """
    path, attempts = study_dir / PIN, _attempts(study_dir)
    if not path.exists() or not attempts:
        return None
    value = json.loads(path.read_text())
    if value.pop("form", 1) != FORM:
        raise ConfigError(
            f"The study in {study_dir} was begun by another version of flp_ray, which named its runs otherwise, so "
            "they cannot go on here. Go on with that version, or give another --study-dir; `flp-ray export`, "
            "`backtest` and `predict` still read its records."
        )
    generations = [Generation(**generation) for generation in value.pop("generations")]
    standing = [generation for generation in generations if generation.attempts < attempts]
    names = {section: {n for generation in standing for n in generation.names[section]} for section in _SECTIONS}
    kept = {f"{section[:-1]} {name}" for section in _SECTIONS for name in names[section]}
    return Pin(
        tokenizer=value["tokenizer"],
        shared=value["shared"],
        parts={s: {n: part for n, part in value["parts"][s].items() if n in names[s]} for s in _SECTIONS},
        items={n: item_set for n, item_set in value["items"].items() if n in names["tasks"]},
        generations=standing,
        contents={part: content for part, content in value["contents"].items() if part in kept},
    )


def _attempts(study_dir: Path) -> int:
    return sum(run.attempts for run in run_states(study_dir))


def study_identity(config: StudyConfig, pin: Pin | None) -> TextIdentity:
    """Identity of the text of the study's runs: with the tokenizer that is kept, and every source that ever was.

    Args:
        config: The study.
        pin: What is pinned in its folder.
    """
    if pin is None:
        return text_identity(config.text, config.seed)
    gone = {n: SourceText(**s) for n, s in pin.parts["sources"].items() if n not in config.text.sources}
    text = config.text.model_copy(update={"sources": gone | dict(config.text.sources)})
    return text_identity(text, config.seed, tokenizer=pin.tokenizer)


def check_unchanged(config: StudyConfig, study_dir: Path) -> None:
    """Refuses a study file that changes what the study's runs have had; new sources, domains and tasks are welcome.

    A source may be left out: its runs stay recorded, and are neither planned nor fitted until it is named again.

    Raises:
        ConfigError: Names what was changed or taken out, and how to go on.
    """
    pin = read_pin(study_dir)
    if pin is None:
        return
    now = _parts(config)
    changes = [_change(key, pin.shared.get(key), value) for key, value in _shared(config).items()]
    for section, where in _SECTIONS.items():
        for name, before in pin.parts[section].items():
            after = now[section].get(name)
            if after is not None:
                keys = dict.fromkeys([*before, *after])
                changes += [_change(f"{where}.{name}.{key}", before.get(key), after.get(key)) for key in keys]
            elif section != "sources":
                changes.append(f"{where}.{name} is gone")
    found = [change for change in changes if change]
    if found:
        raise ConfigError(
            f"The study file changes what the runs in {study_dir} were trained on or measured with, so their records "
            f"could not be compared: {'; '.join(found)}. Restore this (study.yaml in that folder holds what was), "
            "or give another --study-dir. To add to the study, keep what is there and put the new source, domain or "
            "task beside it under a name of its own; weight: 0 takes a task out of the mean."
        )


def study_text(
    config: StudyConfig, study_dir: Path, say: Callable[[str], None], run_tasks: RunTasks = run_here
) -> PreparedText:
    """The study's text: what its runs were trained on, with what the study has gained since; or prepared now.

    What is returned is pinned, so that runs may start on it.

    Args:
        config: The study, which `check_unchanged` has passed.
        study_dir: Its folder.
        say: Called with a line of text at each step.
        run_tasks: Runs the pieces of a preparation.

    Raises:
        TextError: A text is missing or too short, or what runs were trained on is lost and cannot be made again.
        StorageError: The folder cannot be written.
    """
    pin, folder = read_pin(study_dir), study_dir / "text"
    how: dict[str, Any] = {
        "seed": config.seed,
        "progress": say,
        "run_tasks": run_tasks,
        "local": storage_uri(study_dir) is None,
    }
    if pin is None:
        text = prepare_text(config.text, config.item_sets(), folder, **how)
        identity = tokenizer_id(config.text, config.seed)
        _write(_pin_of(config, text, Pin(tokenizer=identity, **_nothing()), attempts=0), study_dir)
        return text
    kept = _standing_text(pin, folder, local=how["local"]) or _made_again(pin, config, folder, study_dir, how)
    grown = _pin_of(config, kept, pin, attempts=_attempts(study_dir))
    if len(grown.generations) == len(pin.generations):
        return kept
    text = grow_text(kept, config.text, config.item_sets(), folder, **how)
    _write(replace(grown, contents=contents(text)), study_dir)
    return text


def _nothing() -> dict[str, Any]:
    empty: Parts = {section: {} for section in _SECTIONS}
    return {"shared": {}, "parts": empty, "items": {}, "generations": [], "contents": {}}


def _pin_of(config: StudyConfig, text: PreparedText, before: Pin, *, attempts: int) -> Pin:
    """What was pinned, with a generation of what the study file adds to it."""
    now = _parts(config)
    added = {section: [n for n in now[section] if n not in before.parts[section]] for section in _SECTIONS}
    generation = [Generation(attempts=attempts, names=added)] if any(added.values()) else []
    return Pin(
        tokenizer=before.tokenizer,
        shared=_shared(config),
        parts={section: now[section] | before.parts[section] for section in _SECTIONS},
        items={item_set.task: asdict(item_set) for item_set in config.item_sets()} | before.items,
        generations=[*before.generations, *generation],
        contents=contents(text),
    )


def _write(pin: Pin, study_dir: Path) -> None:
    draft = study_dir / f".{PIN}"
    draft.write_text(json.dumps({"form": FORM} | asdict(pin), indent=1))
    draft.replace(study_dir / PIN)


def _standing_text(pin: Pin, folder: Path, *, local: bool) -> PreparedText | None:
    """The pinned parts of the text in the folder; None where one is lost.

    More may be there, where a call was killed before it could pin what it had grown; that is grown again.
    """
    text = load_text(folder, local=local)
    if text is None:
        return None
    kept = replace(
        text,
        sources={name: blocks for name, blocks in text.sources.items() if name in pin.parts["sources"]},
        domains={name: blocks for name, blocks in text.domains.items() if name in pin.parts["domains"]},
        items={name: path for name, path in text.items.items() if name in pin.items},
    )
    return kept if contents(kept) == pin.contents else None


def _made_again(pin: Pin, config: StudyConfig, folder: Path, study_dir: Path, how: Mapping[str, Any]) -> PreparedText:
    """Lost text, made again in the steps in which the study has grown.

    Raises:
        TextError: It is not what the runs were trained on.
    """
    how["progress"]("the prepared text is gone; making it again")
    text: PreparedText | None = None
    names: dict[str, list[str]] = {section: [] for section in _SECTIONS}
    for generation in pin.generations:
        names = {section: names[section] + generation.names[section] for section in _SECTIONS}
        parts = {section: {n: pin.parts[section][n] for n in names[section]} for section in ("sources", "domains")}
        then = TextConfig.model_validate(config.text.model_dump() | parts)
        items = [ItemSet(**pin.items[name]) for name in names["tasks"] if name in pin.items]
        text = prepare_text(then, items, folder, **how) if text is None else grow_text(text, then, items, folder, **how)
    assert text is not None  # a pin has one generation at least
    found = contents(text)
    other = [part for part, content in pin.contents.items() if found.get(part) != content]
    if other:
        raise TextError(
            f"The prepared text of the study in {study_dir} is gone, and what its settings give now is not what its "
            f"runs were trained on and measured with: {', '.join(other)}. A file or an installed package has changed. "
            "Restore it, or give another --study-dir."
        )
    return text


def _shared(config: StudyConfig) -> dict[str, Any]:
    """Settings that hold for all runs, by key of the study file; as JSON gives them back."""
    text = config.text.model_dump(mode="json", include={"tokenizer", "sequence_length", "held_out_fraction"})
    text["decontamination_ngram"] = config.text.decontamination_ngram
    measure = config.measure.model_dump(mode="json", exclude={"tasks"})
    return (
        {"seed": config.seed, "preparation of text": PREPARATION}
        | {f"text.{key}": value for key, value in text.items()}
        | {f"measure.{key}": value for key, value in measure.items()}
    )


def _parts(config: StudyConfig) -> Parts:
    return {
        "sources": {name: source_settings(source) for name, source in config.text.sources.items()},
        "domains": {
            name: domain.model_dump(mode="json", exclude_defaults=True) for name, domain in config.text.domains.items()
        },
        "tasks": {
            name: task.model_dump(mode="json", exclude=_DESCRIBED, exclude_defaults=True)
            for name, task in config.measure.tasks.items()
        },
    }


def _change(key: str, before: Any, after: Any) -> str:
    return "" if before == after else f"{key} was {_shown(before)} and is now {_shown(after)}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(v)}" for key, v in value.items()) + "}"
    return "not set" if value is None else str(value)
