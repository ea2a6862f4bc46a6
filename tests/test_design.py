"""From a study file to its search: the first runs, what they may cost, and what is refused with words."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from flp_ray.cli import main
from flp_ray.config import load_config
from flp_ray.core.mixture import Mixture
from flp_ray.core.search import Decision
from flp_ray.errors import BudgetError, ConflictError
from flp_ray.store import TableWriter, attempt_row, decision_row, load_decisions, run_rows
from flp_ray.study import StudyPlan, make_plan
from tests.rounds_study import BUDGET, FIRST, LARGE, SMALL, shape, write

GENERAL = {"general": {"builtin": "general", "max_characters": 900_000}}


def planned(folder: Path, study_dir: Path | None = None, **changes) -> StudyPlan:
    return make_plan(load_config(write(folder, **changes)), study_dir or folder / "none")


def question(folder: Path, **changes) -> str:
    return planned(folder, **changes).searched.question


def keep(study_dir: Path, plan: StudyPlan, *, ended: bool, finished: int = 100) -> None:
    """Stores the plan's sampling runs as decided and the first of them as finished, and maybe the end."""
    with TableWriter(study_dir) as writer:
        writer.append("runs", run_rows(plan.sampling))
        for number, spec in enumerate(plan.sampling):
            made = decision(number=number, run_id=spec.run_id, size=spec.size, mixture=spec.mixture, flops=spec.flops)
            writer.append("decisions", decision_row(made, question=plan.searched.question))
            if number < finished:
                for event in ("started", "finished"):
                    writer.append("attempts", attempt_row(run_id=spec.run_id, attempt=1, event=event, at=1.0 + number))
        if ended:
            stop = decision(number=len(plan.sampling), kind="stop", reason="enough", run_id=None, size=None)
            stop = replace(stop, mixture=None, flops=0.0)
            writer.append("decisions", decision_row(stop, question=plan.searched.question))


def decision(**changes) -> Decision:
    made = Decision(
        number=0,
        at=1_700_000_000.25,
        kind="value",
        reason="takes 0.1 of 0.3 points off",
        run_id="r",
        size="16x2",
        mixture=Mixture.of({"code": 0.3, "general": 0.7}),
        repeat=1,
        flops=SMALL,
        gain=0.001,
        expected_regret=0.003,
        spent_flops=2 * SMALL,
        best=Mixture.of({"code": 0.4, "general": 0.6}),
        fit_id="f",
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # Text: 0.5 of 32,768 tokens are 16,384, four passes over 1,000 give 4,000 of them.
        (
            {"search__pinned": {"code": 0.5}, "search__available_tokens": {"code": 1000}},
            ["source code must make up at least 0.5", "at most 1 may be", "raise search.max_epochs"],
        ),
        (
            {
                "search__min_ratios": {"code": 0.6},
                "text__sources__code": {"builtin": "code", "tokens": 3000},
                "search__max_epochs": {"code": 4},
            },
            ["source code must make up at least 0.6", "6.55 passes", "at most 4 may be", "Lower its ratio to 0.366"],
        ),
        (
            {"search__available_tokens": {"code": 9000, "general": 9000}, "search__max_epochs": 1.5},
            ["too little text for the target's", "code 0.412, general 0.412, 0.824 together", "search.target_tokens"],
        ),
        ({"search__min_ratios": {"code": 0.7, "general": 0.7}}, ["lower bounds sum to 1.4", "Widen min_ratios"]),
        ({"search__max_ratios": {"code": 0.3, "general": 0.3}}, ["upper bounds to 0.6", "max_ratios"]),
        ({"search__min_ratios": {"code": 0.6}, "search__max_ratios": {"code": 0.5}}, ["source code", "min 0.6"]),
        ({"search__pinned": {"code": 0.7, "general": 0.6}}, ["search.pinned", "sum to 1.3, more than 1"]),
        ({"search__pinned": {"cod": 0.7}}, ["search.pinned names 'cod'", "code, general"]),
        ({"search__pinned": {"code": 0.7}, "search__max_ratios": {"code": 0.5}}, ["pinned at 0.7", "0 to 0.5"]),
        ({"search__objectives": ["sintax"]}, ["search.objectives names 'sintax'", "Did you mean syntax?"]),
        (
            {"search__objectives": [{"name": "own", "weights": {"sintax": 1}}]},
            ["search.objectives.own names 'sintax', which is no task", "Did you mean syntax?"],
        ),
        (
            {
                "search__objectives": [{"name": "own", "weights": {"syntax": 1}, "keep": {"ordr": 0.01}}],
                "search__present": {"code": 0.5, "general": 0.5},
            },
            ["search.objectives.own names 'ordr', which is no task", "Did you mean order?"],
        ),
        ({"search__pareto": ["syntax", "maths"]}, ["search.pareto names 'maths'", "mean, syntax, order"]),
        ({"search__present": {"code": 0.5, "prose": 0.5}}, ["search.present names 'prose'"]),
        ({"rounds__budget_flops": 8e8}, ["8e+08, less than the cheapest run (8.258e+08 FLOPs, size 16x2)", "Raise"]),
        (
            {"rounds__budget_flops": 1.1e10},
            ["needs at least 1.124e+10", "6 first runs 9.048e+09, validation 2.19e+09", "validation.enabled: false"],
        ),
        ({"rounds": None}, ["neither which mixtures to train (grid) nor", "rounds: {budget_flops: ...}"]),
        (
            {
                "rounds": None,
                "grid": {"ratios": {"code": [0.2, 0.5]}},
                "search__objectives": [{"name": "own", "weights": {"syntax": 1}}],
            },
            ["search.objectives.own with weights of its own needs a search in rounds"],
        ),
        (
            {"text__sources": GENERAL, "text__domains__code": {"held_out": "general", "sequences": 16}},
            ["at least two sources", "text.sources names one"],
        ),
        ({"rounds__sizes": ["16x2", "30x2"]}, ["rounds.sizes", "30x2"]),
        ({"rounds__start_mixtures": 2}, ["rounds.start_mixtures", "greater than or equal to 3"]),
        ({"search__target_size": "7B"}, ["search.target_size", "7B"]),
    ],
)
def test_wrong_input_ends_with_2_and_says_what_to_change(changes, words, capsys, tmp_path):
    file = write(tmp_path, **changes)
    for command in ("plan", "run"):
        assert main([command, str(file), "--study-dir", str(tmp_path / "s")]) == 2
        said = capsys.readouterr().err
        for expected in words:
            assert expected in said
    assert not (tmp_path / "s").exists(), "nothing has started"


