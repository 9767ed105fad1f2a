"""Cameras in the viewer: frusta with their pictures; a click goes there."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tttlrm_jax.core.geometry.poses import focus_point
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation
from tttlrm_jax.core.pictures import at_most

COLOURS = {"input": (42, 120, 214), "target": (235, 104, 52), "other": (140, 140, 136)}
PICTURE_SIDE = 256  # pixels of a picture on a frustum, at most
MOST_CAMERAS = 400  # drawn; of more every so many
SIZE_SHARE = 0.06  # of the distance to what the cameras look at, that a frustum is long


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ShownCamera:
    """A camera, its picture uint8 [height, width, 3] if there is one, and a key of `COLOURS`."""

    name: str
    world_from_camera: np.ndarray  # [4, 4]
    intrinsics: np.ndarray  # fx, fy, cx, cy in pixels
    size: tuple[int, int]  # height and width
    picture: np.ndarray | None = None
    role: str = "input"

    @property
    def fov(self) -> float:
        """Vertical, in radians."""
        return 2 * float(np.arctan2(self.size[0] / 2, self.intrinsics[1]))


class Frusta:
    """Cameras on the page of a server."""

    def __init__(self, server: Any):
        self._server = server
        self._handles: dict[str, Any] = {}
        self._visible = True
        self.scale: float | None = None  # length of a frustum

    def add(self, cameras: Sequence[ShownCamera], node: str = "/cameras") -> None:
        """Draws cameras; of a great many an even choice."""
        every = -(-len(cameras) // MOST_CAMERAS) or 1
        poses = np.stack([camera.world_from_camera for camera in cameras])
        if self.scale is None:
            self.scale = SIZE_SHARE * viewing_distance(poses)
        for number, camera in enumerate(cameras[::every]):
            self._add_one(f"{node}/{number:06d}", camera)

    def _add_one(self, node: str, camera: ShownCamera) -> None:
        pose, picture = np.asarray(camera.world_from_camera, np.float64), camera.picture
        handle = self._server.scene.add_camera_frustum(
            node, fov=camera.fov, aspect=camera.size[1] / camera.size[0], scale=self.scale,
            thickness=1.5, thickness_units="screen", color=COLOURS[camera.role],
            image=None if picture is None else at_most(picture, PICTURE_SIDE),
            wxyz=quaternion_from_rotation(pose[:3, :3]), position=pose[:3, 3],
            visible=self._visible, cast_shadow=False, receive_shadow=False,
        )  # fmt: skip
        handle.on_click(lambda event: event.client and go_to(event.client, camera))
        self._handles[node] = handle

    def set_visible(self, visible: bool) -> None:
        self._visible = visible
        for handle in self._handles.values():
            handle.visible = visible


def go_to(client: Any, camera: ShownCamera) -> None:
    """Moves a client to where the camera stands."""
    pose = np.asarray(camera.world_from_camera, np.float64)
    with client.atomic():
        client.camera.position = pose[:3, 3]
        client.camera.wxyz = quaternion_from_rotation(pose[:3, :3])
        client.camera.fov = camera.fov


def viewing_distance(poses: np.ndarray) -> float:
    """Median distance from cameras [view, 4, 4] to what they look at; 1 for a single one."""
    if len(poses) < 2:
        return 1.0
    distance = np.linalg.norm(poses[:, :3, 3] - focus_point(poses), axis=1)
    return float(np.median(distance)) or 1.0
