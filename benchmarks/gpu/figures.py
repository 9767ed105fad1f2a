"""Sizes of what is measured on a GPU, and the form of a figure.

A figure says `what` was measured, its `seconds`, further `figures` by name and, where there are
any, the goal and what to set beside it. FLOPs are those of matrix products, counted in the traced
program: the compiler's own count takes the body of a loop once.
"""

import dataclasses
from typing import Any

import jax

from benchmarks.ttt3r_stream import SMALL as SMALL_TTT3R
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert.published_settings import AUTOREGRESSIVE_CHUNK
from tttlrm_jax.training.watching.chips import Chip, chip_of

GIB, MIB_PER_GIB = 2**30, 2**10

Figure = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large everything is."""

    model: ModelConfig
    pixels: tuple[int, int]  # height, width of all views
    training_views: int
    part_views: int  # of the forward pass by part
    chunk_views: int  # of a stream
    chunks: int
    shipped_chunks: int  # of the shipped model, one view each
    scenes: tuple[tuple[int, int], ...]  # Gaussians, views; those that matter most first
    ttt3r: TTT3RConfig
    frames: int
    frame_pixels: tuple[int, int]  # height, width
    agreeing: tuple[int, int]  # Gaussians, pixels of a side, where backends are compared
    product: int  # rows of the matrices whose product is timed
    fraction: int  # of the arrays that the device's rates are measured on
    repeats: int


FULL = Sizes(
    model=ModelConfig(compute_dtype="bfloat16"), pixels=(536, 960), training_views=16,
    part_views=16, chunk_views=AUTOREGRESSIVE_CHUNK, chunks=4, shipped_chunks=128,
    scenes=((1_000_000, 1), (100_000, 1), (1_000_000, 48), (5_000_000, 1)), ttt3r=TTT3RConfig(),
    frames=100, frame_pixels=(384, 512), agreeing=(2000, 128), product=8192,
    fraction=1, repeats=5,
)  # fmt: skip
TINY = Sizes(
    model=ModelConfig(
        d_model=32, num_layers=2, attention_head_dim=16, ttt_inner_factor=1.0, sh_degree=1,
        compute_dtype="bfloat16",
    ),
    pixels=(16, 24), training_views=2, part_views=2, chunk_views=2, chunks=3,
    shipped_chunks=2, scenes=((200, 1),), ttt3r=SMALL_TTT3R, frames=12,
    frame_pixels=(48, 64), agreeing=(30, 16), product=256, fraction=64, repeats=1,
)  # fmt: skip


def chip() -> Chip | None:
    """The first device's entry in the table of peaks."""
    return chip_of(jax.devices()[0].device_kind)


def costs(what: str, cost: dict[str, float], **more: Any) -> Figure:
    """A figure of what `measure` gives."""
    known, tflops = chip(), cost["gflop"] / 1e3 / cost["seconds"]
    figures = {
        "TFLOP": cost["gflop"] / 1e3, "TFLOP/s": tflops,
        "of peak": None if known is None else tflops / known.tflops,
        "temporary, GiB": cost["mib_temporary"] / MIB_PER_GIB,
        "compile, s": cost["compile_seconds"],
    }  # fmt: skip
    return {"what": what, "seconds": cost["seconds"], "figures": figures, **more}


def size_text(pixels: tuple[int, int]) -> str:
    """WIDTHxHEIGHT of height and width."""
    return f"{pixels[1]}x{pixels[0]}"


def memory(name: str) -> float | None:
    """GiB of a count of the device, such as `peak_bytes_in_use`; None where it counts nothing."""
    count = (jax.devices()[0].memory_stats() or {}).get(name)
    return None if count is None else count / GIB
