from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_study import DOMAINS, TASKS, PlantedSurrogate, as_run, mix, planted_study, spec

from flp_ray.core.mixture import Mixture
from flp_ray.core.records import Measurement, Records, Run, Task
from flp_ray.errors import StorageError
from flp_ray.fit import FitSettings, fit_surrogate
from flp_ray.report import ReportContent, RunRow, TextSummary, write_report
from flp_ray.report.laws import law_points
from flp_ray.report.numbers import THIN
from flp_ray.report.page import render
from flp_ray.synthetic import Design, many_source_world, paper_size

FIGURES = ("ratio", "parity", "laws", "emergence")
TABLES = ("comparison", "outcomes", "proposals", "law-table", "runs", "text", "removed", "time", "versions")
SECTIONS = ("answer", "notes", *FIGURES, *TABLES, "config")
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order; collects ids and tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()


def parsed(html: str) -> Balance:
    balance = Balance()
    balance.feed(html)
    balance.close()
    assert balance.open == []
    return balance


def uses(html: str, group: str) -> int:
    """Number of marks in one series of one panel."""
    start = html.find(f'<g id="{group}">')
    assert start >= 0, f"no series {group}"
    depth = 0
    for tag in re.finditer(r"<(/?)g[ >]", html[start:]):
        depth += -1 if tag.group(1) else 1
        if depth == 0:
            inner = html[start : start + tag.start()]
            break
    # A shape is defined once and then used; a few marks may be paths of their own.
    return len(re.findall(r"<(?:use|path) ", re.sub(r"<defs>.*?</defs>", "", inner)))


def test_the_page_loads_nothing_from_outside(page: str) -> None:
    assert re.findall(r"""(?:src|href|action|data)\s*=\s*["'](?!#)""", page) == []
    assert re.findall(r"url\((?!#)", page) == []
    for word in ("@import", "xlink", "http:", "https:", "<script", "<link", "<iframe", "<image"):
        assert word not in page


def test_every_reference_inside_a_figure_has_its_target_once(page: str) -> None:
    ids = parsed(page).ids
    assert len(ids) == len(set(ids))
    inner = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert inner <= set(ids)


def test_the_page_is_well_formed_and_small(page: str) -> None:
    balance = parsed(page)
    assert balance.tags.count("h1") == 1
    assert len(page.encode()) < 1_500_000


def test_every_section_is_there(page: str) -> None:
    ids = set(parsed(page).ids)
    assert set(SECTIONS) <= ids


def test_both_themes_colour_everything(page: str) -> None:
    light, dark = page.split("@media screen and (prefers-color-scheme: dark)", 1)
    dark = dark.split("\n}\n", 1)[0]
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", page))
    assert used >= {"ink", "muted", "predicted", "validation", "grid", "s0"}
    for name in used:
        assert f"--{name}:" in light and f"--{name}:" in dark
    body = page.split("</style>", 1)[1]
    assert re.findall(r"#[0-9a-f]{6}\b(?![\w-])", body.replace("&#", "")) == []


def test_figures_are_named_for_screen_readers_and_tables_have_scopes(page: str) -> None:
    charts = re.findall(r"<svg[^>]*>", page)
    assert charts
    for chart in charts:
        name = re.search(r'aria-labelledby="([^"]+)"', chart)
        assert 'role="img"' in chart and name is not None
        assert re.search(rf'<title id="{name.group(1)}">[^<]+</title>', page)
    assert re.findall(r"<th(?! scope=|ead)[^>]*>", page) == []


def test_figures_hold_the_measured_points(study: ReportContent, page: str) -> None:
    assert uses(page, "hero-points-sampling") == 6
    assert uses(page, "hero-points-validation") == 2
    for i in range(len(DOMAINS)):
        assert uses(page, f"law-{i}-points-sampling") == 18
        assert uses(page, f"law-{i}-points-validation") == 2
        assert uses(page, f"parity-domain-loss-{i}-points-sampling") == 18
        assert len(re.findall(rf'<g id="law-{i}-law-[a-h]">', page)) == 6
    checkpoints = len(study.records.of_purpose("sampling").checkpoints())
    for i in range(len(TASKS)):
        assert uses(page, f"parity-performance-{i}-points-validation") == 2
        flat, emerged = uses(page, f"emergence-{i}-flat"), uses(page, f"emergence-{i}-emerged")
        assert flat > 0 and emerged > 0 and flat + emerged == checkpoints


def test_a_missing_measurement_is_absent_and_shown_as_missing(study: ReportContent) -> None:
    gone = study.specs[0].run_id
    kept = tuple(m for m in study.records.measurements if not (m.run_id == gone and m.name == "code"))
    records = Records(runs=study.records.runs, measurements=kept, tasks=study.records.tasks)
    content = replace(study, records=records)
    assert len(law_points(content, "code", "code")) == 19
    html = render(content)
    assert uses(html, "law-0-points-sampling") == 17
    row = re.search(rf'<th scope="row" class="code">{gone}</th>.*?</tr>', html)
    assert row is not None and '<td class="number">–</td>' in row.group(0)
    assert '<td class="number">0</td>' not in row.group(0)


def test_panels_show_the_errors_of_flp_m_not_of_a_baseline(page: str) -> None:
    panels = page.split('id="laws"', 1)[1].split("</section>", 1)[0]
    assert panels.count(f"error 0.400{THIN}% fitted, 0.740{THIN}% held out") == len(DOMAINS)
    assert f"37.0{THIN}%" not in panels


