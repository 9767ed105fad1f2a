"""Gaussians that get better for as long as they are given time, and can be taken at any moment.

Steps on single views with density control and resets of opacities (Kerbl et al. 2023) start from
part of a model's prediction, or from nothing. A few input views are held back from fitting: they
say which Gaussians were the best so far, and those are what is returned. Held-out targets are
never seen. The picture may grow: views are given at rising resolutions, coarse ones get a part of
the time each.
"""

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene.corrections import (
    CorrectionState,
    Photographs,
    no_corrections,
    settled_result,
)
from tttlrm_jax.per_scene.density import filled, with_room
from tttlrm_jax.per_scene.judging import Judge
from tttlrm_jax.per_scene.loop import (
    SEGMENT,
    FitState,
    Optimised,
    Stepper,
    check_one_scene,
    schedule_of,
)
from tttlrm_jax.per_scene.memory import Room, fit_of, within_limits
from tttlrm_jax.per_scene.objective import RenderSettings
from tttlrm_jax.per_scene.scratch import (
    densifies_at,
    densify_jit,
    initial_state,
    living,
    random_points,
    reset_jit,
)
from tttlrm_jax.per_scene.settings import AnytimeConfig, required_degree
from tttlrm_jax.per_scene.starts import (
    Points,
    joined,
    predicted_state,
    some_of,
    split_views,
    widened,
)

LOOK_SECONDS, LOOK_SHARE = 0.5, 0.1  # at least between looks at views held back, and of the time
FIRST_STEPS = 10  # before the first look, when nobody knows yet how long a step takes
RESET_UNTIL = 0.4  # share of the steps: what a reset takes must have time to come back