def test_the_plan_shows_the_budget_and_what_the_search_may_spend(capsys, tmp_path):
    file = write(tmp_path)
    assert main(["plan", str(file), "--json", "--study-dir", str(tmp_path / "s")]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [(r["size"], r["ratios"]["code"]) for r in value["runs"]] == [
        (size, ratio) for size in ("16x2", "20x2") for ratio in (0.5, 0.0, 1.0)
    ]
    assert sum(r["flops"] for r in value["runs"]) == pytest.approx(FIRST)
    totals = value["totals"]
    assert totals["budget_flops"] == BUDGET
    assert totals["search_flops"] == pytest.approx(BUDGET - FIRST - LARGE)
    assert not totals["search_ended"]
    assert main(["plan", str(file), "--study-dir", str(tmp_path / "s")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"chooses runs for up to {BUDGET - FIRST - LARGE:.4g} FLOPs more (budget 1.5e+10, validation in" in said


@pytest.mark.parametrize(
    "change",
    [
        {"rounds__budget_flops": 3e10},
        {"rounds__tolerance": 0.01},
        {"rounds__max_runs": 12},
        {"rounds__sizes": ["20x2"]},
        {"search__objectives": ["order"]},
        {"search__objectives": [{"name": "own", "weights": {"syntax": 1}, "keep": {"order": 0.1}}]},
        {"search__pareto": ["syntax", "order"]},
        {"search__max_ratios": {"code": 0.8}},
        {"search__target_tokens": 40_000},
        {"search__prior": {"code": 0.5, "general": 0.5}, "search__prior_weight": 0.1},
        {"search__ratio_step": 0.05},
        {"ladder__shapes__24x2": shape(24, 16_384), "search__target_size": "20x2"},
    ],
)
def test_another_question_lets_an_ended_search_go_on(change, tmp_path):
    present = {"search__present": {"code": 0.5, "general": 0.5}}
    wide = {"rounds__budget_flops": 2e10} | present
    keep(tmp_path / "s", planned(tmp_path, **wide), ended=True)
    assert planned(tmp_path, tmp_path / "s", **wide).searched.ended
    assert not planned(tmp_path, tmp_path / "s", **wide | change).searched.ended


@pytest.mark.parametrize(
    "change",
    [
        {"study": "other"},
        {"fit__members": 5},
        {"resources__retries": 0},
        {"validation__seeds": 2},
        {"rounds__start_mixtures": 4},
        {"search__trials": 11},
        {"budget__flops": 1e12},
    ],
)
def test_what_asks_nothing_else_does_not(change, tmp_path):
    keep(tmp_path / "s", planned(tmp_path), ended=True)
    plan = planned(tmp_path, tmp_path / "s", **change)
    assert plan.searched.ended and plan.totals["search_ended"]
    assert {s.run_id for s in plan.sampling} == {s.run_id for s in planned(tmp_path).sampling}


def test_decisions_come_back_in_order_with_what_was_asked_last(tmp_path):
    assert load_decisions(tmp_path) == ((), None)
    stop = decision(number=2, kind="stop", run_id=None, size=None, mixture=None, best=None, gain=None, fit_id=None)
    made = (decision(), decision(number=1, kind="start", expected_regret=None, best=None), stop)
    with TableWriter(tmp_path) as writer:
        assert writer.append("decisions", decision_row(made[2], question="second")) == 1
        assert writer.append("decisions", decision_row(made[0], question="first")) == 1
        assert writer.append("decisions", decision_row(made[1], question="first")) == 1
        assert writer.append("decisions", decision_row(made[1], question="first")) == 0
        with pytest.raises(ConflictError):
            writer.append("decisions", decision_row(decision(reason="another"), question="first"))
    assert load_decisions(tmp_path) == (made, "second")


def test_a_grid_comes_first_with_its_extra_runs(tmp_path):
    grid = {
        "ratios": {"code": [0.2, 0.4]},
        "extra": [{"size": "20x2", "mixtures": [{"code": 0.7, "general": 0.3}]}],
    }
    plan = planned(tmp_path, grid=grid, rounds__start_mixtures=None)
    assert [(s.size, s.mixture.ratio("code")) for s in plan.sampling] == [
        ("16x2", 0.2),
        ("16x2", 0.4),
        ("20x2", 0.2),
        ("20x2", 0.4),
        ("20x2", 0.7),
    ]


def test_first_runs_of_sizes_that_the_search_does_not_choose_are_paid_too(tmp_path):
    grid = {"ratios": {"code": [0.2, 0.4]}}
    plan = planned(tmp_path, grid=grid, rounds__sizes=["16x2"])
    assert plan.searched.search.cost("20x2") == LARGE
    first = 2 * (SMALL + LARGE)
    with pytest.raises(BudgetError, match=re.escape("4 first runs 6.032e+09")):
        planned(tmp_path, grid=grid, rounds__sizes=["16x2"], rounds__budget_flops=0.99 * (first + LARGE))
    assert planned(tmp_path, grid=grid, rounds__sizes=["16x2"], rounds__budget_flops=1.01 * (first + LARGE))


def test_targets_are_paid_from_the_budget(tmp_path):
    targets = [{"size": "20x2", "mixtures": [{"code": 0.3, "general": 0.7}]}]
    grid = {"ratios": {"code": [0.2, 0.4]}}
    without = planned(tmp_path, grid=grid).totals["search_flops"]
    plan = planned(tmp_path, grid=grid | {"targets": targets})
    assert without - plan.totals["search_flops"] == pytest.approx(LARGE)
    assert plan.searched.spent_flops(tmp_path / "none") == pytest.approx(LARGE)


def test_runs_of_sources_and_sizes_that_are_left_out_stay_paid(tmp_path):
    third = {"builtin": "math", "max_characters": 900_000}
    wide = {"text__sources__math": third, "rounds__budget_flops": 4e10}
    before = planned(tmp_path, **wide)
    keep(tmp_path / "s", before, ended=False)
    after = planned(tmp_path, tmp_path / "s", rounds__budget_flops=4e10)
    used = [s for s in before.sampling if s.mixture.ratio("math") == 0]
    assert 0 < len(used) < len(before.sampling)
    assert {s.run_id for s in after.searched.decided} == {s.run_id for s in used}
    assert after.searched.aside_flops == pytest.approx(sum(s.flops for s in before.sampling if s not in used))
    assert after.searched.spent_flops(tmp_path / "s") == pytest.approx(sum(s.flops for s in before.sampling))

    two = tmp_path / "two"
    keep(two, planned(tmp_path), ended=False)
    smaller = planned(tmp_path, two, ladder__shapes__20x2=None, ladder__shapes__24x2=shape(24, 16_384))
    assert {s.size for s in smaller.searched.decided} == {"16x2", "20x2"}
    assert smaller.searched.search.cost("20x2") == LARGE


def test_a_budget_below_what_is_spent_is_refused(tmp_path):
    keep(tmp_path / "s", planned(tmp_path), ended=True)
    with pytest.raises(BudgetError, match=re.escape("6 first and earlier runs 9.048e+09")):
        planned(tmp_path, tmp_path / "s", rounds__budget_flops=5e9, validation__enabled=False)


def test_text_that_is_too_short_at_a_size_keeps_its_first_runs_away(tmp_path):
    # 20,000 tokens of code, once: all of the small size's 16,384, but not all of the large one's 32,768.
    code = {"builtin": "code", "tokens": 20_000}
    plan = planned(tmp_path, text__sources__code=code, text__max_epochs=1)
    assert max(s.mixture.ratio("code") for s in plan.sampling if s.size == "20x2") <= 20_000 / 32_768
    assert plan.space.bounds.high == (20_000 / 32_768, 1.0)
