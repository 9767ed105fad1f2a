"""What a stream adds to an evaluation: stream.png, growth.mp4 and the list in metrics.json."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.apps.reconstruct.job import ChunkRecord, StreamHistory
from tttlrm_jax.export.video import write_video
from tttlrm_jax.reports.growth import GrowthFilm, GrowthMoment, growth_still, with_orbit
from tttlrm_jax.reports.plots import Panel, Plot, Series, line_charts

STREAM_FILES = ("stream.png", "growth.mp4")
MEBIBYTE = 2**20


def stream_metrics(history: StreamHistory, names: list[str]) -> list[dict[str, Any]]:
    """One entry per chunk: what came, what it cost, what it gave; memory in bytes."""
    entries, first = [], 0
    for record in history.records:
        entries.append({
            "views_seen": record.views_seen,
            "views": names[first : first + record.views],
            "psnr": float(record.psnr.mean()),
            "ssim": float(record.ssim.mean()),
            "seconds": record.cost.step + record.cost.reread,
            "seconds_step": record.cost.step,
            "seconds_reread": record.cost.reread,
            "num_gaussians": record.num_gaussians,
            "bytes_state": record.sizes["state"],
            "bytes_step": history.step_bytes,
            "bytes_gaussians": record.sizes["gaussians"],
            "bytes_views": record.sizes["views"],
        })  # fmt: skip
        first += record.views
    return entries


def stream_plot(history: StreamHistory, title: str, subtitle: str) -> Plot:
    """PSNR, time per chunk and memory against views seen."""
    records = history.records
    seen = [record.views_seen for record in records]
    panels = [
        _quality_panel(records),
        _time_panel(records),
        _memory_panel(history),
    ]
    return line_charts(title, subtitle, seen, "views seen", panels)


def _quality_panel(records: list[ChunkRecord]) -> Panel:
    targets = len(records[0].psnr)
    return Panel(
        title=f"PSNR on {'the same target' if targets == 1 else f'the same {targets} targets'}",
        unit="dB",
        from_zero=False,
        series=[Series(name="mean", values=[float(record.psnr.mean()) for record in records])],
    )


def _time_panel(records: list[ChunkRecord]) -> Panel:
    costs = [record.cost for record in records]
    longest = max(cost.step + cost.reread for cost in costs)
    factor, unit = (1.0, "s") if longest >= 1 else (1000.0, "ms")
    series = [Series(name="write and read the chunk", values=[factor * c.step for c in costs])]
    if any(cost.reread > 0.01 * cost.step for cost in costs):
        reread = [factor * cost.reread for cost in costs]
        series.append(Series(name="read earlier views again", values=reread))
    return Panel(title="Time per chunk", unit=unit, series=series)


def _memory_panel(history: StreamHistory) -> Panel:
    def mebibytes(name):
        return [record.sizes[name] / MEBIBYTE for record in history.records]

    series = [Series(name="state", values=mebibytes("state"))]
    if history.step_bytes is not None:
        step = [history.step_bytes / MEBIBYTE] * len(history.records)
        series.append(Series(name="one step at its peak, with parameters", values=step))
    series.append(Series(name="Gaussians", values=mebibytes("gaussians")))
    if history.scene.images is not None:
        series.append(Series(name="views kept", values=mebibytes("views")))
    return Panel(title="Memory", unit="MiB", series=series)


def write_growth(
    path: Path, history: StreamHistory, scene: PosedScene, title: str, frames_per_second: float
) -> None:
    """The film in which the reconstruction grows."""
    frames = growth_frames(history, scene, title)
    write_video(path, frames, frames_per_second=frames_per_second)


def growth_frames(history: StreamHistory, scene: PosedScene, title: str) -> Iterator[np.ndarray]:
    """Frames uint8 [height, width, 3], chunk after chunk."""
    target = history.shown_target
    inputs = np.asarray(scene.inputs.image[0])
    film = GrowthFilm(
        title=title,
        target_name=scene.target_names[target],
        target=np.asarray(scene.targets.image[0, target]),
        inputs=list(inputs),
        already_seen=history.scene.num_views - len(inputs),
    )
    for record, growth in zip(history.records, history.growth, strict=True):
        moment = GrowthMoment(
            seen=record.views_seen,
            newest=record.views,
            psnr=float(record.psnr.mean()),
            rendered=growth.rendered,
        )
        still = growth_still(film, moment)
        for picture in growth.orbit:
            yield with_orbit(still, picture, film)
