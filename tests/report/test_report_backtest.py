from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from backtest_samples import DOMAINS, TASKS, backtest, judged, method, mixtures, ratio_curve, unfit
from rich.console import Console
from test_report_page import parsed, uses

from flp_ray.core.backtest import Backtest
from flp_ray.errors import StorageError
from flp_ray.report import numbers, print_backtest, write_backtest
from flp_ray.report.backtest_answer import backtest_answer, backtest_notes, choice_text, signed
from flp_ray.report.backtest_figures import sheets
from flp_ray.report.backtest_page import render_backtest
from flp_ray.report.backtest_series import looks, names_of
from flp_ray.report.drawing import paper

LADDER = backtest(method("auto", 0.04), method("fp", 0.2, losses=False), method("flp", -0.1), unfit("flp-m"))


def plain(text: str) -> str:
    return text.replace(numbers.THIN, " ")


def printed(value: Backtest, *, terminal: bool = False, width: int = 140) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system="standard" if terminal else None)
    print_backtest(value, console)
    return plain(out.getvalue())


@pytest.fixture(scope="module")
def ladder_page() -> str:
    return render_backtest(LADDER)


@pytest.fixture(scope="module")
def mixtures_page() -> str:
    return render_backtest(mixtures())


def test_the_page_begins_with_the_answer_then_warnings_then_figures_then_tables(ladder_page: str) -> None:
    order = ("answer", "notes", "score-against-flops", "loss-against-score", "summary", "stages", "references")
    places = [ladder_page.index(f'id="{name}"') for name in order]
    assert places == sorted(places)
    answer = backtest_answer(LADDER)
    assert plain(answer.headline) == "Trust auto: its score predictions were off by 4.0 % on average"
    assert "3 roll-outs over compute" in answer.detail and "targets played no part" in answer.detail
    for text in (answer.headline, answer.detail, answer.targets, answer.setting):
        assert text in ladder_page


@pytest.mark.parametrize("fixture", ["ladder_page", "mixtures_page"])
def test_the_page_stands_alone_and_follows_the_theme(fixture: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(fixture)
    ids = parsed(page).ids
    assert len(ids) == len(set(ids))
    for word in ("@import", "xlink", "http:", "https:", "<script", "<link", "<image"):
        assert word not in page
    body = page.split("</style>", 1)[1]
    assert re.findall(r"#[0-9a-f]{6}\b(?![\w-])", body) == []
    light, dark = page.split("@media screen and (prefers-color-scheme: dark)", 1)
    for name in set(re.findall(r"var\(--([a-z0-9]+)\)", body)):
        assert f"--{name}:" in light and f"--{name}:" in dark.split("\n}\n", 1)[0]


def test_panels_hold_checkpoints_ends_targets_and_a_curve_a_method(ladder_page: str) -> None:
    for i, task in enumerate(TASKS):
        panel = f"score-against-flops-{i}"
        # Nine checkpoints before the end of three runs; the first one of arc has no score.
        assert uses(ladder_page, f"{panel}-checkpoints") == (24 if task == "arc" else 27)
        assert uses(ladder_page, f"{panel}-ends") == 3
        assert uses(ladder_page, f"{panel}-targets") == 2
        assert len(re.findall(rf'id="{panel}-curve-[a-z]+"', ladder_page)) == 3
        assert f'id="{panel}-band"' in ladder_page and f'id="{panel}-chance"' in ladder_page
        assert uses(ladder_page, f"loss-against-score-{i}-targets") == 2
        groups = [uses(ladder_page, f"loss-against-score-{i}-size-{letter}") for letter in "abc"]
        assert groups == [9 if task == "arc" else 10] * 3
    for i in range(len(DOMAINS)):
        assert uses(ladder_page, f"loss-against-flops-{i}-ends") == 3
        assert len(re.findall(rf'id="loss-against-flops-{i}-curve-[a-z]+"', ladder_page)) == 2


def test_many_targets_are_scattered_and_summed_up(mixtures_page: str) -> None:
    for i in range(len(DOMAINS)):
        assert uses(mixtures_page, f"loss-predicted-against-measured-{i}-method-a") == 24
        assert f'id="loss-predicted-against-measured-{i}-intervals-a"' in mixtures_page
    assert uses(mixtures_page, "loss-by-method-0-method-a") == uses(mixtures_page, "loss-by-method-1-method-a") == 48
    assert "against-flops" not in mixtures_page and 'id="target-0-loss"' not in mixtures_page
    assert 'id="worst"' in mixtures_page and 'id="ranks"' in mixtures_page and 'id="loss-order"' in mixtures_page
    assert len(mixtures_page.encode()) < 500_000


def test_few_targets_of_several_mixtures_show_every_method_in_each_panel() -> None:
    two = backtest(method("auto", 0.04, curves=False), method("flp", -0.1, curves=False))
    page = render_backtest(two)
    for i in range(len(TASKS)):
        for letter in "ab":
            assert uses(page, f"score-predicted-against-measured-{i}-method-{letter}") == 2
    assert 'id="score-by-method"' not in page


def test_figures_are_files_in_real_colours(tmp_path: Path) -> None:
    path = write_backtest(tmp_path / "deep" / "out", LADDER)
    assert path == tmp_path / "deep" / "out" / "report.html"
    assert path.read_text(encoding="utf-8") == render_backtest(LADDER)
    names = {f.name for f in (path.parent / "figures").iterdir()}
    assert names == {f"{sheet.name}.{form}" for sheet in sheets(LADDER) for form in ("svg", "png")}
    assert {"score-against-flops.svg", "loss-errors.png", "loss-against-score.svg", "interval-coverage.png"} <= names
    svg = (path.parent / "figures" / "score-against-flops.svg").read_text(encoding="utf-8")
    assert paper("predicted") in svg and "#0100" not in svg and "var(" not in svg
    png = (path.parent / "figures" / "score-against-flops.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="flp-ray backtest"):
        write_backtest(tmp_path / "file" / "out", LADDER)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "figures").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="figures cannot be written"):
        write_backtest(tmp_path / "out", LADDER)