Start = Literal["prediction", "mixed", "points", "random"]
Ending = Literal["seconds", "steps", "interrupted"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moment:
    """What had been reached when the held-back views were looked at."""

    step: int
    seconds: float  # since the start, compiling excluded
    psnr: float | None  # dB, mean over the held-back views; None without any
    num_gaussians: int
    size: tuple[int, int]  # height and width of the pictures that are fitted
    # the first view held back as it is drawn now, uint8 [height, width, 3], no larger than needed
    picture: np.ndarray | None = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Improved(Optimised):
    """The best Gaussians so far by the held-back views, or without any the last ones."""

    moments: tuple[Moment, ...]  # in order; the first is the start
    best: Moment
    held_back: tuple[int, ...]  # numbers of the input views
    sh_degree: int
    room: Room  # for Gaussians and for their intersections with tiles
    num_refused: int  # times that a Gaussian was to be added and there was no room
    num_dropped: int  # most intersections of a view that a memory limit left no room for
    photographs: Photographs | None  # their cameras and exposures, where these were fitted
    start: Start
    ended: Ending


OnMoment = Callable[[Moment, Gaussians], None]  # the second: the best so far


def improve(
    levels: Sequence[Views],
    config: AnytimeConfig,
    *,
    raster: RasterConfig,
    background: tuple[float, float, float],
    start: Gaussians | None = None,
    points: Points | None = None,
    on_moment: OnMoment | None = None,
) -> Improved:
    """Improves Gaussians on the views of one scene until time or steps are over, or Ctrl-C.

    `levels` are the same views [view, height, width, 3] at rising resolutions, the last one that
    of the result. `start` is a prediction [gaussian] in their frame; without it, or where a picture
    of one colour is nearer to the views held back, Gaussians start at `points` (positions
    [point, 3] and colours, of structure from motion), else at random; where the prediction shows
    little more than one colour, at both. `on_moment` is called after every look. Raises InputError
    for views of several scenes, or below 7 pixels, SSIM's window.
    """
    for views in levels:
        check_one_scene(views)
    run = _Run(levels, config, raster, background, start, points)
    ended: Ending = "interrupted"
    with contextlib.suppress(KeyboardInterrupt):  # what was reached is the result
        ended = run.until_over(on_moment or (lambda moment, best: None))
    return run.result(ended)


def _that_show_the_scene(views: Views, held: np.ndarray) -> np.ndarray:
    """Those of the views held back that have some pixel to judge by."""
    if views.valid is None:
        return held
    return held[np.asarray(jnp.any(views.valid[held], axis=(1, 2)))]


class _Run:
    """An improvement from its start to the moment at which it is stopped."""

    def __init__(self, levels, config: AnytimeConfig, raster, background, start, points):
        self._levels = levels
        fitted, held = split_views(len(levels[0].image), config.held_back)
        held = _that_show_the_scene(levels[-1], held)
        self.held, self._fitted = tuple(held.tolist()), fitted
        self.config, self.room = within_limits(config, levels[-1], len(fitted))
        config = self.config
        self._fits = [
            fit_of(config.fit, views, len(fitted), config.pixels_per_gaussian) for views in levels
        ]
        self.num_refused = self._num_dropped = 0
        self._settings = RenderSettings(
            background=background, raster=raster, ssim_weight=config.fit.ssim_weight,
            capacity=self.room.slots,
        )  # fmt: skip
        self._compiling, self._warm = 0.0, set()
        self._judge = Judge(
            levels[-1][held], self._settings, self.room.most_slots, self._corrections(len(held)),
            self._timed,
        )  # fmt: skip
        self._begun = time.perf_counter()
        self._level, self._stepper = 0, self._new_stepper(0)
        _, state = self._start_from(start, points)  # once for what has to be compiled
        self._compile_ahead(state)
        self._compiling = time.perf_counter() - self._begun
        self.start: Start
        self.start, self.state = self._start_from(start, points)
        self.losses: list[np.ndarray] = []
        self.moments: list[Moment] = []
        self.best, self._best_judge = None, self._judge.corrections
        self._best_state = self._kept(self._shown(self.state.gaussians))
        self._level_begun = 0
        self._step, self._step_seconds, self._look_seconds = 0, 0.0, 0.0
        self._rng = np.random.default_rng(config.fit.seed)
        self._queue: list[int] = []

    def _compile_ahead(self, state: FitState) -> None:
        """Compiles what the steps of all levels need, side by side."""
        share, last = self.config.level_share, len(self._levels) - 1
        levels = [level for level in range(last + 1) if level * share < 1] if share else [last]
        key = jax.random.key(self.config.fit.seed)
        programs: list[Callable] = []
        for level in levels:
            fit = self._fits[level]
            roomy = with_room(state, fit.capacity)
            control = densify_jit.lower(roomy, key=key, config=fit)
            programs += [
                functools.partial(self._new_stepper(level).compile_ahead, roomy), control.compile,
            ]  # fmt: skip
        pool = ThreadPoolExecutor(os.cpu_count())
        try:
            for task in [pool.submit(program) for program in programs]:
                task.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _corrections(self, num_views: int) -> CorrectionState | None:
        config = self.config
        return no_corrections(num_views, cameras=config.refine_cameras, exposure=config.exposure)

    def _start_from(
        self, predicted: Gaussians | None, points: Points | None
    ) -> tuple[Start, FitState]:
        """(what it is, the first state)."""
        start, state = self._first_gaussians(predicted, points)
        return start, state.replace(corrections=self._corrections(len(self._fitted)))

    def _first_gaussians(
        self, predicted: Gaussians | None, points: Points | None
    ) -> tuple[Start, FitState]:
        config, views = self.config, self._levels[0][self._fitted]
        config = dataclasses.replace(config, fit=self._fits[0])
        if predicted is None:
            return self._new_gaussians(points)
        state = predicted_state(predicted, views, config)
        gain = self._gain(state.gaussians)
        if gain >= config.weak_gain:
            return "prediction", state
        name, new = self._new_gaussians(points)
        if not gain > 0:  # a gain of NaN, too
            return name, new
        config = dataclasses.replace(config, num_kept=config.num_kept_weak)
        faint = jax.scipy.special.logit(jnp.asarray(config.weak_opacity, jnp.float32))
        state = predicted_state(predicted, views, config)
        logit = jnp.minimum(state.gaussians.opacity_logit, faint)
        state = state.replace(gaussians=state.gaussians.replace(opacity_logit=logit))
        return "mixed", joined(state, new)

    def _new_gaussians(self, points: Points | None) -> tuple[Start, FitState]:
        views, fit = self._levels[0][self._fitted], self._fits[0]
        if points is not None:
            return "points", initial_state(some_of(points, fit), views, fit)
        return "random", initial_state(random_points(views, fit), views, fit)

    def _gain(self, gaussians: Gaussians) -> float:
        """dB on the views held back beyond a picture of the mean colour of the others; without
        views held back any prediction is taken as good."""
        quality, _ = self._quality(self._shown(gaussians))
        if quality is None:
            return float("inf")
        seen, judged = self._levels[0][self._fitted], self._judge.views
        pixels = seen.image.reshape(-1, 3) if seen.valid is None else seen.image[seen.valid]
        plain = jnp.broadcast_to(jnp.mean(pixels, axis=0), judged.image.shape)
        return quality - float(jnp.mean(psnr(plain, judged.image, judged.valid)))

    @property
    def seconds(self) -> float:
        """Of work so far, compiling excluded."""
        compiling = self._compiling + self._stepper.compile_seconds
        return time.perf_counter() - self._begun - compiling

    def until_over(self, on_moment: OnMoment) -> Ending:
        """Steps and looks until the time or the steps are over."""
        self._look(on_moment)
        while self._step < self.config.fit.steps:
            self._change_level()
            self._take_steps(self._next_count())  # however little time there is
            self._look(on_moment)
            if self.seconds >= self.config.seconds:
                return "seconds"
            self._control_density()
        return "steps"

    def result(self, ended: Ending) -> Improved:
        """The best so far."""
        gaussians = jax.block_until_ready(living(self._best_state))
        gaussians, photographs = settled_result(
            gaussians, self._levels[-1].cameras, (self._fitted, self._best_state.corrections),
            (np.asarray(self.held, int), self._best_judge),
        )  # fmt: skip
        return Improved(
            gaussians=gaussians,
            losses=np.concatenate(self.losses) if self.losses else np.zeros(0),
            seconds=self.seconds,
            compile_seconds=self._compiling + self._stepper.compile_seconds,
            moments=tuple(self.moments),
            best=self.best or self._moment(None, None),
            held_back=self.held,
            sh_degree=required_degree(self.config.fit),
            room=self.room,
            num_refused=self.num_refused,
            photographs=photographs,
            num_dropped=max(self._num_dropped, self._stepper.num_dropped),
            start=self.start,
            ended=ended,
        )

    def _new_stepper(self, level: int) -> Stepper:
        fit = self._fits[level]
        views = self._levels[level][self._fitted]
        slots = self.room.slots * fit.capacity // self.room.num_gaussians
        settings = dataclasses.replace(self._settings, capacity=slots)
        return Stepper(views, schedule_of(fit), settings, self.room.most_slots)

    def _change_level(self) -> None:
        """On to the resolution that this moment belongs to."""
        share = max(self.seconds / self.config.seconds, self._step / max(self.config.fit.steps, 1))
        last = len(self._levels) - 1
        level = min(int(share / self.config.level_share), last) if self.config.level_share else last
        if self._step - self._level_begun >= self.config.level_steps:
            level = max(level, min(self._level + 1, last))
        if level > self._level:
            self._level_begun = self._step
            self._compiling += self._stepper.compile_seconds
            self._num_dropped = max(self._num_dropped, self._stepper.num_dropped)
            wider = self._widened(self.state.gaussians, level)
            state = self.state.replace(gaussians=wider)
            self.state = with_room(state, self._fits[level].capacity)
            self._level, self._stepper = level, self._new_stepper(level)
            self._step_seconds = 0.0

    def _next_count(self) -> int:
        """Steps until the next look, never across a change of density or a reset."""
        fit, step = self.config.fit, self._step
        wanted = FIRST_STEPS
        if self._step_seconds:
            left = max(self.config.seconds - self.seconds, 0)
            pause = max(LOOK_SECONDS, self._look_seconds / LOOK_SHARE)
            wanted = int(min(pause, left) / self._step_seconds)
        stops = [fit.steps, (step // fit.densify_every + 1) * fit.densify_every]
        stops += [reset for reset in self.config.reset_steps if reset > step]
        return max(1, min(wanted, SEGMENT, min(stops) - step))

    def _take_steps(self, count: int) -> None:
        while len(self._queue) < count:
            self._queue += self._rng.permutation(len(self._fitted)).tolist()
        order, self._queue = self._queue[:count], self._queue[count:]
        compiled, start = self._stepper.compile_seconds, time.perf_counter()
        rows = np.asarray(order, np.int32)[:, None]
        self.state, losses = self._stepper(self.state, rows)
        jax.block_until_ready(self.state)
        compiled = self._stepper.compile_seconds - compiled
        self._step_seconds = (time.perf_counter() - start - compiled) / count
        self._step += count
        self.losses.append(losses)
        # rates fall so that they end with the time
        left = max(self.config.seconds - self.seconds, 0) / max(self._step_seconds, 1e-9)
        last = int(min(self._step + left, self.config.fit.steps))
        self.state = self.state.replace(num_steps=jnp.asarray(last, jnp.int32))

    def _look(self, on_moment: OnMoment) -> None:
        begun, shown = self.seconds, self._shown(self.state.gaussians)
        if self.held and self._step:
            self._judge.settle(shown, self.state)
        moment = self._moment(*self._quality(shown))
        self._look_seconds = moment.seconds - begun
        self.moments.append(moment)
        if self.best is None or moment.psnr is None or moment.psnr > (self.best.psnr or -np.inf):
            self.best, self._best_state = moment, self._kept(shown)
            self._best_judge = self._judge.corrections
        on_moment(moment, self._best_state.gaussians)

    def _shown(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians of this level as they are looked at, always as many slots."""
        return filled(self._widened(gaussians, -1), self.room.num_gaussians)

    def _kept(self, shown: Gaussians) -> FitState:
        """The state with Gaussians as they are looked at, which may have more slots."""
        return with_room(self.state, len(shown.mean)).replace(gaussians=shown)

    def _widened(self, gaussians: Gaussians, level: int) -> Gaussians:
        """Gaussians of this level as they are for another one."""
        coarse, blur = self._levels[self._level].cameras.height, self._settings.raster.eps2d
        return widened(gaussians, self._levels[level].cameras, coarse, blur)

    def _moment(self, quality: float | None, picture: np.ndarray | None) -> Moment:
        shape = self._levels[self._level].image.shape[1:3]
        alive = int(np.count_nonzero(np.asarray(self.state.alive)))
        return Moment(
            step=self._step, seconds=self.seconds, psnr=quality, num_gaussians=alive, size=shape,
            picture=picture,
        )  # fmt: skip

    def _quality(self, shown: Gaussians) -> tuple[float | None, np.ndarray | None]:
        """Mean PSNR on the views held back, the first as it is drawn; compiling is not counted."""
        return self._judge(shown) if self.held else (None, None)

    def _control_density(self) -> None:
        fit, step = self._fits[self._level], self._step
        last = int(self.state.num_steps)
        if densifies_at(step, dataclasses.replace(fit, steps=last)):
            key = jax.random.fold_in(jax.random.key(fit.seed), step)
            changed = self._timed(densify_jit, self.state, key=key, config=fit)
            self.state = changed.state
            if self._level == len(self._levels) - 1:
                self.num_refused += int(changed.num_refused)
        if step in self.config.reset_steps and step <= RESET_UNTIL * last:
            self.state = self._timed(reset_jit, self.state, config=fit)

    def _timed(self, program, *arguments, **options):
        """What a program gives; the first call with these settings counts as compiling."""
        start = time.perf_counter()
        made = jax.block_until_ready(program(*arguments, **options))
        known = (program, options.get("settings"), options.get("config"))
        if known not in self._warm:
            self._warm.add(known)
            self._compiling += time.perf_counter() - start
        return made
