from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.report import numbers


def plain(text: str) -> str:
    return text.replace(numbers.THIN, " ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (61.234, "61.2"),
        (9.996, "10.0"),
        (1234.5, "1230"),
        (0, "0"),
        (-0.0417, "−0.0417"),
        (None, "–"),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.2e15, "1.20 × 10¹⁵"), (9.999e18, "1.00 × 10¹⁹"), (2e-7, "2.00 × 10⁻⁷"), (None, "–")],
)
def test_flops_carry_superscripts(value: float | None, text: str) -> None:
    assert plain(numbers.power(value)) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(1_200_000, "1.2 M"), (3_400_000_000, "3.4 B"), (999_950, "1 M"),
     (1_258_291_200_000, "1.26 T"), (640, "640"), (None, "–")],
)  # fmt: skip
def test_tokens_carry_a_prefix(count: float | None, text: str) -> None:
    assert plain(numbers.tokens(count)) == text


@given(st.integers(min_value=1, max_value=10**14))
def test_tokens_keep_three_digits(count: int) -> None:
    text = plain(numbers.tokens(count))
    value, _, prefix = text.partition(" ")
    scale = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[prefix]
    # Three significant digits are off by half a unit of the third at most; the slack is for float products.
    assert float(value) * scale == pytest.approx(count, rel=0.0051)


@given(st.floats(min_value=-1e5, max_value=1e5).filter(lambda v: abs(v) > 1e-4))
def test_significant_reads_back(value: float) -> None:
    assert float(numbers.significant(value).replace("−", "-")) == pytest.approx(value, rel=0.0051)


def test_scores_are_percent_with_their_error() -> None:
    assert plain(numbers.score(0.6123, 0.0052)) == "61.2 ± 0.5 %"
    assert plain(numbers.score(0.6123, 0.0003)) == "61.2 ± 0.03 %"
    assert numbers.score(None) == numbers.MISSING


def test_differences_carry_their_sign() -> None:
    assert numbers.points(0.0123) == "+1.2 points"
    assert numbers.points(-0.0123) == "−1.2 points"
    assert numbers.points(0.0) == "0.0 points"


def test_mixtures_begin_with_the_largest_share() -> None:
    assert plain(numbers.mixture(Mixture.of({"code": 0.225, "general": 0.775}))) == "77.5 % general, 22.5 % code"


def test_durations() -> None:
    assert [plain(numbers.seconds(v)) for v in (8.31, 725, 12_000, None)] == [
        "8.31 s",
        "12 min 05 s",
        "3 h 20 min",
        "–",
    ]