def test_nothing_fitted_is_said_in_words() -> None:
    nothing = backtest(unfit("flp"), unfit("fp"), tasks=False)
    page = render_backtest(nothing)
    parsed(page)
    assert "<svg" not in page and "There is nothing to draw" in page
    assert "Could not be fitted: flp and fp. Reason: all runs have one size." in backtest_notes(nothing)
    assert "nothing was measured" in backtest_answer(nothing).headline
    assert "all runs have one size" in printed(nothing)


def test_a_target_without_measurements_is_predicted_and_not_judged() -> None:
    own = method("flp", 0.1, targets=1)
    target = replace(
        own.targets[0],
        performance={"arc": judged(0.4, None), "piqa": judged(0.6, 0.0)},
        domain_loss={},
        stages={},
    )
    bare = backtest(replace(own, targets=(target,), roll_out=dict.fromkeys(TASKS)))
    page = render_backtest(bare)
    parsed(page)
    assert 'id="score-against-flops-0-targets"' not in page
    row = re.search(r'<th scope="row">arc</th>.*?</tr>', page)
    assert row is not None and plain(row.group(0)).count("–") == 1 and "40.0 % [38.0 to 42.0]" in plain(row.group(0))
    assert "The choice is not tested" in backtest_answer(bare).detail
    assert "score-errors" not in page


def test_the_optimum_along_the_ratio_is_marked_for_scores_and_losses() -> None:
    curves = (ratio_curve("performance", "arc", 0.3), ratio_curve("domain_loss", "web", 0.7))
    two = backtest(replace(method("flp-m", 0.05, curves=False), ratio_curves=curves))
    page = plain(render_backtest(two))
    assert "flp-m: best at 30 % code, 50.0 % · 700 M, 14 B tokens" in page
    assert "flp-m: best at 70 % code, 2.500 · 700 M, 14 B tokens" in page
    assert uses(page, "score-along-ratio-0-optimum-a") == uses(page, "loss-along-ratio-0-optimum-a") == 1


def test_notes_name_errors_that_hide_each_other_and_reasons_once() -> None:
    silent = {"gsm8k": "its scores do not rise above chance"}
    value = backtest(
        replace(method("auto", 0.01), not_predicted=silent),
        replace(method("flp", 0.01), not_predicted=silent),
    )
    notes = [plain(note) for note in backtest_notes(value)]
    assert notes[0] == "The domain losses are collinear."
    assert "Not predicted by auto and flp: gsm8k. Reason: its scores do not rise above chance." in notes
    hidden = [n for n in notes if "hide each other" in n]
    assert len(hidden) == 3
    assert "On arc of target-0 the two stages of auto" in hidden[0]
    assert "+8.0 %" in hidden[0] and "−7.0 %" in hidden[0] and "+1.0 % of the measured score" in hidden[0]
    assert "cases: flp 2" in hidden[-1]


