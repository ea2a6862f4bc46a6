"""What every surrogate must do, whatever its law; a new law joins by one more entry of LAWS."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from flp_ray import synthetic
from flp_ray.core.mixture import Mixture
from flp_ray.core.surrogate import FitLine
from flp_ray.errors import ConfigError
from flp_ray.fit import FittedSurrogate, fit_surrogate
from flp_ray.fit.config import FitSettings
from flp_ray.fit.observations import SINGLE_SOURCE

SIZES = tuple(synthetic.paper_size(n) for n in ("0.2B", "0.32B", "0.5B", "0.72B"))
SETTINGS = FitSettings(members=6, steps=60)


def two_sources():
    design = synthetic.Design(
        sizes=SIZES, mixtures=synthetic.two_source_mixtures("code", "general", [0.0, 0.2, 0.5]), checkpoints=6
    )
    return synthetic.two_source_world().records(design, 0)


def five_sources():
    world = synthetic.many_source_world(5)
    drawn = np.concatenate([np.eye(5), np.random.default_rng(0).dirichlet(np.ones(5), 6)])
    mixtures = tuple(Mixture.of(dict(zip(world.sources, row, strict=True))) for row in drawn)
    return world.records(synthetic.Design(sizes=SIZES[::3], mixtures=mixtures, checkpoints=6), 0)


def one_mixture():
    design = synthetic.Design(
        sizes=SIZES, mixtures=synthetic.two_source_mixtures("code", "general", [0.3]), checkpoints=6
    )
    return synthetic.two_source_world().records(design, 0)


def no_mixture():
    records = one_mixture()
    return replace(records, runs=tuple(replace(r, mixture=None) for r in records.runs))


LAWS = {
    "flp-m, two sources": two_sources,
    "flp-m, five sources": five_sources,
    "flp-m, one mixture": one_mixture,
    "flp-m, one distribution": no_mixture,
}


@pytest.fixture(scope="module", params=LAWS.values(), ids=LAWS.keys())
def law(request):
    records = request.param()
    mixtures = list(dict.fromkeys(r.mixture or Mixture.of({SINGLE_SOURCE: 1.0}) for r in records.runs))
    return records, fit_surrogate(records, SETTINGS), mixtures, max(m.flops for m in records.measurements)


def test_domains_and_tasks_are_named_once(law):
    records, surrogate, _, _ = law
    assert surrogate.domains == records.domains
    assert set(surrogate.tasks) | set(surrogate.not_emerged) == {t.task for t in records.tasks}
    assert not set(surrogate.tasks) & set(surrogate.not_emerged)
    assert surrogate.tasks


def test_a_prediction_is_complete_and_lies_in_its_interval(law):
    _, surrogate, mixtures, flops = law
    answers = surrogate.predict(mixtures, flops)
    assert len(answers) == len(mixtures)
    for answer in answers:
        assert tuple(answer.domain_loss) == surrogate.domains
        assert tuple(answer.performance) == surrogate.tasks
        for p in (*answer.domain_loss.values(), *answer.performance.values(), answer.objective):
            assert all(type(v) is float and math.isfinite(v) for v in (p.mean, p.low, p.high))
            assert p.low <= p.high
            assert type(p.extrapolated) is bool
        for p in answer.domain_loss.values():
            assert 0 < p.low < p.mean < p.high
        for p in (*answer.performance.values(), answer.objective):
            assert 0 <= p.low <= p.high <= 1


def test_seen_mixtures_at_seen_flops_are_no_extrapolation(law):
    _, surrogate, mixtures, flops = law
    assert not any(a.objective.extrapolated for a in surrogate.predict(mixtures, flops))
    assert all(a.objective.extrapolated for a in surrogate.predict(mixtures, 2 * flops))


def test_many_at_once_are_as_one_by_one(law):
    _, surrogate, mixtures, flops = law
    for mixture, answer in zip(mixtures, surrogate.predict(mixtures, flops), strict=True):
        alone = surrogate.predict([mixture], flops)[0]
        # Matrix products of another shape may round another way.
        assert alone.objective.mean == pytest.approx(answer.objective.mean, abs=1e-12)
        assert alone.objective.high == pytest.approx(answer.objective.high, abs=1e-9)


def test_more_flops_lower_the_losses(law):
    _, surrogate, mixtures, flops = law
    small, large = (surrogate.predict(mixtures[:1], f)[0].domain_loss for f in (flops / 5, flops))
    assert all(large[d].mean < small[d].mean for d in surrogate.domains)


def test_stage_2_alone_is_near_the_whole(law):
    _, surrogate, mixtures, flops = law
    answer = surrogate.predict(mixtures[:1], flops)[0]
    scores = surrogate.predict_performance({d: p.mean for d, p in answer.domain_loss.items()})
    assert tuple(scores) == surrogate.tasks
    for task, score in scores.items():
        # The mean over members of their own losses, against the mean losses through all members.
        assert score == pytest.approx(answer.performance[task].mean, abs=0.02)


def test_lines_name_every_law(law):
    _, surrogate, _, _ = law
    lines = surrogate.lines()
    assert all(isinstance(line, FitLine) for line in lines)
    assert len({(line.stage, line.method, line.name) for line in lines}) == len(lines)
    assert {line.name for line in lines if line.stage == "loss"} >= set(surrogate.domains)
    assert {line.name for line in lines if line.stage == "performance"} >= set(surrogate.tasks)


def test_the_same_records_give_the_same_fit(law):
    records, surrogate, _, _ = law
    assert fit_surrogate(records, SETTINGS).to_dict() == surrogate.to_dict()


def test_it_survives_json_and_pickle(law):
    _, surrogate, mixtures, flops = law
    expected = surrogate.predict(mixtures, flops)
    assert FittedSurrogate.from_dict(json.loads(json.dumps(surrogate.to_dict()))).predict(mixtures, flops) == expected
    assert pickle.loads(pickle.dumps(surrogate)).predict(mixtures, flops) == expected


def test_an_unknown_source_is_refused(law):
    _, surrogate, _, flops = law
    with pytest.raises(ConfigError, match="no source 'poetry'"):
        surrogate.predict([Mixture.of({"poetry": 1.0})], flops)
