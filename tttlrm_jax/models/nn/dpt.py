"""Dense prediction from four levels of tokens (DPT: arXiv 2103.13413), channels last.

Tokens of four depths become maps of 4, 2, 1 and 1/2 times the patch grid, and are fused from the
coarsest to the finest. The output has one value per pixel and channel at 16 times the grid.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.precision import matmul_precision
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.models.nn.layers import Dtypes, linear
from tttlrm_jax.models.nn.tokens import unpatchify

SCALES = (4, 2, 1, 0.5)  # of the levels' maps, in patch grids


def convolution(
    in_features: int, out_features: int, size: int, config: Dtypes, rngs: nnx.Rngs,
    *, stride: int = 1, use_bias: bool = True,
) -> nnx.Conv:  # fmt: skip
    """A convolution over (row, column) that keeps the size at stride 1."""
    return nnx.Conv(
        in_features, out_features, (size, size), strides=stride, padding=size // 2,
        use_bias=use_bias, dtype=jnp.dtype(config.compute_dtype),
        param_dtype=jnp.dtype(config.param_dtype),
        precision=matmul_precision(config.compute_dtype), rngs=rngs,
    )  # fmt: skip


class Enlarge(nnx.Module):
    """A transposed convolution whose stride is its size: every cell becomes `factor^2` cells."""

    def __init__(self, width: int, factor: int, config: Dtypes, rngs: nnx.Rngs):
        self.spread = linear(width, factor**2 * width, config, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(width, config.param_dtype))
        self.factor = factor

    def __call__(self, x: Float[Array, "batch row column channel"]) -> Array:
        batch, rows, columns, _ = x.shape
        cells = self.spread(x).reshape(batch, rows * columns, -1)
        out = unpatchify(cells, rows * self.factor, columns * self.factor, self.factor)
        return out + self.bias[...].reshape(1, 1, 1, -1)


@typechecked
def enlarge_twice(
    x: Float[Array, "batch row column channel"],
) -> Float[Array, "batch row2 column2 channel"]:
    """Bilinear interpolation to twice the size, with corners on corners."""
    for axis in (1, 2):
        size = x.shape[axis]
        place = np.arange(2 * size) * ((size - 1) / (2 * size - 1))
        low = np.minimum(place.astype(int), max(size - 2, 0))
        high = np.minimum(low + 1, size - 1)
        shape = [1] * x.ndim
        shape[axis] = 2 * size
        share = jnp.asarray((place - low).reshape(shape), x.dtype)
        x = jnp.take(x, low, axis=axis) * (1 - share) + jnp.take(x, high, axis=axis) * share
    return x


class ResidualUnit(nnx.Module):
    """`x + conv(relu(conv(relu(x))))`."""

    def __init__(self, width: int, config: Dtypes, rngs: nnx.Rngs):
        self.conv1 = convolution(width, width, 3, config, rngs)
        self.conv2 = convolution(width, width, 3, config, rngs)

    def __call__(self, x: Array) -> Array:
        return x + self.conv2(jax.nn.relu(self.conv1(jax.nn.relu(x)))).astype(x.dtype)


class Fusion(nnx.Module):
    """Adds a finer level to what comes from the coarser ones and doubles the size.

    The coarsest level has nothing to add; its `skip_unit` exists in published weights all the
    same, and is not used.
    """

    def __init__(self, width: int, config: Dtypes, rngs: nnx.Rngs):
        self.skip_unit = ResidualUnit(width, config, rngs)
        self.unit = ResidualUnit(width, config, rngs)
        self.out = convolution(width, width, 1, config, rngs)

    def __call__(self, x: Array, skip: Array | None = None) -> Array:
        if skip is not None:
            x = x + self.skip_unit(skip)
        return self.out(enlarge_twice(self.unit(x)))


class Level(nnx.Module):
    """One level: tokens to a map of `scale` times the grid, and its way into the fusion."""

    def __init__(self, source: int, width: int, scale: float, config: TTT3RConfig, rngs: nnx.Rngs):
        self.project = linear(source, width, config, rngs=rngs, use_bias=True)
        if scale > 1:
            self.resize = Enlarge(width, int(scale), config, rngs)
        elif scale < 1:
            self.resize = convolution(width, width, 3, config, rngs, stride=int(1 / scale))
        else:
            self.resize = None
        self.conv = convolution(width, config.dpt_width, 3, config, rngs, use_bias=False)
        self.fusion = Fusion(config.dpt_width, config, rngs)

    def reassemble(self, tokens: Float[Array, "batch token _"], rows: int, columns: int) -> Array:
        grid = self.project(tokens).reshape(tokens.shape[0], rows, columns, -1)
        return grid if self.resize is None else self.resize(grid)


class DPTAdapter(nnx.Module):
    """Four levels of tokens to `out_channels` per pixel."""

    def __init__(self, out_channels: int, config: TTT3RConfig, rngs: nnx.Rngs):
        width, last = config.dpt_width, config.dpt_last_width
        sources = (config.encoder_width, *(config.decoder_width,) * 3)
        sizes = zip(sources, config.dpt_layer_widths, SCALES, strict=True)
        levels = (Level(*size, config, rngs) for size in sizes)
        self.level1, self.level2, self.level3, self.level4 = levels
        self.head_conv = convolution(width, width // 2, 3, config, rngs)
        self.last_conv = convolution(width // 2, last, 3, config, rngs)
        self.out = linear(last, out_channels, config, rngs=rngs, use_bias=True)

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.level1, self.level2, self.level3, self.level4

    def reassemble(
        self, taps: tuple[Float[Array, "batch token _"], ...], rows: int, columns: int
    ) -> list[Array]:
        """Maps `[batch, row, column, channel]` of 4, 2, 1 and 1/2 times the grid."""
        pairs = zip(self.levels, taps, strict=True)
        return [level.reassemble(tokens, rows, columns) for level, tokens in pairs]

    def fuse(self, maps: list[Array]) -> list[Array]:
        """What leaves each fusion, coarsest first; the coarsest is cropped to the next level."""
        skips = [level.conv(each) for level, each in zip(self.levels, maps, strict=True)]
        rows, columns = maps[2].shape[1:3]
        paths = [self.level4.fusion(skips[3])[:, :rows, :columns]]
        for index in (2, 1, 0):
            paths.append(self.levels[index].fusion(paths[-1], skips[index]))
        return paths

    def __call__(
        self, taps: tuple[Float[Array, "batch token _"], ...], rows: int, columns: int
    ) -> Float[Array, "batch height width channel"]:
        path = self.fuse(self.reassemble(taps, rows, columns))[-1]
        x = self.last_conv(enlarge_twice(self.head_conv(path)))
        return self.out(jax.nn.relu(x))
