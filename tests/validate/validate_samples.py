"""Proposals and measured runs for the validation's tests."""

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Experiment, Prediction, Proposal
from flp_ray.core.records import Measurement, Records, Run

PROPOSED = Mixture.of({"x": 0.2, "y": 0.8})


def mix(x):
    return Mixture.of({"x": x, "y": 1 - x})


def around(mean, half=0.05):
    return Prediction(mean=mean, low=mean - half, high=mean + half, extrapolated=False)


def proposal(objective="a", tasks=("a", "b"), mean=0.6, domains=()):
    return Proposal(
        objective=objective,
        mixture=PROPOSED,
        size="big",
        train_tokens=100,
        flops=1e18,
        expected=around(mean),
        performance=dict.fromkeys(tasks, around(mean)),
        domain_loss=dict.fromkeys(domains, around(3.0)),
        fit_id="fit",
    )


def experiment(known=None, **said):
    return Experiment(proposal=proposal(**said), best_known=known if known is None else mix(known))


def run(name, purpose, x, scores, *, stderr=0.01, size="big", tokens=100, losses=()):
    """A run and its final scores by task, losses by domain."""
    made = Run(run_id=name, purpose=purpose, params=1, train_tokens=100, mixture=mix(x), size=size)
    rows = [
        Measurement(run_id=name, tokens=tokens, flops=1.0, kind=kind, name=n, value=v, stderr=stderr)
        for kind, values in (("performance", scores), ("domain_loss", dict(losses)))
        for n, v in values.items()
    ]
    return made, rows


def records(*parts):
    return Records(runs=tuple(r for r, _ in parts), measurements=tuple(m for _, rows in parts for m in rows))


GRID = (
    run("g0", "sampling", 0.0, {"a": 0.50, "b": 0.9}),
    run("g1", "sampling", 0.5, {"a": 0.55, "b": 0.1}),
    run("small", "sampling", 0.3, {"a": 0.99, "b": 0.99}, size="little"),
)
