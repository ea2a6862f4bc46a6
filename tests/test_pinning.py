"""What runs have had stands still, part by part; new parts are welcome. Real text and tables, no training."""

import json
import shutil
import time
from pathlib import Path

import pytest

from flp_ray.config import StudyConfig
from flp_ray.data import contents
from flp_ray.errors import ConfigError, TextError
from flp_ray.pinning import PIN, check_unchanged, read_pin, study_text
from flp_ray.store import TableWriter, attempt_row, run_rows
from flp_ray.study import make_plan

SHAPE = {"layers": 2, "hidden": 16, "heads": 2, "ffn": 44, "batch_sequences": 16, "learning_rate": 0.01}


def config(**changes) -> StudyConfig:
    """A study of two small sources; `changes` add to or replace parts: `sources`, `domains`, `tasks`, `text`..."""
    sources = {name: {"builtin": name, "max_characters": 300_000} for name in ("code", "general")}
    domains = {name: {"held_out": name, "sequences": 16} for name in ("code", "general")}
    tasks = {"syntax": {"builtin": "code_syntax", "domain": "code", "items": 20}}
    text = {"tokenizer": {"vocabulary": 400}, "sequence_length": 64} | changes.get("text", {})
    sources, domains = sources | changes.get("sources", {}), domains | changes.get("domains", {})
    tasks = tasks | changes.get("tasks", {})
    return StudyConfig.model_validate(
        {
            "study": "pinned",
            "seed": changes.get("seed", 0),
            "text": text | {"sources": present(sources), "domains": present(domains)},
            "ladder": {
                "shapes": {
                    name: SHAPE | {"train_tokens": tokens}
                    for name, tokens in {"small": 6400, **changes.get("sizes", {})}.items()
                }
            },
            "grid": {"mixtures": changes.get("mixtures", [{"code": 0.5, "general": 0.5}, {"code": 0, "general": 1}])},
            "measure": {"tasks": present(tasks), **changes.get("measure", {})},
        }
    )


def present(parts: dict) -> dict:
    return {name: part for name, part in parts.items() if part is not None}


GROWN = {
    "sources": {"math": {"builtin": "math", "max_characters": 300_000}},
    "domains": {"math": {"held_out": "math", "sequences": 16}, "science": {"builtin": "science", "sequences": 16}},
    "tasks": {"order": {"builtin": "word_order", "domain": "general", "items": 6}},
    "mixtures": [
        {"code": 0.5, "general": 0.5, "math": 0},
        {"code": 0, "general": 1, "math": 0},
        {"code": 0.2, "general": 0.4, "math": 0.4},
    ],
    "sizes": {"large": 12_800},
}


def begin(study: StudyConfig, folder: Path, run: int = 0, attempt: int = 1) -> None:
    """Records that a run of the study has begun."""
    specs = make_plan(study, folder).specs
    row = attempt_row(run_id=specs[run].run_id, attempt=attempt, event="started", at=time.time())
    with TableWriter(folder) as writer:
        writer.append("runs", run_rows(specs))
        writer.append("attempts", row)


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A study's folder whose first run has begun."""
    folder = tmp_path_factory.mktemp("study") / "begun"
    study_text(config(), folder, quiet)
    begin(config(), folder)
    return folder


@pytest.fixture
def folder(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "folder"))


def ids(study: StudyConfig, folder: Path) -> set[str]:
    return {spec.run_id for spec in make_plan(study, folder).specs}


def test_until_a_run_has_begun_everything_may_change(tmp_path):
    study_text(config(), tmp_path, quiet)
    assert read_pin(tmp_path) is None
    other = config(text={"sequence_length": 80}, seed=3)
    check_unchanged(other, tmp_path)
    assert study_text(other, tmp_path, quiet).sources["code"].sequence_length == 80


def test_a_study_grows_and_every_run_keeps_its_name(folder):
    before, kept = ids(config(), folder), study_text(config(), folder, quiet)
    grown = config(**GROWN)
    check_unchanged(grown, folder)
    assert before < ids(grown, folder)
    assert len(ids(grown, folder)) == 6
    lines: list[str] = []
    text = study_text(grown, folder, lines.append)
    assert contents(kept).items() < contents(text).items()
    assert text.tokenizer == kept.tokenizer
    assert "tokenising source math" in lines
    assert not any("source code" in line for line in lines)
    assert before < ids(grown, folder)
    begin(grown, folder, run=2)
    again: list[str] = []
    assert study_text(grown, folder, again.append) == text
    assert again == []
    check_unchanged(grown, folder)
    with pytest.raises(ConfigError, match=r"measure.tasks.order is gone"):
        check_unchanged(config(), folder)


