"""Error pictures: mean absolute colour error per pixel, on a stated scale."""

import numpy as np

SCALES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
_ANCHORS = np.array(
    [[12, 10, 30], [70, 22, 108], [170, 40, 92], [236, 96, 44], [250, 178, 50], [252, 250, 190]],
    np.float64,
)


def absolute_error(image, target) -> np.ndarray:
    """Mean over channels of |image - target|, both clipped to [0, 1]: [..., height, width]."""
    clipped = (np.clip(np.asarray(value, np.float32), 0.0, 1.0) for value in (image, target))
    first, second = clipped
    return np.abs(first - second).mean(axis=-1)


def error_scale(errors) -> float:
    """The smallest of `SCALES` that is above 99.5 % of the errors: white in the pictures."""
    high = float(np.quantile(np.asarray(errors), 0.995))
    return next((scale for scale in SCALES if high <= scale), SCALES[-1])


def heat(error: np.ndarray, scale: float) -> np.ndarray:
    """Colours errors from dark violet (0) to light yellow (`scale` and above), uint8."""
    position = np.clip(error / scale, 0.0, 1.0) * (len(_ANCHORS) - 1)
    channels = [np.interp(position, range(len(_ANCHORS)), _ANCHORS[:, k]) for k in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
