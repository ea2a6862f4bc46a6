"""Does the search save FLOPs? Every strategy replayed on planted worlds and on RegMix's table, where looking costs.

    make bench-search                                                   # all of it
    python -m tests.benchmarks.bench_search --seeds 4 --worlds two-sources --strategies full-grid olmix

Prints a table a world and what was asked of ours, and leaves under results/:

    bench-search.json   {world: {strategy: {"cost_to_goal": median, "quartiles": [a, b], ...}}}; null: not reached
    bench-search.md     the tables for a README
    bench-search.png    what the answer loses against what was spent
    bench-search/       every single replay, kept, so that a bench that was stopped goes on

The cost to the goal is the bill from which on every answer of the strategy, to its own end or to the cap (15 runs of
the target's size), loses no more than the goal: reached by luck and lost again is not reached. A seed that never
reaches it counts as infinite in median and quartiles. RegMix's table is read from --shared, or the environment
variable FLP_RAY_SHARED_DATA, or shared/data beside the project; without it that world is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.search import figure
from tests.benchmarks.search.regmix_table import ROOT, VARIABLE, shared_data
from tests.benchmarks.search.runs import cases_of, jobs_of, run_jobs
from tests.benchmarks.search.strategies import COMPETITORS
from tests.benchmarks.search.summary import criteria, markdown, summarise, table_rows

RESULTS = ROOT / "results"

SEEDS = 20


def main(arguments: list[str] | None = None) -> int:
    """Runs what is asked for; 0 whatever was reached: the tables say that."""
    given = _parser().parse_args(arguments)
    began = time.monotonic()
    table = shared_data(given.shared) / "regmix"
    if not (table / "runs.csv").is_file():
        print(f"RegMix's table is left out: there is no {table / 'runs.csv'} (give --shared or {VARIABLE}).")
        table = None
    cases = {n: c for n, c in cases_of(table).items() if given.worlds is None or n in given.worlds}
    competitors = [c for c in COMPETITORS if given.strategies is None or c.name in given.strategies]
    unknown = {*(given.worlds or ()), *(given.strategies or ())} - {*cases_of(table), *(c.name for c in COMPETITORS)}
    if unknown:
        print(f"Unknown: {', '.join(sorted(unknown))}.", file=sys.stderr)
        return 2
    jobs = jobs_of(list(cases.values()), competitors, given.seeds, table)
    results = run_jobs(jobs, given.results / "bench-search", processes=given.processes, said=_say)
    results = {world: results[world] for world in cases if world in results}
    figures = summarise(results, cases)
    tables = table_rows(figures, cases)
    (given.results / "bench-search.json").write_text(json.dumps(figures, indent=1) + "\n")
    (given.results / "bench-search.md").write_text(markdown(tables))
    figure.draw(results, cases, given.results / "bench-search.png")
    _show(tables)
    for line in criteria(figures):
        print(line)
    print(f"{time.monotonic() - began:.0f} s; kept in {given.results}: bench-search.json, .md, .png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="worlds of each kind, another one each seed")
    parser.add_argument("--worlds", nargs="+", help="only these")
    parser.add_argument("--strategies", nargs="+", help="only these")
    parser.add_argument("--processes", type=int, default=2, help="replays at once, each of one thread")
    parser.add_argument("--shared", type=Path, help="folder that holds regmix/")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where everything is kept")
    return parser


def _show(tables: list[tuple[str, list[str], list[list[str]]]]) -> None:
    console = Console()
    for title, heads, rows in tables:
        table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
        for number, head in enumerate(heads):
            table.add_column(head, justify="left" if number == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table, "")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
