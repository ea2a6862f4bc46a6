"""Stage 1 of FLP-M: FLOPs per source -> domain loss, Eq. 5 (form M4) for any number of sources.

Notation
    C    FLOPs of the training          r_k  ratio of source k      r'_k  effective ratio (overlap.py)
    C_k  FLOPs on source k, r'_k C      a    exponent_total         a_k   exponent_SOURCE
    e    overlap

    L_D(C_1 .. C_K) = scale * C ** a * prod_k C_k ** a_k

The paper's constants C_T, C_G0, C_C0 appear only as one product, here `log_scale`. In log space the form is
linear,

    log L = log_scale + (a + sum_k a_k) log C + sum_k a_k log r'_k,

so all K + 2 numbers follow from linear least squares once the sizes differ and there are K + 1 mixtures in
general position. A single size leaves the power of C open, and fewer mixtures leave directions among the a_k
open: these take the smallest coefficients that fit (none for an open direction), and the note says so. With
one mixture the form is FLP's Eq. 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flp_ray.errors import ConfigError, NotEnoughDataError
from flp_ray.fit.overlap import LOWEST_OVERLAP, leak, profile_overlap

SAME_SIZE = 0.05
"""FLOPs closer than this (as a logarithm) count as one size: a slope between them would be noise."""

RANK_TOLERANCE = 1e-7
"""Singular values below this share of the largest count as 0; the columns are scaled to unit spread."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureLaw:
    """The fitted law of one domain.

    Attributes:
        domain: Its name.
        parameters: `log_scale` (log nats per token), `exponent_total` (a), `exponent_SOURCE` (a_k).
        overlap: Share of each source that leaks into the others.
        observations: Runs it was fitted on.
        flops_range: Smallest and largest FLOPs among them.
        ratio_ranges: Smallest and largest ratio by source.
        residual: Standard deviation of the log residuals, degrees of freedom counted.
        fit_error: Mean relative error on the same runs.
        held_out_error: Mean relative error, each run predicted by all others; None where none can be.
        rank: Identified numbers, of K + 2.
        convergence: How it was solved.
        note: What a reader must know.
    """

    domain: str
    parameters: dict[str, float]
    overlap: float
    observations: int
    flops_range: tuple[float, float]
    ratio_ranges: dict[str, tuple[float, float]]
    residual: float
    fit_error: float
    held_out_error: float | None
    rank: int
    convergence: str
    note: str

    def loss(self, ratios: Array, flops: Array | float) -> Array:
        """Domain loss by Eq. 5, nats per token.

        Args:
            ratios: Mixing ratios in the order of the sources' names, (n, K).
            flops: Training FLOPs, (n,) or one number.

        Returns:
            (n,).
        """
        exponents = np.array([self.parameters[f"exponent_{s}"] for s in self.ratio_ranges])
        log_flops = np.log(np.broadcast_to(flops, (len(ratios),)))
        log_source_flops = np.log(leak(ratios, self.overlap)) + log_flops[:, None]
        log_loss = self.parameters["log_scale"] + self.parameters["exponent_total"] * log_flops
        loss: Array = np.exp(log_loss + log_source_flops @ exponents)
        return loss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LawDesign:
    """The linear form's columns: 1, log C, log r'_k, centred and scaled on the fitted runs.

    Attributes:
        overlap: Share of each source that leaks into the others.
        centre: Mean of each column but the first, (K + 1,).
        scale: Spread of each column, (K + 1,); 0 marks a column that does not vary and is left out.
    """

    overlap: float
    centre: Array
    scale: Array

    @classmethod
    def of(cls, ratios: Array, flops: Array, overlap: float) -> LawDesign:
        """The design of these runs."""
        columns = _columns(ratios, flops, overlap)
        scale = columns.std(axis=0)
        if np.ptp(columns[:, 0]) < SAME_SIZE:
            scale[0] = 0.0
        scale[1:][np.ptp(columns[:, 1:], axis=0) < 1e-9] = 0.0
        return cls(overlap=overlap, centre=columns.mean(axis=0), scale=scale)

    def rows(self, ratios: Array, flops: Array | float) -> Array:
        """Rows of the design at these points, (n, K + 2)."""
        columns = _columns(ratios, np.broadcast_to(flops, (len(ratios),)), self.overlap) - self.centre
        scaled = np.divide(columns, self.scale, out=np.zeros_like(columns), where=self.scale > 0)
        return np.concatenate([np.ones((len(ratios), 1)), scaled], axis=1)

    def parameters(self, coefficients: Array, sources: tuple[str, ...]) -> dict[str, float]:
        """The law's numbers by name, from coefficients of the scaled columns, (K + 2,)."""
        slopes = np.divide(coefficients[1:], self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)
        named = {
            "log_scale": float(coefficients[0] - slopes @ self.centre),
            "exponent_total": float(slopes[0] - slopes[1:].sum()),
        }
        return named | {f"exponent_{s}": float(b) for s, b in zip(sources, slopes[1:], strict=True)}


