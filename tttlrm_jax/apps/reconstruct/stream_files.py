"""What a stream adds to an evaluation's files: stream.png and growth.mp4."""

from collections.abc import Iterator

import numpy as np

from tttlrm_jax.apps.reconstruct.job import Job, StreamHistory
from tttlrm_jax.reports.growth import GrowthFilm, growth_still, with_orbit
from tttlrm_jax.reports.plots import Panel, Plot, Series, line_charts

STREAM_FILES = ("stream.png", "growth.mp4")
MEBIBYTE = 2**20


def stream_plot(history: StreamHistory, num_targets: int, title: str, subtitle: str) -> Plot:
    """PSNR, time per chunk and memory against views seen."""
    same = "the same target" if num_targets == 1 else f"the same {num_targets} targets"
    psnr = Series(name="mean", values=_column(history, "psnr"))
    quality = Panel(title=f"PSNR on {same}", unit="dB", from_zero=False, series=[psnr])
    panels = [quality, _time_panel(history), _memory_panel(history)]
    return line_charts(title, subtitle, _column(history, "views_seen"), "views seen", panels)


def _column(history: StreamHistory, name: str, factor: float = 1) -> list[float]:
    return [factor * chunk[name] for chunk in history.chunks]


def _time_panel(history: StreamHistory) -> Panel:
    longest = max(_column(history, "seconds"))
    factor, unit = (1.0, "s") if longest >= 1 else (1000.0, "ms")
    step, reread = (_column(history, f"seconds_{name}", factor) for name in ("step", "reread"))
    series = [Series(name="write and read the chunk", values=step)]
    if any(later > 0.01 * first for first, later in zip(step, reread, strict=True)):
        series.append(Series(name="read earlier views again", values=reread))
    return Panel(title="Time per chunk", unit=unit, series=series)


def _memory_panel(history: StreamHistory) -> Panel:
    names = {"state": "state", "step": "one step at its peak, with parameters",
             "gaussians": "Gaussians", "views": "views kept"}  # fmt: skip
    if history.chunks[0]["bytes_step"] is None:
        del names["step"]
    if history.stream.scene.images is None:
        del names["views"]
    series = [
        Series(name=shown, values=_column(history, f"bytes_{name}", 1 / MEBIBYTE))
        for name, shown in names.items()
    ]
    return Panel(title="Memory", unit="MiB", series=series)


def growth_frames(history: StreamHistory, job: Job, title: str) -> Iterator[np.ndarray]:
    """Frames uint8 [height, width, 3] in which the reconstruction grows, chunk after chunk."""
    inputs = np.asarray(job.seen.inputs.image[0])
    film = GrowthFilm(
        title=title,
        target_name=job.scene.target_names[job.film_target],
        target=np.asarray(job.seen.targets.image[0, job.film_target]),
        inputs=list(inputs),
        already_seen=history.stream.views_seen - len(inputs),
    )
    for moment, orbit in history.growth:
        still = growth_still(film, moment)
        for picture in orbit:
            yield with_orbit(still, picture, film)
