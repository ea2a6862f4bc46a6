"""What a study file changes is said before anything starts, and what is used again is counted."""

from pathlib import Path

import pytest
import yaml
from rich.console import Console

from flp_ray.config import StudyConfig, load_config, save_config
from flp_ray.growth import Growth, growth_since, kept_config
from flp_ray.report import print_growth
from flp_ray.study import make_plan

SMOKE = Path(__file__).parent.parent / "jobs" / "smoke.yaml"


def study(tmp_path: Path, **changes) -> StudyConfig:
    """The smoke study with keys changed, given by dotted path; a value of None takes the key out."""
    value = yaml.safe_load(SMOKE.read_text())
    for path, new in changes.items():
        *way, last = path.split("__")
        place = value
        for key in way:
            place = place.setdefault(key, {})
        if new is None:
            del place[last]
        else:
            place[last] = new
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(value, sort_keys=False))
    return load_config(file)


def growth(tmp_path: Path, old: StudyConfig, new: StudyConfig, done: int = 100) -> Growth | None:
    before, after = make_plan(old, tmp_path / "none").specs, make_plan(new, tmp_path / "none").specs
    finished = {spec.run_id for spec in before[:done]}
    return growth_since(old, new, planned=after, recorded={s.run_id: s.purpose for s in before}, finished=finished)


def test_the_same_file_changes_nothing(tmp_path):
    assert growth(tmp_path, study(tmp_path), study(tmp_path)) is None


def test_a_larger_size_ratio_task_and_budget_reuse_every_run(tmp_path):
    size = {"layers": 3, "hidden": 32, "heads": 2, "ffn": 88, "train_tokens": 131_072, "batch_sequences": 16}
    old = study(tmp_path, budget__flops=1e14)
    new = study(
        tmp_path,
        budget__flops=2e14,
        grid__ratios={"code": [0, 0.25, 0.5, 0.75]},
        ladder__shapes__32x3=size | {"learning_rate": 0.01},
        measure__tasks__next={"builtin": "continuation", "domain": "general"},
        text__domains__reference={"builtin": "reference"},
    )
    found = growth(tmp_path, old, new, done=5)
    assert found.changes == (
        "+ domain reference",
        "+ size 32x3",
        "grid.ratios.code + 0.75",
        "+ task next",
        "budget.flops 1e+14 -> 2e+14",
    )
    plan = make_plan(old, tmp_path / "none")
    assert (found.reused_runs, found.new_runs, found.unplanned_runs) == (5, 6, 0)
    assert found.reused_flops == pytest.approx(sum(s.flops for s in plan.specs[:5]))
    assert found.reused_sources == ("general", "code")


def test_what_leaves_the_plan_is_counted_and_text_that_changes_is_not_reused(tmp_path):
    old = study(tmp_path)
    new = study(
        tmp_path,
        grid__ratios={"code": [0, 0.5]},
        text__sources__code={"builtin": "code", "max_characters": 9},
        search__trials=None,
    )
    found = growth(tmp_path, old, new)
    assert found.changes == (
        "text.sources.code.max_characters 2500000 -> 9",
        "grid.ratios.code - 0.25",
        f"search.trials 50 -> {new.search.trials}",
    )
    # In a folder without pinned text the tokenizer would be another one, so no run is the same.
    assert (found.reused_runs, found.unplanned_runs, found.new_runs) == (0, 6, 4)
    assert found.reused_sources == ("general",)


def test_the_lines_on_the_console(tmp_path):
    console = Console(record=True, width=200)
    value = Growth(
        changes=("+ source math", "+ task algebra", "budget.flops 1e+14 -> 2e+14"),
        reused_runs=12,
        reused_flops=3.1e13,
        reused_sources=("general", "code"),
        unplanned_runs=1,
        new_runs=6,
        new_flops=2e13,
    )
    print_growth(value.as_json(), console)
    assert console.export_text() == (
        "Changed since the study was last given: + source math, + task algebra, budget.flops 1e+14 -> 2e+14\n"
        "  used again: 12 finished runs (3.1e+13 FLOPs), text of 2 sources (general, code)\n"
        "  new: 6 runs (2e+13 FLOPs)\n"
        "  kept, but no longer planned and not fitted on: 1 finished run\n"
    )


def test_the_plan_compares_with_what_the_folder_has_kept(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    old = study(tmp_path)
    assert kept_config(folder) is None
    assert make_plan(old, folder).as_json()["growth"] is None
    save_config(old, folder)
    assert kept_config(folder) == old
    assert make_plan(old, folder).growth is None
    grown = make_plan(study(tmp_path, grid__ratios={"code": [0, 0.25, 0.5, 1]}), folder)
    assert grown.as_json()["growth"]["changes"] == ("grid.ratios.code + 1",)
    (folder / "study.yaml").write_text("a: file of another version\n")
    assert make_plan(old, folder).growth is None
