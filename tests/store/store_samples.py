"""Values to store, and hypothesis strategies of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.prediction import Comparison, DifferenceTest, Experiment, Outcome, Prediction, Proposal
from flp_ray.core.records import Measurement, Task
from flp_ray.core.run import Recipe, RunSpec
from flp_ray.core.shape import ModelShape

SPEC = RunSpec(
    purpose="sampling",
    size="tiny",
    shape=ModelShape(layers=1, hidden=16, heads=2, ffn=32),
    vocabulary=300,
    sequence_length=8,
    mixture=Mixture.of({"code": 0.25, "general": 0.75}),
    train_tokens=8000,
    batch_sequences=4,
    learning_rate=1e-3,
    seed=0,
    recipe=Recipe(),
    text_id="text",
)

finite = st.floats(allow_nan=False, allow_infinity=False)
share = st.floats(0, 1)
# Any text that UTF-8 can hold, but empty; commas, quotes and line ends are what CSV stumbles over.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8) | st.sampled_from(
    ["a,b", 'say "x"', "two\nlines", "NA", "null", "1e5", "nan", " ", "#", "ratio."]
)


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    sources = draw(st.lists(st.sampled_from(["code", "general", "math", "a,b"]), min_size=1, max_size=4, unique=True))
    weights = [draw(st.floats(0.01, 1)) for _ in sources]
    return Mixture.of({s: w / sum(weights) for s, w in zip(sources, weights, strict=True)})


specs = st.builds(
    lambda purpose, mixture, seed, rate, sequences, recipe: replace(
        SPEC,
        purpose=purpose,
        mixture=mixture,
        seed=seed,
        learning_rate=rate,
        train_tokens=8 * sequences,
        recipe=recipe,
    ),
    st.sampled_from(["sampling", "validation", "target"]),
    mixtures(),
    st.integers(0, 2**62),
    st.floats(1e-9, 1.0),
    st.integers(1, 10**12),
    st.builds(Recipe, clip_norm=st.none() | st.floats(0.1, 2), checkpoints=st.integers(1, 60)),
)
tasks = st.builds(Task, task=names, random_performance=share, emergence_margin=share)


@st.composite
def measurements(draw: st.DrawFn, run_ids: st.SearchStrategy[str]) -> Measurement:
    kind = draw(st.sampled_from(["train_loss", "domain_loss", "performance", "bpb"]))
    return Measurement(
        run_id=draw(run_ids),
        tokens=draw(st.integers(1, 2**62)),
        flops=draw(st.floats(1, 1e300)),
        kind=kind,
        name=draw(names),
        value=draw(share if kind == "performance" else st.floats(0, 1e300, exclude_min=True)),
        stderr=draw(st.none() | st.floats(0, 1e300)),
        items=draw(st.none() | st.integers(0, 2**62)),
    )


def key(m: Measurement) -> tuple[str, int, str, str]:
    return m.run_id, m.tokens, m.kind, m.name


predictions = st.builds(Prediction, mean=finite, low=finite, high=finite, extrapolated=st.booleans())
proposals = st.builds(
    Proposal,
    objective=names,
    mixture=mixtures(),
    size=names,
    train_tokens=st.integers(1, 2**62),
    flops=finite,
    expected=predictions,
    performance=st.dictionaries(names, predictions, max_size=2),
    domain_loss=st.dictionaries(names, predictions, max_size=2),
    fit_id=st.sampled_from(["f1", "f2"]),
)
comparisons = st.builds(
    Comparison,
    proposal=proposals,
    run_id=names,
    measured=finite,
    measured_stderr=st.none() | finite,
    relative_error=st.none() | finite,
    inside_interval=st.booleans(),
    best_known=st.none() | mixtures(),
    best_known_measured=st.none() | finite,
    best_known_stderr=st.none() | finite,
    regret=st.none() | finite,
    verdict=st.sampled_from(["better", "worse", "not distinguishable", "same mixture", "not compared"]),
    note=names,
    test=st.none()
    | st.builds(
        DifferenceTest,
        difference=finite,
        low=finite,
        high=finite,
        p_value=share,
        scatter=st.none() | finite,
        evaluation_stderr=st.none() | finite,
        detectable=finite,
    ),
    outcomes=st.lists(
        st.builds(
            Outcome,
            kind=st.sampled_from(["objective", "performance", "domain_loss"]),
            name=names,
            expected=predictions,
            measured=finite,
            runs=st.integers(1, 9),
            inside=st.integers(0, 9),
        ),
        max_size=2,
    ).map(tuple),
    expected_difference=st.none() | finite,
    runs=st.integers(1, 9),
    planned=st.none() | st.integers(1, 9),
    best_known_source=st.sampled_from(["sampling", "validation"]),
    written=st.none() | finite,
    began=st.none() | finite,
)
experiments = st.builds(
    Experiment,
    proposal=proposals,
    best_known=st.none() | mixtures(),
    best_known_expected=st.none() | predictions,
    written=st.none(),
)
