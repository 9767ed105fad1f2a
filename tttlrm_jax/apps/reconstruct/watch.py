"""What a user sees of Gaussians while they improve: a bar on a terminal, a picture in a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tttlrm_jax.core.files.whole_files import draft_of, write_whole
from tttlrm_jax.core.pictures import png_bytes
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.per_scene import Moment
from tttlrm_jax.per_scene.anytime import OnMoment

BAR = 24  # characters


@contextmanager
def watched(seconds: float, output: Path) -> Iterator[OnMoment]:
    """What is told of every moment; the picture lies beside `output` for as long as this lasts."""
    preview = output.with_name(f"{output.name}.preview.png")
    preview.parent.mkdir(parents=True, exist_ok=True)
    if sys.stderr.isatty():
        print(f"\n  preview: {preview}", file=sys.stderr)

    def tell(moment: Moment, best: Gaussians) -> None:
        del best
        if moment.picture is not None:
            write_whole(preview, png_bytes(moment.picture))
        if sys.stderr.isatty():
            print(f"\r  {progress_line(moment, seconds)}   ", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        for path in (preview, draft_of(preview)):
            path.unlink(missing_ok=True)


def progress_line(moment: Moment, seconds: float) -> str:
    """`[######------]  3.1 of 10 s, step 240, 3120 Gaussians, 25.31 dB on views held back`."""
    share = min(moment.seconds / seconds, 1.0)
    bar = "#" * round(BAR * share)
    quality = "" if moment.psnr is None else f", {moment.psnr:.2f} dB on views held back"
    return (
        f"[{bar:-<{BAR}}] {moment.seconds:5.1f} of {seconds:g} s, step {moment.step}, "
        f"{moment.num_gaussians} Gaussians{quality}"
    )