def fit_mixture_laws(
    *,
    sources: tuple[str, ...],
    domains: tuple[str, ...],
    ratios: Array,
    flops: Array,
    losses: Array,
    overlap: float | None = None,
) -> tuple[tuple[MixtureLaw, ...], LawDesign]:
    """Fits Eq. 5 to the final checkpoints, every domain with one common overlap.

    Args:
        sources: Names, K.
        domains: Names, D.
        ratios: Mixing ratios of the runs, (R, K).
        flops: FLOPs of their final checkpoints, (R,).
        losses: Their domain losses, nats per token, NaN where missing, (R, D).
        overlap: A given overlap, 0 to 1/2; None fits it.

    Raises:
        NotEnoughDataError: A domain has no more runs than the law has numbers.
        ConfigError: A given overlap is outside 0 to 1/2, or 0 where a mixture lacks a source.
    """
    used = _checked_overlap(overlap, ratios, flops, losses)
    design = LawDesign.of(ratios, flops, used)
    laws = []
    for domain, loss in zip(domains, losses.T, strict=True):
        known = np.isfinite(loss)
        rows = design.rows(ratios[known], flops[known])
        rank = design_rank(rows)
        if known.sum() <= max(2, rank):
            raise NotEnoughDataError(
                f"Domain {domain}: {known.sum()} sampling runs with a loss are too few for {rank} numbers; "
                f"at least {max(3, rank + 1)} are needed. Add runs of other sizes or mixtures."
            )
        laws.append(_law(domain, sources, design, rows, rank, ratios[known], flops[known], np.log(loss[known])))
    return tuple(laws), design


def design_rank(rows: Array) -> int:
    """Numbers of the law that these rows identify; 0 for no rows."""
    values = np.linalg.svd(rows, compute_uv=False) if rows.size else np.zeros(1)
    return int((values > RANK_TOLERANCE * values[0]).sum())


def member_coefficients(design: LawDesign, ratios: Array, flops: Array, losses: Array, counts: Array) -> Array:
    """The law refitted on resamples of the runs.

    Args:
        design: Columns, with the overlap of the whole fit.
        ratios: (R, K).
        flops: (R,).
        losses: (R, D), NaN where missing.
        counts: How often each member drew each run, (M, R).

    Returns:
        Coefficients of the scaled columns, (M, D, K + 2).
    """
    return member_solutions(design.rows(ratios, flops), np.log(losses), counts)


def member_solutions(rows: Array, logs: Array, counts: Array) -> Array:
    """Linear least squares of every column on resamples of the runs, the smallest solution where it is open.

    Args:
        rows: A design with scaled columns, (R, q).
        logs: Values, NaN where missing, (R, D).
        counts: How often each member drew each run, (M, R).

    Returns:
        Coefficients, (M, D, q).
    """
    fitted = np.empty((len(counts), logs.shape[1], rows.shape[1]))
    for known, which in _by_pattern(np.isfinite(logs)):
        root = np.sqrt(counts[:, known])[:, :, None]
        inverse = np.linalg.pinv(root * rows[known], rcond=RANK_TOLERANCE)
        fitted[:, which] = (inverse @ (root * logs[np.ix_(known, which)])).transpose(0, 2, 1)
    return fitted


