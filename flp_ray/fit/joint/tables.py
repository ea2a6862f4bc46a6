"""The joint law as lines of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flp_ray.core.surrogate import FitLine
from flp_ray.fit.joint.loss_law import LossLaw, Posterior

if TYPE_CHECKING:
    from flp_ray.fit.joint.link import ScoreLink
    from flp_ray.fit.joint.surrogate import JointSurrogate

METHOD = "joint"


def joint_lines(fitted: JointSurrogate) -> tuple[FitLine, ...]:
    """One line a domain, then one a task."""
    return tuple(_loss_line(law, fitted) for law in fitted.laws) + tuple(_score_line(k, fitted) for k in fitted.links)


def _loss_line(law: LossLaw, fitted: JointSurrogate) -> FitLine:
    process = law.best
    numbers = process.numbers
    power, exponents = _powers(process)
    named = {f"exponent_{s}": float(e) for s, e in zip(fitted.sources, exponents, strict=True)}
    logs = process.mean + process.factor @ (process.factor.T @ process.weights)
    predicted, left_out = process.expected(process.runs), process.leave_one_out()
    scale = np.exp(logs) / (process.floor + np.exp(logs))
    terms = "".join(f" {s}^{e:.3g}" for s, e in zip(fitted.sources, exponents, strict=True))
    return FitLine(
        stage="loss",
        method=METHOD,
        name=law.domain,
        formula=f"L = {process.floor:.3g} + scale C^{power:.3g}{terms}, and a surface of {numbers.surface:.2g} nats",
        parameters={"floor": process.floor, "power": power, "surface": numbers.surface, "turn": numbers.turn}
        | {"noise": numbers.noise, "size": numbers.size, "fault": numbers.fault}
        | named,
        observations=law.observations,
        fit_error=float((np.abs(np.expm1(predicted - logs)) * scale).mean()),
        held_out_error=float((np.abs(np.expm1(left_out - logs)) * scale).mean()),
        note=f"exponents of the effective ratios; sources overlap by {100 * fitted.frame.overlap:.2g} %",
    )


def _powers(process: Posterior) -> tuple[float, np.ndarray]:
    """Power of FLOPs and exponents of the effective ratios in the linear part of the law, at the runs' mean FLOPs."""
    from flp_ray.fit.joint.kernel import POWER

    power = POWER**2 * float(process.runs.x @ process.weights)
    return power, process.numbers.slope**2 * (process.weights @ process.runs.u)


def _score_line(link: ScoreLink, fitted: JointSurrogate) -> FitLine:
    terms = " ".join(f"{s:+.3g} {d}" for s, d in zip(link.full_slopes, fitted.domains, strict=True))
    level = link.numbers[-1] + link.numbers[-3] - link.full_slopes @ link.input_mean
    return FitLine(
        stage="performance",
        method=METHOD,
        name=link.task,
        formula=f"P = {level:.3g} {terms}, above chance softened over {np.exp(link.numbers[-2]):.2g}",
        parameters={f"slope_{d}": float(s) for d, s in zip(fitted.domains, link.full_slopes, strict=True)}
        | {"chance": float(link.numbers[-1]), "softness": float(np.exp(link.numbers[-2])), "noise": link.noise},
        observations=link.observations,
        fit_error=link.fit_error,
        held_out_error=None,
        note="score per nat of each domain's loss, far above chance",
    )
