"""How a published tensor lies in memory against ours.

Published linear weights are `[out, in]`, convolutions `[out, in, row, column]`, transposed ones
`[in, out, row, column]`; ours are `[in, out]`, `[row, column, in, out]`, and linear layers over
(row, column, channel) where a convolution's stride is its size.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Functions of one tensor, inverse to each other."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_published: Callable[[np.ndarray], np.ndarray]

    def published_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the published tensor for one of ours."""
        return self.to_published(np.broadcast_to(np.zeros((), np.int8), shape)).shape


SAME = Layout(lambda x: x, lambda x: x)
LINEAR = Layout(lambda x: x.T, lambda x: x.T)
CONVOLUTION = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])


def patches(channels: int) -> Layout:
    """A convolution whose stride is its size, as a linear layer over a patch's pixels."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_published(x: np.ndarray) -> np.ndarray:
        size = math.isqrt(x.shape[0] // channels)
        return x.reshape(size, size, channels, -1).transpose(3, 2, 0, 1)

    return Layout(to_ours, to_published)


def enlargement(factor: int) -> Layout:
    """A transposed convolution whose stride is its size, as a linear layer to `factor^2` cells."""

    def to_ours(x: np.ndarray) -> np.ndarray:
        return x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1)

    def to_published(x: np.ndarray) -> np.ndarray:
        return x.reshape(x.shape[0], factor, factor, -1).transpose(0, 3, 1, 2)

    return Layout(to_ours, to_published)
