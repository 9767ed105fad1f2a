"""Training steps compiled ahead, once for every kind of batch."""

import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from tttlrm_jax.parallel.processes import meet
from tttlrm_jax.training.watching.flops import traced_flops


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
        self._flops: dict[str, float] = {}
        self.compile_seconds = 0.0  # so far, of this process

    def __call__(self, kind: str, *arguments: Any, **static: Any) -> Any:
        """The step of the program for a `kind` of batch, in words."""
        if kind not in self._compiled:
            self._compile(kind, arguments, static)
        result = self._compiled[kind](*arguments)
        return jax.block_until_ready(result) if self._waits else result

    def _compile(self, kind: str, arguments: tuple, static: dict[str, Any]) -> None:
        """Processes may compile for minutes: waits for all."""
        begun = time.perf_counter()
        traced = self._jitted.trace(*arguments, **static)
        self._flops[kind] = traced_flops(traced.jaxpr.jaxpr, all_devices=True)
        self._compiled[kind] = traced.lower().compile()
        meet(f"step compiled for {kind}")
        self.compile_seconds += time.perf_counter() - begun

    def flops(self, kind: str) -> float:
        """Matrix-product FLOPs of a step that has been taken, of all devices together."""
        return self._flops[kind]
