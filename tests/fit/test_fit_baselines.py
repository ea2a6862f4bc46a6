import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.fit.baselines import MEAN_LOSS, baseline_lines
from flp_ray.fit.observations import observe
from flp_ray.fit.power_law import fit_line, fit_power_law


def by_name(lines):
    return {(line.method, line.name): line for line in lines}


@pytest.fixture(scope="module")
def one_mixture():
    design = synthetic.Design(
        sizes=tuple(synthetic.paper_size(n) for n in ("0.12B", "0.2B", "0.32B", "0.5B", "0.72B", "1B")),
        mixtures=(Mixture.of({"code": 0.3, "general": 0.7}),),
        checkpoints=8,
    )
    return observe(synthetic.two_source_world().records(design, 0))


def test_flp_recovers_the_power_of_one_mixture(one_mixture):
    line = by_name(baseline_lines(one_mixture))["flp", "general"]
    law = synthetic.two_source_world().domains["general"]
    # Six runs of 0.3 percent noise over five e-folds of FLOPs: the slope's standard error is 0.001.
    assert line.parameters["exponent"] == pytest.approx(law.exponent_total + sum(law.exponents.values()), abs=0.004)
    assert line.note == ""
    assert line.held_out_error < 0.02


def test_flp_held_out_error_leaves_the_run_out_of_both_stages(one_mixture):
    task = [t.task for t in one_mixture.tasks].index("completion")
    points = one_mixture.emerged_points(task)
    mean = one_mixture.point_losses[points].mean(axis=1)
    scores = one_mixture.point_performance[points, task]
    errors = []
    for run in np.flatnonzero(one_mixture.emerged_finals(task)):
        keep = np.arange(len(one_mixture.flops)) != run
        law = fit_power_law(one_mixture.flops[keep], one_mixture.losses[keep].mean(axis=1))
        others = one_mixture.point_run[points] != run
        predicted = fit_line(mean[others], scores[others]).at(law.at(one_mixture.flops[run]))
        actual = one_mixture.performance[run, task]
        errors.append(abs(predicted - actual) / actual)
    assert by_name(baseline_lines(one_mixture))["flp", "completion"].held_out_error == pytest.approx(np.mean(errors))


def test_fp_is_a_power_law_of_the_score(one_mixture):
    task = [t.task for t in one_mixture.tasks].index("completion")
    line = by_name(baseline_lines(one_mixture))["fp", "completion"]
    slope, _ = np.polyfit(np.log(one_mixture.flops), np.log(one_mixture.performance[:, task]), 1)
    assert line.parameters["exponent"] == pytest.approx(slope)
    assert line.observations == 6


def test_pooled_mixtures_are_named(records):
    lines = by_name(baseline_lines(observe(records)))
    assert "4 mixtures pooled" in lines["flp", MEAN_LOSS].note
    assert {name for method, name in lines if method == "flp"} > {MEAN_LOSS, "code", "general"}
