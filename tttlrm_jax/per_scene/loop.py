"""Steps of Adam on the Gaussians of one scene, as one compiled program, or on several cores of a
CPU as some that run side by side.

Nothing is lost in silence: steps that dropped intersections are taken again, from where they
started, with room for all.
"""

import dataclasses
import functools
import time
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.per_scene.corrections import (
    CORRECTION_RATES,
    CorrectionRates,
    CorrectionState,
    corrected_steps,
)
from tttlrm_jax.per_scene.exploration import wandered
from tttlrm_jax.per_scene.objective import (
    RenderSettings,
    ViewSlopes,
    loss_of,
    see_view,
    slopes_of_view,
    slopes_of_views,
)
from tttlrm_jax.per_scene.settings import FitConfig, LearningRates
from tttlrm_jax.rasterize import ScreenSplats, in_parts
from tttlrm_jax.rasterize.compositing import Composite
from tttlrm_jax.rasterize.in_parts import Done, Work, suitable_parts
from tttlrm_jax.rasterize.render import MAX_CAPACITY, rendering_of
from tttlrm_jax.rasterize.tile_lists import Static

SEGMENT = 100  # steps between looks at what was dropped
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-15)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimised:
    """Gaussians, the loss before each step, and seconds without and for compiling."""

    gaussians: Gaussians
    losses: np.ndarray
    seconds: float
    compile_seconds: float


