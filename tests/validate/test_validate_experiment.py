import numpy as np

from flp_ray.core.surrogate import SurrogatePrediction
from flp_ray.validate import design_experiment
from tests.validate.validate_samples import GRID, around, mix, proposal, records, run


class Peaked:
    """Predicts the score to fall off from one share of x; mean and task alike but for the peak."""

    def __init__(self, peak, peak_of_a=None):
        self.peaks = {"mean": peak, "a": peak if peak_of_a is None else peak_of_a}

    def predict(self, mixtures, flops):
        assert flops == 1e18
        return [
            SurrogatePrediction(
                domain_loss={},
                performance={"a": around(1 - abs(m.ratio("x") - self.peaks["a"]))},
                objective=around(1 - abs(m.ratio("x") - self.peaks["mean"])),
            )
            for m in mixtures
        ]


def test_the_best_known_mixture_is_the_one_predicted_highest_not_the_one_measured_highest():
    # g1 at x = 0.5 measured 5 points more.
    found = design_experiment(proposal(), Peaked(0.1), records(*GRID))
    assert found.best_known == mix(0.0)
    assert found.best_known_expected == around(0.9)
    assert found.written is None


def test_over_many_draws_the_luckiest_measurement_promises_more_than_it_keeps():
    # Five equal mixtures: a mixture's run at 0.5 true score, evaluated with an error of 2 points.
    chance, error = np.random.default_rng(3), 0.02
    lucky, predicted = [], []
    for _ in range(200):
        values = 0.5 + error * chance.standard_normal(5)
        grid = [run(f"g{i}", "sampling", i / 4, {"a": v}) for i, v in enumerate(values)]
        known = design_experiment(proposal(), Peaked(0.3), records(*grid)).best_known
        lucky.append(max(values))
        predicted.append(values[round(4 * known.ratio("x"))])
    # The highest of five normal deviates lies 1.16 deviations above their mean.
    assert np.mean(lucky) - 0.5 > 1.0 * error
    assert abs(np.mean(predicted) - 0.5) < 0.25 * error


def test_each_objective_has_its_own():
    surrogate = Peaked(0.5, peak_of_a=0.0)
    assert design_experiment(proposal("mean"), surrogate, records(*GRID)).best_known == mix(0.5)
    assert design_experiment(proposal("a"), surrogate, records(*GRID)).best_known == mix(0.0)


def test_mixtures_of_the_targets_size_come_first():
    # x = 0.3 would be predicted best, but was trained at the small size alone.
    assert design_experiment(proposal(), Peaked(0.3), records(*GRID)).best_known == mix(0.5)
    assert design_experiment(proposal(), Peaked(0.3), records(GRID[2])).best_known == mix(0.3)


def test_unfinished_and_other_runs_are_not_known_mixtures():
    half = run("h", "sampling", 0.1, {"a": 0.9}, tokens=50)
    other = run("v", "validation", 0.1, {"a": 0.9})
    assert design_experiment(proposal(), Peaked(0.1), records(*GRID, half, other)).best_known == mix(0.0)


def test_mixtures_out_of_bounds_are_passed_over_unless_there_is_no_other():
    data = records(*GRID)
    assert design_experiment(proposal(), Peaked(0.0), data, allowed=lambda m: m.ratio("x") > 0).best_known == mix(0.5)
    assert design_experiment(proposal(), Peaked(0.0), data, allowed=lambda m: False).best_known == mix(0.0)


def test_without_sampling_runs_nothing_is_known():
    found = design_experiment(proposal(), Peaked(0.1), records())
    assert (found.best_known, found.best_known_expected) == (None, None)
