"""Requests packed for a causal model: what the choices of a question share is computed once, with no padding.

The choices of a question mostly begin alike (its text, and often more). They are laid out as a tree: the
shared beginning is the trunk, each choice's rest a branch. Trees of several questions stand side by side in
one row; a mask lets every token see its own trunk and its own branch alone, and positions count within each
choice, so the model computes what it would compute for each choice by itself.

    row:      q1 q1 q1 a a a b b | q2 q2 a a b b b
    position:  0  1  2 3 4 5 3 4 |  0  1 2 3 2 3 4
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTokens:
    """One request: tokens of context and continuation, the last `scored` of which are to be scored.

    Attributes:
        tokens: Token ids, at least 2.
        scored: Number of tokens at the end whose log-likelihood is asked for, 1 to len(tokens) - 1.
        question: Requests with the same key belong to one question.
    """

    tokens: tuple[int, ...]
    scored: int
    question: object


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Rows for one forward pass, and where the scored tokens are predicted.

    Attributes:
        ids: Token ids, shape (rows, width).
        positions: Position of each token in its request, shape (rows, width).
        tree: Number of each token's question in the row, -1 for padding, shape (rows, width).
        branch: 0 for a trunk, otherwise the number of the choice, shape (rows, width).
        places: Flat indices into (rows, width) whose outputs are needed, shape (places,).
        place_of: Index into `places` of each scored token, shape (scored tokens,).
        targets: The scored tokens, shape (scored tokens,).
        request_of: Request that each scored token belongs to, shape (scored tokens,).
    """

    ids: IntArray
    positions: IntArray
    tree: IntArray
    branch: IntArray
    places: IntArray
    place_of: IntArray
    targets: IntArray
    request_of: IntArray


@dataclass(slots=True)
class _Tree:
    members: list[int]
    trunk: int
    size: int


def pack(requests: Sequence[ScoredTokens], *, row_tokens: int, batch_tokens: int) -> list[PackedBatch]:
    """Packs requests into batches; the same requests give the same batches.

    Args:
        requests: The requests, in any order.
        row_tokens: Width of a row at most, unless one request alone is longer.
        batch_tokens: Tokens of one batch at most (one row at least), padding included.
    """
    groups: dict[object, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.question, []).append(index)
    trees = [tree for members in groups.values() for tree in _trees(requests, members, row_tokens)]
    rows = _rows(trees, row_tokens)
    widest = max([row_tokens, *(tree.size for tree in trees)])
    rows_a_batch = max(1, batch_tokens // widest)
    return [_batch(requests, rows[k : k + rows_a_batch]) for k in range(0, len(rows), rows_a_batch)]


def _trees(requests: Sequence[ScoredTokens], members: list[int], row_tokens: int) -> list[_Tree]:
    inputs = [requests[m].tokens[:-1] for m in members]
    shortest, trunk = min(map(len, inputs)), 0
    while trunk < shortest and all(tokens[trunk] == inputs[0][trunk] for tokens in inputs):
        trunk += 1
    size = trunk + sum(len(tokens) - trunk for tokens in inputs)
    if size <= row_tokens or len(members) == 1:
        return [_Tree(members, trunk, size)]
    half = len(members) // 2
    return _trees(requests, members[:half], row_tokens) + _trees(requests, members[half:], row_tokens)


def _rows(trees: list[_Tree], row_tokens: int) -> list[list[_Tree]]:
    """Largest first, each into the fullest row that still has room."""
    by_room: dict[int, list[list[_Tree]]] = {}
    rows: list[list[_Tree]] = []
    for tree in sorted(trees, key=lambda t: -t.size):
        room = next((r for r in range(tree.size, row_tokens + 1) if by_room.get(r)), None)
        if room is None:
            room = max(row_tokens, tree.size)
            row: list[_Tree] = []
            rows.append(row)
        else:
            row = by_room[room].pop()
        row.append(tree)
        by_room.setdefault(room - tree.size, []).append(row)
    return sorted(rows, key=lambda row: -sum(tree.size for tree in row))


def _batch(requests: Sequence[ScoredTokens], rows: list[list[_Tree]]) -> PackedBatch:
    width = max(sum(tree.size for tree in row) for row in rows)
    ids, positions, branch = (np.zeros((len(rows), width), dtype=np.int64) for _ in range(3))
    tree_of = np.full((len(rows), width), -1, dtype=np.int64)
    places: list[IntArray] = []
    targets: list[int] = []
    owners: list[int] = []
    for r, row in enumerate(rows):
        column = 0
        for t, tree in enumerate(row):
            start = column
            trunk = requests[tree.members[0]].tokens[: tree.trunk]
            ids[r, start : start + tree.trunk] = trunk
            positions[r, start : start + tree.trunk] = np.arange(tree.trunk)
            column += tree.trunk
            for b, member in enumerate(tree.members, start=1):
                request = requests[member]
                rest = request.tokens[tree.trunk : -1]
                stop = column + len(rest)
                ids[r, column:stop] = rest
                positions[r, column:stop] = np.arange(tree.trunk, tree.trunk + len(rest))
                branch[r, column:stop] = b
                where = np.concatenate([np.arange(start, start + tree.trunk), np.arange(column, stop)])
                places.append(r * width + where[len(where) - request.scored :])
                targets.extend(request.tokens[-request.scored :])
                owners.extend([member] * request.scored)
                column = stop
            tree_of[r, start:column] = t
    unique, place_of = np.unique(np.concatenate(places), return_inverse=True)
    return PackedBatch(
        ids=ids,
        positions=positions,
        tree=tree_of,
        branch=branch,
        places=unique,
        place_of=place_of,
        targets=np.asarray(targets, dtype=np.int64),
        request_of=np.asarray(owners, dtype=np.int64),
    )
