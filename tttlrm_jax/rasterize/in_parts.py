"""A picture drawn and differentiated on several cores of a CPU, the `tiled` backend's way.

XLA:CPU runs a function that it compiled as one kernel on one thread, and the kernels of a program
one after another. Programs run side by side, though, if threads of their own call them: so shares
of the Gaussians and parts of the tiles are taken each by a call of one program, and what comes
between is programs, too. Under `jit` all of it is one program: use `render` there.
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
from tttlrm_jax.rasterize.tile_lists import (
    Static,
    candidate_slots,
    count_slots,
    put_counted,
    starts_of_parts,
)

FEW_SLOTS = 2**14  # for which the calls would take longer than they save
FEW_GAUSSIANS = 2**11
_DRAWN = ("mean", "conic", "opacity", "feature")  # fields of `ScreenSplats` with derivatives
_MOST_PARTS = 4  # each has room for the light in front of every chunk, 8 bytes a slot


@dataclasses.dataclass(frozen=True)
class Work:
    """What is drawn and what for. Equal ones share compiled programs.

    `given` is any tree; `free` are arrays in it that are differentiated.
    """

    def static(self, given: Any) -> Static:
        """Size, room and settings."""
        raise NotImplementedError

    def num_gaussians(self, given: Any) -> int:
        raise NotImplementedError

    def free(self, given: Any) -> tuple[Any, Any]:
        """(arrays [gaussian, ...] that only `see` depends on, what `loss` depends on, too)."""
        raise NotImplementedError

    def see(self, mine: Any, shared: Any, given: Any) -> ScreenSplats:
        """The splats on the screen, of some or all Gaussians: each depends on its own alone."""
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
    static, shares, number = work.static(given), _shares(work, given), np.int32
    views = _each(shares, lambda i: _see(work, shares, number(i), given))
    screens, pulls = [screen for screen, _ in views], [pull for _, pull in views]
    rows, drawn_of, slots = _sort(work, screens, given)
    counted = _each(static.parts, lambda i: _count_slots(static, number(i), *slots))
    lists, seen = _place(static, *slots, counted, drawn_of)
    drawn = _each(static.parts, lambda i: _draw(static, number(i), rows, lists))
    loss, shared_bar, bars = _compare(work, given, drawn, seen.num_dropped)
    rows_bars = _each(
        static.parts, lambda i: _pull(static, number(i), rows, lists[:2], drawn[i][2:], bars)
    )
    slopes = _each(shares, lambda i: _unsee(shares, number(i), screens[i], pulls[i], rows_bars))
    return _finish(work, given, loss, slopes, shared_bar, seen)


def compile_ahead(work: Work, given: Any) -> None:
    """Compiles what `run` needs, side by side; may be called in a thread of its own."""
    static, shares, number = work.static(given), _shares(work, given), np.int32(0)
    programs = []

    def add(program: Callable, *arguments):
        traced = program.trace(*arguments)
        programs.append(traced.lower())
        return traced.out_info

    screen, pull = add(_see, work, shares, number, given)
    rows, drawn_of, slots = add(_sort, work, [screen] * shares, given)
    counted = [add(_count_slots, static, number, *slots)] * static.parts
    lists, seen = add(_place, static, *slots, counted, drawn_of)
    drawn = [add(_draw, static, number, rows, lists)] * static.parts
    loss, shared_bar, bars = add(_compare, work, given, drawn, seen.num_dropped)
    rows_bar = add(_pull, static, number, rows, lists[:2], drawn[0][2:], bars)
    slopes = add(_unsee, shares, number, screen, pull, [rows_bar] * static.parts)
    add(_finish, work, given, loss, [slopes] * shares, shared_bar, seen)
    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(lambda program: program.compile(), programs))


def side_by_side(calls: Sequence[Callable[[], Any]]) -> list:
    """Results of the calls, each made by a thread, the first one by this."""
    if len(calls) == 1:
        return [calls[0]()]
    config: Any = jax.config
    chosen = config.jax_default_device  # threads have their own

    def called(call):
        with jax.default_device(chosen):
            return call()

    others = [_threads(len(calls) - 1).submit(called, call) for call in calls[1:]]
    return [calls[0](), *(other.result() for other in others)]


def _each(count: int, call: Callable[[int], Any]) -> list:
    return side_by_side([functools.partial(call, number) for number in range(count)])


# ---- shares of the Gaussians ------------------------------------------------------------------


def _count(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]


def _shares(work: Work, given: Any) -> int:
    """As how many shares Gaussians are best seen."""
    return work.static(given).parts if work.num_gaussians(given) > FEW_GAUSSIANS else 1


def _begin(count: int, shares: int, number):
    """(first Gaussian of a share, size of all shares, those at its front that another one has)."""
    size = -(-count // shares)
    first = jnp.minimum(number * size, count - size)
    return first, size, number * size - first


def _share(tree: Any, shares: int, number):
    first, size, _ = _begin(_count(tree), shares, number)
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, size), tree)


def _join(trees: list, count: int) -> Any:
    """Of the shares, with `count` Gaussians in all."""
    size = -(-count // len(trees))
    skipped = [number * size - min(number * size, count - size) for number in range(len(trees))]

    def joined(*arrays):
        return jnp.concatenate([x[skip:] for x, skip in zip(arrays, skipped, strict=True)])

    return jax.tree.map(joined, *trees) if len(trees) > 1 else trees[0]


# ---- programs ---------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(0, 1))
def _see(work: Work, shares: int, number, given):
    mine, shared = work.free(given)

    def fields(mine, shared):
        screen = work.see(mine, shared, given)
        return {name: getattr(screen, name) for name in _DRAWN}, screen

    mine = _share(mine, shares, number)
    _, pull, screen = jax.vjp(fields, mine, shared, has_aux=True)
    return screen, pull


@functools.partial(jax.jit, static_argnums=0)
def _sort(work: Work, screens: list[ScreenSplats], given):
    static, screen = work.static(given), _join(screens, work.num_gaussians(given))
    # In memory once: XLA would join shares again in each of the loops that read them.
    screen = jax.lax.optimization_barrier(screen)
    candidates = candidate_slots(screen, static)
    drawn = jnp.all(screen.radius > 0, axis=-1)
    slots = (candidates, starts_of_parts(candidates, static))
    return join_columns(*parameter_table(screen)), drawn, slots


_count_slots = jax.jit(count_slots, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _place(static: Static, candidates, starts, counted: list, drawn):
    lists = put_counted(static, candidates, starts, counted)
    return lists, Seen(drawn, jnp.maximum(candidates.end[-1] - static.capacity, 0))


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
def _unsee(shares: int, number, screen: ScreenSplats, pull, rows_bars: list):
    """Derivatives by what only this share depends on, and by what all do."""
    count = rows_bars[0].shape[0] - 1  # the last row is of slots that hold nothing
    first, size, skipped = _begin(count, shares, number)
    parts = [jax.lax.dynamic_slice_in_dim(bar, first, size) for bar in rows_bars]
    bar = functools.reduce(jnp.add, parts)
    bar = jnp.where(jnp.arange(size)[:, None] < skipped, 0, bar)
    bar = jnp.concatenate([bar, jnp.zeros_like(bar[:1])])
    fields = {name: getattr(screen, name) for name in _DRAWN}
    _, of_table = jax.vjp(lambda fields: parameter_table(screen.replace(**fields)), fields)
    return pull(*of_table(split_columns(bar)))


@functools.partial(jax.jit, static_argnums=0)
def _finish(work: Work, given, loss, slopes: list, shared_bar, seen: Seen):
    mine, shared = zip(*slopes, strict=True)
    shared_bar = jax.tree.map(lambda *bars: functools.reduce(jnp.add, bars), shared_bar, *shared)
    return work.finish(given, Done(loss, _join(list(mine), len(seen.drawn)), shared_bar, seen))
