"""Draws worlds, simulates a study's design in each, and sums up how well its optimum is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flp_ray.core.records import Records
from flp_ray.core.run import RunSpec
from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit import FitSettings, fit_surrogate
from flp_ray.measure import task_records
from flp_ray.power.judgement import Judgement, judge
from flp_ray.power.planted import planned_runs, planted_design, planted_size, study_world
from flp_ray.propose import search_lattice
from flp_ray.study import StudyPlan
from flp_ray.synthetic import World

TOLERANCE = 0.03
"""How far the found mixture may lie from the best one, in every ratio."""

WANTED = 0.8
"""Share of the worlds in which a design must find the best mixture to be called enough."""

MEMBERS = 16
"""Members of each ensemble at most: a study's 64 would take four times as long and move hardly a figure."""

NEW_RUNS = 4
"""Runs of the target size that are measured anew in every world, at random mixtures of the grid."""

FLAT = 0.1
"""Points of score below which a wrong mixture costs nothing that could be measured."""

DESIGNS = ("half", "planned", "twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignPower:
    """What one design reached over all drawn worlds.

    Attributes:
        name: `half`, `planned` or `twice`.
        runs: Sampling runs.
        flops: FLOPs of all of them.
        worlds: Worlds drawn.
        found: Share of the worlds, by objective, with the best mixture within the tolerance.
        distance: Median distance by objective; None where it was never predicted.
        regret_points: Median true score lost, in points of 100, by objective; None where it was never predicted.
        score_error: Median relative error of the predicted scores; None without any.
        score_error_90: Their 90 percent quantile.
        coverage: Share of new measurements within their 80 percent intervals, by kind.
        refused: Worlds in which the laws could not be fitted.
    """

    name: str
    runs: int
    flops: float
    worlds: int
    found: dict[str, float]
    distance: dict[str, float | None]
    regret_points: dict[str, float | None]
    score_error: float | None
    score_error_90: float | None
    coverage: dict[str, float]
    refused: int


def measure_power(
    plan: StudyPlan, draws: int, said: Callable[[int, str, Judgement | None], None] | None = None
) -> tuple[DesignPower, ...]:
    """Judges half as many runs, the planned ones and twice as many on the same drawn worlds.

    Args:
        plan: The study's plan; its grid, sizes, tokens, checkpoints, tasks and search count.
        draws: Worlds.
        said: Called after every fit with the world's number, the design and the judgement (None: refused).

    Raises:
        ConfigError: `draws` is below 1, or the study has a single source or mixture.
    """
    if draws < 1:
        raise ConfigError(f"--draws must be at least 1, received {draws}. Twenty worlds tell 60 from 90 percent.")
    if len(plan.config.sources) < 2 or len(plan.mixtures) < 2:
        raise ConfigError("The study mixes nothing (one source, or one mixture), so there is no best mixture to find.")
    if plan.searched is not None:
        raise ConfigError(
            "flp-ray power judges designs that are fixed beforehand; this study chooses its runs as it goes (rounds). "
            "Its expected regret says how sure it is: flp-ray status STUDY."
        )
    settings = replace(
        plan.config.fit, members=min(plan.config.fit.members, MEMBERS), weights=plan.config.task_weights()
    )
    designs = {name: planned_runs(plan, name) for name in DESIGNS}
    judged: dict[str, list[Judgement | None]] = {name: [] for name in DESIGNS}
    for draw in range(draws):
        world = study_world(plan, draw)
        for name, runs in designs.items():
            judgement = _judged(plan, world, runs, settings, draw)
            judged[name].append(judgement)
            if said:
                said(draw, name, judgement)
    objectives = plan.config.search.objective_names
    return tuple(_summary(name, designs[name], objectives, judged[name]) for name in DESIGNS)


def conclusion(powers: Sequence[DesignPower]) -> str:
    """What the figures mean for the design, in a sentence or two; judged by the first objective."""
    planned = next(p for p in powers if p.name == "planned")
    objective = next(iter(planned.found))
    enough = next((p for p in sorted(powers, key=lambda p: p.runs) if p.found[objective] >= WANTED), None)
    what = "the mean score" if objective == "mean" else objective
    share = planned.found[objective]
    regret = planned.regret_points[objective]
    lost = "" if regret is None else f", at a median loss of {regret:.2g} points"
    margin = 1.28 * np.sqrt(max(share * (1 - share), 1 / (4 * planned.worlds)) / planned.worlds)
    head = (
        f"The planned {planned.runs} runs find the best mixture for {what} within {TOLERANCE:g} in "
        f"{100 * share:.0f} % (± {100 * margin:.0f}) of {planned.worlds} worlds{lost}."
    )
    if enough is None:
        return f"{head} Not even twice as many runs reach {100 * WANTED:.0f} %{_what_then(powers, objective)}"
    if enough.name == "planned":
        return f"{head} That is enough ({100 * WANTED:.0f} %); half as many are not."
    if enough.name == "half":
        return f"{head} Half as many ({enough.runs}) would do: {100 * enough.found[objective]:.0f} %."
    return f"{head} Plan about twice as many ({enough.runs}): {100 * enough.found[objective]:.0f} %."


def _what_then(powers: Sequence[DesignPower], objective: str) -> str:
    """The end of a conclusion that no design is enough: whether that matters."""
    lost = next(p for p in powers if p.name == "twice").regret_points[objective]
    if lost is None:
        return ", since the score is not predicted: train larger sizes."
    if lost < FLAT:
        return f", but the score is so flat there that they lose only {lost:.2g} points."
    return f" (they lose {lost:.2g} points): train more mixtures, or larger sizes."


def _judged(
    plan: StudyPlan, world: World, runs: Sequence[tuple[RunSpec, int]], settings: FitSettings, draw: int
) -> Judgement | None:
    parts = [
        world.records(planted_design([s for s, r in runs if r == repeat]), 3 * draw + repeat)
        for repeat in sorted({r for _, r in runs})
    ]
    records = Records(
        runs=tuple(r for p in parts for r in p.runs),
        measurements=tuple(m for p in parts for m in p.measurements),
        tasks=task_records(plan.config.measure),
    )
    try:
        surrogate = fit_surrogate(records, settings)
    except NotEnoughDataError:
        return None
    generator = np.random.default_rng([draw, 3])
    chosen = [plan.mixtures[i] for i in generator.integers(0, len(plan.mixtures), NEW_RUNS)]
    return judge(
        surrogate,
        world,
        planted_size(plan.factory.run(plan.target.size, plan.mixtures[0], "target")),
        lattice=search_lattice(plan.config.search, plan.config.sources),
        objectives=plan.config.search.objective_names,
        mixtures=tuple(dict.fromkeys(chosen)),
        seed=3 * draw + 2,
    )


def _summary(
    name: str, runs: Sequence[tuple[RunSpec, int]], objectives: Sequence[str], judged: Sequence[Judgement | None]
) -> DesignPower:
    done = [j for j in judged if j is not None]
    distances = {o: [d for j in done if (d := j.distances[o]) is not None] for o in objectives}
    regrets = {o: [j.regrets[o] for j in done if o in j.regrets] for o in objectives}
    errors = [e for j in done for e in j.score_errors]
    inside = {kind: [i for j in done for i in j.inside.get(kind, ())] for kind in ("loss", "score", "objective")}
    return DesignPower(
        name=name,
        runs=len(runs),
        flops=sum(spec.flops for spec, _ in runs),
        worlds=len(judged),
        found={o: sum(d <= TOLERANCE + 1e-9 for d in of) / len(judged) for o, of in distances.items()},
        distance={o: float(np.median(of)) if of else None for o, of in distances.items()},
        regret_points={o: 100 * float(np.median(of)) if of else None for o, of in regrets.items()},
        score_error=float(np.median(errors)) if errors else None,
        score_error_90=float(np.quantile(errors, 0.9)) if errors else None,
        coverage={kind: float(np.mean(of)) for kind, of in inside.items() if of},
        refused=len(judged) - len(done),
    )
