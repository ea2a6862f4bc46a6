"""What a proposal will be held against, settled before its validation runs start. Pure."""

from __future__ import annotations

from collections.abc import Callable

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment, Prediction, Proposal
from flp_ray.core.records import Records
from flp_ray.core.surrogate import Surrogate, SurrogatePrediction

MEAN = "mean"
"""Name of the objective that is the weighted mean over the predicted tasks."""


def design_experiment(
    proposal: Proposal,
    surrogate: Surrogate,
    records: Records,
    *,
    allowed: Callable[[Mixture], bool] | None = None,
    expected_at: Callable[[Mixture], Prediction] | None = None,
) -> Experiment:
    """Chooses the best known mixture: what a person would train at without the search.

    It is the sampled mixture whose score at the target the surrogate predicts highest, given all records, rather than
    the one that measured highest: the highest of several measurements is so partly by luck (winner's curse), and a
    training there with another seed would fall back.

    Args:
        proposal: What is proposed.
        surrogate: The fit that the proposal comes from.
        records: Records of the study; runs of purpose `sampling` count.
        expected_at: What is expected of the objective at a mixture; by default what the surrogate says of it.
        allowed: Whether a mixture may be trained at (the study's bounds). Where none of those sampled may, all count.

    Returns:
        The experiment, not yet stored. Its mixture comes from the runs at the target's size and tokens; where none
        was measured to its end, from all sampling runs; None where there are no sampling runs.
    """
    mixtures = sampled_mixtures(records, proposal.size, proposal.train_tokens)
    if allowed is not None:
        mixtures = tuple(m for m in mixtures if allowed(m)) or mixtures
    if not mixtures:
        return Experiment(proposal=proposal)
    if expected_at is not None:
        expected = [expected_at(mixture) for mixture in mixtures]
    else:
        answers = surrogate.predict(mixtures, proposal.flops)
        expected = [_expected(answer, proposal.objective) for answer in answers]
    # Of equals the one with the highest first ratios, so that the choice is the same on every machine.
    best = max(range(len(mixtures)), key=lambda i: (expected[i].mean, mixtures[i].ratios))
    return Experiment(proposal=proposal, best_known=mixtures[best], best_known_expected=expected[best])


def sampled_mixtures(records: Records, size: str, train_tokens: int) -> tuple[Mixture, ...]:
    """The mixtures of the sampling runs at one size; of all of them where that size has none.

    Args:
        records: Records of the study.
        size: Name of the size.
        train_tokens: Tokens that a run there is trained for.
    """
    whole = [c.run for c in records.of_purpose("sampling").final_checkpoints() if c.tokens >= c.run.train_tokens]
    there = [run for run in whole if run.size == size and run.train_tokens == train_tokens]
    return tuple(dict.fromkeys(run.mixture for run in there or whole if run.mixture is not None))


def _expected(predicted: SurrogatePrediction, objective: str) -> Prediction:
    return predicted.objective if objective == MEAN else predicted.performance[objective]
