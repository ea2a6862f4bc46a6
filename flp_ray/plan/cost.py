"""What a list of runs costs: tokens, FLOPs, device hours, disk, epochs per source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flp_ray.core.run import RunSpec
from flp_ray.errors import BudgetError
from flp_ray.plan.config import BudgetConfig

STATE_BYTES_PER_PARAM = 16
"""A resumable checkpoint: weights, gradients' master copy and two AdamW moments, four bytes each."""

MEASUREMENT_BYTES = 200
"""Upper estimate of one stored measurement on disk, Delta log included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Totals over runs. None: not known yet.

    Attributes:
        runs: Number of runs.
        tokens: Training tokens.
        flops: Training FLOPs.
        device_hours: Training time times devices; None until a rate is known.
        wall_hours: Time with all devices busy; None until a rate is known.
        dollars: Price of the device hours; None where time or price is not known.
        disk_bytes: Largest use at one time: text, the states of the runs under way, measurements.
        source_tokens: Most tokens that any single run takes of each source.
        epochs: Largest number of passes any single run makes over a source's text; None where its tokens are not known.
    """

    runs: int
    tokens: int
    flops: float
    device_hours: float | None
    wall_hours: float | None
    dollars: float | None
    disk_bytes: float
    source_tokens: dict[str, float]
    epochs: dict[str, float | None]


def cost(
    specs: Sequence[RunSpec],
    *,
    workers: Mapping[str, int],
    devices: int,
    flops_per_s_per_device: Mapping[str, float | None],
    source_tokens: Mapping[str, int | None],
    measurements_per_checkpoint: int,
    dollars_per_device_hour: float | None = None,
) -> Cost:
    """Adds up what runs cost.

    Args:
        specs: The runs.
        workers: Data-parallel workers of a run by size, one device each.
        devices: Devices of the cluster.
        flops_per_s_per_device: Achieved FLOP/s by size, measured or stated; None where neither is there.
        source_tokens: Tokens of text by source; None where not known.
        measurements_per_checkpoint: Values that a kept checkpoint leaves in the store.
        dollars_per_device_hour: Price; None where it is not stated.
    """
    rates = {spec.size: flops_per_s_per_device.get(spec.size) for spec in specs}
    known = all(rates.values())
    device_seconds = sum(s.flops / rate for s in specs if (rate := rates[s.size])) if known else None
    text_bytes = sum((tokens or 0) * 2 for tokens in source_tokens.values())
    checkpoints = sum(s.checkpoints for s in specs)
    longest = max((s.flops / rate / workers[s.size] for s in specs if (rate := rates[s.size])), default=0.0)
    busy = max(1, min(devices, sum(workers[s.size] for s in specs)))
    device_hours = None if device_seconds is None else device_seconds / 3600
    return Cost(
        runs=len(specs),
        tokens=sum(s.train_tokens for s in specs),
        flops=sum(s.flops for s in specs),
        device_hours=device_hours,
        wall_hours=None if device_seconds is None else max(longest, device_seconds / busy) / 3600,
        dollars=None
        if device_hours is None or dollars_per_device_hour is None
        else device_hours * dollars_per_device_hour,
        disk_bytes=text_bytes
        + 2.0 * _states_bytes(specs, workers, devices)  # an old and a new state while one is replaced
        + checkpoints * measurements_per_checkpoint * MEASUREMENT_BYTES,
        source_tokens=(wanted := {source: _wanted(specs, source) for source in source_tokens}),
        epochs={source: tokens and wanted[source] / tokens for source, tokens in source_tokens.items()},
    )


def _states_bytes(specs: Sequence[RunSpec], workers: Mapping[str, int], devices: int) -> float:
    """States of the largest runs that train at the same time."""
    free, total = devices, 0.0
    for spec in sorted(specs, key=lambda s: -s.params):
        if free <= 0:
            break
        free -= workers[spec.size]
        total += spec.params * STATE_BYTES_PER_PARAM
    return total


def _wanted(specs: Sequence[RunSpec], source: str) -> float:
    return max((s.train_tokens * s.mixture.ratio(source) for s in specs), default=0.0)


def check_budget(total: Cost, to_do: Cost, budget: BudgetConfig) -> None:
    """Refuses a plan that costs more than was stated.

    Args:
        total: The whole study, validation included; its FLOPs are limited.
        to_do: What is not trained yet; its device hours and disk are limited, since what is done is paid for.
        budget: The limits.

    Raises:
        BudgetError: FLOPs, device hours or disk are over the budget; says by how much.
    """
    for what, value, allowed in (
        ("FLOPs", total.flops, budget.flops),
        ("device hours", to_do.device_hours, budget.device_hours),
        ("bytes of disk", to_do.disk_bytes, budget.disk_bytes),
    ):
        if allowed is not None and value is not None and value > allowed:
            raise BudgetError(
                f"The plan needs {value:.4g} {what}, the budget allows {allowed:.4g} "
                f"({value / allowed:.2f} times). Take fewer ratios or sizes, or raise the budget."
            )
    if budget.device_hours is not None and to_do.device_hours is None:
        raise BudgetError(
            "The budget limits device hours, but no rate is known to reckon them with. "
            "State resources.flops_per_s_per_device."
        )
