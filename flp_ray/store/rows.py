"""Values of `flp_ray.core` as rows of the tables. The way back is in `flp_ray.store.reader`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Comparison, DifferenceTest, Experiment, Outcome, Prediction, Proposal
from flp_ray.core.records import Measurement, Task
from flp_ray.core.run import RunSpec
from flp_ray.errors import RecordsError
from flp_ray.store.tables import AttemptEvent, form_of


def canonical_json(value: Any, *, what: str) -> str:
    """JSON text that is equal for equal values: keys sorted, floats exact.

    Args:
        value: A JSON value.
        what: What it is, for the message.

    Raises:
        RecordsError: It holds a number that is not finite.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise RecordsError(
            f"{what} cannot be stored: it holds a number that is not finite ({error}). Leave such a number out."
        ) from error


def run_rows(specs: Sequence[RunSpec]) -> pa.Table:
    """Rows of `runs`."""
    return _table(
        "runs",
        [
            {
                "run_id": spec.run_id,
                "purpose": spec.purpose,
                "size": spec.size,
                "params": spec.params,
                "non_embedding_params": spec.shape.non_embedding_params,
                "train_tokens": spec.train_tokens,
                "flops": spec.flops,
                "mixture": canonical_json(spec.mixture.as_dict(), what=f"The mixture of run {spec.run_id}"),
                "spec": canonical_json(spec.to_dict(), what=f"Run {spec.run_id}"),
            }
            for spec in specs
        ],
    )


def measurement_rows(measurements: Sequence[Measurement]) -> pa.Table:
    """Rows of `measurements`."""
    schema = form_of("measurements").schema
    names = [field.name for field in fields(Measurement)]
    columns = {name: [getattr(m, name) for m in measurements] for name in names}
    return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)


def task_rows(tasks: Sequence[Task], *, recorded: float) -> pa.Table:
    """Rows of `tasks`, as described at a time (seconds since 1970)."""
    return _table("tasks", [asdict(task) | {"recorded": _microseconds(recorded)} for task in tasks])


def attempt_row(
    *,
    run_id: str,
    attempt: int,
    event: AttemptEvent,
    at: float,
    reason: str | None = None,
    start_seconds: float | None = None,
    train_seconds: float | None = None,
    measure_seconds: float | None = None,
    save_seconds: float | None = None,
    tokens_per_second: float | None = None,
    flops_per_second: float | None = None,
    peak_bytes: int | None = None,
    node: str | None = None,
    session: str | None = None,
    mfu: float | None = None,
    micro_batch_sequences: int | None = None,
    workers: int | None = None,
    zero_stage: int | None = None,
) -> pa.Table:
    """One row of `attempts`.

    Args:
        run_id: The run.
        attempt: 1 for the first try; the next is `RunState.attempts + 1`, also in a later session.
        event: What happened.
        at: When, in seconds since 1970 (`time.time()`).
        reason: Why it failed; part of the row's identity.
        start_seconds: From the request until training began.
        train_seconds: Time in training steps.
        measure_seconds: Time in measuring.
        save_seconds: Time in saving checkpoints.
        tokens_per_second: Training tokens per training second.
        flops_per_second: Training FLOPs per training second.
        peak_bytes: Largest memory of the trial's process.
        node: Where it ran.
        session: The command it belongs to.
        mfu: Model FLOPs utilisation in training: achieved FLOP/s by the peak of the run's devices, 0 to 1.
        micro_batch_sequences: Sequences that a device worked on at once.
        workers: Data-parallel processes.
        zero_stage: DeepSpeed ZeRO stage, 0 to 3.
    """
    row = dict(locals())
    return _table("attempts", [row | {"at": _microseconds(at)}])


def stage_row(*, session: str, stage: str, seconds: float, started: float, peak_bytes: int | None = None) -> pa.Table:
    """One row of `stages`.

    Args:
        session: The command it belongs to.
        stage: Its name.
        seconds: How long it took.
        started: When it began, in seconds since 1970.
        peak_bytes: Largest memory of the driver until the stage's end.
    """
    row = dict(locals())
    return _table("stages", [row | {"started": _microseconds(started)}])


def fit_row(*, fit_id: str, method: str, observations: int, payload: Mapping[str, Any], created: float) -> pa.Table:
    """One row of `fits`.

    Args:
        fit_id: Identity of the fit.
        method: `flp-m`, `flp` or `fp`.
        observations: Rows that the fit was made from.
        payload: The fit as a JSON value (`Surrogate.to_dict()`).
        created: When, in seconds since 1970.

    Raises:
        RecordsError: The payload holds a number that is not finite.
    """
    row = {
        "fit_id": fit_id,
        "method": method,
        "observations": observations,
        "payload": canonical_json(payload, what=f"Fit {fit_id}"),
        "created": _microseconds(created),
    }
    return _table("fits", [row])