def test_hindsight_is_named_as_such() -> None:
    said = plain(backtest_answer(backtest(method("auto", 0.04), method("flp", 0.01))).targets)
    assert "Closest was flp with 1.0 %" in said and "hindsight" in said
    assert "hindsight" not in backtest_answer(backtest(method("auto", 0.01), method("flp", 0.04))).targets


def test_targets_much_worse_than_the_roll_outs_are_said_to_be() -> None:
    worse = replace(method("auto", 0.04), roll_out=dict.fromkeys(TASKS, 0.01))
    assert "That is 4.0 times its error in the roll-outs" in backtest_answer(backtest(worse)).targets
    alike = replace(method("auto", 0.04), roll_out=dict.fromkeys(TASKS, 0.03))
    assert "times its error" not in backtest_answer(backtest(alike)).targets


def test_a_sixth_other_method_is_grey_and_the_chosen_one_blue() -> None:
    many = backtest(*(method(f"m-{i}", 0.01 * (i + 1)) for i in range(8)), chosen="m-3")
    styles = looks(many)
    assert styles["m-3"].role == "predicted"
    assert [name for name, look in styles.items() if not look.featured] == ["m-6", "m-7"]
    page = render_backtest(many)
    assert "</svg>m-6, m-7</li>" in page
    assert len({look.role for look in styles.values()}) == 7


def test_the_terminal_shows_methods_targets_choices_and_notes() -> None:
    chosen = {"arc": {"flp": 0.25, "floor": 0.75}, "domain_loss": {"floor": 1.0}}
    value = replace(LADDER, methods={**LADDER.methods, "auto": replace(LADDER.methods["auto"], chosen=chosen)})
    text = printed(value)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert any(re.match(r"auto \(chosen\) +2.0 % +4.0 % +4.0 % +4.0 % +100 %", line) for line in lines)
    assert any(re.match(r"flp-m +– +– +– +– +–", line) for line in lines)
    assert "target-0: scores" in text and "target-1: scores" in text
    assert "floor 75 %, flp 25 %" in text and "Note: Could not be fitted: flp-m." in text
    assert "Trust auto" in text
    assert "─" in printed(value, terminal=True)


def test_a_narrow_terminal_leaves_methods_to_the_report() -> None:
    assert "2 more methods: see the report." in printed(LADDER, terminal=True, width=80)


def test_many_targets_are_not_listed_in_the_terminal() -> None:
    text = printed(mixtures())
    assert "Worst predictions of auto" in text and "mix-0: losses" not in text
    assert sum(line.startswith("mix-") for line in text.splitlines()) == 5
    assert "order" in text and "rank correlation of 1.00" in text


def test_hostile_names_are_text() -> None:
    evil = "<script>$x_1$[red]"
    own = method("flp", 0.1)
    swapped = tuple(
        replace(t, run_id=evil, performance={evil: t.performance["arc"]}, stages={evil: t.stages["arc"]})
        for t in own.targets
    )
    curves = tuple(replace(c, name=evil) if c.name == "arc" else c for c in own.curves)
    value = replace(backtest(replace(own, method=evil, targets=swapped, curves=curves)), source=evil, warnings=(evil,))
    page = render_backtest(value)
    parsed(page)
    assert "<script" not in page and page.count("&lt;script&gt;") > 5
    for terminal in (False, True):
        assert "[red]" in printed(value, terminal=terminal)


def test_names_keep_their_order_and_small_texts_are_exact() -> None:
    assert names_of(LADDER, "performance") == tuple(TASKS)
    assert names_of(mixtures(), "domain_loss") == DOMAINS
    assert plain(choice_text({"a": 0.25, "b": 0.75})) == "b 75 %, a 25 %"
    assert choice_text({"a": 1.0}) == "a"
    assert [plain(signed(v)) for v in (0.05, -0.05, 0.0, None)] == ["+5.0 %", "−5.0 %", "0 %", "–"]
