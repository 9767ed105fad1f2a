"""The client's own camera drawn on the server: all of the colours, in full precision.

While the camera moves pictures are small; once it stands still one of the page's size follows.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tttlrm_jax.core.errors import first_line
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.rasterize import SceneRenderer

LONGEST = 1280  # pixels of a picture's longer side, at most
MULTIPLE = 16  # of sides: pages of about one size share programs
COARSE = 4  # times smaller while the camera moves
QUICK_SECONDS = 0.15  # pictures that take no longer need no smaller ones
STILL_SECONDS, POLL_SECONDS = 0.25, 0.04


class _Asked(NamedTuple):
    """What a client looks at."""

    pose: tuple[float, ...]  # quaternion wxyz and position
    fov: float  # vertical, radians
    size: tuple[int, int]  # height and width of the page
    scene: int


class ExactView:
    """Draws for every client in a thread of its own, as long as it is switched on."""

    def __init__(self, server: Any, say: Callable[[str], None]):
        self._server, self._say = server, say
        self._scene: tuple[int, SceneRenderer] | None = None
        self._drawn: dict[int, tuple[_Asked, float, bool]] = {}  # by client: when, and whether all
        self._background: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._on, self._stopped = threading.Event(), threading.Event()
        self._sharp_seconds, self._count = 0.0, 0  # of the last whole picture; of scenes
        self._thread = threading.Thread(target=self._run, name="exact view", daemon=True)
        self._thread.start()

    def set_scene(self, gaussians: Gaussians, background: tuple[float, float, float]) -> None:
        """What is drawn from now on."""
        if self._scene is None or background != self._background:
            renderer = SceneRenderer(gaussians, background=background)
        else:
            renderer = self._scene[1].with_scene(gaussians)
        self._background, self._count = background, self._count + 1
        self._scene = self._count, renderer

    def switch(self, on: bool) -> None:
        """Whether pictures are drawn."""
        if on:
            self._on.set()
            return
        self._on.clear()
        self._drawn.clear()
        for client in self._server.get_clients().values():
            client.scene.set_background_image(plain_picture(self._background))

    def close(self) -> None:
        self._stopped.set()
        self._on.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._on.wait()
            try:
                busy = any([
                    self._serve(number, client)
                    for number, client in self._server.get_clients().items()
                ])  # fmt: skip
            except Exception as error:  # of a client that is gone, or of a scene beyond limits
                self._say(f"not drawn: {first_line(error)}")
                busy = False
            if not busy:
                time.sleep(POLL_SECONDS)

    def _serve(self, number: int, client: Any) -> bool:
        """Draws for one client where something has changed; returns whether it did."""
        if self._scene is None or self._stopped.is_set() or not self._on.is_set():
            return False
        asked, (before, when, whole) = _asked(client, self._scene[0]), self._drawn.get(
            number, (None, 0.0, False)
        )  # fmt: skip
        now = time.monotonic()
        if asked == before and (whole or now - when < STILL_SECONDS):
            return False
        sharp = asked == before or self._sharp_seconds < QUICK_SECONDS
        camera = camera_of(asked, 1 if sharp else COARSE)
        renderer = self._scene[1]
        picture = to_uint8(renderer(camera).rgb)
        if sharp:
            self._sharp_seconds = renderer.seconds
        if self._on.is_set() and number in self._server.get_clients():
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=92)
        self._drawn[number] = (asked, time.monotonic(), sharp)
        self._say(f"{camera.width}x{camera.height} pixels in {renderer.seconds:.2f} s")
        return True


def _asked(client: Any, scene: int) -> _Asked:
    camera = client.camera
    pose = (*map(float, camera.wxyz), *map(float, camera.position))
    return _Asked(pose, float(camera.fov), (camera.image_height, camera.image_width), scene)


def camera_of(asked: _Asked, smaller: int) -> Cameras:
    """What is rendered for a client, in its shape, with sides that are multiples of `MULTIPLE`."""
    height, width = asked.size
    share = min(1.0, LONGEST / max(height, width)) / smaller / MULTIPLE
    high, wide = (max(round(side * share), 1) * MULTIPLE for side in (height, width))
    focal = height / 2 / np.tan(asked.fov / 2)
    lens = np.array([focal * wide / width, focal * high / height, wide / 2, high / 2])
    pose = np.eye(4)
    pose[:3, :3] = rotation_from_unit_quaternion(np.array(asked.pose[:4]))
    pose[:3, 3] = asked.pose[4:]
    return Cameras(pose, lens, high, wide)  # type: ignore[arg-type]


def plain_picture(colour: tuple[float, float, float]) -> np.ndarray:
    """A background of one colour, uint8 [2, 2, 3]."""
    return np.broadcast_to(to_uint8(np.asarray(colour)), (2, 2, 3)).copy()
