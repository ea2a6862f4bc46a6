import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.core.mixture import Mixture
from flp_ray.core.text import TokenBlocks
from flp_ray.data import schedule as schedule_module
from flp_ray.data.mixer import MixedStream
from flp_ray.data.schedule import Schedule
from flp_ray.data.shuffle import shuffled
from flp_ray.errors import TextError

LENGTH = 8


def blocks_of(folder: Path, sizes: dict[str, int]) -> dict[str, TokenBlocks]:
    """Row r of source number s holds s * 1,000 + r everywhere, so a token tells where it comes from."""
    blocks = {}
    for number, (source, size) in enumerate(sizes.items()):
        rows = np.repeat(np.arange(size, dtype="<u4")[:, None] + 1000 * number, LENGTH, axis=1)
        path = folder / f"{source}.npy"
        np.save(path, rows)
        blocks[source] = TokenBlocks(
            path=str(path),
            sequences=size,
            sequence_length=LENGTH,
            documents=1,
            characters=1,
            content_hash="x",
        )
    return blocks


def largest_error(ratios: list[Fraction], steps: int) -> Fraction:
    """Largest exact deviation of any source's count from its share over all prefixes."""
    source, ordinal = Schedule(ratios).locate(np.arange(steps))
    drawn = [0] * len(ratios)
    worst = Fraction(0)
    for n, (k, place) in enumerate(zip(source.tolist(), ordinal.tolist(), strict=True), 1):
        assert place == drawn[k]
        drawn[k] += 1
        worst = max(worst, *(abs(count - n * ratio) for count, ratio in zip(drawn, ratios, strict=True)))
    return worst


weights = st.lists(st.integers(1, 1000), min_size=1, max_size=20)


@given(weights)
@settings(deadline=None, max_examples=150)
def test_every_prefix_is_off_by_less_than_one_sequence(weights):
    ratios = [Fraction(w, sum(weights)) for w in weights]
    bound = 1 - Fraction(1, 2 * len(ratios) - 2) if len(ratios) > 1 else 0
    assert largest_error(ratios, 400) <= bound < 1


def test_ratios_that_break_the_greedy_rule_stay_under_one():
    weights = [9, 32, 33, 36, 38, 85, 243, 245, 393, 491, 495, 839]
    ratios = [Fraction(w, sum(weights)) for w in weights]
    drawn = [0] * len(ratios)
    greedy = Fraction(0)
    for n in range(1, 121):
        drawn[max(range(len(ratios)), key=lambda k: n * ratios[k] - drawn[k])] += 1
        greedy = max(greedy, *(abs(count - n * ratio) for count, ratio in zip(drawn, ratios, strict=True)))
    assert greedy > 1
    assert largest_error(ratios, sum(weights)) < 1


@given(st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=8), st.integers(0, 500))
@settings(deadline=None, max_examples=50)
def test_ratios_with_seventeen_digits_are_exact_too(values, start):
    ratios = [Fraction(repr(v)) for v in values]
    ratios = [r / sum(ratios) for r in ratios]
    assert largest_error(ratios, 300) < 1
    together = Schedule(ratios)
    apart = Schedule(ratios)
    expected = together.locate(np.arange(start + 20))
    found = apart.locate(np.arange(start, start + 20))
    assert all(np.array_equal(a[start:], b) for a, b in zip(expected, found, strict=True))