def _columns(ratios: Array, flops: Array, overlap: float) -> Array:
    effective = leak(ratios, overlap)
    if (effective <= 0).any():
        raise ConfigError(
            "fit.overlap is 0, but a mixture has a source at ratio 0, where Eq. 5 is singular. "
            "Give a small overlap, such as 0.01, or leave it out to fit it."
        )
    return np.concatenate([np.log(flops)[:, None], np.log(effective)], axis=1)


def _checked_overlap(overlap: float | None, ratios: Array, flops: Array, losses: Array) -> float:
    varied = ratios.shape[1] > 1 and np.ptp(ratios, axis=0).max() > 1e-9
    if overlap is None:
        if not varied:
            return 0.0 if ratios.shape[1] == 1 else LOWEST_OVERLAP
        return profile_overlap(lambda e: _squared_residual(ratios, flops, losses, e))
    if not 0 <= overlap <= 0.5:
        raise ConfigError(f"fit.overlap must lie in 0 to 0.5, received {overlap}; leave it out to fit it.")
    return overlap


def _squared_residual(ratios: Array, flops: Array, losses: Array, overlap: float) -> float:
    rows = LawDesign.of(ratios, flops, overlap).rows(ratios, flops)
    total = 0.0
    for known, which in _by_pattern(np.isfinite(losses)):
        logs = np.log(losses[np.ix_(known, which)])
        inverse = np.linalg.pinv(rows[known], rcond=RANK_TOLERANCE)
        total += float(((logs - rows[known] @ (inverse @ logs)) ** 2).sum())
    return total


def _by_pattern(known: Array) -> Iterator[tuple[Array, Array]]:
    """Runs and domains solved at once: (indices of runs, indices of the domains measured on just these)."""
    patterns, member = np.unique(known, axis=1, return_inverse=True)
    for i in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, i]), np.flatnonzero(member.ravel() == i)


def _law(
    domain: str,
    sources: tuple[str, ...],
    design: LawDesign,
    rows: Array,
    rank: int,
    ratios: Array,
    flops: Array,
    logs: Array,
) -> MixtureLaw:
    inverse = np.linalg.pinv(rows, rcond=RANK_TOLERANCE)
    coefficients = inverse @ logs
    residuals = logs - rows @ coefficients
    leverage = np.einsum("np,pn->n", rows, inverse)
    free = leverage < 1 - 1e-8
    left_out = residuals[free] / (1 - leverage[free])
    return MixtureLaw(
        domain=domain,
        parameters=design.parameters(coefficients, sources),
        overlap=design.overlap,
        observations=len(logs),
        flops_range=(float(flops.min()), float(flops.max())),
        ratio_ranges={s: (float(r.min()), float(r.max())) for s, r in zip(sources, ratios.T, strict=True)},
        residual=float(np.sqrt((residuals**2).sum() / (len(logs) - rank))),
        fit_error=float(np.abs(np.expm1(-residuals)).mean()),
        held_out_error=float(np.abs(np.expm1(-left_out)).mean()) if free.any() else None,
        rank=rank,
        convergence=f"linear least squares, {rank} of {len(sources) + 2} numbers identified",
        note=_note(design, ratios, rank, int((~free).sum())),
    )


def _note(design: LawDesign, ratios: Array, rank: int, alone: int) -> str:
    mixtures, sources = len(np.unique(ratios.round(9), axis=0)), ratios.shape[1]
    notes = []
    if mixtures == 1:
        notes.append("one mixture only: FLP's Eq. 1, the loss does not depend on the mixture")
    if design.scale[0] == 0:
        notes.append("one size only: the power of FLOPs is not identified and held at 0")
    if mixtures > 1 and rank < 1 + sources + int(design.scale[0] > 0):
        notes.append(f"{mixtures} mixtures do not identify every source's exponent: the smallest that fit are taken")
    if mixtures > 1 and (ratios <= 0).any():
        notes.append(f"ratio 0: an overlap of {design.overlap:.3g} between the sources")
    if alone:
        notes.append(f"{alone} runs carry a number alone and could not be left out")
    return "; ".join(notes)