def proposal_rows(proposals: Sequence[Proposal]) -> pa.Table:
    """Rows of `proposals`.

    Raises:
        RecordsError: A prediction is not a finite number.
    """
    return _table("proposals", [_proposal_row(proposal) for proposal in proposals])


def experiment_rows(experiments: Sequence[Experiment], *, written: float) -> pa.Table:
    """Rows of `experiments`, as written at a time (seconds since 1970); each can be read alone.

    Raises:
        RecordsError: A prediction is not a finite number.
    """
    rows = []
    for experiment in experiments:
        proposal, known = experiment.proposal, experiment.best_known
        payload = {
            "proposal": proposal_to_dict(proposal),
            "best_known": known.as_dict() if known is not None else None,
            "best_known_expected": asdict(expected) if (expected := experiment.best_known_expected) else None,
        }
        rows.append(
            {
                "proposal_id": proposal.proposal_id,
                "objective": proposal.objective,
                "expected": proposal.expected.mean,
                "low": proposal.expected.low,
                "high": proposal.expected.high,
                "payload": canonical_json(payload, what=f"The experiment on {proposal.mixture}"),
                "written": _microseconds(written),
            }
        )
    return _table("experiments", rows)


def comparison_rows(comparisons: Sequence[Comparison]) -> pa.Table:
    """Rows of `comparisons`; each holds its whole proposal, so that it can be read alone.

    Raises:
        RecordsError: A number is not finite.
    """
    return _table(
        "comparisons",
        [
            {
                "proposal_id": comparison.proposal.proposal_id,
                "run_id": comparison.run_id,
                "payload": canonical_json(
                    asdict(comparison)
                    | {
                        "proposal": proposal_to_dict(comparison.proposal),
                        "best_known": known.as_dict() if (known := comparison.best_known) is not None else None,
                    },
                    what=f"The comparison of run {comparison.run_id}",
                ),
            }
            for comparison in comparisons
        ],
    )


_EARLIER_NAMES = {
    "grid_mixture": "best_known",
    "grid_measured": "best_known_measured",
    "grid_stderr": "best_known_stderr",
}
"""What fields of a stored comparison were called while only the grid could be compared with."""


def comparison_from_dict(value: Mapping[str, Any]) -> Comparison:
    """Reads what `comparison_rows` wrote, in this version or an earlier one."""
    named = {_EARLIER_NAMES.get(name, name): v for name, v in value.items()}
    known, test = named["best_known"], named.get("test")
    return Comparison(
        **named
        | {
            "proposal": proposal_from_dict(named["proposal"]),
            "best_known": Mixture.of(known) if known is not None else None,
            "test": DifferenceTest(**test) if test is not None else None,
            "outcomes": tuple(
                Outcome(**outcome | {"expected": Prediction(**outcome["expected"])})
                for outcome in named.get("outcomes", ())
            ),
        }
    )


def proposal_to_dict(proposal: Proposal) -> dict[str, Any]:
    """A proposal as a JSON value."""
    return asdict(proposal) | {"mixture": proposal.mixture.as_dict()}


def proposal_from_dict(value: Mapping[str, Any]) -> Proposal:
    """Reads what `proposal_to_dict` wrote."""
    return Proposal(
        **dict(value)
        | {
            "mixture": Mixture.of(value["mixture"]),
            "expected": Prediction(**value["expected"]),
            "performance": {name: Prediction(**p) for name, p in value["performance"].items()},
            "domain_loss": {name: Prediction(**p) for name, p in value["domain_loss"].items()},
        }
    )


def _proposal_row(proposal: Proposal) -> dict[str, Any]:
    what = f"The proposal {proposal.mixture} for {proposal.objective}"
    value = proposal_to_dict(proposal)
    return {
        "proposal_id": proposal.proposal_id,
        "fit_id": proposal.fit_id,
        "objective": proposal.objective,
        "mixture": canonical_json(value["mixture"], what=what),
        "size": proposal.size,
        "train_tokens": proposal.train_tokens,
        "flops": proposal.flops,
        "expected": proposal.expected.mean,
        "low": proposal.expected.low,
        "high": proposal.expected.high,
        "extrapolated": proposal.expected.extrapolated,
        "payload": canonical_json(value, what=what),
    }


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = form_of(name).schema
    return pa.table(
        {field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in schema},
        schema=schema,
    )