def check_one_scene(views: Views) -> None:
    """Raises InputError unless images are [view, height, width, 3], without an axis of scenes."""
    if views.image.ndim != 4:
        raise InputError.of(
            "views.image shape", views.image.shape, "is not (view, height, width, 3)",
            "give the views of one scene, such as views[0] of a batch",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Static: rates over a whole optimisation."""

    rates: LearningRates
    sh_interval: int = 0  # steps per band of spherical harmonics; 0: all from the start
    corrections: CorrectionRates = CORRECTION_RATES
    noise: float = 0.0  # on positions, see `exploration`; 0: none
    seed: int = 0  # of the noise


def schedule_of(fit: FitConfig) -> Schedule:
    """What the steps need of the settings of a fit."""
    return Schedule(rates=fit.rates, sh_interval=fit.sh_interval, noise=fit.noise, seed=fit.seed)


@flax.struct.dataclass
class FitState:
    """All that one step hands to the next. Gaussians that are not `alive` are free slots."""

    gaussians: Gaussians
    moments: Any  # of Adam
    alive: Bool[Array, " gaussian"]
    pull: Float[Array, " gaussian"]  # sum over views since the last look, see `objective`
    seen: Int[Array, " gaussian"]  # views in that sum
    step: Int[Array, ""]
    num_steps: Int[Array, ""]  # after which rates are what they end at
    extent: Float[Array, ""]  # of the scene, that rates of positions count in
    corrections: CorrectionState | None = None  # of the views that are fitted


def start_state(
    gaussians: Gaussians, extent: float, num_steps: int, alive: Array | None = None
) -> FitState:
    """State before the first of so many steps, of all Gaussians or of those `alive`."""
    count = gaussians.mean.shape[0]
    return FitState(
        gaussians=gaussians,
        moments=_ADAM.init(gaussians),  # type: ignore[arg-type]
        alive=jnp.ones(count, bool) if alive is None else alive,
        pull=jnp.zeros_like(gaussians.opacity_logit),
        seen=jnp.zeros(count, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        num_steps=jnp.asarray(num_steps, jnp.int32),
        extent=jnp.asarray(extent, gaussians.mean.dtype),
    )


def scene_extent(world_from_camera: np.ndarray) -> float:
    """1.1 times the largest distance of a camera centre from their mean; 1 where that is 0."""
    centres = np.asarray(world_from_camera, np.float64)[:, :3, 3]
    largest = np.linalg.norm(centres - centres.mean(axis=0), axis=1).max()
    return 1.1 * float(largest) if largest > 1e-6 * np.abs(centres).max() else 1.0


def rates_at(state: FitState, schedule: Schedule) -> Gaussians:
    """Sizes of the next step, laid out as the Gaussians they belong to."""
    rates, step, extent = schedule.rates, state.step, state.extent
    progress = progress_of(state)
    other = jnp.exp(progress * np.log(max(rates.other_end, 1e-9)).astype(np.float32))
    mean = jnp.exp(progress * np.log(max(rates.mean_end, 1e-9)).astype(np.float32))
    if rates.mean_steps is not None:
        mean /= 1 + step / rates.mean_steps
    if rates.other_steps is not None:
        other /= jnp.sqrt(1 + step / rates.other_steps)
    band = np.floor(np.sqrt(np.arange(state.gaussians.sh.shape[1]))).astype(np.int32)
    sh = jnp.where(band == 0, rates.colour, rates.detail)
    if schedule.sh_interval:
        sh = jnp.where(band * schedule.sh_interval <= step, sh, 0.0)
    return Gaussians(
        mean=(rates.mean * extent * mean).reshape(1, 1),
        sh=(sh * other).reshape(1, -1, 1),
        log_scale=(rates.log_scale * other).reshape(1, 1),
        quaternion=(rates.quaternion * other).reshape(1, 1),
        opacity_logit=(rates.opacity_logit * other).reshape(1),
    )


def progress_of(state: FitState) -> Float[Array, ""]:
    """Share of the steps that were taken."""
    last = jnp.maximum(state.num_steps - 1, 1)
    return jnp.minimum(state.step, last).astype(jnp.float32) / last.astype(jnp.float32)


def one_step(
    state: FitState,
    views: Views,
    rows: Int[Array, " view"],
    schedule: Schedule,
    settings: RenderSettings,
) -> tuple[FitState, Float[Array, ""], Int[Array, ""]]:
    """The state after one step on the views `rows`, its loss before, and what the renderer
    dropped."""
    known, own = state.corrections, None
    if known is not None:
        own = jax.tree.map(lambda x: x[rows], known.values)
    slopes = slopes_of_views(state.gaussians, views[rows], settings, own)
    return _stepped(state, slopes, rows, schedule), slopes.loss, slopes.num_dropped


def _stepped(
    state: FitState, slopes: ViewSlopes, rows: Int[Array, " view"], schedule: Schedule
) -> FitState:
    """The state after one step along the slopes."""
    known = state.corrections
    updates, moments = _ADAM.update(slopes.gaussians, state.moments)  # type: ignore[arg-type]
    rates = rates_at(state, schedule)

    def moved(old, update, rate):
        alive = state.alive.reshape(-1, *(1,) * (old.ndim - 1))
        return jnp.where(alive, old - rate.astype(old.dtype) * update, old)

    if known is not None and slopes.corrections is not None:
        known = corrected_steps(
            known, slopes.corrections, rows, schedule.corrections, state.extent, progress_of(state)
        )
    gaussians = jax.tree.map(moved, state.gaussians, updates, rates)
    if schedule.noise:
        key = jax.random.fold_in(jax.random.key(schedule.seed), state.step)
        strength = schedule.noise * rates.mean / state.extent**2
        mean = wandered(gaussians, strength, key)
        gaussians = gaussians.replace(mean=jnp.where(state.alive[:, None], mean, gaussians.mean))
    return state.replace(
        gaussians=gaussians,
        moments=moments,
        pull=state.pull + slopes.pull,
        seen=state.seen + slopes.seen,
        step=state.step + 1,
        corrections=known,
    )


@functools.partial(jax.jit, static_argnames=("schedule", "settings"))
def _segment(state, views, order, count, schedule, settings):
    """`count` steps on the views that the rows of `order` [step, view] name."""

    def body(index, carry):
        state, losses, dropped = carry
        state, loss, lost = one_step(state, views, order[index], schedule, settings)
        return state, losses.at[index].set(loss), jnp.maximum(dropped, lost)

    losses = jnp.zeros(order.shape[0], views.image.dtype)
    return jax.lax.fori_loop(0, count, body, (state, losses, jnp.zeros((), jnp.int32)))


@dataclasses.dataclass(frozen=True)
class StepInParts(Work):
    """A step on one view. `given`: state, views and the row [1] of the view."""

    schedule: Schedule
    settings: RenderSettings
    parts: int

    def static(self, given) -> Static:
        cameras, settings = given[1].cameras, self.settings
        return Static(
            cameras.height, cameras.width, settings.capacity, settings.raster, parts=self.parts
        )

    def num_gaussians(self, given) -> int:
        return given[0].gaussians.mean.shape[0]

    def free(self, given):
        state, _, rows = given
        shift = jnp.zeros_like(state.gaussians.mean[:, :2])
        known = state.corrections
        own = None if known is None else jax.tree.map(lambda x: x[rows[0]], known.values)
        return (state.gaussians, shift), own

    def see(self, mine, shared, given) -> ScreenSplats:
        (gaussians, shift), camera = mine, given[1].cameras[given[2][0]]
        return see_view(gaussians, shift, camera, self.settings, shared)

    def loss(self, shared, given, made: Composite) -> Float[Array, ""]:
        _, views, rows = given
        background = jnp.asarray(self.settings.background, made.feature.dtype)
        view = jax.lax.optimization_barrier(views[rows[0]])
        return loss_of(rendering_of(made, background), view, self.settings, shared)

    def finish(self, given, done: Done) -> tuple[FitState, Float[Array, ""], Int[Array, ""]]:
        state, views, rows = given
        (gaussians, shift), (drawn, dropped) = done.mine, done.seen
        slopes = slopes_of_view(done.loss, gaussians, shift, drawn, dropped, views.cameras)
        slopes = slopes.replace(corrections=jax.tree.map(lambda x: x[None], done.shared))
        return _stepped(state, slopes, rows, self.schedule), done.loss, dropped


class Stepper:
    """Takes steps on a scene's views, growing the renderer's room where it does not suffice."""

    def __init__(
        self, views: Views, schedule: Schedule, settings: RenderSettings,
        most_slots: int = MAX_CAPACITY,
    ):  # fmt: skip
        self.views, self._schedule, self.settings = views, schedule, settings
        self.compile_seconds, self._most_slots = 0.0, most_slots
        self.num_dropped = 0  # most intersections of a view beyond `most_slots`
        self._warm: set[int] = set()

    def __call__(self, state: FitState, order: np.ndarray) -> tuple[FitState, np.ndarray]:
        """The state after as many steps as `order` [step, view] has rows, and their losses."""
        losses = []
        for first in range(0, len(order), SEGMENT):
            part = order[first : first + SEGMENT]
            state, loss = self._portion(state, part)
            losses.append(loss)
        return state, np.concatenate(losses) if losses else np.zeros(0, np.float32)

    def compile_ahead(self, state: FitState) -> None:
        """Compiles the steps for states like this one; may be called in a thread of its own."""
        rows = np.zeros((SEGMENT, 1), np.int32)
        work = self._in_parts(rows)
        if work is not None:
            in_parts.compile_ahead(work, (state, self.views, rows[0]))
        else:
            _segment.lower(*self._arguments(state, rows, 0), **self._static).compile()

    def _in_parts(self, rows: np.ndarray) -> StepInParts | None:
        """A step, where it is best taken in parts."""
        parts = suitable_parts(self.settings.raster.backend, self.settings.capacity)
        if parts == 1 or rows.shape[1] > 1:
            return None
        return StepInParts(self._schedule, self.settings, parts)

    def _portion(self, state: FitState, order: np.ndarray) -> tuple[FitState, np.ndarray]:
        rows = np.zeros((SEGMENT, order.shape[1]), np.int32)
        rows[: len(order)] = order
        while True:
            self._compile(state, rows)
            new, losses, dropped = self._run(state, rows, len(order))
            if int(dropped) == 0 or self.settings.capacity >= self._most_slots:
                self.num_dropped = max(self.num_dropped, int(dropped))
                return new, np.asarray(losses)[: len(order)]
            self.settings = self.settings.with_more_room(self._most_slots)

    def _compile(self, state: FitState, rows: np.ndarray) -> None:
        """No steps, apart from the others so that seconds can be told apart."""
        if self.settings.capacity not in self._warm:
            self._warm.add(self.settings.capacity)
            start = time.perf_counter()
            if self._in_parts(rows) is None:
                jax.block_until_ready(self._run(state, rows, 0))
            else:
                self.compile_ahead(state)
            self.compile_seconds += time.perf_counter() - start

    def _run(self, state: FitState, rows: np.ndarray, count: int):
        work = self._in_parts(rows)
        if work is not None:
            return self._run_in_parts(work, state, rows[:count])
        return _segment(*self._arguments(state, rows, count), **self._static)

    def _run_in_parts(self, work: StepInParts, state: FitState, rows: np.ndarray):
        losses, dropped = [], []
        for row in rows:
            state, loss, lost = in_parts.run(work, (state, self.views, row))
            losses.append(loss)
            dropped.append(lost)
        losses, dropped = jax.device_get((losses, dropped))
        return state, np.asarray(losses), max(dropped)

    def _arguments(self, state: FitState, rows: np.ndarray, count: int) -> tuple[Any, ...]:
        return state, self.views, jnp.asarray(rows), jnp.asarray(count, jnp.int32)

    @property
    def _static(self) -> dict[str, Any]:
        return {"schedule": self._schedule, "settings": self.settings}