@given(weights, st.lists(st.integers(0, 3000), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_random_access_equals_going_through(weights, numbers):
    ratios = [Fraction(w) for w in weights]
    source, ordinal = Schedule(ratios).locate(np.arange(3001))
    found = Schedule(ratios).locate(np.array(numbers))
    assert np.array_equal(found[0], source[numbers])
    assert np.array_equal(found[1], ordinal[numbers])
    n = max(numbers)
    assert Schedule(ratios).counts(n) == tuple(np.bincount(source[:n], minlength=len(weights)))


def test_chunks_are_worked_out_again_when_the_cache_is_full(monkeypatch):
    ratios = [Fraction(w) for w in (3331, 777, 10_007)]
    source, ordinal = Schedule(ratios).locate(np.arange(9000))
    monkeypatch.setattr(schedule_module, "CHUNK", 64)
    monkeypatch.setattr(schedule_module, "CACHED_CHUNKS", 3)
    chunked = Schedule(ratios)
    for start in (8000, 0, 4000, 8990, 10):
        found = chunked.locate(np.arange(start, start + 10))
        assert np.array_equal(found[0], source[start : start + 10])
        assert np.array_equal(found[1], ordinal[start : start + 10])


def test_counts_do_not_drift_after_a_hundred_million_sequences():
    schedule = Schedule([Fraction("0.123457"), Fraction("0.3"), Fraction("0.576543")])
    n = 100_000_007
    for count, ratio in zip(schedule.counts(n), ("0.123457", "0.3", "0.576543"), strict=True):
        assert abs(count - n * Fraction(ratio)) < 1
    before = np.array(schedule.counts(n - 3))
    source, ordinal = schedule.locate(np.array([n - 3]))
    assert ordinal[0] == before[source[0]]


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(deadline=None, max_examples=100)
def test_a_shuffle_is_a_permutation(size, key):
    assert np.array_equal(np.sort(shuffled(np.arange(size), size, key)), np.arange(size))


def test_a_shuffle_leaves_no_order_and_differs_by_key():
    size = 10_007
    one, two = (shuffled(np.arange(size), size, key) for key in (1, 2))
    # A random permutation has a rank correlation of 0 with a standard deviation of 1 / sqrt(size) = 0.01,
    # and one fixed point on average; five deviations, and ten points, are beyond chance.
    assert abs(np.corrcoef(np.arange(size), one)[0, 1]) < 0.05
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.05
    assert (one == np.arange(size)).sum() < 10
    assert (one == two).sum() < 10


def test_a_shuffle_of_few_reaches_all_orders_evenly():
    orders = [tuple(shuffled(np.arange(4), 4, key).tolist()) for key in range(4800)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    # 24 orders, 200 each expected with a standard deviation of 14.
    assert len(counts) == 24
    assert counts.min() > 130


@given(
    sizes=st.lists(st.integers(3, 40), min_size=1, max_size=20),
    seed=st.integers(0, 5),
    world=st.integers(1, 7),
    start=st.integers(0, 80),
)
@settings(deadline=None, max_examples=40)
def test_the_stream_is_the_same_for_any_world_size(tmp_path_factory, sizes, seed, world, start):
    blocks = blocks_of(tmp_path_factory.mktemp("blocks"), {f"s{k:02}": size for k, size in enumerate(sizes)})
    mixture = Mixture.of({source: 1 / len(sizes) for source in blocks})
    stream = MixedStream(blocks, mixture, seed=seed, sequences=100, max_epochs=50.0)
    whole = stream.tokens(0, 100)
    again = MixedStream(blocks, mixture, seed=seed, sequences=100, max_epochs=50.0)
    batch = np.empty((14, LENGTH), np.int64)
    for rank in range(world):
        for row in range(rank, 14, world):
            batch[row] = again.tokens(start + row, start + row + 1)[0]
    assert np.array_equal(batch[: 100 - start], whole[start : start + 14])


def test_each_epoch_is_a_new_order_of_the_whole_source(tmp_path):
    stream = MixedStream(
        blocks_of(tmp_path, {"a": 50, "b": 30}),
        Mixture.of({"a": 0.5, "b": 0.5}),
        seed=3,
        sequences=180,
        max_epochs=3,
    )
    place = stream.locate(0, 180)
    rows = place.position[place.source == 1]
    assert [sorted(rows[k : k + 30]) for k in (0, 30, 60)] == [list(range(30))] * 3
    assert not np.array_equal(rows[:30], rows[30:60])
    assert np.array_equal(place.epoch[place.source == 1], np.repeat([0, 1, 2], 30))
    assert stream.epochs("b") == 3.0
    assert stream.epochs("a") == 1.8
    assert stream.epochs("a", stop=100) == 1.0
    assert stream.drawn(180) == {"a": 90, "b": 90}


def test_a_source_of_ratio_zero_is_never_drawn(tmp_path):
    blocks = blocks_of(tmp_path, {"a": 50, "b": 30})
    stream = MixedStream(blocks, Mixture.of({"a": 1.0, "b": 0.0}), seed=0, sequences=50)
    assert stream.sources == ("a",)
    assert (stream.tokens(0, 50) < 1000).all()
    assert stream.epochs("b") == 0.0


def test_another_seed_gives_another_order_of_the_same_text(tmp_path):
    blocks = blocks_of(tmp_path, {"a": 40, "b": 40})
    mixture = Mixture.of({"a": 0.25, "b": 0.75})
    one, two = (MixedStream(blocks, mixture, seed=seed, sequences=40).tokens(0, 40)[:, 0] for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert np.array_equal(one // 1000, two // 1000)


def test_a_pickled_stream_goes_on_and_carries_no_text(tmp_path):
    blocks = blocks_of(tmp_path, {"a": 900, "b": 900})
    stream = MixedStream(blocks, Mixture.of({"a": 0.5, "b": 0.5}), seed=0, sequences=900)
    expected = stream.tokens(0, 900)
    copy = pickle.dumps(stream)
    assert len(copy) < 10_000
    assert np.array_equal(pickle.loads(copy).tokens(17, 900), expected[17:])


def test_too_many_tokens_are_refused_with_the_numbers(tmp_path):
    blocks = blocks_of(tmp_path, {"a": 50, "b": 30})
    mixture = Mixture.of({"a": 0.5, "b": 0.5})
    MixedStream(blocks, mixture, seed=0, sequences=60)  # exactly all of b
    # Of 61 sequences b has 30 or 31; the bound alone cannot tell, the schedule can.
    drawn = Schedule([Fraction(1, 2), Fraction(1, 2)]).counts(61)[1]
    if drawn == 30:
        MixedStream(blocks, mixture, seed=0, sequences=61)
    with pytest.raises(TextError, match=r"'b'.*needs 248 tokens.*240 are there.*used 1 times.*at least 1\.04"):
        MixedStream(blocks, mixture, seed=0, sequences=62)
    MixedStream(blocks, mixture, seed=0, sequences=62, max_epochs=1.04)


def test_a_source_without_text_and_a_range_outside_are_refused(tmp_path):
    blocks = blocks_of(tmp_path, {"a": 50})
    with pytest.raises(TextError, match=r"'b'.*has no text; there are: a"):
        MixedStream(blocks, Mixture.of({"a": 0.5, "b": 0.5}), seed=0, sequences=10)
    stream = MixedStream(blocks, Mixture.of({"a": 1.0}), seed=0, sequences=10)
    with pytest.raises(IndexError, match="0 to 11 of a stream of 10"):
        stream.tokens(0, 11)
