"""Where a program that is being traced is going to run."""

from typing import Any

import jax


def target_device() -> jax.Device:
    """`jax_default_device` if it is set, else the first device of the default backend."""
    config: Any = jax.config
    chosen = config.jax_default_device
    if chosen is None:
        return jax.devices()[0]
    return jax.devices(chosen)[0] if isinstance(chosen, str) else chosen
