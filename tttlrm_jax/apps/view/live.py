"""The page in the browser: what a run shows there, and what the switches on it do."""

import contextlib
import functools
import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.apps.view.exact import ExactView, plain_picture
from tttlrm_jax.apps.view.frusta import Frusta, ShownCamera, viewing_distance
from tttlrm_jax.apps.view.moments import Moments, SceneMoment
from tttlrm_jax.apps.view.server import address_of, start_server
from tttlrm_jax.config.viewer import LOOPBACK, ViewerOptions
from tttlrm_jax.core.errors import first_line
from tttlrm_jax.core.geometry.paths import up_direction
from tttlrm_jax.core.types import Gaussians

NOBODY_SECONDS = 60.0  # without any browser, until it is said
POLL_SECONDS = 0.2
POINT_SHARE = 0.004  # of the viewing distance, that a point is wide
FROM_AFAR = "from another machine: ssh -L PORT:127.0.0.1:PORT THIS_MACHINE, then the same address"
UP = (0.0, -1.0, 0.0)  # of cameras that look ahead


def shielded(method: Callable) -> Callable:
    """A failure of the page is said once and ends the page, not the run that shows something."""

    @functools.wraps(method)
    def call(self: "LiveView", *arguments: Any, **options: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *arguments, **options)
        except Exception as error:
            self.failed = True
            print(f"\nthe viewer failed ({first_line(error)}); go on without it", file=sys.stderr)

    return call


