"""The summary over targets: hand-computed numbers, missing stays missing, order by average ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.backtest import Judged, MethodResult, TargetResult
from flp_ray.core.backtest_summary import rank_correlation, summarise


def judged(predicted: float, actual: float | None, half: float = 0.05) -> Judged:
    """A prediction with its interval beside a measured value."""
    error = None if actual is None or actual <= 0 else abs(predicted - actual) / actual
    return Judged(predicted=predicted, low=predicted - half, high=predicted + half, actual=actual, relative_error=error)


def result(*targets: tuple[int, dict[str, Judged], dict[str, Judged]]) -> MethodResult:
    """A method with these targets: parameters, scores, losses."""
    return MethodResult(
        method="flp",
        reference="",
        targets=tuple(
            TargetResult(run_id=f"t{i}", params=p, flops=1e20, performance=scores, domain_loss=losses, stages={})
            for i, (p, scores, losses) in enumerate(targets)
        ),
        not_predicted={},
        roll_out={},
        chosen={},
        curves=(),
    )


def test_errors_over_all_targets_and_names() -> None:
    said = summarise(
        result(
            (7, {"arc": judged(0.55, 0.5, half=0.04), "piqa": judged(0.6, 0.8)}, {}),
            (7, {"arc": judged(0.4, 0.5, half=0.11)}, {}),
        )
    ).performance
    assert said.values == 3
    assert said.mean_relative_error == pytest.approx((0.1 + 0.25 + 0.2) / 3)
    assert said.median_relative_error == pytest.approx(0.2)
    assert said.max_relative_error == pytest.approx(0.25)
    assert said.interval_coverage == pytest.approx(1 / 3)
    assert said.relative_error_by_name == pytest.approx({"arc": 0.15, "piqa": 0.25})


def test_a_measured_zero_counts_for_coverage_but_has_no_relative_error() -> None:
    said = summarise(result((7, {"gsm8k": judged(0.01, 0.0)}, {}))).performance
    assert (said.values, said.mean_relative_error, said.interval_coverage) == (0, None, 1.0)


@pytest.mark.parametrize("empty", [result(), result((7, {"arc": judged(0.5, None)}, {"web": judged(2.0, None)}))])
def test_nothing_judged_gives_none_everywhere(empty: MethodResult) -> None:
    summary = summarise(empty)
    for said in (summary.performance, summary.domain_loss):
        assert said.mean_relative_error is said.median_relative_error is said.max_relative_error is None
        assert said.interval_coverage is None
        assert said.relative_error_by_name == {}
    assert summary.domain_loss.spearman == {}
    assert summary.domain_loss.spearman_by_params == {}


def test_order_is_judged_among_targets_of_one_size() -> None:
    # Within each size web is ordered wholly right and code wholly wrong; across sizes the order would mislead.
    targets: list[tuple[int, dict[str, Judged], dict[str, Judged]]] = [
        (params, {}, {"web": judged(base + i, base + 2 * i), "code": judged(base + i, base - i / 4)})
        for params, base in ((100, 5.0), (200, 1.0))
        for i in range(3)
    ]
    said = summarise(result(*targets, (300, {}, {"web": judged(1.0, 1.0)}))).domain_loss
    assert said.spearman_by_params == {
        "100": pytest.approx({"web": 1.0, "code": -1.0, "mean": 0.0}),
        "200": pytest.approx({"web": 1.0, "code": -1.0, "mean": 0.0}),
    }
    assert said.spearman == pytest.approx({"web": 1.0, "code": -1.0, "mean": 0.0})


def test_two_targets_of_one_size_have_no_order() -> None:
    said = summarise(result(*((100, {}, {"web": judged(2.0 + i, 2.0 + i)}) for i in range(2)))).domain_loss
    assert said.spearman == {}


def test_equal_predictions_up_to_rounding_have_no_order() -> None:
    rising = (2.0, 2.0 * (1 + 1e-15), 2.0 * (1 + 3e-15))
    said = summarise(result(*((100, {}, {"web": judged(p, 1.0 + i)}) for i, p in enumerate(rising)))).domain_loss
    assert said.spearman == {}


def test_ties_share_their_average_rank() -> None:
    # Ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: covariance 4.5, squares 4.5 and 5.
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=12, unique=True))
def test_a_growing_function_keeps_the_order_and_a_falling_one_turns_it(values: list[int]) -> None:
    assert rank_correlation(values, [v**3 + v for v in values]) == pytest.approx(1.0)
    assert rank_correlation(values, [-v for v in values]) == pytest.approx(-1.0)
