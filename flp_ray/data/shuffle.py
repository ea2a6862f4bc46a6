"""A seeded permutation of 0 .. n - 1 that is never written down."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8


def shuffled(positions: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Where a seeded permutation of `range(size)` sends each position.

    A Feistel network over a grid of about sqrt(size) by sqrt(size) cells; a position that lands outside of
    `range(size)` goes round again. Random access costs the same at any size, nothing is cached, and unlike
    numpy's own permutation the order cannot change with numpy's version.

    Args:
        positions: Numbers from 0 to size - 1, shape (n,).
        size: How many numbers are permuted; at most 2**60.
        key: Names the permutation, 0 to 2**64 - 1.

    Returns:
        The permuted positions, shape (n,).

    Reference: J. Black, P. Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002, 114-130.
    """
    sides = np.array([max(math.isqrt(size - 1) + 1, 1)] * 2, dtype=np.int64)
    sides[1] = -(-size // int(sides[0]))
    keys = _mixed(np.arange(1, ROUNDS + 1, dtype=np.uint64) * _ODD + np.uint64(key))
    placed = positions.astype(np.int64)
    outside = np.arange(len(placed))
    while len(outside):
        placed[outside] = _network(placed[outside], sides, keys)
        outside = outside[placed[outside] >= size]
    return placed


_ODD = np.uint64(0x9E3779B97F4A7C15)


def _network(numbers: NDArray[np.int64], sides: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """One pass over all cells of the grid; each round shifts one coordinate by a hash of the other."""
    right, left = np.divmod(numbers, sides[0])
    for number in range(ROUNDS):
        shift = _mixed(right.astype(np.uint64) * _ODD + keys[number])
        side = sides[number % 2]
        left, right = right, (left + (shift % side.astype(np.uint64)).astype(np.int64)) % side
    # An even number of rounds leaves the coordinates in their places.
    cells: NDArray[np.int64] = right * sides[0] + left
    return cells


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spreads every bit over all others (the finisher of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
