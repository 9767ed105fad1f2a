"""A picture drawn and differentiated on several cores of a CPU, the `tiled` backend's way.

XLA:CPU runs a function that it compiled as one kernel on one thread, and the kernels of a program
one after another. Programs run side by side, though, if threads of their own call them: so tiles
are drawn in parts, each by a call of one program, and what comes before, between and behind are
programs, too. Under `jit` all of it is one program: use `render` there.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.core.devices import target_device
from tttlrm_jax.rasterize.backends import tiled
from tttlrm_jax.rasterize.backends.tables import parameter_table
from tttlrm_jax.rasterize.columns import join_columns, split_columns
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats
from tttlrm_jax.rasterize.platform import chosen_backend
from tttlrm_jax.rasterize.tile_lists import Static, build_tile_lists

FEW_SLOTS = 2**14  # for which the calls would take longer than they save
_MOST_PARTS = 4  # each has room for the light in front of every chunk, 8 bytes a slot


@dataclasses.dataclass(frozen=True)
class Work:
    """What is drawn and what for. Equal ones share compiled programs.

    `given` is any tree; `free` are arrays in it that are differentiated.
    """

    def static(self, given: Any) -> Static:
        """Size, room and settings."""
        raise NotImplementedError

    def free(self, given: Any) -> tuple[Any, Any]:
        """(what only `see` depends on, what `loss` depends on, too)."""
        raise NotImplementedError

    def see(self, mine: Any, shared: Any, given: Any) -> ScreenSplats:
        """The splats on the screen."""
        raise NotImplementedError

    def loss(self, shared: Any, given: Any, made: Composite) -> Float[Array, ""]:
        """What is minimised."""
        raise NotImplementedError

    def finish(self, given: Any, done: "Done") -> Any:
        """The result."""
        raise NotImplementedError


class Seen(NamedTuple):
    """Which Gaussians are drawn, and slots that there was no room for."""

    drawn: Bool[Array, " gaussian"]
    num_dropped: Int[Array, ""]


class Done(NamedTuple):
    """What `finish` gets to know."""

    loss: Float[Array, ""]
    mine: Any  # derivatives of the loss
    shared: Any
    seen: Seen


def suitable_parts(backend: str, capacity: int) -> int:
    """Parts that a picture with so many slots is best drawn in here; 1 for a program as usual."""
    on_cpu = target_device().platform == "cpu" and chosen_backend(backend) == "tiled"
    # threads of their own do not see `jax.enable_x64` of this one
    if not on_cpu or capacity <= FEW_SLOTS or jax.config.jax_enable_x64:  # type: ignore
        return 1
    return min(_cores(), _MOST_PARTS)


@functools.cache
def _cores() -> int:
    """Of this process."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="part")


def run(work: Work, given: Any) -> Any:
    """`work.finish` of a picture and of the derivatives of its loss."""
    static, part = work.static(given), np.int32
    rows, lists, pull, seen = _see(work, given)
    drawn = _each_part(static, lambda i: _draw(static, part(i), rows, lists))
    loss, shared_bar, bars = _compare(work, given, drawn, seen.num_dropped)
    rows_bar = _each_part(
        static, lambda i: _pull(static, part(i), rows, lists[:2], drawn[i][2:], bars)
    )
    return _finish(work, given, loss, rows_bar, shared_bar, pull, seen)


def compile_ahead(work: Work, given: Any) -> None:
    """Compiles what `run` needs, side by side; may be called in a thread of its own."""
    static, part = work.static(given), np.int32(0)
    programs = []

    def add(program: Callable, *arguments):
        traced = program.trace(*arguments)
        programs.append(traced.lower())
        return traced.out_info

    rows, lists, pull, seen = add(_see, work, given)
    drawn = [add(_draw, static, part, rows, lists)] * static.parts
    loss, shared_bar, bars = add(_compare, work, given, drawn, seen.num_dropped)
    rows_bar = [add(_pull, static, part, rows, lists[:2], drawn[0][2:], bars)] * static.parts
    add(_finish, work, given, loss, rows_bar, shared_bar, pull, seen)
    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(lambda program: program.compile(), programs))


def side_by_side(calls: Sequence[Callable[[], Any]]) -> list:
    """Results of the calls, each made by a thread, the first one by this."""
    if len(calls) == 1:
        return [calls[0]()]
    others = [_threads(len(calls) - 1).submit(call) for call in calls[1:]]
    return [calls[0](), *(other.result() for other in others)]


def _each_part(static: Static, call: Callable[[int], Any]) -> list:
    return side_by_side([functools.partial(call, part) for part in range(static.parts)])


@functools.partial(jax.jit, static_argnums=0)
def _see(work: Work, given):
    def table(mine, shared):
        screen = work.see(mine, shared, given)
        return parameter_table(screen), screen

    columns, pull, screen = jax.vjp(table, *work.free(given), has_aux=True)
    lists = build_tile_lists(screen, work.static(given)._replace(parts=1))
    drawn = jnp.all(screen.radius > 0, axis=-1)
    return join_columns(*columns), tiled.lists_of(lists), pull, Seen(drawn, lists.num_dropped)


_draw = jax.jit(tiled.draw_tiles, static_argnums=0)
_pull = jax.jit(tiled.pull_tiles, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _compare(work: Work, given, drawn, num_dropped):
    static, (_, shared) = work.static(given), work.free(given)
    # In memory once: XLA would join parts again in each of the loops that read them.
    image, light = jax.lax.optimization_barrier(tiled.join_parts(static, drawn))

    def loss(image, shared):
        feature, transmittance = image
        return work.loss(shared, given, Composite(feature, transmittance, num_dropped))

    value, (bars, shared_bar) = jax.value_and_grad(loss, argnums=(0, 1))(image, shared)
    bars = jax.lax.optimization_barrier(bars)
    return value, shared_bar, tiled.bars_of_tiles(static, light, bars)


@functools.partial(jax.jit, static_argnums=0)
def _finish(work: Work, given, loss, rows_bar, shared_bar, pull, seen: Seen):
    mine_bar, own = pull(split_columns(functools.reduce(jnp.add, rows_bar)))
    return work.finish(given, Done(loss, mine_bar, jax.tree.map(jnp.add, shared_bar, own), seen))
