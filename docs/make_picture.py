"""Draws README's picture: the toy in the package, before and after `eval.py`'s 20 seconds.

`python docs/make_picture.py` writes docs/images/toy.png; seconds in it are those of this machine.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import tttlrm_jax as tj
from tttlrm_jax.apps.reconstruct.command import DEMO_SECONDS, DEMO_VIEWS
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.reports.sheet import INK, PAPER, fitted, font, paste

SHOWN = (1, 3)  # of the held-out views
SIDE, SMALL, GAP, HEAD = 256, 120, 12, 40


def main() -> None:
    model = tj.load()
    model.reconstruct(tj.open_capture("toy"), views=DEMO_VIEWS)  # compiles
    scene = model.reconstruct(tj.open_capture("toy"), views=DEMO_VIEWS)
    better, record = scene.refine(seconds=DEMO_SECONDS, resolution=(SIDE, SIDE))
    photographs = np.asarray(better.posed.targets.image[0])
    columns = {
        "held-out view": photographs,
        f"one pass, {scene.seconds:.2f} s": scene.at((SIDE, SIDE)).target_pictures(),
        f"and {record.seconds:.0f} s": better.target_pictures(),
    }
    left = 4 * (SMALL + GAP)
    size = GAP + left + 2 * GAP + 3 * (SIDE + GAP), HEAD + 2 * (SIDE + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 10), f"{DEMO_VIEWS} input views", INK, font(18))
    for number, picture in enumerate(np.asarray(better.posed.inputs.image[0])):
        row, column = divmod(number, 4)
        small = fitted(picture, (SMALL, SMALL))
        paste(sheet, small, GAP + column * (SMALL + GAP), HEAD + row * (SMALL + GAP))
    for column, (name, pictures) in enumerate(columns.items()):
        place = GAP + left + 2 * GAP + column * (SIDE + GAP)
        draw.text((place, 10), name, INK, font(18))
        for row, index in enumerate(SHOWN):
            paste(sheet, to_uint8(pictures[index]), place, HEAD + row * (SIDE + GAP))
    sheet.save(Path(__file__).parent / "images" / "toy.png", optimize=True)
    print(scene.at((SIDE, SIDE)).scores(), "->", better.scores())


if __name__ == "__main__":
    main()
