"""Video depth: all frames of a sequence aligned and scored jointly.

`predicted` and `true` are the valid pixels of a sequence, flat and of one length (`valid_pixels`
picks them). Work goes in blocks, so arrays may be memory-mapped files of any length. Medians are
the lower of the two middle values.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np

from tttlrm_jax.config.evaluation import DepthAlignment
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import lower_median

BLOCK = 1 << 18  # pixels at a time; four such arrays stay in a core's cache
SCALE_STEPS = 10
MIN_RESIDUAL = 1e-8
MIN_SCALE = 1e-3
ADAM_RATE, ADAM_STEPS, ADAM_STOP = 1e-4, 1000, 1e-6
ADAM_DECAYS, ADAM_GUARD = (0.9, 0.999), 1e-8
MIN_LOG_DEPTH = 1e-5
THRESHOLD = 1.25


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthErrors:
    """Means over valid pixels; `delta` shares of max(p/g, g/p) < 1.25^k for k = 0 to 3."""

    abs_rel: float
    sq_rel: float
    rmse: float
    log_rmse: float
    delta: tuple[float, ...]
    valid_pixels: int

    def row(self) -> np.ndarray:
        """All nine numbers in the order of the recordings."""
        head = (self.abs_rel, self.sq_rel, self.rmse, self.log_rmse)
        return np.array([*head, *self.delta, self.valid_pixels])


def valid_pixels(
    predicted: np.ndarray, true: np.ndarray, max_depth: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose true depth is known: finite, above 0 and, where a limit is given, below it.

    Raises InputError where the two differ in shape.
    """
    if predicted.shape != true.shape:
        raise InputError.of(
            "predicted depth", predicted.shape, f"has not the shape {true.shape} of the true one",
            "resize it first",
        )  # fmt: skip
    valid = np.isfinite(true) & (true > 0)
    if max_depth is not None:
        valid &= true < max_depth
    return predicted[valid], true[valid]


def depth_errors(
    predicted: np.ndarray,
    true: np.ndarray,
    alignment: DepthAlignment = "scale",
    clip: float | None = None,
) -> DepthErrors:
    """Aligns valid pixels [pixel] as `alignment` says and scores them.

    `clip` is an upper limit put on aligned predictions. Raises InputError for no pixels, and for
    depths that are not finite, saying whether true or predicted ones.
    """
    if not all(np.isfinite(g).all() for _, g in _blocks(predicted, true)):
        raise InputError.of(
            "true depth", "NaN or infinity", "cannot be scored", "leave such pixels out"
        )
    scale, shift = align_depth(predicted, true, alignment)
    return score_depth(predicted, true, scale, shift, clip)


def align_depth(
    predicted: np.ndarray, true: np.ndarray, alignment: DepthAlignment
) -> tuple[float, float]:
    """Scale and shift of the predicted depth [pixel] under an alignment of `ALIGNMENTS`."""
    if not predicted.size:
        raise InputError.of("valid pixels", 0, "cannot be scored", "give frames with true depth")
    if alignment not in ALIGNMENTS:
        raise InputError.of("alignment", alignment, "is unknown", f"use one of {list(ALIGNMENTS)}")
    return ALIGNMENTS[alignment](predicted, true)


def score_depth(
    predicted: np.ndarray, true: np.ndarray, scale: float, shift: float, clip: float | None = None
) -> DepthErrors:
    """Errors of scale * predicted + shift against the true depth [pixel], all above 0."""
    sums, count = np.zeros(8), predicted.size
    for p, g in _blocks(predicted, true):
        p = scale * p + shift
        if clip is not None:
            p = np.minimum(p, clip)
        difference = p - g
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.maximum(p / g, g / p)
        logarithm = np.log(np.maximum(p, MIN_LOG_DEPTH)) - np.log(g)
        sums += [
            np.sum(np.abs(difference) / g), np.sum(difference**2 / g), np.sum(difference**2),
            np.sum(logarithm**2), *(np.sum(ratio < THRESHOLD**k) for k in range(4)),
        ]  # fmt: skip
    abs_rel, sq_rel, square, log_square, *delta = (float(x) for x in sums / count)
    if not math.isfinite(abs_rel):
        raise InputError.of(
            "predicted depth", "NaN or infinity", "cannot be scored", "check the checkpoint"
        )
    return DepthErrors(
        abs_rel=abs_rel, sq_rel=sq_rel, rmse=math.sqrt(square), log_rmse=math.sqrt(log_square),
        delta=tuple(delta), valid_pixels=count,
    )  # fmt: skip


def weighted_average(errors: list[DepthErrors]) -> DepthErrors:
    """Means over the sequences of a data set, weighted by their valid pixels."""
    rows = np.stack([each.row() for each in errors])
    total = rows[:, -1].sum()
    mean = (rows[:, :-1] * rows[:, -1:]).sum(axis=0) / total
    return DepthErrors(
        abs_rel=float(mean[0]), sq_rel=float(mean[1]), rmse=float(mean[2]),
        log_rmse=float(mean[3]), delta=(*map(float, mean[4:8]),), valid_pixels=int(total),
    )  # fmt: skip


def _align_metric(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    return 1.0, 0.0


def _align_scale(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Ten reweighted least-squares steps towards min sum |s p - g|, from the ratio of means."""
    sums = np.zeros(2)
    for p, g in _blocks(predicted, true):
        sums += [p.sum(), g.sum()]
    scale = sums[1] / sums[0]
    for _ in range(SCALE_STEPS):
        sums = np.zeros(2)
        for p, g in _blocks(predicted, true):
            weight = 1.0 / (np.abs(scale * p - g) + MIN_RESIDUAL)
            sums += [np.sum(weight * p * g), np.sum(weight * p * p)]
        scale = sums[0] / sums[1]
    return max(float(scale), MIN_SCALE), 0.0


def _align_scale_shift(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Adam on sum |s p + t - g| from the ratio of medians; moves by at most about 0.1 each."""
    value = np.array([_align_median(predicted, true)[0], 0.0])
    mean, square, last = np.zeros(2), np.zeros(2), math.inf
    for step in range(1, ADAM_STEPS + 1):
        loss, gradient = 0.0, np.zeros(2)
        for p, g in _blocks(predicted, true):
            residual = value[0] * p + value[1] - g
            sign = np.sign(residual)
            loss += float(np.abs(residual).sum())
            gradient += [np.dot(sign, p), sign.sum()]
        mean = ADAM_DECAYS[0] * mean + (1 - ADAM_DECAYS[0]) * gradient
        square = ADAM_DECAYS[1] * square + (1 - ADAM_DECAYS[1]) * gradient**2
        first = mean / (1 - ADAM_DECAYS[0] ** step)
        second = np.sqrt(square / (1 - ADAM_DECAYS[1] ** step))
        value = value - ADAM_RATE * first / (second + ADAM_GUARD)
        if abs(last - loss) < ADAM_STOP:
            break
        last = loss
    return float(value[0]), float(value[1])


def _align_median(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    return lower_median(true) / lower_median(predicted), 0.0


ALIGNMENTS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, float]]] = {
    "metric": _align_metric,
    "scale": _align_scale,
    "scale_shift": _align_scale_shift,
    "median": _align_median,
}


def _blocks(predicted: np.ndarray, true: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both in float64, some pixels at a time."""
    for start in range(0, predicted.size, BLOCK):
        part = slice(start, start + BLOCK)
        yield predicted[part].astype(np.float64), true[part].astype(np.float64)