class LiveView:
    """A page that shows Gaussians, cameras and points; everything may be called from a run.

    Only `LiveView(...)` raises InputError: where no server can be started.
    """

    def __init__(
        self,
        options: ViewerOptions,
        title: str,
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        exact: bool = False,
    ):
        self._server = start_server(options, title)
        self.address = address_of(self._server)
        self.failed, self._background, self._placed = False, background, False
        self._visits = 0
        self._server.on_client_connect(lambda client: self._count())
        gui = self._server.gui
        self._status = gui.add_markdown("")
        self._exact = ExactView(self._server, self._say_exact)
        self._moments = Moments(self._server, self._shown)
        self._frusta = Frusta(self._server)
        self._exact_switch = gui.add_checkbox(
            "exact", initial_value=exact, visible=False,
            hint="pictures drawn by tttlrm-jax: all of the colours, in full precision",
        )  # fmt: skip
        self._exact_said = gui.add_markdown("", visible=False)
        camera_switch = gui.add_checkbox("cameras", initial_value=True)
        self._exact_switch.on_update(lambda _: self._switch_exact(self._exact_switch.value))
        camera_switch.on_update(lambda _: self._frusta.set_visible(camera_switch.value))
        self._server.scene.set_up_direction(UP)
        self._server.scene.set_background_image(plain_picture(background))
        self._switch_exact(exact)
        if options.host != LOOPBACK:
            print(
                f"note: the viewer listens at {options.host}: whoever reaches it can look",
                file=sys.stderr,
            )
        print(f"  viewer: {self.address}", file=sys.stderr)

    @property
    def was_visited(self) -> bool:
        """Whether a browser has ever connected."""
        return self._visits > 0

    @shielded
    def say(self, text: str) -> None:
        """A line of Markdown at the top of the panel."""
        self._status.content = text

    @shielded
    def set_background(self, background: tuple[float, float, float]) -> None:
        """RGB in [0, 1] behind the scene."""
        self._background = background
        self._server.scene.set_background_image(plain_picture(background))

    @shielded
    def show_cameras(self, cameras: Sequence[ShownCamera]) -> None:
        """Cameras with their pictures; the first ones also say where the page looks from."""
        if not cameras:
            return
        self._frusta.add(cameras)
        poses = np.stack([camera.world_from_camera for camera in cameras])
        self.look_from_behind(poses, cameras[0].fov)

    def look_from_behind(self, poses: np.ndarray, fov: float) -> None:
        """From behind and beside the first camera of poses [view, 4, 4]: it is in view, and what it
        looks at is not behind it."""
        pose, up, distance = poses[0], up_direction(poses), viewing_distance(poses)
        right, ahead = pose[:3, 0], pose[:3, 2]
        beside = pose[:3, 3] + distance * (0.35 * right + 0.3 * up - 0.25 * ahead)
        self.look_from(beside, pose[:3, 3] + 0.95 * distance * ahead, up, fov)

    def look_at_ball(self, centre: np.ndarray, radius: float, fov: float) -> None:
        """From where a ball is in view, `UP` being up."""
        away = np.array([0.3, -0.4, -1.0])  # from the front, a little above
        distance = radius / np.sin(fov / 2) / np.linalg.norm(away)
        self.look_from(centre + distance * away, centre, UP, fov)

    @shielded
    def look_from(self, position, target, up, fov: float) -> None:
        """Where browsers look from; once, so that nobody's view is taken away later."""
        if self._placed:
            return
        self._placed = True
        self._server.scene.set_up_direction(tuple(np.asarray(up, float)))
        start = self._server.initial_camera
        start.up, start.fov = tuple(np.asarray(up, float)), float(np.clip(fov, 0.1, 2.4))
        start.position, start.look_at = np.asarray(position, float), np.asarray(target, float)

    @shielded
    def add_moment(self, label: str, gaussians: Gaussians) -> None:
        """The scene now, in the frame of the cameras."""
        self._moments.add(label, gaussians)

    @shielded
    def add_points(self, node: str, points: np.ndarray, colours: np.ndarray, size: float) -> None:
        """Points float [point, 3] with colours uint8 [point, 3], `size` wide."""
        self._server.scene.add_point_cloud(
            node, np.asarray(points, np.float32), colours, point_size=size, precision="float32",
            point_shading="flat", point_shape="circle",
        )  # fmt: skip

    @shielded
    def add_cameras(self, node: str, cameras: Sequence[ShownCamera]) -> None:
        """More cameras, which leave the page where it is."""
        self._frusta.add(cameras, node)

    @shielded
    def set_frustum_size(self, length: float) -> None:
        """How long cameras are drawn, in the scene's unit."""
        self._frusta.scale = length

    @shielded
    def show_path(self, places: np.ndarray) -> None:
        """A line through positions [n, 3], in place of the last one."""
        if len(places) > 1:
            lines = np.stack([places[:-1], places[1:]], axis=1).astype(np.float32)
            self._server.scene.add_line_segments(
                "/path", lines, colors=(235, 104, 52), thickness=2.0, thickness_units="screen"
            )

    def wait(self, later: str = "") -> None:
        """Until Ctrl-C. Where no browser has connected for a minute that is said; with `later`,
        which says how to see all this again, it also ends the waiting."""
        begun, said = time.monotonic(), False
        print(f"  the viewer stays at {self.address} until Ctrl-C", file=sys.stderr)
        try:
            while not self.failed and not (said and later):
                time.sleep(POLL_SECONDS)
                if not (said or self.was_visited) and time.monotonic() - begun > NOBODY_SECONDS:
                    said = True
                    print(
                        f"  no browser has connected to {self.address}; {later or FROM_AFAR}",
                        file=sys.stderr,
                    )
        except KeyboardInterrupt:
            print("\n  viewer ended", file=sys.stderr)

    def close(self) -> None:
        """Ends the page; whatever goes wrong there does not matter any more."""
        try:
            self._exact.close()
            with contextlib.redirect_stdout(io.StringIO()):  # it says so itself
                self._server.stop()
        except Exception as error:
            print(f"the viewer did not end cleanly ({first_line(error)})", file=sys.stderr)

    def _count(self) -> None:
        self._visits += 1

    def _shown(self, moment: SceneMoment) -> None:
        self._exact.set_scene(moment.gaussians, self._background)
        self._exact_switch.visible = True
        count = len(moment.shown.centers)
        self._status.content = f"{moment.label}  \n{count:,} Gaussians"

    def _switch_exact(self, on: bool) -> None:
        self._moments.set_visible(not on)
        self._exact_said.visible = on
        self._exact.switch(on)

    def _say_exact(self, text: str) -> None:
        self._exact_said.content = text
