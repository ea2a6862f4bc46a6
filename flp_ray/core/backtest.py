"""What a predictor said about runs that it had not seen, beside what was measured: the values of a backtest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ValueKind = Literal["performance", "domain_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One predicted value beside the measured one; a fraction for a score, nats per token for a loss.

    Attributes:
        predicted: The prediction.
        low: Lower end of its 80 percent interval.
        high: Upper end of it.
        actual: What was measured; None where it was not.
        relative_error: abs(predicted - actual) / actual (Eq. 4); None without a positive actual value.
    """

    predicted: float
    low: float
    high: float
    actual: float | None
    relative_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageError:
    """Which stage a score's error comes from; signed, as shares of the measured score.

    Attributes:
        loss: What stage 1 adds: prediction less the prediction from measured losses.
        link: What stage 2 adds: prediction from measured losses less the measured score.
    """

    loss: float
    link: float

    @property
    def cancels(self) -> bool:
        """Whether the two hide each other: of opposite sign, and together less than half of the larger one."""
        larger = max(abs(self.loss), abs(self.link))
        return self.loss * self.link < 0 and larger > 0.02 and abs(self.loss + self.link) < larger / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """One method on one target.

    Attributes:
        run_id: The target.
        params: Its parameters.
        flops: Its training FLOPs.
        performance: By task; tasks that the method does not predict are absent.
        domain_loss: By domain.
        stages: By task, where both losses and score are measured.
    """

    run_id: str
    params: int
    flops: float
    performance: dict[str, Judged]
    domain_loss: dict[str, Judged]
    stages: dict[str, StageError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A prediction along growing compute, for a figure.

    Attributes:
        kind: What is predicted.
        name: The task or the domain.
        flops: Training FLOPs, (n,).
        mean: Predictions, (n,).
        low: Lower ends of the intervals, (n,).
        high: Upper ends, (n,).
    """

    kind: ValueKind
    name: str
    flops: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCurve:
    """A prediction along the ratio of one of two sources, for a figure.

    Attributes:
        kind: What is predicted.
        name: The task or the domain.
        source: The source whose ratio grows.
        params: Parameters of the training in question.
        tokens: Its training tokens.
        ratio: Ratios of the source, (n,).
        mean: Predictions, (n,).
        low: Lower ends of the intervals, (n,).
        high: Upper ends, (n,).
    """

    kind: ValueKind
    name: str
    source: str
    params: int
    tokens: int
    ratio: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """One method on all targets.

    Attributes:
        method: Its name.
        reference: Where it comes from.
        targets: One result a target; empty where the method could not be fitted.
        not_predicted: Reasons by task; under `all` where nothing could be fitted.
        roll_out: Mean relative error in the roll-outs by task (and by domain under its own name); None where
            nothing was judged.
        chosen: For `auto`: weight of each method by task, and under `domain_loss` of each law.
        curves: Predictions along compute.
        ratio_curves: Predictions along the ratio of one of two sources, at the largest target.
    """

    method: str
    reference: str
    targets: tuple[TargetResult, ...]
    not_predicted: dict[str, str]
    roll_out: dict[str, float | None]
    chosen: dict[str, dict[str, float]]
    curves: tuple[Curve, ...]
    ratio_curves: tuple[RatioCurve, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRun:
    """A run that was fitted on, for a figure.

    Attributes:
        run_id: Its name.
        params: Parameters.
        flops: Training FLOPs at each checkpoint, growing, (n,).
        mean_loss: Mean domain loss at each checkpoint; None where a domain is missing.
        domain_loss: Domain losses at the end.
        performance: Scores by task at each checkpoint, (n,); None where missing.
    """

    run_id: str
    params: int
    flops: tuple[float, ...]
    mean_loss: tuple[float | None, ...]
    domain_loss: dict[str, float]
    performance: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """All methods on all targets.

    Attributes:
        source: Where the records come from.
        methods: By name, in the order asked for.
        chosen: The method to trust: `auto` where it was asked for, else the best in the roll-outs.
        scheme: How the roll-outs were made, in words.
        held_out: How the targets were chosen, in words.
        warnings: What a reader must know.
        random_performance: Chance level by task.
        fitted: The runs that were fitted on.
    """

    source: str
    methods: dict[str, MethodResult]
    chosen: str
    scheme: str
    held_out: str
    warnings: tuple[str, ...]
    random_performance: dict[str, float]
    fitted: tuple[ObservedRun, ...]