def test_scores_at_chance_are_not_held_against_the_law(study: ReportContent, page: str) -> None:
    ends = study.records.of_purpose("sampling").final_checkpoints()
    for i, task in enumerate(sorted(TASKS)):
        threshold = study.records.task(task).random_performance + 0.05
        risen = sum(c.performance[task] >= threshold for c in ends)
        assert 0 < risen < len(ends)
        assert uses(page, f"parity-performance-{i}-points-sampling") == risen


def test_hostile_names_are_text(study: ReportContent) -> None:
    evil = "<script>alert('x')</script>"
    cost = 'a$x_1$ & "b"'
    swap = {"code": evil, "general": cost}

    def renamed(mixture: Mixture | None) -> Mixture:
        assert mixture is not None
        return Mixture.of({swap[s]: r for s, r in mixture.as_dict().items()})

    runs = tuple(replace(r, mixture=renamed(r.mixture), size=evil) for r in study.records.runs)
    measurements = tuple(
        replace(m, name=evil) if m.name in ("code", "code-syntax") else m for m in study.records.measurements
    )
    tasks = (Task(task=evil, random_performance=0.5), *study.records.tasks[1:])
    html = render(
        replace(
            study,
            study=evil,
            config_yaml=evil,
            records=Records(runs=runs, measurements=measurements, tasks=tasks),
            surrogate=None,
            proposals=tuple(replace(p, mixture=renamed(p.mixture), size=evil) for p in study.proposals),
            comparisons=(),
            specs=(),
            run_states=(RunRow(run_id=runs[0].run_id, state="failed", reason=evil),),
            versions={evil: evil},
            text=TextSummary(tokens={evil: 1}, removed={evil: 1}),
            notes=(evil,),
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10
    parsed(html)


def test_missing_parts_are_said_in_words() -> None:
    html = render(ReportContent(study="empty"))
    assert set(SECTIONS) <= set(parsed(html).ids)
    for words in (
        "nothing has been measured",
        "No run is planned",
        "No law has been fitted",
        "No mixture has been proposed",
        "No proposal has been trained yet",
        "The text has not been prepared",
        "No stage has been timed",
        "No version is on record",
        "The study file is not on record",
        "No domain loss has been measured",
    ):
        assert words in html
    assert "<svg" not in html


def test_a_study_in_progress_shows_what_is_measured(study: ReportContent) -> None:
    html = render(replace(study, surrogate=None, proposals=(), comparisons=()))
    assert uses(html, "law-0-points-sampling") == 18
    assert 'id="law-0-law-a"' not in html
    assert "No law has been fitted, so nothing is predicted." in html
    parsed(html)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from report_study import planted_study\n"
        "from pathlib import Path; from flp_ray.report import write_report\n"
        "write_report(Path(sys.argv[2]), planted_study(ratios=(0.0, 0.5)))"
    )
    pages = []
    for seed in ("1", "2"):  # another hash seed, so that no set's order reaches the page
        path = tmp_path / f"{seed}.html"
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(path)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed}, timeout=60)
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]


def test_writing_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    assert write_report(path, ReportContent(study="first")) == path
    write_report(path, ReportContent(study="second"))
    assert "second" in path.read_text(encoding="utf-8") and "first</b>" not in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot be written to .*report\.html"):
        write_report(blocked / "report.html", ReportContent(study="demo"))


def test_the_real_fit_on_five_sources_is_drawn_slice_by_slice() -> None:
    world = many_source_world(sources=5)
    names = world.sources
    corners = [{s: 0.6 if s == t else 0.1 for s in names} for t in names]
    mixtures = tuple(Mixture.of(c) for c in [*corners, dict.fromkeys(names, 0.2)])
    design = Design(sizes=(paper_size("0.2B"), paper_size("0.5B"), paper_size("1B")), mixtures=mixtures, checkpoints=8)
    records = world.records(design, seed=0)
    surrogate = fit_surrogate(records, FitSettings(members=4, steps=60))
    html = render(ReportContent(study="five", records=records, surrogate=surrogate))
    parsed(html)
    panels = 5 * (1 + len(world.tasks))
    assert len(re.findall(r'<title id="ratio-\d+-\d+-title">', html)) == panels
    # Without a proposal the slices run through the first run's mixture; the other mixtures lie off them.
    assert uses(html, "ratio-0-0-points-sampling") + uses(html, "ratio-0-0-points-sampling-off") == len(mixtures)
    assert "hollow: other sources in another proportion" in html


def test_one_fixed_distribution_has_no_ratio_to_draw() -> None:
    runs = tuple(Run(run_id=f"r{i}", purpose="sampling", params=10, train_tokens=100) for i in range(4))
    values = tuple(
        Measurement(
            run_id=r.run_id,
            tokens=100,
            flops=10.0 ** (9 + i),
            kind="domain_loss",
            name="web",
            value=4 - 0.3 * i,
        )
        for i, r in enumerate(runs)
    )
    html = render(ReportContent(study="flp", records=Records(runs=runs, measurements=values)))
    assert "No mixing ratio was varied" in html
    assert uses(html, "law-0-points-sampling") == 4


def test_importing_the_report_is_cheap() -> None:
    code = (
        "import sys, flp_ray.report\n"
        "heavy = {'matplotlib', 'jinja2', 'rich', 'numpy', 'torch', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_of_another_size_is_not_beside_the_target() -> None:
    study = planted_study(PlantedSurrogate(), ratios=(0.0, 0.5))
    other = as_run(spec("48-3", mix(0.25)))
    extra = replace(study.records.measurements[0], run_id=other.run_id, kind="performance", name="word-order")
    records = Records(
        runs=(*study.records.runs, other),
        measurements=(*study.records.measurements, extra),
        tasks=study.records.tasks,
    )
    html = render(replace(study, records=records))
    assert uses(html, "hero-points-sampling") == 2
