"""From host to device."""

from typing import Any

import jax
import numpy as np
from jax import Array


def on_device(numbers: Any, dtype: Any = None) -> Array:
    """Numbers of the host as an array of the default device; it may share their memory.

    `jnp.asarray` compiles a program for this, for every shape.
    """
    return jax.device_put(np.asarray(numbers, dtype))
