import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.fit.joint.kernel import (
    PRIORS,
    Frame,
    Numbers,
    Pairs,
    covariance,
    fit_numbers,
    negative_log_posterior,
    observed,
    prior,
    run_covariance,
    same_group,
    same_size,
    variance,
)


def posterior_of(inputs, frame, logs):
    centre, width = prior(inputs.z.shape[1], frame)
    pairs = Pairs.of(inputs)
    return centre, lambda at: negative_log_posterior(at, inputs, pairs, logs, centre, width)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_finite_differences(runs_of, seed):
    inputs, frame = runs_of(seed)
    generator = np.random.default_rng(seed)
    centre, posterior = posterior_of(inputs, frame, 0.05 * generator.standard_normal(len(inputs)))
    at = centre + 0.4 * generator.standard_normal(len(centre))
    step = 1e-5
    differences = [(posterior(at + step * e)[0] - posterior(at - step * e)[0]) / (2 * step) for e in np.eye(len(at))]
    gradient = posterior(at)[1]
    # Central differences are off by step^2, and by the rounding of the value, which the steepest direction sets.
    assert gradient == pytest.approx(np.array(differences), rel=1e-5, abs=1e-6 * np.abs(gradient).max())


@st.composite
def trainings(draw):
    sources, number = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ratios = generator.dirichlet(np.full(sources, draw(st.sampled_from([0.05, 0.3, 1.0]))), number)
    ratios[generator.random(number) < 0.3] = ratios[0]
    flops = 10 ** generator.integers(17, 23, number).astype(float)
    logs = np.log(10.0) * generator.uniform(-4, 0, sources + 6)
    return Frame.of(ratios, flops, 0.01).inputs(ratios, flops), Numbers.of(logs)


@given(trainings())
def test_a_covariance_is_symmetric_and_has_no_negative_direction(drawn):
    inputs, numbers = drawn
    for made in (covariance(inputs, inputs, numbers), run_covariance(inputs, inputs, numbers)):
        assert made == pytest.approx(made.T, rel=1e-9, abs=1e-12)
        eigenvalues = np.linalg.eigvalsh(made)
        assert eigenvalues[0] >= -1e-8 * max(eigenvalues[-1], 1e-12)  # rounding of the squared distances
    assert variance(inputs, numbers) == pytest.approx(np.diag(covariance(inputs, inputs, numbers)), rel=1e-6, abs=1e-12)


@given(trainings())
def test_measured_runs_can_always_be_factored_however_often_they_are_repeated(drawn):
    inputs, numbers = drawn
    measured = observed(inputs.and_(inputs), numbers)
    assert np.isfinite(np.linalg.cholesky(measured)).all()


def test_what_a_size_and_a_group_share_is_told_by_flops_and_mixture():
    ratios = np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3], [0.2, 0.4, 0.4], [0.2, 0.5, 0.3]])
    flops = np.array([1e18, 1e18, 1e18, 2e18])
    inputs = Frame.of(ratios, flops, 0.01).inputs(ratios, flops)
    assert same_size(inputs, inputs).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert same_group(inputs, inputs).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_numbers_come_back_from_their_logarithms(numbers_of):
    numbers = numbers_of(sources=4, turn=0.07)
    again = Numbers.of(numbers.logs)
    assert again.lengths == pytest.approx(numbers.lengths)
    assert [getattr(again, n) for n in PRIORS] == pytest.approx([getattr(numbers, n) for n in PRIORS])


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_order_of_runs_changes_no_likelihood(runs_of, seed, shuffled):
    inputs, frame = runs_of(seed)
    logs = 0.05 * np.random.default_rng(seed).standard_normal(len(inputs))
    order = list(range(len(inputs)))
    shuffled.shuffle(order)
    centre, posterior = posterior_of(inputs, frame, logs)
    value, gradient = posterior(centre)
    other_value, other_gradient = posterior_of(inputs.take(np.array(order)), frame, logs[order])[1](centre)
    assert other_value == pytest.approx(value, rel=1e-9)
    assert other_gradient == pytest.approx(gradient, rel=1e-6, abs=1e-6)


def test_the_noise_of_repeated_runs_is_found(runs_of, numbers_of):
    inputs, frame = runs_of(0, number=20)
    generator = np.random.default_rng(1)
    truth = numbers_of(noise=0.02, size=1e-4, fault=1e-4)
    root = np.linalg.cholesky(covariance(inputs, inputs, truth) + 1e-12 * np.eye(len(inputs)))
    logs = root @ generator.standard_normal(len(inputs))
    inputs, logs = inputs.and_(inputs).and_(inputs), np.tile(logs, 3)
    found = fit_numbers(inputs, logs + truth.noise * generator.standard_normal(len(logs)), frame, None)
    # 40 contrasts within groups: the noise is known to 1 / sqrt(80) = 11 %; three of these.
    assert found.noise == pytest.approx(truth.noise, rel=0.33)
    assert max(found.size, found.fault) < truth.noise


def test_numbers_are_within_their_priors_where_two_runs_say_nothing(runs_of):
    inputs, frame = runs_of(0, number=4)
    found = fit_numbers(inputs.take(np.array([0, 1])), np.array([1.0, 1.01]), frame, None)
    for name, (median, spread) in PRIORS.items():
        # The posterior mean of a square lies exp(2 spread^2) above the median's; e of room around.
        assert median / np.e <= getattr(found, name) <= median * np.exp(spread**2) * np.e
