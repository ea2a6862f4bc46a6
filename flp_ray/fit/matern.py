"""The Matern 5/2 kernel between points whose dimensions are already divided by their length scales.

    k(d) = (1 + r + r^2 / 3) exp(-r),  r = sqrt(5) d

Reference: Rasmussen and Williams 2006, Eq. 4.17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 2**17
"""Kernel values at a time in `matern_product`: 512 KB in float32, within a core's cache."""

Array = NDArray[Any]


def squared_distances(left: Array, right: Array) -> Array:
    """Squared distances between the rows of (m, K) and (n, K): (m, n)."""
    centre = right.mean(axis=0)
    left, right = left - centre, right - centre
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * (left @ right.T)
    return np.asarray(np.maximum(squared, 0, out=squared))


def matern(squared: Array) -> tuple[Array, Array]:
    """The kernel and its slope in a dimension's length scale.

    Args:
        squared: Squared distances d^2, (m, n).

    Returns:
        k(d), (m, n), and g(d), (m, n), with dk / dlog l_k = g (x_k - z_k)^2 / l_k^2.
    """
    root = np.sqrt(5 * squared)
    decay = np.exp(-root)
    falling = (1 + root) * decay
    return falling + (5 / 3) * squared * decay, (5 / 3) * falling


def matern_product(left: Array, right: Array, weights: Array) -> Array:
    """The kernel matrix times a vector, for very many rows: in single precision, block by block.

    A block's squared distances are one matrix product, [z, |z|^2, 1] . [-2 x, 1, |x|^2]; all after it is in place.

    Args:
        left: (m, K).
        right: (n, K).
        weights: (n,).

    Returns:
        k(left, right) weights, (m,).
    """
    centre, scale = right.mean(axis=0), np.sqrt(5)
    new, old = (left - centre) * scale, (right - centre) * scale
    rows = np.column_stack([new, (new**2).sum(axis=1), np.ones(len(new))]).astype(np.float32)
    columns = np.column_stack([-2 * old, np.ones(len(old)), (old**2).sum(axis=1)]).T.astype(np.float32)
    single = weights.astype(np.float32)
    size = max(1, BLOCK_VALUES // len(old))
    product, buffers = np.empty(len(new)), np.empty((2, size, len(old)), np.float32)
    for first in range(0, len(new), size):
        block = rows[first : first + size]
        squared, root = buffers[:, : len(block)]
        np.maximum(np.matmul(block, columns, out=squared), 0, out=squared)
        np.sqrt(squared, out=root)
        squared *= np.float32(1 / 3)
        squared += root
        squared += np.float32(1)
        squared *= np.exp(np.negative(root, out=root), out=root)
        product[first : first + size] = squared @ single
    return product
