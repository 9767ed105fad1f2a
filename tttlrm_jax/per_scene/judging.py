"""How good Gaussians are on the views held back from fitting them.

Where cameras are corrected, those held back are wrong as the others are: each is brought nearer to
its photograph by a few steps before it judges, with the Gaussians as they are. Where photographs
have exposures, that of a view held back is fitted by least squares. Neither changes Gaussians.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tttlrm_jax.core.pictures import at_most, to_uint8
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene.corrections import (
    CORRECTION_RATES,
    CorrectionRates,
    Corrections,
    CorrectionState,
    corrected_steps,
    exposed,
    fitted_exposure,
)
from tttlrm_jax.per_scene.loop import FitState, progress_of
from tttlrm_jax.per_scene.objective import RenderSettings, draw_view, view_loss

PREVIEW_SIDE = 320  # pixels of a moment's picture at most
CAMERA_STEPS = 5  # of a camera held back, before it judges


class Judge:
    """Looks at views held back [view, ...], with what is known of them in `corrections`."""

    def __init__(
        self, views: Views, settings: RenderSettings, most_slots: int,
        corrections: CorrectionState | None, timed: Callable,
    ):  # fmt: skip
        self.views, self._settings, self._most_slots = views, settings, most_slots
        self.corrections, self._timed = corrections, timed

    def __call__(self, gaussians: Gaussians) -> tuple[float, np.ndarray]:
        """Mean PSNR in dB, and the first view as it is drawn, uint8 [height, width, 3]."""
        own = None if self.corrections is None else self.corrections.values
        while True:
            settings = self._settings
            quality, dropped, picture, exposures = self._timed(
                _judge, gaussians, self.views, own, settings=settings
            )
            if int(dropped) == 0 or settings.capacity >= self._most_slots:
                break
            self._settings = settings.with_more_room(self._most_slots)
        if self.corrections is not None and exposures is not None:
            values = self.corrections.values.replace(exposure=exposures)
            self.corrections = self.corrections.replace(values=values)
        return float(quality), at_most(to_uint8(np.asarray(picture)), PREVIEW_SIDE)

    def settle(self, gaussians: Gaussians, state: FitState) -> None:
        """Brings the cameras held back nearer to their photographs, at the rates of this state."""
        if self.corrections is None or self.corrections.values.camera is None:
            return
        self.corrections = self._timed(
            _settled, gaussians, self.views, self.corrections, state.extent, progress_of(state),
            rates=CORRECTION_RATES, settings=self._settings,
        )  # fmt: skip


@functools.partial(jax.jit, static_argnames="settings")
def _judge(
    gaussians: Gaussians, views: Views, own: Corrections | None, settings: RenderSettings
) -> tuple[Array, Array, Array, Array | None]:
    """(mean PSNR of Gaussians on views, most intersections without room, the first as drawn, and
    the exposures that were fitted [view, 2, 3])."""

    def one(each: tuple[Views, Corrections | None]):
        view, own = each
        rendering, _ = draw_view(gaussians, 0.0, view.cameras, settings, own)
        exposure = None
        if own is not None and own.exposure is not None:
            exposure = fitted_exposure(rendering, settings.background, view)
            own = own.replace(exposure=exposure)
        picture = exposed(rendering, settings.background, own)
        return psnr(picture, view.image, view.valid), rendering.num_dropped, picture, exposure

    quality, dropped, pictures, exposures = jax.lax.map(one, (views, own))
    return jnp.mean(quality), jnp.max(dropped), pictures[0], exposures


@functools.partial(jax.jit, static_argnames=("rates", "settings"))
def _settled(
    gaussians: Gaussians, views: Views, state: CorrectionState, extent: Array, progress: Array,
    rates: CorrectionRates, settings: RenderSettings,
) -> CorrectionState:  # fmt: skip
    """Corrections after `CAMERA_STEPS` steps of each view; exposures stay."""
    shift, row = jnp.zeros_like(gaussians.mean[:, :2]), jnp.zeros(1, jnp.int32)

    def one(each: tuple[Views, CorrectionState]) -> CorrectionState:
        view, alone = each
        exposure = alone.values.exposure

        def loss(camera):
            own = Corrections(camera=camera, exposure=exposure)
            return view_loss(gaussians, shift, view, settings, own)[0]

        def step(_, state: CorrectionState) -> CorrectionState:
            assert state.values.camera is not None
            slope = jax.grad(loss)(state.values.camera[0])[None]
            slopes = jax.tree.map(jnp.zeros_like, state.values).replace(camera=slope)
            new = corrected_steps(state, slopes, row, rates, extent, progress)
            same = None if exposure is None else exposure[None]
            return new.replace(values=new.values.replace(exposure=same))

        lone = jax.tree.map(lambda x: x[None], alone)
        moved = jax.lax.fori_loop(0, CAMERA_STEPS, step, lone)
        return jax.tree.map(lambda x: x[0], moved)

    return jax.lax.map(one, (views, state))
