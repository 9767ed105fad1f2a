"""Warnings about renderings that left something out, from inside compiled programs."""

import functools
import logging

import jax
import jax.numpy as jnp
from jax import lax

from tttlrm_jax.rasterize.render import Rendering

_logger = logging.getLogger("tttlrm_jax.rasterize")
_warned: set[tuple[str, str]] = set()


def warn_if_incomplete(rendering: Rendering, label: str = "rendering") -> None:
    """Logs once per `label` and reason that intersections were dropped, or Gaussians invalid.

    Works under `jit`, `vmap`, `lax.scan` and derivatives. The program does not wait for it: the
    message may come after the result, or after `jax.effects_barrier()`. Where nothing is wrong
    nothing leaves the device.
    """
    dropped, invalid = (
        jnp.max(count, initial=0) for count in (rendering.num_dropped, rendering.num_invalid)
    )
    lax.cond(
        (dropped > 0) | (invalid > 0),
        lambda *counts: jax.debug.callback(functools.partial(_warn, label), *counts),
        lambda *counts: None,
        dropped,
        invalid,
    )


def _warn(label: str, dropped, invalid) -> None:
    reasons = {
        "dropped": (dropped, "intersections beyond capacity; pass what fit_capacity returns"),
        "invalid": (invalid, "Gaussians with NaN or infinity are left out"),
    }
    for reason, (count, text) in reasons.items():
        if count > 0 and (label, reason) not in _warned:
            _warned.add((label, reason))
            _logger.warning("%s: %d %s", label, int(count), text)
