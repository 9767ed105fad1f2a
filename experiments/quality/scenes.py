"""Scenes of `experiments.quality`: held-out procedural objects and captures, posed for a model."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.scenes import PosedScene
from tttlrm_jax.captures.capture import CaptureScene, read_capture
from tttlrm_jax.captures.view_selection import select_kmeans
from tttlrm_jax.config import DataConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import normalise_poses
from tttlrm_jax.core.scenes import Scene
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.datasets.sources import open_source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A scene with targets that stay the same for every number of inputs."""

    group: str  # rows are means over the scenes of a group
    scene: Scene
    targets: np.ndarray  # numbers of views
    choose_inputs: Callable[[int], np.ndarray]

    def posed(self, num_inputs: int, data: DataConfig) -> PosedScene:
        """The scene with so many inputs, in the frame and scale that these give it."""
        inputs = self.choose_inputs(num_inputs)
        chosen = np.concatenate([inputs, self.targets])
        views, raw = self.scene.read(chosen), self.scene.world_from_camera[chosen]
        reference = raw if data.normalise_over == "all" else raw[: len(inputs)]
        poses, similarity = normalise_poses(raw, data.pose_normalisation, reference)
        size = views.image.shape[1:3]

        def part(where: slice) -> Views:
            lens = jnp.asarray(views.intrinsics[where], jnp.float32)[None]
            pose = jnp.asarray(poses[where], jnp.float32)[None]
            return Views(jnp.asarray(views.image[where])[None], Cameras(pose, lens, *size))

        return PosedScene(
            name=self.scene.name,
            input_names=[str(number) for number in inputs],
            target_names=[str(number) for number in self.targets],
            inputs=part(slice(0, len(inputs))),
            targets=part(slice(len(inputs), None)),
            target_mask=None,
            background_free=True,
            similarity=similarity,
        )


def on_procedural_objects(
    config: RunConfig, cache_directory: str, generator: str | None = None
) -> RunConfig:
    """The run's configuration with procedural objects in place of its own source, of `generator`
    where one is named."""
    synthetic = config.data.synthetic
    if generator is not None:
        synthetic = dataclasses.replace(synthetic, generator=generator)
    data = dataclasses.replace(
        config.data, source="synthetic", synthetic=synthetic, cache_directory=cache_directory,
        render_workers=1,
    )  # fmt: skip
    return dataclasses.replace(config, data=data)


def objects(data: DataConfig, num_scenes: int, num_views: int, num_targets: int) -> list[Subject]:
    """Procedural objects of the `eval` split, each with `num_targets` views drawn for targets.

    Inputs are chosen by k-means among `num_views` others. `data` is that of
    `on_procedural_objects`.
    """
    synthetic = dataclasses.replace(
        data.synthetic, num_scenes=num_scenes, num_views=num_views + num_targets
    )
    opened = dataclasses.replace(
        data, synthetic=synthetic, num_input_views=num_views, num_target_views=num_targets
    )
    source = open_source(opened, "eval")
    group = f"held-out {synthetic.generator}"
    return [_object(source[index], index, num_targets, group) for index in range(num_scenes)]


def _object(scene: Scene, index: int, num_targets: int, group: str) -> Subject:
    order = np.random.default_rng((0, index)).permutation(len(scene.world_from_camera))
    targets, pool = np.sort(order[:num_targets]), np.sort(order[num_targets:])

    def choose(count: int) -> np.ndarray:
        return pool[select_kmeans(scene.world_from_camera[pool], count)]

    return Subject(group=group, scene=scene, targets=targets, choose_inputs=choose)


def captures(
    directories: list[str], run: RunConfig, max_targets: int, most_inputs: int
) -> list[Subject]:
    """Captures with every 8th frame a target, at most `max_targets` of them, evenly spread.

    Images have about as many pixels as the model was trained with, in their own shape. Raises
    InputError for a directory without cameras or with too few frames for `most_inputs`, and for two
    captures of one name.
    """
    found = [_capture(directory, run, max_targets, most_inputs) for directory in directories]
    names = [subject.group for subject in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError.of(
                "--captures", directories[place],
                f"is named {name!r}, as {directories[names.index(name)]} is",
                "rows go by the name: rename one directory (or its scene_name)",
            )  # fmt: skip
    return found


def _capture(directory: str, run: RunConfig, max_targets: int, most_inputs: int) -> Subject:
    capture = read_capture(directory)
    height, width = capture.image_size()
    trained_height, trained_width = run.data.image_size
    scale = min(1.0, math.sqrt(trained_height * trained_width / (height * width)))
    patch = run.model.patch_size
    size = tuple(max(round(side * scale / patch), 1) * patch for side in (height, width))
    scene = CaptureScene(
        capture, (size[0], size[1]), run.data.capture_resize, run.data.background, use_mask=False
    )
    targets = capture.split(1)[1]
    kept = np.unique(np.linspace(0, len(targets) - 1, min(max_targets, len(targets))).round())

    available = len(capture) - len(targets)
    if most_inputs > available:
        raise InputError.of(
            "--views", most_inputs,
            f"exceeds the {available} frames of {directory} that are inputs", "use fewer",
        )  # fmt: skip

    def choose(count: int) -> np.ndarray:
        return capture.split(count)[0]

    return Subject(
        group=capture.name, scene=scene, targets=targets[kept.astype(int)], choose_inputs=choose
    )
