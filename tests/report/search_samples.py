"""Planted searches for the report's tests: scores in closed form over 2, 3, 5 or more sources."""

from __future__ import annotations

import numpy as np

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Prediction
from flp_ray.core.search import Decision, FrontPoint, MixtureSurface, SearchAnswer, SearchView

NAMES = ("code", "general", "math", "papers", "web")
BEST = {
    2: (0.32, 0.68),
    3: (0.25, 0.55, 0.20),
    5: (0.22, 0.30, 0.15, 0.05, 0.28),
}
"""Optimum by number of sources; the first source is capped at CAP."""
CAP = 0.3
TOLERANCE = 0.002
BUDGET, RESERVED = 1.6e19, 3e18
SIZES = {"60M": 4e16, "200M": 2e17, "1B": 1.6e18}


def names_of(sources: int) -> tuple[str, ...]:
    return NAMES[:sources] if sources <= 5 else tuple(f"source-{i:02d}" for i in range(sources))


def best_of(sources: int):
    return np.array(BEST.get(sources, np.full(sources, 1 / sources)))


def mixture_of(sources: int, ratios) -> Mixture:
    ratios = np.asarray(ratios) / np.sum(ratios)
    return Mixture.of(dict(zip(names_of(sources), (float(r) for r in ratios), strict=True)))


def lattice(sources: int, steps: int):
    """All mixtures in steps of 1/steps, (n, K)."""
    if sources == 1:
        return np.full((1, 1), steps)
    rows = []
    for first in range(steps + 1):
        rest = lattice(sources - 1, steps - first) if steps > first else np.zeros((1, sources - 1), dtype=int)
        rows.append(np.column_stack([np.full(len(rest), first), rest]))
    return np.unique(np.concatenate(rows), axis=0)


def ratios_of(sources: int, seed: int = 0):
    steps = {2: 100, 3: 40, 5: 12}.get(sources)
    if steps is not None:
        return lattice(sources, steps) / steps
    return np.random.default_rng(seed).dirichlet(np.ones(sources), size=4000)


def score(ratios, best, shift: float = 0.0):
    return 0.62 - shift - 0.22 * np.sqrt(np.sum((ratios - best) ** 2, axis=-1) + 0.01)


def spread(ratios, best):
    return 0.004 + 0.05 * np.sum(np.abs(ratios - best), axis=-1) ** 2


def surface_of(sources: int, objective: str = "mean", best=None, capped: bool = True) -> MixtureSurface:
    best = best_of(sources) if best is None else best
    ratios = ratios_of(sources)
    mean, half = score(ratios, best), 1.2816 * spread(ratios, best)
    feasible = ratios[:, 0] <= CAP + 1e-9 if capped else np.ones(len(ratios), dtype=bool)
    return MixtureSurface(
        objective=objective, sources=names_of(sources), ratios=ratios, mean=mean, low=mean - half, high=mean + half,
        feasible=feasible,
    )  # fmt: skip


def predicted(ratios, best, extrapolated: bool = False) -> Prediction:
    mean, half = float(score(np.asarray(ratios), best)), 1.2816 * float(spread(np.asarray(ratios), best))
    return Prediction(mean=mean, low=mean - half, high=mean + half, extrapolated=extrapolated)


def decisions_of(sources: int, *, stopped: bool = True, number: int = 24, seed: int = 1) -> tuple[Decision, ...]:
    chance, best, spent, found = np.random.default_rng(seed), best_of(sources), 0.0, []
    names = list(SIZES)
    for i in range(number):
        kind = "start" if i < 6 else "emergence" if i == 6 else ("value", "value", "repeat", "check")[i % 4]
        size = names[0] if i < 6 else names[min(2, i % 3)]
        drawn = chance.dirichlet(np.ones(sources)) if i < 12 else np.abs(best + chance.normal(0, 0.05, sources))
        regret = None if i < 7 else 0.04 * 0.82 ** (i - 7) * float(np.exp(chance.normal(0, 0.12)))
        found.append(
            Decision(
                number=i, at=1.7e9 + 60 * i, kind=kind, run_id=f"run{i:05d}", size=size,
                reason="One of the starting design." if i < 6 else
                f"Takes {0.1 * (i % 5 + 1):.1f} points off the expected regret for 1e+18 FLOPs, more than any other.",
                mixture=mixture_of(sources, drawn), repeat=2 if kind == "repeat" else 0, flops=SIZES[size],
                gain=None if regret is None else 0.3 * regret, expected_regret=regret, spent_flops=spent,
                best=None if regret is None else mixture_of(sources, best),
                fit_id=None if regret is None else f"fit{i}",
            )
        )  # fmt: skip
        spent += SIZES[size]
    if stopped:
        found.append(
            Decision(
                number=number, at=1.7e9 + 60 * number, kind="stop", run_id=None, size=None, mixture=None, repeat=0,
                reason="the expected regret, 0.15 points, is within the tolerance of 0.2 points.", flops=0.0, gain=None,
                expected_regret=0.0015, spent_flops=spent, best=mixture_of(sources, best), fit_id="fit-last",
            )
        )  # fmt: skip
    return tuple(found)


def answer_of(sources: int, objective: str = "mean", *, confident: bool = True, best=None) -> SearchAnswer:
    free = best_of(sources) if best is None else best
    held = free.copy()
    if held[0] > CAP:
        held[0], held[1] = CAP, held[1] + held[0] - CAP
    present = np.full(sources, 1 / sources)
    return SearchAnswer(
        objective=objective, mixture=mixture_of(sources, held), expected=predicted(held, free),
        expected_regret=0.0015 if confident else 0.014, confident=confident,
        free_mixture=mixture_of(sources, free), free_expected=predicted(free, free),
        present=mixture_of(sources, present), present_expected=predicted(present, free), surely_better=0.974,
    )  # fmt: skip


def front_of(sources: int, objectives: tuple[str, ...]) -> tuple[FrontPoint, ...]:
    chance, points = np.random.default_rng(4), []
    optima = [chance.dirichlet(np.ones(sources)) for _ in objectives]
    for weight in np.linspace(0, 1, 9):
        weights = np.array([weight, *np.full(len(objectives) - 1, (1 - weight) / (len(objectives) - 1))])
        middle = np.sum([w * o for w, o in zip(weights, optima, strict=True)], axis=0)
        points.append(
            FrontPoint(
                mixture=mixture_of(sources, middle),
                expected={o: predicted(middle, at) for o, at in zip(objectives, optima, strict=True)},
            )
        )
    return tuple(points)


def search_of(
    sources: int, *, confident: bool = True, stopped: bool = True, objectives=("mean",), capped: bool = True
) -> SearchView:
    decisions = decisions_of(sources, stopped=stopped)
    several = len(objectives) > 1
    return SearchView(
        budget_flops=BUDGET, spent_flops=sum(d.flops for d in decisions), reserved_flops=RESERVED,
        tolerance=TOLERANCE, decisions=decisions,
        answers=tuple(answer_of(sources, o, confident=confident) for o in objectives),
        surfaces=tuple(surface_of(sources, o, capped=capped) for o in objectives),
        front=front_of(sources, objectives) if several else (),
        front_objectives=objectives if several else (),
    )  # fmt: skip


def before_the_first_fit(sources: int = 3) -> SearchView:
    return SearchView(
        budget_flops=BUDGET, spent_flops=3e17, reserved_flops=RESERVED, tolerance=TOLERANCE,
        decisions=decisions_of(sources, stopped=False, number=6), answers=(), surfaces=(),
    )  # fmt: skip
