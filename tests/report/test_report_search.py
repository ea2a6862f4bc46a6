from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import search_samples as samples
from rich.console import Console

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Records, Run
from flp_ray.core.search import SearchView
from flp_ray.report import ReportContent, numbers, print_status, search_json
from flp_ray.report.console import print_search
from flp_ray.report.front import front_points
from flp_ray.report.page import render
from flp_ray.report.search_section import search_section
from flp_ray.report.search_words import budget_sentence, findings, present_regret, short_mixture
from flp_ray.report.slices import best_at_each_share, gaps
from flp_ray.report.status_view import search_lines
from flp_ray.report.surface import _good_mixtures, surface_sheets
from flp_ray.report.ternary import in_plane, spans_plane


def content(view: SearchView | None, **fields) -> ReportContent:
    return ReportContent(study="searched", search=view, **fields)


def section(html: str) -> str:
    start = html.index('<section id="search">')
    return html[start : html.index('<section id="notes">', start)]


def plain(text: str) -> str:
    return text.replace(numbers.THIN, " ")


class Tags(HTMLParser):
    """Fails on a tag that is closed out of order; collects ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in {"meta", "link", "br", "img", "input", "hr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {
        "two": render(content(samples.search_of(2, objectives=("mean", "code-syntax")))),
        "three": render(content(samples.search_of(3))),
        "five": render(content(samples.search_of(5, confident=False, objectives=("mean", "a", "b")))),
        "many": render(content(samples.search_of(17))),
        "start": render(content(samples.before_the_first_fit())),
    }


def marks(html: str, group: str) -> int:
    """Marks of one series: each use of a shape, or its paths where there are few."""
    found = re.search(rf'<g id="{group}">(.*?)</g></g>|<g id="{group}">(.*?)</g>', html, flags=re.DOTALL)
    assert found is not None, f"no series {group}"
    return len(re.findall("<use ", found.group(0)))


def test_pages_are_well_formed_small_and_load_nothing(pages: dict[str, str]) -> None:
    for name, html in pages.items():
        tags = Tags()
        tags.feed(html)
        assert tags.open == [], name
        assert len(tags.ids) == len(set(tags.ids)), name
        inner = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
        assert inner <= set(tags.ids), name
        assert re.findall(r"url\((?!#)", html) == []
        assert "<image" not in html and "http:" not in html
        assert len(html.encode()) < 600_000, name


def test_every_colour_follows_the_theme(pages: dict[str, str]) -> None:
    for html in pages.values():
        body = section(html)
        assert re.findall(r"#[0-9a-f]{6}\b(?![\w-])", body.replace("&#", "")) == []
        assert re.findall(r"(?:fill|stroke): (?:black|white|#)", body) == []


def test_a_study_without_a_search_has_no_section() -> None:
    html = render(content(None))
    assert '<section id="search">' not in html and 'href="#search"' not in html


def test_the_section_follows_the_answer_and_is_in_the_navigation(pages: dict[str, str]) -> None:
    html = pages["three"]
    assert html.index('id="answer"') < html.index('<section id="search">') < html.index('<section id="notes">')
    assert '<a href="#search">' in html


def test_a_confident_answer_says_where_to_train_and_what_it_may_lose(pages: dict[str, str]) -> None:
    text = plain(section(pages["three"]))
    assert "Train at 55 % general, 25 % code, 20 % math; expected to lose 0.15 points against the best mixture." in text
    assert "Cannot tell" not in text
    assert "The mixture in use now, 33.3 % code, 33.3 % general, 33.3 % math, is expected to give" in text
    assert "better one with probability 97 %" in text


def test_an_unsure_answer_says_that_it_cannot_tell(pages: dict[str, str]) -> None:
    text = plain(section(pages["five"]))
    assert text.count("Cannot tell: ") == 3 and "Train at" not in text
    assert "is expected to lose 1.4 points against the best one" in text


def test_what_the_constraints_cost_is_said() -> None:
    bound, free = findings(samples.search_of(2)), findings(samples.search_of(3))
    assert "Without the constraints the best mixture would be 68 % general, 32 % code" in plain(bound[0].details[-1])
    assert free[0].details[-1] == "The constraints cost nothing: the best mixture without them is the same."


def test_before_the_first_fit_there_are_decisions_but_no_curve(pages: dict[str, str]) -> None:
    text = section(pages["start"])
    assert "Nothing can be predicted yet" in text and "The expected regret is not known yet" in text
    assert "<svg" not in text and text.count("One of the starting design.") == 6


def test_nothing_decided_is_said_in_words() -> None:
    empty = SearchView(
        budget_flops=1e15, spent_flops=0, reserved_flops=0, tolerance=0.002, decisions=(), answers=(), surfaces=()
    )
    text = section(render(content(empty)))
    assert "The search has not decided on a run yet." in text and "<table" not in text
    assert search_json(empty)["decisions"] == []


def test_the_history_marks_every_decision_by_its_kind(pages: dict[str, str]) -> None:
    view = samples.search_of(3)
    for kind in ("value", "repeat", "check", "stop"):
        wanted = sum(d.kind == kind and d.expected_regret is not None for d in view.decisions)
        assert wanted > 0 and marks(pages["three"], f"search-regret-0-decided-{kind}") == wanted
    assert marks(pages["three"], "search-regret-0-blind-start") == 6
    assert marks(pages["three"], "search-regret-0-blind-emergence") == 1
    assert 'id="search-regret-0-tolerance"' in pages["three"]


def test_every_decision_has_its_reason_and_long_tables_are_folded(pages: dict[str, str]) -> None:
    view = samples.search_of(3)
    body = section(pages["three"])
    table = body[body.index('<section id="decisions">') :].split("</table>", 1)[0]
    assert table.count("<tr>") == 1 + len(view.decisions) == 26
    for decision in view.decisions:
        assert decision.reason in table
    assert "<details>" in body
    short = replace(view, decisions=view.decisions[:15])
    assert "<details open>" in section(render(content(short)))


def test_two_sources_are_a_line_with_ticks_at_the_runs(pages: dict[str, str]) -> None:
    html = pages["two"]
    view = samples.search_of(2)
    runs = {d.mixture.ratio("code") for d in view.decisions if d.mixture is not None}
    assert marks(html, "search-surface-0-0-runs") == len(runs) == 24
    for series in ("profile", "band", "outside-a", "unbound", "optimum", "free", "present"):
        assert f'id="search-surface-0-0-{series}"' in html
    assert "-contours" not in html and "search-surface-0-best" not in html


def test_three_sources_are_two_triangles(pages: dict[str, str]) -> None:
    html = pages["three"]
    for panel in (0, 1):
        for series in ("contours", "outside", "hatch", "border", "runs", "optimum", "present"):
            assert f'id="search-surface-0-{panel}-{series}"' in html
    assert marks(html, "search-surface-0-0-runs") == 24
    free = render(content(samples.search_of(3, capped=False)))
    assert "search-surface-0-0-contours" in free and "search-surface-0-0-hatch" not in free


def test_more_sources_are_slices_and_parallel_rows(pages: dict[str, str]) -> None:
    for name, sources in (("five", 5), ("many", 17)):
        html = pages[name]
        drawn = set(re.findall(r'<g id="search-surface-0-(\d+)-profile">', html))
        assert drawn == {str(i) for i in range(sources)}
        assert 'id="search-surface-0-best-0-optimum"' in html and "-contours" not in html


def test_a_pinned_source_has_no_axis() -> None:
    surface = samples.surface_of(3, capped=False)
    pinned = replace(
        surface,
        sources=(*surface.sources, "pinned"),
        ratios=np.column_stack([0.8 * surface.ratios, np.full(len(surface.ratios), 0.2)]),
    )
    view = replace(samples.search_of(3), surfaces=(pinned,))
    (sheet,) = surface_sheets(content(view))
    assert len(sheet.drawings) == 2 and "beside the 20 % of the pinned ones" in plain(sheet.caption)
    html = render(content(view))
    assert "80% code" in html and "100% code" not in html


def test_three_sources_along_a_line_are_slices() -> None:
    surface = samples.surface_of(3)
    along = np.flatnonzero(np.isclose(surface.ratios[:, 0], surface.ratios[:, 1]))
    assert not spans_plane(surface.ratios[along])
    cut = {name: getattr(surface, name)[along] for name in ("ratios", "mean", "low", "high", "feasible")}
    sheets = surface_sheets(content(replace(samples.search_of(3), surfaces=(replace(surface, **cut),))))
    assert [len(s.drawings) for s in sheets] == [3, 1]


def test_corners_and_middle_of_the_triangle() -> None:
    points = in_plane(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 1]], dtype=float))
    height = math.sqrt(3) / 2
    assert np.allclose(points, [[0, 0], [1, 0], [0.5, height], [0.5, height / 3]])


def test_a_flat_or_wholly_infeasible_surface_is_drawn() -> None:
    for sources in (2, 3, 5):
        surface = samples.surface_of(sources)
        flat = replace(surface, mean=np.full(len(surface.mean), 0.5), low=surface.mean * 0 + 0.4, high=surface.mean * 0)
        none = replace(surface, feasible=np.zeros(len(surface.mean), dtype=bool))
        for odd in (flat, none):
            assert "<svg" in section(render(content(replace(samples.search_of(sources), surfaces=(odd,)))))


def test_a_profile_takes_the_best_mixture_at_each_share() -> None:
    surface = samples.surface_of(5)
    share = surface.ratios[:, 1]
    found = best_at_each_share(share, surface.mean, surface.low, surface.high, surface.feasible)
    for at, mean, low in zip(found.share, found.mean, found.low, strict=True):
        here = surface.feasible & np.isclose(share, at)
        assert mean == surface.mean[here].max()
        assert low == surface.low[here][surface.mean[here].argmax()]
    assert len(found.share) == 13 and np.all(np.diff(found.share) > 0)


def test_a_profile_of_scattered_mixtures_is_binned() -> None:
    surface = samples.surface_of(17)
    everything = np.ones(len(surface.mean), dtype=bool)
    found = best_at_each_share(surface.ratios[:, 3], surface.mean, surface.low, surface.high, everything)
    assert 10 < len(found.share) <= 24 and found.mean.max() == surface.mean.max()


def test_gaps_of_the_constraints() -> None:
    share = np.array([0.5, 0.1, 0.2, 0.3, 0.4, 0.0])
    held = np.array([True, True, True, False, False, False])
    assert np.allclose(gaps(share, held, every=True), [(0.0, 0.05), (0.25, 0.45)])
    assert gaps(share, np.ones(6, dtype=bool), every=True) == []
    assert gaps(share, np.zeros(6, dtype=bool), every=True) == [(0.0, 0.5)]
    # One feasible mixture at a share is enough.
    assert gaps(np.array([0.1, 0.1, 0.2]), np.array([False, True, True]), every=True) == []


def test_gaps_of_scattered_mixtures_are_those_of_the_constraints() -> None:
    surface = samples.surface_of(17)
    ((left, right),) = gaps(surface.ratios[:, 0], surface.feasible)
    assert left == pytest.approx(samples.CAP, abs=0.02) and right == surface.ratios[:, 0].max()
    # The cap on the first source rules out no share of another.
    for other in range(1, 17):
        assert gaps(surface.ratios[:, other], surface.feasible) == []


def test_good_mixtures_keep_the_constraints_and_hold_the_best() -> None:
    surface = samples.surface_of(17)
    chosen = _good_mixtures(surface)
    best = np.flatnonzero(surface.feasible)[surface.mean[surface.feasible].argmax()]
    assert chosen[0] == best and surface.feasible[chosen].all()
    assert 20 <= len(chosen) <= 40 and np.all(surface.mean[chosen] >= surface.low[best])


def test_mixtures_of_finished_runs_are_marked_too() -> None:
    extra = Mixture.of({"code": 0.111, "general": 0.889})
    other = Mixture.of({"code": 0.5, "unknown": 0.5})
    runs = tuple(
        Run(run_id=f"r{i}", purpose="sampling", params=10, train_tokens=100, mixture=m)
        for i, m in enumerate((extra, other))
    )
    html = render(content(samples.search_of(2), records=Records(runs=runs, measurements=())))
    assert marks(html, "search-surface-0-0-runs") == 25


def test_the_front_of_two_objectives_is_a_numbered_scatter(pages: dict[str, str]) -> None:
    html = pages["two"]
    assert marks(html, "search-front-0-points") == 9
    for series in ("across", "up", "present"):
        assert f'id="search-front-0-{series}"' in html
    table = section(html).split('<section id="front-table">', 1)[1]
    assert table.count('<th scope="row"') == 9
    firsts = [p.expected["mean"].mean for p in front_points(samples.search_of(2, objectives=("mean", "code-syntax")))]
    assert firsts == sorted(firsts, reverse=True)


def test_the_front_of_more_objectives_is_rows(pages: dict[str, str]) -> None:
    html = pages["five"]
    assert 'id="search-front-0-mixtures"' in html and "search-front-0-points" not in html
    assert "Pareto front of mean score, a and b" in html
    assert "Pareto front" not in pages["three"]


def test_the_budget_bar_holds_what_is_spent_and_kept() -> None:
    view = samples.search_of(3)
    drawn = search_section(content(view))
    assert drawn is not None
    assert drawn.budget.spent == round(100 * view.spent_flops / view.budget_flops, 3)
    over = replace(view, budget_flops=view.spent_flops)
    bar = search_section(content(over))
    assert bar is not None and bar.budget.spent + bar.budget.reserved == pytest.approx(100)
    assert "more than the budget" in budget_sentence(over) and "left" not in budget_sentence(over)


def test_the_regret_now_is_the_last_one_reckoned() -> None:
    assert present_regret(samples.search_of(3)) == 0.0015
    view = samples.search_of(3, stopped=False)
    assert present_regret(view) == view.decisions[-1].expected_regret
    assert present_regret(samples.before_the_first_fit()) is None


def test_a_mixture_of_many_sources_is_summed_up() -> None:
    ratios = [0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.01, 0.01]
    text = short_mixture(Mixture.of({f"s{i}": r for i, r in enumerate(ratios)}))
    assert plain(text) == "40 % s0, 30 % s1, 10 % s2, 10 % s3, 5 % s4, 5 % 3 others"


def test_the_json_is_plain_and_whole() -> None:
    view = samples.search_of(3, objectives=("mean", "a"))
    odd = replace(view.decisions[8], gain=float("nan"), expected_regret=np.float64(0.01))
    view = replace(view, decisions=(*view.decisions[:8], odd, *view.decisions[9:]), spent_flops=np.float32(1e19))
    found = search_json(view)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["decisions"][8]["gain"] is None and found["decisions"][8]["expected_regret"] == 0.01
    assert [d["reason"] for d in found["decisions"]] == [d.reason for d in view.decisions]
    assert found["expected_regret"] == 0.0015 and found["stopped"] == view.stopped
    answer = found["answers"][0]
    assert answer["mixture"] == {"code": 0.25, "general": 0.55, "math": 0.2} and answer["confident"] is True
    assert set(answer["expected"]) == {"mean", "low", "high", "extrapolated"}
    assert found["front_objectives"] == ["mean", "a"] and len(found["front"]) == 9


def test_status_tells_the_budget_the_regret_and_the_last_reasons() -> None:
    view = samples.search_of(3, stopped=False)
    lines = search_lines(search_json(view))
    text = "\n".join(lines)
    assert lines[0].startswith("search: 1.13e+19 of 1.6e+19 FLOPs spent (70 percent), 3e+18 kept for validation")
    assert "the search ends at 0.2 points" in lines[1] and "search goes on" in lines
    for decision in view.decisions[-5:]:
        assert f"{decision.number} {decision.kind}: {decision.size} at " in text and decision.reason in text
    assert f"{view.decisions[-6].number} {view.decisions[-6].kind}: " not in text
    assert f"search ended: {samples.search_of(3).stopped}" in search_lines(search_json(samples.search_of(3)))


def test_status_says_what_it_cannot_tell_or_does_not_know() -> None:
    unsure = search_lines(search_json(samples.search_of(3, confident=False)))
    assert any(line.startswith("found for mean: cannot tell yet") and "lose 1.4 points" in line for line in unsure)
    start = search_lines(search_json(samples.before_the_first_fit()))
    assert start[1].startswith("expected regret: not known yet")
    assert search_lines(None) == []


def test_status_prints_the_search_where_there_is_one() -> None:
    status = {"study": "demo", "runs": [], "proposals": [], "report": None}
    texts = []
    for found in ({}, {"search": None}, {"search": search_json(samples.search_of(2))}):
        out = io.StringIO()
        print_status(status | found, Console(file=out, width=80))
        texts.append(out.getvalue())
    assert texts[0] == texts[1] and "FLOPs spent" not in texts[0]
    assert "FLOPs spent" in texts[2] and "search ended: " in texts[2]


def test_the_summary_has_a_block_on_the_search() -> None:
    out = io.StringIO()
    print_search(content(samples.search_of(3)), Console(file=out, width=80))
    text = plain(out.getvalue())
    assert "For the best mean score: Train at 55 % general, 25 % code, 20 % math" in text
    assert "The search ended: the expected regret, 0.15 points, is within the tolerance of 0.2 points.\n" in text
    none = io.StringIO()
    print_search(content(None), Console(file=none, width=80))
    assert none.getvalue() == ""


def test_hostile_names_are_text() -> None:
    evil = "<script>alert('x')</script> $a_1$"
    view = samples.search_of(3)
    surface = replace(view.surfaces[0], sources=(evil, *view.surfaces[0].sources[1:]), objective=evil)
    decisions = tuple(replace(d, reason=evil, size=evil) for d in view.decisions)
    answers = tuple(replace(a, objective=evil) for a in view.answers)
    html = render(content(replace(view, surfaces=(surface,), decisions=decisions, answers=answers)))
    assert "<script" not in html and html.count("&lt;script&gt;") > 20


def test_the_same_search_gives_the_same_bytes(pages: dict[str, str]) -> None:
    assert render(content(samples.search_of(3))) == pages["three"]
