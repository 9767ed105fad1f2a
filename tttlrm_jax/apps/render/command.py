"""`python -m tttlrm_jax.render SCENE --cameras FILE`: pictures of a file of Gaussians.

Any scene that `export.splats` reads, from any cameras that eval.py reads or from an orbit; on a CPU
or whatever device JAX finds. The scene is held once, and what a camera sees of it beside it:
`rasterize.scene_renderer`.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tqdm

from tttlrm_jax.apps.interruptions import interruptible
from tttlrm_jax.apps.render.cameras import Shot, shots_of
from tttlrm_jax.apps.render.files import PictureFiles, write_film
from tttlrm_jax.apps.render.options import RenderConfig
from tttlrm_jax.apps.render.scene_files import OpenScene, background_of, open_scene, run_notes
from tttlrm_jax.apps.sequences.files import peak_memory_mib
from tttlrm_jax.config import RasterConfig
from tttlrm_jax.config.command_line import EXIT_INTERRUPTED, run_command
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import default_output
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.rasterize import Rendering, SceneRenderer

BLACK = (0.0, 0.0, 0.0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input, 130 interrupted)."""
    try:
        with interruptible():
            return run_command(RenderConfig, render_scene, "python -m tttlrm_jax.render", arguments)
    except KeyboardInterrupt as stop:
        print(f"\ninterrupted; {str(stop) or 'nothing was written'}", file=sys.stderr)
        return EXIT_INTERRUPTED


def render_scene(config: RenderConfig) -> Path:
    """Renders all pictures; returns the directory or film that they are in.

    Raises InputError for input that cannot be used.
    """
    if config.compile_cache:
        keep_programs()
    scene = open_scene(config.scene)
    shots = shots_of(config, scene.gaussians, scene.offset)
    output = Path(config.output or default_output(scene.name, "scene"))
    of_run = _background_of_run(config)
    renderer = SceneRenderer(
        scene.gaussians, background=config.background or of_run or BLACK,
        config=RasterConfig(antialiased=config.antialiased),
    )  # fmt: skip
    for note in notes_of(config, shots, of_run):
        print(f"note: {note}")
    take = _Taking(renderer, shots)
    if config.is_film:
        check_one_size(shots)
        write_film(output, (np.asarray(made.rgb) for _, made in take), config.fps)
    else:
        _write_pictures(take, config, scene, output)
    print(f"{take.summary()}\n\n{output}")
    return output


def _write_pictures(take: "_Taking", config: RenderConfig, scene: OpenScene, output: Path) -> None:
    files = PictureFiles(output, take.shots, config.depth_format if config.depth else None)
    files.write_cameras(take.shots, scene.offset)
    try:
        for shot, rendering in take:
            files.add(shot, rendering)
    except KeyboardInterrupt:
        total = len(take.shots)
        raise KeyboardInterrupt(f"{files.num_written} of {total} are in {output}") from None
    if files.num_too_far:
        print(
            f"note: depth of {files.num_too_far} pixels is above 65.534 units and written as that; "
            "--depth-format npy has no such limit"
        )


class _Taking:
    """Pictures of all shots, one after another, with a bar; times of each."""

    def __init__(self, renderer: SceneRenderer, shots: Sequence[Shot]):
        self.shots, self._renderer = shots, renderer
        self._seconds: list[float] = []

    def __iter__(self) -> Iterator[tuple[Shot, Rendering]]:
        with tqdm.tqdm(total=len(self.shots), unit="picture", file=sys.stderr) as bar:
            for shot in self.shots:
                rendering = self._renderer(shot.camera)
                self._seconds.append(self._renderer.seconds)
                bar.set_postfix_str(f"{self._renderer.num_seen} Gaussians seen", refresh=False)
                yield shot, rendering
                bar.update()

    def summary(self) -> str:
        """What it took, a line."""
        sizes = {(shot.camera.width, shot.camera.height) for shot in self.shots}
        width, height = max(sizes)
        size = f"{width}x{height}" if len(sizes) == 1 else f"{len(sizes)} sizes up to {width}"
        return (
            f"{len(self._seconds)} pictures of {size} pixels, {self._renderer.num_gaussians} "
            f"Gaussians: {np.median(self._seconds):.2f} s per picture (compiling "
            f"{self._renderer.compile_seconds:.1f} s once), at most {peak_memory_mib() / 1024:.1f} "
            "GiB of memory"
        )


def check_one_size(shots: Sequence[Shot]) -> None:
    """Raises InputError for cameras that give no film."""
    sizes = sorted({(shot.camera.width, shot.camera.height) for shot in shots})
    if len(sizes) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
        raise InputError.of(
            "cameras", shown, "are of several sizes, a film has one", "give --size WIDTH HEIGHT"
        )


def _background_of_run(config: RenderConfig) -> tuple[float, float, float] | None:
    """The colour that an output directory of eval.py states, unless another is asked for."""
    path = Path(config.scene)
    wanted = config.background is None and path.is_dir()
    return background_of(run_notes(path)) if wanted else None


def notes_of(
    config: RenderConfig,
    shots: Sequence[Shot],
    of_run: tuple[float, float, float] | None = None,
) -> list[str]:
    """What was decided without being asked, a sentence each; `of_run` is a run's background."""
    width, height = shots[0].camera.width, shots[0].camera.height
    notes = []
    if of_run is not None:
        notes.append(
            "the background is the run's, {:.3g} {:.3g} {:.3g}; --background says otherwise".format(
                *of_run
            )
        )
    if config.is_film and (width % 2 or height % 2):
        notes.append("films have even sides: the last row or column is doubled")
    if config.cameras is None:
        notes.append("the orbit takes {:g} {:g} {:g} as up; --up says otherwise".format(*config.up))
    return notes
