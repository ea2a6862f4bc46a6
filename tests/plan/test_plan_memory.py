"""The memory model, and what it chooses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flp_ray.core.execution import Execution
from flp_ray.core.mixture import Mixture
from flp_ray.core.run import Recipe
from flp_ray.core.text import TextIdentity
from flp_ray.errors import ResourceError
from flp_ray.plan import PAPER_LADDER, RunFactory, Wish, choose_execution, memory_use
from flp_ray.plan.memory import LOGITS_BYTES, RESERVE_BYTES, USABLE

H100 = 80e9
SIZES = [rung.size for rung in PAPER_LADDER]
FACTORY = RunFactory(
    rungs={rung.size: rung for rung in PAPER_LADDER},
    sizes=tuple(SIZES),
    sources=("general",),
    vocabulary=50_304,
    sequence_length=2048,
    recipe=Recipe(precision="bf16"),
    text=TextIdentity(shared="t", sources={"general": "g"}),
    seed=0,
)


def spec(size):
    return FACTORY.run(size, Mixture.of({"general": 1.0}), "sampling")


def auto(**changes):
    return Wish(**({"workers": None, "memory_bytes": H100} | changes))


def test_states_are_those_of_the_stages_by_hand():
    run = spec("1B")
    for stage, workers, expected in ((1, 1, 18), (1, 4, 6 + 3), (2, 4, 2 + 4), (3, 4, 4.5)):
        use = memory_use(run, Execution(workers=workers, zero_stage=stage, micro_batch_sequences=1))
        gathered = 2 * (2 * run.shape.non_embedding_params / 16 + 50_304 * 2048) if stage == 3 else 0
        assert use.states == pytest.approx(expected * run.params + gathered)
    fp32 = replace(run, recipe=Recipe(precision="fp32"))
    assert memory_use(fp32, Execution(micro_batch_sequences=1)).states == 16 * run.params


def test_one_sequence_of_the_1b_by_hand():
    use = memory_use(spec("1B"), Execution(zero_stage=1, micro_batch_sequences=1))
    assert use.activations == 2048 * 16 * (16 * 2048 + 4 * 5504) * 2
    assert use.logits == 2048 * 50_304 * 8
    assert use.total == use.states + use.activations + use.logits + RESERVE_BYTES
    many = memory_use(spec("1B"), Execution(zero_stage=1, micro_batch_sequences=64))
    assert many.logits == LOGITS_BYTES + 4 * 50_304 * 2048


@pytest.mark.parametrize("size", SIZES)
def test_every_size_of_the_paper_fits_and_more_workers_are_taken_only_where_needed(size):
    run = spec(size)
    chosen = choose_execution(run, auto())
    assert memory_use(run, chosen).total <= USABLE * H100
    if chosen.workers > 1:
        with pytest.raises(ResourceError, match=r"fits into no device of 80 GB"):
            choose_execution(run, auto(most_workers=chosen.workers // 2))


def test_the_small_ones_take_one_device_and_13b_does_not():
    assert all(choose_execution(spec(size), auto()).workers == 1 for size in SIZES[:11])
    assert choose_execution(spec("13B"), auto()).workers > 1


def test_time_asks_for_more_workers_and_the_batch_is_never_exceeded():
    run = spec("7B")
    assert choose_execution(run, auto(least_workers=100)).workers == 128
    assert choose_execution(run, auto(least_workers=10**6)).workers == run.batch_sequences


@given(
    st.sampled_from(SIZES), st.integers(0, 10), st.sampled_from([None, 1, 2, 3]), st.sampled_from([40e9, 80e9, 180e9])
)
def test_the_global_batch_is_kept_whatever_is_chosen(size, power, stage, memory):
    run = spec(size)
    try:
        chosen = choose_execution(run, Wish(workers=2**power, zero_stage=stage, memory_bytes=memory))
    except ResourceError:
        return
    micro, passes = chosen.micro_batch(run.batch_sequences), chosen.accumulation(run.batch_sequences)
    share = -(-run.batch_sequences // chosen.workers)
    assert micro * passes >= share > micro * (passes - 1)
    assert micro * passes - share < passes  # all passes are of one size, but for a sequence


@pytest.mark.parametrize(("batch", "passes"), [(5, 1), (12, 1), (448, 1), (449, 1)])
def test_a_share_that_fits_is_taken_whole_whatever_its_number(batch, passes):
    run = replace(spec("43M"), batch_sequences=batch)
    chosen = choose_execution(run, auto())
    assert (chosen.micro_batch(batch), chosen.accumulation(batch)) == (batch, passes)
    assert memory_use(run, chosen).total <= USABLE * H100
    tight = choose_execution(run, auto(memory_bytes=memory_use(run, chosen).total / USABLE - 1))
    assert tight.accumulation(batch) == 2


def test_what_is_wished_is_taken():
    chosen = choose_execution(
        spec("0.12B"), Wish(workers=2, zero_stage=2, micro_batch_sequences=4, activation_checkpointing=True)
    )
    assert chosen == Execution(workers=2, zero_stage=2, micro_batch_sequences=4, activation_checkpointing=True)


def test_activations_are_computed_again_only_where_nothing_else_fits():
    run = spec("3B")
    plain = choose_execution(run, auto(workers=1, memory_bytes=H100))
    tight = choose_execution(run, auto(workers=1, memory_bytes=66e9))
    assert not plain.activation_checkpointing
    assert tight.activation_checkpointing