def test_in_a_fresh_folder_another_source_names_the_runs_anew(folder, tmp_path):
    """The tokenizer would be trained on it too, so the runs would not be the same."""
    assert not ids(config(), folder) & ids(config(**GROWN), tmp_path / "fresh")


def test_what_was_added_may_still_change_until_a_run_begins(folder):
    study_text(config(**GROWN), folder, quiet)
    other = GROWN | {"sources": {"math": {"builtin": "math", "max_characters": 400_000}}}
    check_unchanged(config(**other), folder)
    check_unchanged(config(), folder)
    text = study_text(config(**other), folder, quiet)
    assert text.sources["math"].characters > 300_000
    begin(config(**other), folder, run=1)
    with pytest.raises(ConfigError, match=r"text.sources.math.max_characters was 400000 and is now 300000"):
        check_unchanged(config(**GROWN), folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"sources": {"code": {"builtin": "code", "max_characters": 9}}},
            r"text.sources.code.max_characters was 300000 and is now 9\b",
        ),
        ({"sources": {"code": {"builtin": "code"}}}, r"text.sources.code.max_characters was 300000 and is now not set"),
        ({"domains": {"code": {"held_out": "code"}}}, r"text.domains.code.sequences was 16 and is now not set"),
        (
            {"tasks": {"syntax": {"builtin": "code_syntax", "domain": "code", "items": 21}}},
            r"items was 20 and is now 21",
        ),
        ({"tasks": {"syntax": None, "other": {"builtin": "word_order", "domain": "general"}}}, r"tasks.syntax is gone"),
        ({"domains": {"general": None}}, r"text.domains.general is gone"),
        ({"text": {"sequence_length": 32}}, r"text.sequence_length was 64 and is now 32"),
        ({"text": {"decontamination_ngram": 8}}, r"text.decontamination_ngram was 13 and is now 8"),
        ({"text": {"tokenizer": {"vocabulary": 500}}}, r"text.tokenizer was .*400.* and is now .*500"),
        ({"measure": {"intermediate_items": 8}}, r"measure.intermediate_items was not set and is now 8"),
        ({"seed": 1}, r"seed was 0 and is now 1"),
    ],
)
def test_what_changes_is_named_with_the_way_on(begun, changes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        check_unchanged(config(**changes), begun)
    assert "study.yaml in that folder" in str(caught.value)
    assert "under a name of its own" in str(caught.value)


def test_what_describes_a_score_and_not_the_score_may_change(begun):
    task = {"builtin": "code_syntax", "domain": "code", "items": 20, "weight": 0.5, "emergence_margin": 0.01}
    check_unchanged(config(tasks={"syntax": task}, text={"max_epochs": 3}), begun)


def test_a_source_may_leave_and_come_back(folder):
    with_math = config(sources=GROWN["sources"], mixtures=GROWN["mixtures"])
    text = study_text(with_math, folder, quiet)
    named = ids(with_math, folder)
    begin(with_math, folder, run=2)
    check_unchanged(config(), folder)
    assert ids(config(), folder) < named
    assert study_text(config(), folder, quiet).sources["math"] == text.sources["math"]
    assert ids(with_math, folder) == named
    assert study_text(with_math, folder, quiet) == text


def test_lost_text_is_made_again_in_the_steps_in_which_it_grew(folder):
    grown = config(**GROWN)
    text = study_text(grown, folder, quiet)
    begin(grown, folder, run=2)
    shutil.rmtree(folder / "text")
    again = study_text(grown, folder, quiet)
    assert (again.content_id, again.removed) == (text.content_id, text.removed)


def test_lost_text_that_comes_out_otherwise_is_refused(folder):
    shutil.rmtree(folder / "text")
    pin = json.loads((folder / PIN).read_text())
    pin["contents"]["source code"] = "0" * 16  # as if the standard library had been another one
    (folder / PIN).write_text(json.dumps(pin))
    with pytest.raises(TextError, match=r"is not what its runs were trained on and measured with: source code\."):
        study_text(config(), folder, quiet)


def test_a_kill_between_growing_and_pinning_loses_nothing(folder):
    before = (folder / PIN).read_text()
    text = study_text(config(**GROWN), folder, quiet)
    (folder / PIN).write_text(before)
    kept = study_text(config(), folder, quiet)  # the older file goes on with its own parts
    assert set(kept.sources) == {"code", "general"}
    assert study_text(config(**GROWN), folder, quiet) == text


def test_a_folder_of_another_version_is_refused_with_the_way_on(folder):
    (folder / PIN).write_text(json.dumps({"text": "a", "measure": "b", "content_id": "c"}))
    with pytest.raises(ConfigError, match=r"begun by another version of flp_ray.*flp-ray export"):
        make_plan(config(), folder)
