"""The two-layer network of stage 2, many at once: domain losses -> score, gradient written out in numpy.

Notation (Chen et al. 2024, section 4.2)
    x  inputs     standardised domain losses of one checkpoint (K domains)
    y  targets    standardised score of one task
    V  hidden_weight, the bias as its last column;  u  output_weight;  c  output_bias
    network       y(x) = u . relu(V [x, 1]) + c, three hidden units

All networks see the same points and differ in targets, point weights and start, so the first layer of
many networks is one matrix product. Networks are trained in blocks whose buffers stay in a core's cache:
a step is bound by passes over memory, not by arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIDDEN_UNITS = 3
LEARNING_RATE = 0.05
WEIGHT_DECAY = 0.01
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's own defaults; the paper names only the learning rate and the weight decay."""

BLOCK_VALUES = 70_000
"""Hidden values (networks x units x points) of a block: about 270 KB in float32, within a cache of 1 MB."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Networks:
    """Weights of B networks with the same K inputs.

    Attributes:
        hidden: First layer, (B, 3, K + 1); the last column is the bias.
        output_weight: Second layer, (B, 3).
        output_bias: Its bias, (B,).
    """

    hidden: Array
    output_weight: Array
    output_bias: Array

    @property
    def count(self) -> int:
        """Number of networks, B."""
        return len(self.output_bias)

    def predict(self, inputs: Array) -> Array:
        """Outputs of every network.

        Args:
            inputs: Standardised losses, (n, K) for all networks or (B, n, K) for each its own.

        Returns:
            (B, n).
        """
        layer = np.matmul(inputs, self.hidden[:, :, :-1].transpose(0, 2, 1)) + self.hidden[:, None, :, -1]
        outputs: Array = np.matmul(np.maximum(layer, 0), self.output_weight[:, :, None])[:, :, 0]
        return outputs + self.output_bias[:, None]


def initial_networks(seeds: list[list[int]], inputs: int, dtype: type = np.float32) -> Networks:
    """Starting weights, uniform within 1/sqrt(fan in) as in torch.nn.Linear.

    Args:
        seeds: One seed sequence a network, so that a network's start depends on no other network.
        inputs: Number of inputs, K.
        dtype: Floating point type.
    """
    drawn = np.empty((len(seeds), HIDDEN_UNITS * (inputs + 2) + 1))
    for row, seed in zip(drawn, seeds, strict=True):
        row[:] = np.random.default_rng(seed).uniform(-1, 1, drawn.shape[1])
    split = HIDDEN_UNITS * (inputs + 1)
    hidden = drawn[:, :split].reshape(-1, HIDDEN_UNITS, inputs + 1) / np.sqrt(inputs)
    rest = drawn[:, split:] / np.sqrt(HIDDEN_UNITS)
    return Networks(
        hidden=hidden.astype(dtype),
        output_weight=rest[:, :HIDDEN_UNITS].astype(dtype),
        output_bias=rest[:, HIDDEN_UNITS].astype(dtype),
    )


class _Block:
    """Parameters and buffers of the networks that are trained together; everything is written in place."""

    def __init__(self, start: Networks, inputs: Array, targets: Array, weights: Array) -> None:
        dtype = start.hidden.dtype
        count, units, columns = start.hidden.shape
        points = len(inputs)
        split = count * units * columns
        self.flat = np.concatenate(
            [start.hidden.ravel(), start.output_weight.ravel(), start.output_bias.ravel()], dtype=dtype
        )
        self.gradient = np.empty_like(self.flat)
        self.hidden, self.output_weight, self.output_bias = self._views(self.flat, count, units, columns, split)
        self.hidden_gradient, self.output_gradient, self.bias_gradient = self._views(
            self.gradient, count, units, columns, split
        )
        self.points = np.ones((points, columns), dtype)
        self.points[:, :-1] = inputs
        self.columns = np.ascontiguousarray(self.points.T)
        self.targets = np.ascontiguousarray(targets, dtype)
        share = weights / weights.sum(axis=1, keepdims=True)
        self.share = np.ascontiguousarray(share, dtype)
        self.active = np.empty((count, units, points), dtype)
        self.is_active = np.empty((count, units, points), bool)
        self.error = np.empty((count, points), dtype)
        self.slope = np.empty((count, points), dtype)

    @staticmethod
    def _views(flat: Array, count: int, units: int, columns: int, split: int) -> tuple[Array, Array, Array]:
        hidden = flat[:split].reshape(count * units, columns)
        rest = flat[split:]
        return hidden, rest[: count * units].reshape(count, units), rest[count * units :]

    def forward(self) -> None:
        """Fills `active` (hidden values after ReLU) and `error` (prediction minus target)."""
        count, units, points = self.active.shape
        layer = self.active.reshape(count * units, points)
        np.matmul(self.hidden, self.columns, out=layer)
        np.maximum(layer, 0, out=layer)
        np.matmul(self.output_weight[:, None, :], self.active, out=self.error[:, None, :])
        self.error += self.output_bias[:, None]
        self.error -= self.targets

    def loss(self) -> Array:
        """Weighted mean squared error of each network, after `forward`."""
        total: Array = np.einsum("bn,bn,bn->b", self.error, self.error, self.share)
        return total

    def backward(self) -> None:
        """Fills `gradient` with that of the weighted mean squared error, after `forward`."""
        count, units, points = self.active.shape
        np.multiply(self.error, self.share, out=self.slope)
        self.slope += self.slope
        np.matmul(self.active, self.slope[:, :, None], out=self.output_gradient[:, :, None])
        np.sum(self.slope, axis=1, out=self.bias_gradient)
        np.greater(self.active, 0, out=self.is_active)
        np.multiply(self.slope[:, None, :], self.is_active, out=self.active)
        np.matmul(self.active.reshape(count * units, points), self.points, out=self.hidden_gradient)
        self.hidden_gradient *= self.output_weight.reshape(count * units, 1)

    def networks(self) -> Networks:
        """The present weights, copied."""
        count, units, _ = self.active.shape
        return Networks(
            hidden=self.hidden.reshape(count, units, -1).copy(),
            output_weight=self.output_weight.copy(),
            output_bias=self.output_bias.copy(),
        )


def loss_and_gradient(networks: Networks, inputs: Array, targets: Array, weights: Array) -> tuple[Array, Networks]:
    """Weighted mean squared error of every network and its gradient, without weight decay.

    Args:
        networks: B networks.
        inputs: Standardised losses, (n, K).
        targets: Standardised scores, (B, n).
        weights: Weight of each point in each network, (B, n), each row with a positive sum.

    Returns:
        The errors, (B,), and the gradients in the shape of the weights.
    """
    block = _Block(networks, inputs, targets, weights)
    block.forward()
    loss = block.loss()
    block.backward()
    gradient = Networks(
        hidden=block.hidden_gradient.reshape(networks.hidden.shape),
        output_weight=block.output_gradient,
        output_bias=block.bias_gradient,
    )
    return loss, gradient


def train_networks(
    start: Networks, inputs: Array, targets: Array, weights: Array, *, steps: int
) -> tuple[Networks, Array]:
    """Trains every network by Adam with a learning rate that falls linearly to 0.

    Weight decay is torch.optim.Adam's: added to the gradient of every parameter, biases included.

    Args:
        start: B starting networks.
        inputs: Standardised losses, (n, K).
        targets: Standardised scores, (B, n).
        weights: Weight of each point in each network, (B, n).
        steps: Adam steps.

    Returns:
        The trained networks and their weighted mean squared errors, (B,).

    Reference: Chen et al. 2024, section 4.2 (3 units, ReLU, learning rate 0.05, 2,000 steps, decay 0.01).
    """
    size = max(1, BLOCK_VALUES // (HIDDEN_UNITS * max(1, len(inputs))))
    trained, losses = [], []
    for first in range(0, start.count, size):
        part = slice(first, first + size)
        block = _Block(_rows(start, part), inputs, targets[part], weights[part])
        _adam(block, steps)
        block.forward()
        losses.append(block.loss())
        trained.append(block.networks())
    return _stacked(trained), np.concatenate(losses)


def _adam(block: _Block, steps: int) -> None:
    parameters, gradient = block.flat, block.gradient
    momentum = np.zeros_like(parameters)
    square = np.zeros_like(parameters)
    buffer = np.empty_like(parameters)
    for step in range(1, steps + 1):
        block.forward()
        block.backward()
        np.multiply(parameters, WEIGHT_DECAY, out=buffer)
        gradient += buffer
        momentum *= BETA1
        np.multiply(gradient, 1 - BETA1, out=buffer)
        momentum += buffer
        square *= BETA2
        np.multiply(gradient, gradient, out=buffer)
        buffer *= 1 - BETA2
        square += buffer
        rate = LEARNING_RATE * (1 - (step - 1) / steps)
        np.sqrt(square, out=buffer)
        buffer /= (1 - BETA2**step) ** 0.5
        buffer += EPSILON
        np.divide(momentum, buffer, out=buffer)
        buffer *= rate / (1 - BETA1**step)
        parameters -= buffer


def _rows(networks: Networks, part: slice) -> Networks:
    return Networks(
        hidden=networks.hidden[part],
        output_weight=networks.output_weight[part],
        output_bias=networks.output_bias[part],
    )


def _stacked(parts: list[Networks]) -> Networks:
    return Networks(
        hidden=np.concatenate([p.hidden for p in parts]),
        output_weight=np.concatenate([p.output_weight for p in parts]),
        output_bias=np.concatenate([p.output_bias for p in parts]),
    )
