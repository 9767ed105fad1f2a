"""Intrinsics of pictures of another size: recognised by their principal point, or scaled.

Downscaled pictures beside the intrinsics of the full ones are common, and nothing but the
principal point tells: a lens is centred to a few percent, so that a point at (cx, cy) =
k (w / 2, h / 2), with one k for both axes, belongs to pictures k times as large.
"""

import math

import numpy as np

from tttlrm_jax.core.errors import InputError

CENTRED = 1.2  # factors up to it may be a principal point beside the middle
STRETCHED = 1.5  # factors beyond it, whatever the other axis says, are none any more
AGREEMENT = 0.1  # of the logarithms of both axes' factors
WHOLE = 0.02  # factors this near to a whole number are taken as such


def size_factors(intrinsics: np.ndarray, size: tuple[int, ...]) -> tuple[float, float] | None:
    """How many times as wide and as high the pictures of (fx, fy, cx, cy) are as `size`.

    `size` is (height, width). None where nothing says that they are of another size; both are the
    same number where the picture was not stretched.
    """
    wide, high = 2 * float(intrinsics[2]) / size[1], 2 * float(intrinsics[3]) / size[0]
    if not (math.isfinite(wide) and math.isfinite(high)) or min(wide, high) <= 0:
        return None
    across, down = math.log(wide), math.log(high)
    least = min(abs(across), abs(down))
    if across * down <= 0 or least < math.log(CENTRED):
        return None
    if abs(across - down) <= AGREEMENT:
        factor = _rounded(math.exp(0.5 * (across + down)))
        return factor, factor
    return (wide, high) if least > math.log(STRETCHED) else None


def _rounded(factor: float) -> float:
    """The factor or its inverse as a whole number, where it nearly is one."""
    value = factor if factor > 1 else 1 / factor
    if abs(value - round(value)) <= WHOLE * value:
        value = float(round(value))
    return value if factor > 1 else 1 / value


def size_problem(intrinsics: np.ndarray, size: tuple[int, ...]) -> str | None:
    """What a picture of `size` has against its intrinsics, with the remedy; or None.

    The text goes on after the picture's name.
    """
    factors = size_factors(intrinsics, size)
    if factors is None:
        return _turned_problem(intrinsics, size)
    wide, high = factors
    larger = f"{wide:.3g} times as large"
    remedy = (
        f"give --intrinsics-scale {1 / wide:.4g} (or the exact ratio of widths; 1 to take them as "
        "they are)"
    )
    if wide != high:
        larger = f"{wide:.3g} times as wide and {high:.3g} times as high"
        remedy = "give those of the stretched pictures, or --intrinsics-scale 1 if they are"
    return (
        f"has {size[1]}x{size[0]} pixels, but the intrinsics have their principal point at "
        f"({intrinsics[2]:.6g}, {intrinsics[3]:.6g}), as those of pictures {larger}; {remedy}"
    )


def _turned_problem(intrinsics: np.ndarray, size: tuple[int, ...]) -> str | None:
    """Of a principal point in the middle of the picture's height and width the other way round."""
    height, width = size

    def off_middle(*sides: int) -> list[float]:
        pairs = zip(intrinsics[2:], sides, strict=True)
        return [abs(math.log(2 * float(at) / side)) if at > 0 else math.inf for at, side in pairs]

    turned = max(off_middle(height, width)) <= AGREEMENT
    if not turned or min(off_middle(width, height)) < math.log(CENTRED):
        return None
    return (
        f"has {width}x{height} pixels, but the intrinsics have their principal point at "
        f"({intrinsics[2]:.6g}, {intrinsics[3]:.6g}), as those of a picture turned by 90 degrees; "
        "turn the pictures (and drop their EXIF orientation), or give --intrinsics-scale 1 to take "
        "them as they are"
    )


def check_intrinsics(where: str, intrinsics: np.ndarray, size: tuple[int, ...]) -> None:
    """Raises InputError where the principal point says that the picture was of another size."""
    problem = size_problem(intrinsics, size)
    if problem is not None:
        raise InputError(f"{where} {problem}, or correct the camera file")


def intrinsics_for(
    intrinsics: np.ndarray | None, size: tuple[int, ...], scale: float | None
) -> tuple[np.ndarray | None, str | None]:
    """Intrinsics of pictures of `size` (height, width), or none and why.

    With `scale` they are those of a file times it, and nothing is doubted.
    """
    if intrinsics is None:
        return None, None
    if scale is not None:
        return np.asarray(intrinsics) * scale, None
    problem = size_problem(intrinsics, size)
    return (intrinsics, None) if problem is None else (None, f"a picture {problem}")
