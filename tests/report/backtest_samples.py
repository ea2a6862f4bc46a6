"""Backtests as the commands make them, from closed formulas: one mixture with tasks, many mixtures without."""

from __future__ import annotations

import math

from flp_ray.core.backtest import (
    Backtest,
    Curve,
    Judged,
    MethodResult,
    ObservedRun,
    RatioCurve,
    StageError,
    TargetResult,
)

TASKS = {"arc": 0.25, "piqa": 0.5}
DOMAINS = ("code", "web")
SIZES = (50_000_000, 100_000_000, 200_000_000)


def loss(domain: str, flops: float) -> float:
    """A power law, another one for each domain."""
    return (60.0 if domain == "web" else 40.0) * math.pow(flops, -0.07)


def score(task: str, flops: float) -> float:
    """A line in the mean loss, above chance."""
    return TASKS[task] + 0.1 * max(0.0, 4.0 - loss("web", flops))


def judged(predicted: float, actual: float | None, width: float = 0.05) -> Judged:
    """A prediction with an interval of so many parts of it."""
    error = abs(predicted - actual) / actual if actual else None
    return Judged(
        predicted=predicted,
        low=predicted * (1 - width),
        high=predicted * (1 + width),
        actual=actual,
        relative_error=error,
    )


def observed(run: int, params: int) -> ObservedRun:
    """A fitted run with ten checkpoints; the first has no score on arc."""
    flops = tuple(6.0 * params * params * 20 * (i + 1) / 10 for i in range(10))
    return ObservedRun(
        run_id=f"run-{run}",
        params=params,
        flops=flops,
        mean_loss=tuple((loss("code", f) + loss("web", f)) / 2 for f in flops),
        domain_loss={d: loss(d, flops[-1]) for d in DOMAINS},
        performance={
            t: tuple(None if t == "arc" and i == 0 else score(t, f) for i, f in enumerate(flops)) for t in TASKS
        },
    )


def method(name: str, bias: float, *, targets: int = 2, losses: bool = True, curves: bool = True) -> MethodResult:
    """A method that is off by `bias` in every score and half of it in every loss; targets lie beyond the runs."""
    ahead = [1e19 * 4**i for i in range(targets)]
    path = [10 ** (17 + i / 10) for i in range(31)]
    kinds = [("performance", t, score) for t in TASKS] + ([("domain_loss", d, loss) for d in DOMAINS] if losses else [])
    drawn = [(kind, n, [law(n, f) * (1 + bias) for f in path]) for kind, n, law in kinds] if curves else []
    return MethodResult(
        method=name,
        reference=f"Author of {name}, Eq. 1",
        targets=tuple(
            TargetResult(
                run_id=f"target-{i}",
                params=700_000_000,
                flops=flops,
                performance={t: judged(score(t, flops) * (1 + bias), score(t, flops)) for t in TASKS},
                domain_loss={d: judged(loss(d, flops) * (1 + bias / 2), loss(d, flops)) for d in DOMAINS}
                if losses
                else {},
                stages={"arc": StageError(loss=0.08, link=-0.08 + bias), "piqa": StageError(loss=bias, link=0.0)}
                if losses
                else {},
            )
            for i, flops in enumerate(ahead)
        ),
        not_predicted={},
        roll_out={**dict.fromkeys(TASKS, abs(bias) / 2), **dict.fromkeys(DOMAINS, abs(bias) / 4 if losses else None)},
        chosen={},
        curves=tuple(
            Curve(
                kind=kind,  # type: ignore[arg-type]
                name=n,
                flops=tuple(path),
                mean=tuple(values),
                low=tuple(v * 0.95 for v in values),
                high=tuple(v * 1.05 for v in values),
            )
            for kind, n, values in drawn
        ),
    )


def unfit(name: str, reason: str = "all runs have one size") -> MethodResult:
    """A method that could not be fitted."""
    return MethodResult(
        method=name,
        reference=f"Author of {name}",
        targets=(),
        not_predicted={"all": reason},
        roll_out={},
        chosen={},
        curves=(),
    )


def backtest(*methods: MethodResult, chosen: str | None = None, tasks: bool = True) -> Backtest:
    """These methods on three fitted runs."""
    return Backtest(
        source="sample",
        methods={m.method: m for m in methods},
        chosen=chosen or methods[0].method,
        scheme="3 roll-outs over compute",
        held_out="2 runs of purpose target",
        warnings=("The domain losses are collinear.",),
        random_performance=TASKS if tasks else {},
        fitted=tuple(observed(i, p) for i, p in enumerate(SIZES)) if tasks else (),
    )


def mixtures(targets: int = 24) -> Backtest:
    """No tasks, many targets of two sizes and of as many mixtures, no curves."""

    def made(name: str, tilt: float) -> MethodResult:
        results = []
        for i in range(targets):
            actual = {d: 3 + math.sin(i + k) for k, d in enumerate(DOMAINS)}
            results.append(
                TargetResult(
                    run_id=f"mix-{i}",
                    params=1_000_000 if i % 2 else 60_000_000,
                    flops=1e18,
                    performance={},
                    domain_loss={d: judged(v + tilt * math.cos(i), v) for d, v in actual.items()},
                    stages={},
                )
            )
        return MethodResult(
            method=name,
            reference="",
            targets=tuple(results),
            not_predicted={},
            roll_out=dict.fromkeys(DOMAINS, 0.01),
            chosen={"domain_loss": {"surface": 1.0}} if name == "auto" else {},
            curves=(),
        )

    return backtest(made("surface", 0.4), made("auto", 0.05), unfit("flp"), chosen="auto", tasks=False)


def ratio_curve(kind: str, name: str, best: float) -> RatioCurve:
    """A parabola with its optimum at `best`."""
    sign = -1 if kind == "performance" else 1
    ratio = tuple(i / 20 for i in range(21))
    mean = tuple((0.5 if kind == "performance" else 2.5) + sign * (r - best) ** 2 / 4 for r in ratio)
    return RatioCurve(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        source="code",
        params=700_000_000,
        tokens=14_000_000_000,
        ratio=ratio,
        mean=mean,
        low=tuple(v - 0.02 for v in mean),
        high=tuple(v + 0.02 for v in mean),
    )
