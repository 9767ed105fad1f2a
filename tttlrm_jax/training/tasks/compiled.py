"""Training steps compiled ahead, once for every kind of batch."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from tttlrm_jax.parallel.processes import meet


class CompiledStep:
    """`step(state, ...) -> (state, metrics)` over a mesh; except on CPUs the state is used up."""

    def __init__(self, step: Callable[..., Any], mesh: Mesh, static_argnames: tuple[str, ...] = ()):
        # A checkpoint being written may share a CPU's buffers with the state.
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        donated = () if on_cpu else (0,)
        self._jitted = jax.jit(step, donate_argnums=donated, static_argnames=static_argnames)
        # Collectives of two programs at a time wait for each other for ever on CPUs.
        self._waits = on_cpu and mesh.size > 1
        self._compiled: dict[str, Any] = {}

    def __call__(self, kind: str, *arguments: Any, **static: Any) -> Any:
        """The step of the program for a `kind` of batch, in words."""
        if kind not in self._compiled:  # processes may compile for minutes: wait for all
            self._compiled[kind] = self._jitted.lower(*arguments, **static).compile()
            meet(f"step compiled for {kind}")
        result = self._compiled[kind](*arguments)
        return jax.block_until_ready(result) if self._waits else result
