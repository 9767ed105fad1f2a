"""Intrinsics of pictures of another size: recognised by their principal point, or scaled.

Downscaled pictures beside the intrinsics of the full ones are common, and nothing but the
principal point tells: a lens is centred to a few percent, so that a point at (cx, cy) =
k (w / 2, h / 2), with one k for both axes, belongs to pictures k times as large.
"""

import math

import numpy as np

from tttlrm_jax.core.errors import InputError

CENTRED = 1.2  # factors up to it may be a principal point beside the middle
AGREEMENT = 0.1  # of the logarithms of both axes' factors
WHOLE = 0.02  # factors this near to a whole number are taken as such


def size_factor(intrinsics: np.ndarray, size: tuple[int, ...]) -> float | None:
    """How many times as large the pictures of (fx, fy, cx, cy) are as `size` (height, width).

    None where nothing says that they are of another size.
    """
    wide, high = 2 * intrinsics[2] / size[1], 2 * intrinsics[3] / size[0]
    if not (math.isfinite(wide) and math.isfinite(high)) or min(wide, high) <= 0:
        return None
    across, down = math.log(wide), math.log(high)
    if min(abs(across), abs(down)) < math.log(CENTRED) or abs(across - down) > AGREEMENT:
        return None
    return _rounded(math.exp(0.5 * (across + down)))


def _rounded(factor: float) -> float:
    """The factor or its inverse as a whole number, where it nearly is one."""
    value = factor if factor > 1 else 1 / factor
    if abs(value - round(value)) <= WHOLE * value:
        value = float(round(value))
    return value if factor > 1 else 1 / value


def size_problem(intrinsics: np.ndarray, size: tuple[int, ...]) -> str | None:
    """What is wrong with intrinsics of pictures of another size, as part of a sentence; or None."""
    factor = size_factor(intrinsics, size)
    if factor is None:
        return None
    return (
        f"has {size[1]}x{size[0]} pixels, but the intrinsics have their principal point at "
        f"({intrinsics[2]:.6g}, {intrinsics[3]:.6g}), as those of pictures {factor:.3g} times as "
        f"large have"
    )


def check_intrinsics(where: str, intrinsics: np.ndarray, size: tuple[int, ...]) -> None:
    """Raises InputError where the principal point says that the picture was of another size."""
    problem = size_problem(intrinsics, size)
    if problem is not None:
        factor = size_factor(intrinsics, size)
        assert factor is not None
        raise InputError(
            f"{where} {problem}; give --intrinsics-scale {1 / factor:.4g} (1 to take them as they "
            "are), or state w and h of the pictures that they belong to"
        )
