"""How many Gaussians an optimisation has room for, and what memory they take.

An estimate of the arrays of an optimisation on the CPU, from XLA's own figures for its compiled
step; the process, the weights and the compiled programs come on top.
"""

import dataclasses

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Views
from tttlrm_jax.per_scene.scratch import INTERSECTIONS_PER_SLOT
from tttlrm_jax.per_scene.settings import (
    AnytimeConfig,
    FitConfig,
    required_degree,
    with_capacity,
    with_degree,
)
from tttlrm_jax.per_scene.starts import split_views
from tttlrm_jax.rasterize.in_parts import suitable_parts
from tttlrm_jax.rasterize.platform import AUTO
from tttlrm_jax.rasterize.render import MAX_CAPACITY

GIB = 2**30
STATES = 3  # at a time: before and after some steps, and the best so far
SCREEN_BYTES = 100  # of a Gaussian on the screen, and of derivatives there
SLOT_BYTES = 4  # of an intersection: its Gaussian
PART_BYTES = 8  # of an intersection, for each part of the picture: light in front of it
PIXEL_BYTES = 290  # of a picture while it is drawn and compared
PICTURE_BYTES = 12  # of a pixel that is kept
KEPT_PICTURES = 2.4  # times: all resolutions, those being fitted, those held back
FEWEST = 64  # Gaussians with which there is any point
GROWTH = 2  # times more intersections than there is room for at the start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """What there is room for."""

    num_gaussians: int
    wanted: int  # that there would be room for with more memory
    slots: int  # intersections of Gaussians and tiles in a view, at the start
    most_slots: int  # that this may grow to
    num_bytes: int  # of memory that all takes, estimated, with `GROWTH` times the slots


def bytes_needed(
    num_gaussians: int, slots: int, sh_degree: int, views: Views, parts: int = 1
) -> int:
    """Estimated bytes of fitting so many Gaussians to views [view, height, width, 3] that are drawn
    in so many parts side by side."""
    values = 11 + 3 * (sh_degree + 1) ** 2
    state = 12 * values + 9  # Gaussians and both moments of Adam in float32, and what is counted
    gaussian = STATES * state + 4 * values + SCREEN_BYTES
    count, height, width = views.image.shape[:3]
    pictures = PICTURE_BYTES * KEPT_PICTURES * count + PIXEL_BYTES
    slot = SLOT_BYTES + PART_BYTES * parts
    return int(num_gaussians * gaussian + slots * slot + height * width * pictures)


def room_for(
    wanted: int, per_gaussian: int, sh_degree: int, views: Views, limit: float | None
) -> Room:
    """Room for `wanted` Gaussians, or for fewer where they would take more than `limit` GiB.

    `per_gaussian` slots are made for each at the start. Raises InputError where the limit leaves
    room for less than `FEWEST`.
    """

    def needed(count: int, grown: int = GROWTH) -> int:
        slots = grown * per_gaussian * count
        return bytes_needed(count, slots, sh_degree, views, suitable_parts(AUTO, slots))

    if limit is None:
        return Room(
            num_gaussians=wanted, wanted=wanted, slots=per_gaussian * wanted,
            most_slots=MAX_CAPACITY, num_bytes=needed(wanted),
        )  # fmt: skip
    allowed, fixed = limit * GIB, needed(0)
    count = min(wanted, int((allowed - fixed) / (needed(10**6) - fixed) * 10**6))
    if count < min(FEWEST, wanted):
        height, width = views.image.shape[1:3]
        raise InputError.of(
            "memory_limit", f"{limit:g} GiB", f"is too little for {FEWEST} Gaussians and "
            f"{len(views.image)} pictures of {width}x{height} pixels, which take about "
            f"{needed(FEWEST) / GIB:.2g} GiB", "allow more, or fit fewer or smaller pictures",
        )  # fmt: skip
    grown = GROWTH
    while needed(count, 2 * grown) <= allowed and 2 * grown * per_gaussian * count <= MAX_CAPACITY:
        grown *= 2
    return Room(
        num_gaussians=count, wanted=wanted, slots=per_gaussian * count,
        most_slots=grown * per_gaussian * count, num_bytes=needed(count),
    )  # fmt: skip


def check_room(views: Views, config: AnytimeConfig) -> None:
    """Raises InputError where memory leaves room for too few Gaussians of these views."""
    fitted, _ = split_views(len(views.image), config.held_back)
    within_limits(config, views, len(fitted))


def within_limits(
    config: AnytimeConfig, views: Views, num_fitted: int
) -> tuple[AnytimeConfig, Room]:
    """The settings with a degree for so many views, and with no more Gaussians than pixels and
    memory allow.

    Raises InputError where memory leaves room for too few.
    """
    fit = with_degree(config.fit, num_fitted)
    fit = fit_of(fit, views, num_fitted, config.pixels_per_gaussian)
    room = room_for(
        fit.capacity, INTERSECTIONS_PER_SLOT, required_degree(fit), views, config.memory_limit
    )
    if room.num_gaussians < fit.capacity:
        fit = with_capacity(fit, room.num_gaussians)
    return dataclasses.replace(config, fit=fit), room


def fit_of(fit: FitConfig, views: Views, num_fitted: int, pixels_each: float | None) -> FitConfig:
    """The settings with room for no more Gaussians than the pixels of so many views suffice for."""
    if pixels_each is None:
        return fit
    pixels = num_fitted * views.image.shape[1] * views.image.shape[2]
    return with_capacity(fit, min(fit.capacity, max(1, int(pixels / pixels_each))))
