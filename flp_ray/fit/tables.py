"""The fitted laws as lines of a table."""

from __future__ import annotations

from flp_ray.core.surrogate import FitLine
from flp_ray.fit.network import HIDDEN_UNITS
from flp_ray.fit.surrogate import FittedSurrogate


def surrogate_lines(surrogate: FittedSurrogate) -> tuple[FitLine, ...]:
    """FLP-M's law of every domain and every emerged task, then FLP's and FP's."""
    return (*_loss_lines(surrogate), *_performance_lines(surrogate), *surrogate.baselines)


def surrogate_notes(surrogate: FittedSurrogate) -> tuple[str, ...]:
    """The treatment of ratio 0 with its sensitivity; empty where the laws do not depend on the mixture."""
    if not surrogate.sensitivity:
        return ()
    others = [row for row in surrogate.sensitivity if row["move"] > 0]
    tried = " and ".join(_percent(row["overlap"]) for row in others)
    moved = " and ".join(_percent(row["move"]) for row in others)
    errors = sorted(row["held_out_error"] for row in surrogate.sensitivity if "held_out_error" in row)
    held_out = f", the held-out error lies between {_percent(errors[0])} and {_percent(errors[-1])}" if errors else ""
    return (
        f"Eq. 5 has no value at ratio 0. Each source is taken to overlap the others by "
        f"{_percent(surrogate.laws[0].overlap)} of its text, which was fitted; with {tried} the predicted losses move "
        f"by {moved} on average{held_out}.",
    )


def _percent(value: float) -> str:
    return f"{100 * value:.2g} %"


def _loss_lines(surrogate: FittedSurrogate) -> list[FitLine]:
    lines = []
    for law in surrogate.laws:
        numbers = law.parameters
        powers = " ".join(f"C_{s}^{numbers[f'exponent_{s}']:.4g}" for s in surrogate.sources)
        lines.append(
            FitLine(
                stage="loss",
                method="flp-m",
                name=law.domain,
                formula=f"L = exp({numbers['log_scale']:.4g}) C^{numbers['exponent_total']:.4g} {powers}",
                parameters=numbers | {"overlap": law.overlap, "residual": law.residual},
                observations=law.observations,
                fit_error=law.fit_error,
                held_out_error=law.held_out_error,
                note=law.note,
            )
        )
    return lines


def _performance_lines(surrogate: FittedSurrogate) -> list[FitLine]:
    law = surrogate.performance_law
    lines = []
    for t, task in enumerate(law.tasks):
        noise = surrogate.score_noise[t]
        explained = float(1 - law.error[:, t].mean())
        lines.append(
            FitLine(
                stage="performance",
                method="flp-m",
                name=task,
                formula=f"P = line + network of {HIDDEN_UNITS} units, mean of {len(law.error)}",
                parameters={"members": float(len(law.error)), "explained": explained, "noise": noise.spread},
                observations=law.observations[task],
                fit_error=float(law.fit_error[t]),
                held_out_error=noise.relative_error,
                note=f"held out: {noise.residuals} final checkpoints, both stages, members without the run",
            )
        )
    return lines
