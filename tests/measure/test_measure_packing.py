"""Packing loses nothing: every scored token has one place, and a tree shows each token its own past alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flp_ray.measure.packing import ScoredTokens, pack


@st.composite
def requests(draw):
    found = []
    for question in range(draw(st.integers(1, 6))):
        shared = draw(st.lists(st.integers(0, 3), max_size=8))
        for _ in range(draw(st.integers(1, 4))):
            tokens = (*shared, *draw(st.lists(st.integers(0, 3), min_size=2, max_size=9)))
            scored = draw(st.integers(1, len(tokens) - 1))
            found.append(ScoredTokens(tokens=tokens, scored=scored, question=question))
    return found


@settings(max_examples=150, deadline=None)
@given(requests(), st.integers(4, 40), st.integers(8, 120))
def test_each_scored_token_sees_exactly_its_own_past(found, row_tokens, batch_tokens):
    batches = pack(found, row_tokens=row_tokens, batch_tokens=batch_tokens)
    seen: dict[int, list[tuple[tuple[int, ...], int]]] = {k: [] for k in range(len(found))}
    for batch in batches:
        rows, width = batch.ids.shape
        assert width <= max(row_tokens, max(len(r.tokens) for r in found) - 1)
        assert rows * width <= max(batch_tokens, max(row_tokens, width))
        assert np.array_equal(batch.places, np.unique(batch.places))
        for place, target, owner in zip(batch.place_of, batch.targets, batch.request_of, strict=True):
            row, column = divmod(int(batch.places[place]), width)
            tree, branch = batch.tree[row], batch.branch[row]
            past = [j for j in range(column + 1) if tree[j] == tree[column] and branch[j] in (0, branch[column])]
            assert batch.positions[row, past].tolist() == list(range(len(past)))
            seen[int(owner)].append((tuple(batch.ids[row, past].tolist()), int(target)))
    for request, tokens in zip(found, seen.values(), strict=True):
        first = len(request.tokens) - request.scored
        expected = [(request.tokens[:k], request.tokens[k]) for k in range(first, len(request.tokens))]
        assert tokens == expected


def test_shared_beginnings_are_computed_once_and_rows_are_full():
    shared = tuple(range(30))
    found = [ScoredTokens(tokens=(*shared, 40 + c, 1, 2), scored=3, question=q) for q in range(64) for c in range(4)]
    batches = pack(found, row_tokens=128, batch_tokens=1024)
    computed = sum(b.ids.size for b in batches)
    one_by_one = sum(len(r.tokens) - 1 for r in found)
    assert computed < 0.4 * one_by_one
    needed = 64 * (30 + 4 * 2)
    assert computed < 1.15 * needed
