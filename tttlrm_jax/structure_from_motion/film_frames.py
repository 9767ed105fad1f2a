"""Which frames of a film are worth a camera: sharp ones, each some way on from the one before.

Every frame is decoded once, small and grey. How far the picture has moved is the median shift of
tiles against a frame some way back, by phase correlation, so that neither a still camera nor
trembling counts. The film is cut where the picture has moved on by a step, and the sharpest frame
of each piece is taken.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.sequence import FrameSelection, Sequence, SequenceFrame
from tttlrm_jax.sequences.videos import open_video

STEP = 0.05  # of the picture's width that lie between chosen frames, at least
MOTION_WIDTH, SHARPNESS_WIDTH = 320, 640  # pixels
TILE = 64
FAR = 8  # pixels of a small picture after which it is compared with a later frame
CLEAR_PEAK = 0.15  # of the correlation of a tile, which is 1 for equal ones


@dataclasses.dataclass(frozen=True)
class FilmMeasures:
    """Of every frame [frame]: its sharpness, in no unit, and how far the picture has moved since
    the first, in picture widths, never falling."""

    sharpness: np.ndarray
    travelled: np.ndarray


def chosen_frames(path: Path, most: int) -> tuple[list[int], Iterator[SequenceFrame]]:
    """Numbers of the frames worth a camera, at most so many, and an iterator that decodes them.

    Raises InputError for a film in which nothing moves.
    """
    measured = measure_film(open_video(path, FrameSelection()))
    numbers = choose(measured, most)
    if len(numbers) < 3:
        raise InputError.of(
            "video", path, f"moves on by {100 * measured.travelled[-1]:.0f} % of its width in "
            f"{len(measured.travelled)} frames", "film while you walk around the scene",
        )  # fmt: skip
    selection = FrameSelection(frames=",".join(map(str, numbers)))
    return numbers, open_video(path, selection).frames()


def choose(film: FilmMeasures, most: int, step: float = STEP) -> list[int]:
    """The sharpest frame of each step of the way, at most `most`; none nearer than a third of it.

    Of two that are too near the sharper one is kept.
    """
    step = max(step, float(film.travelled[-1]) / most)
    pieces = np.minimum((film.travelled / step).astype(int), most - 1)
    chosen: list[int] = []
    for piece in np.unique(pieces):
        inside = np.flatnonzero(pieces == piece)
        best = int(inside[np.argmax(film.sharpness[inside])])
        if chosen and film.travelled[best] - film.travelled[chosen[-1]] < step / 3:
            best = max(chosen.pop(), best, key=lambda frame: film.sharpness[frame])
        chosen.append(best)
    return chosen


def measure_film(film: Sequence) -> FilmMeasures:
    """Decodes a whole film once."""
    frames = tqdm(
        film.frames(), f"looking through {film.name}", film.expected_frames, unit=" frames"
    )
    return measure_frames(frame.image for frame in frames)


def measure_frames(images: Iterable[np.ndarray]) -> FilmMeasures:
    """Of uint8 pictures [h, w, 3] of one size."""
    sharpness, travelled, way = [], [], _Way()
    for image in images:
        grey = Image.fromarray(image).convert("L")
        sharpness.append(sharpness_of(_small(grey, SHARPNESS_WIDTH)))
        travelled.append(way.after(_small(grey, MOTION_WIDTH)))
    return FilmMeasures(np.array(sharpness), np.maximum.accumulate(travelled))


def sharpness_of(grey: np.ndarray) -> float:
    """Variance of the Laplacian of levels [h, w] over their own variance."""
    laplacian = (
        grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
    )
    return float(laplacian.var() / (grey.var() + 1.0))


def shift_of(first: np.ndarray, second: np.ndarray) -> float | None:
    """Median shift in pixels of the tiles of two pictures [tile, TILE, TILE] (after `fft2`).

    None where few tiles say how far: after a cut, a leap or in a blur.
    """
    product = first * second.conj()
    peaks = np.fft.ifft2(product / (np.abs(product) + 1e-9)).real.reshape(len(first), -1)
    clear = peaks.max(axis=1) > CLEAR_PEAK
    if clear.sum() < max(2, len(first) // 4):
        return None
    places = np.stack(np.unravel_index(peaks[clear].argmax(axis=1), (TILE, TILE)), axis=1)
    return float(np.median(np.linalg.norm((places + TILE // 2) % TILE - TILE // 2, axis=1)))


class _Way:
    """How far the picture has moved, in its widths."""

    def __init__(self):
        self._before: np.ndarray | None = None  # of the frame that later ones are compared with
        self._travelled = 0.0  # up to it

    def after(self, grey: np.ndarray) -> float:
        spectrum, width = _tiles(grey), grey.shape[1]
        if self._before is None:
            self._before = spectrum
            return 0.0
        shift = shift_of(self._before, spectrum)
        here = self._travelled + (STEP if shift is None else shift / width)
        if shift is None or shift >= FAR:
            self._before, self._travelled = spectrum, here
        return here


def _tiles(grey: np.ndarray) -> np.ndarray:
    """Spectra [tile, TILE, TILE] of tiles that cover a picture [h, w], faded out to their edges."""
    window = np.hanning(TILE)
    rows, columns = (
        np.linspace(0, side - TILE, max(1, round(1.5 * side / TILE))).astype(int)
        for side in grey.shape
    )
    tiles = np.stack([grey[y : y + TILE, x : x + TILE] for y in rows for x in columns])
    tiles = tiles - tiles.mean(axis=(1, 2), keepdims=True)
    return np.fft.fft2(tiles * np.outer(window, window))


def _small(grey: Image.Image, width: int) -> np.ndarray:
    """Levels float32 [h, w] of a picture made smaller by a whole number, TILE or more a side."""
    factor = max(1, min(grey.width // width, min(grey.size) // TILE))
    levels = np.asarray(grey.reduce(factor), np.float32)
    missing = [(0, max(0, TILE - side)) for side in levels.shape]
    return np.pad(levels, missing, mode="edge")
