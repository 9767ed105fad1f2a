"""Recordings of cameras and data items: `cameras.npz`, `dataset_item.npz`.

float64 quantities must agree to 1e-11 where the reference computed in float64 and to float32
storage (1e-6) elsewhere; resized images to one grey level; choices exactly.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.captures.images import resize
from tttlrm_jax.captures.view_selection import (
    camera_features,
    kmeans,
    select_kmeans,
    select_virtual,
    split_every,
)
from tttlrm_jax.core.geometry.paths import (
    entrywise_path,
    greedy_order,
    interpolate_linear,
    interpolate_poses,
    loop_path,
    turntable,
)
from tttlrm_jax.core.geometry.poses import mean_pose, normalise_poses
from tttlrm_jax.core.geometry.rays import camera_rays, plucker
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation, slerp
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.parity.report import Row, compare

FLOAT64 = 1e-11
FLOAT32 = 3e-6  # a few roundings of float32 arithmetic
STORED = 2e-7  # float64 arithmetic rounded once to float32
GREY_LEVEL = 1.0


def check_cameras(path: Path) -> Iterator[Row]:
    """Every quantity of a `cameras.npz`."""
    recording = dict(np.load(path))
    yield from _check_normalisation(path, recording)
    yield from _check_rays(path, recording)
    yield from _check_kmeans(path, recording)
    yield from _check_resize(path, recording)
    yield from _check_paths(path, recording)


def check_dataset_item(path: Path) -> Iterator[Row]:
    """Both cases of a `dataset_item.npz`: selection, resizing and normalisation in one."""
    recording = dict(np.load(path))
    meta = json.loads(str(recording["meta_json"]))
    for case, options in meta["cases"].items():
        yield from _check_item(path, recording, case, options, meta)


def _check_normalisation(path, recording) -> Iterator[Row]:
    poses = recording["norm/c2w"]
    yield compare(path, "norm/mean_pose", mean_pose(poses), recording["norm/mean_pose"], FLOAT64)
    for method in ("mean_cam", "first_cam"):
        actual, similarity = normalise_poses(poses, method)
        key = f"norm/{method}"
        yield compare(path, f"{key}/c2w", actual, recording[f"{key}/c2w"], FLOAT64)
        yield compare(
            path, f"{key}/inv_scale", similarity.scale, recording[f"{key}/inv_scale"], FLOAT64
        )
        anchor = _recorded_anchor(poses, method)
        yield compare(path, f"{key}/inv_apos", anchor, recording[f"{key}/inv_apos"], FLOAT64)
    single, _ = normalise_poses(poses.astype(np.float32), "mean_cam")
    yield compare(path, "norm/lact_fp32/c2w", single, recording["norm/lact_fp32/c2w"], FLOAT32)


def _recorded_anchor(poses: np.ndarray, method: str) -> np.ndarray:
    """The inverse anchor pose as recorded: for `first_cam` the reference returns the identity."""
    return np.linalg.inv(mean_pose(poses)) if method == "mean_cam" else np.eye(4)


def _check_rays(path, recording) -> Iterator[Row]:
    height, width = recording["rays/ray_o"].shape[-2:]
    cameras = Cameras(
        jnp.asarray(recording["rays/c2w"]), jnp.asarray(recording["rays/fxfycxcy"]), height, width
    )
    channels = np.moveaxis(np.asarray(plucker(*camera_rays(cameras))), -1, -3)
    for index, name in enumerate(("ray_o", "ray_d", "o_cross_d")):
        part = channels[..., 3 * index : 3 * index + 3, :, :]
        yield compare(path, f"rays/{name}", part, recording[f"rays/{name}"], FLOAT32)


def _check_kmeans(path, recording) -> Iterator[Row]:
    poses, frames = recording["kmeans/c2w"], recording["kmeans/input_indices"]
    features = recording["kmeans/features"]
    yield compare(path, "kmeans/features", camera_features(poses), features, FLOAT64)
    for count in recording["kmeans/ks"].tolist():
        key, clusters = f"kmeans/k{count}", kmeans(features, count)
        chosen = select_kmeans(poses, count)
        exact = {
            "indices": np.sort(frames[chosen]),
            "indices_default": chosen,
            "init_indices": clusters.initial,
            "labels": clusters.labels,
            "n_iter": clusters.num_iterations,
        }
        for name, actual in exact.items():
            yield compare(path, f"{key}/{name}", actual, recording[f"{key}/{name}"], 0, "exact")
        expected = recording[f"{key}/cluster_centers"]
        yield compare(path, f"{key}/cluster_centers", clusters.centres, expected, FLOAT64)
        yield compare(
            path, f"{key}/inertia", clusters.inertia, recording[f"{key}/inertia"], FLOAT64
        )
    group = recording["kmeans_separated/true_group"]
    chosen = select_kmeans(recording["kmeans_separated/c2w"], len(np.unique(group)))
    expected = recording["kmeans_separated/indices"]
    yield compare(path, "kmeans_separated/indices", chosen, expected, 0, "exact")
    yield compare(
        path, "kmeans_separated/groups", np.unique(group[chosen]), np.unique(group), 0, "exact"
    )


def _check_resize(path, recording) -> Iterator[Row]:
    for key in sorted(k.removesuffix("/target_size_hw") for k in recording if "size_hw" in k):
        size = tuple(recording[f"{key}/target_size_hw"].tolist())
        for mode in ("tttlrm", "lact"):
            image, lens = resize(
                recording[f"{key}/image"], recording[f"{key}/fxfycxcy"], size, mode
            )
            yield compare(
                path, f"{key}/{mode}/image", image, recording[f"{key}/{mode}/image"],
                GREY_LEVEL, "abs",
            )  # fmt: skip
            expected = recording[f"{key}/{mode}/fxfycxcy"]
            yield compare(path, f"{key}/{mode}/fxfycxcy", lens, expected, FLOAT64)


def _check_paths(path, recording) -> Iterator[Row]:
    poses, lenses = _square(recording["interp/in/c2w"]), recording["interp/in/K"]
    steps = int(recording["interp/in/steps"])
    order = greedy_order(poses)
    made = {
        "plain": (interpolate_poses(poses, steps), interpolate_linear(lenses, steps)),
        "ordered": (
            interpolate_poses(poses[order], steps),
            interpolate_linear(lenses[order], steps),
        ),
        "loop8": loop_path(poses, lenses),
    }
    for name, (path_poses, path_lenses) in made.items():
        key = f"interp/{name}"
        yield compare(path, f"{key}/c2w", path_poses[:, :3], recording[f"{key}/c2w"], FLOAT32)
        yield compare(path, f"{key}/K", path_lenses, recording[f"{key}/K"], FLOAT32)
    quaternions = recording["interp/quaternions_wxyz"]
    own = quaternion_from_rotation(poses[:, :3, :3])
    yield compare(path, "interp/quaternions_wxyz", own, quaternions, FLOAT32)
    between = slerp(quaternions[:-1], quaternions[1:], 0.3)
    yield compare(path, "interp/slerp_0.3", between, recording["interp/slerp_0.3"], FLOAT64)
    yield from _check_lact_paths(path, recording)


def _check_lact_paths(path, recording) -> Iterator[Row]:
    between = int(recording["lact_interp/in/num_views"])
    for name in ("c2w", "fxfycxcy"):
        actual = [entrywise_path(scene, between) for scene in recording[f"lact_interp/in/{name}"]]
        expected = recording[f"lact_interp/{name}"]
        yield compare(path, f"lact_interp/{name}", np.stack(actual), expected, FLOAT32)
    meta = json.loads(str(recording["meta_json"]))["turntable"]
    poses, lenses = turntable(
        meta["num_views"], (meta["h"], meta["w"]), horizontal_fov=meta["hfov"],
        elevation=meta["elevation"], min_radius=meta["min_radius"], max_radius=meta["max_radius"],
    )  # fmt: skip
    for name, actual in (("c2w", poses), ("fxfycxcy", lenses)):
        tiled = np.broadcast_to(actual, (meta["batch_size"], *actual.shape))
        yield compare(path, f"turntable/{name}", tiled, recording[f"turntable/{name}"], FLOAT32)


def _check_item(path, recording, case, options, meta) -> Iterator[Row]:
    poses = np.linalg.inv(recording["in/w2c"])
    candidates, targets = split_every(len(poses), meta["fold_size"])
    inputs = candidates[select_kmeans(poses[candidates], options["nin"])]
    frames = np.concatenate([inputs, targets])
    expected = {
        name.removeprefix(f"{case}/"): value
        for name, value in recording.items()
        if name.startswith(f"{case}/")
    }
    yield compare(path, f"{case}/index", frames, expected["index"][:, 0], 0, "exact")
    yield compare(
        path, f"{case}/num_input_views", len(inputs), expected["num_input_views"], 0, "exact"
    )
    method = options["frame_method"]
    normalised, similarity = normalise_poses(poses[frames], method)
    virtual = np.arange(len(inputs))
    if options["nvirt"] < len(inputs):
        single = normalised[: len(inputs)].astype(np.float32)
        virtual = select_virtual(single, options["nvirt"])
    actual = _resized(recording, frames, tuple(meta["image_size_hw"]))
    actual |= {
        "c2w": normalised,
        "virtual_c2w": normalised[virtual],
        "virtual_fxfycxcy": actual["fxfycxcy"][virtual],
        "scene_scale": similarity.scale,
        "apos": _recorded_anchor(poses[frames], method),
    }
    for name, tolerance, measure in (
        ("image_uint8", GREY_LEVEL, "abs"), ("c2w", STORED, "rel"), ("fxfycxcy", STORED, "rel"),
        ("virtual_c2w", STORED, "rel"), ("virtual_fxfycxcy", STORED, "rel"),
        ("scene_scale", FLOAT64, "rel"), ("apos", FLOAT64, "rel"),
    ):  # fmt: skip
        yield compare(path, f"{case}/{name}", actual[name], expected[name], tolerance, measure)
    yield compare(
        path,
        f"{case}/virtual_input_indices",
        virtual,
        expected["virtual_input_indices"],
        0,
        "exact",
    )


def _resized(recording, frames: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    images, lenses = recording["in/images_uint8"], recording["in/fxfycxcy"]
    pairs = [resize(images[f], lenses[f], size, "tttlrm") for f in frames]
    return {
        "image_uint8": np.moveaxis(np.stack([image for image, _ in pairs]), -1, 1),
        "fxfycxcy": np.stack([lens for _, lens in pairs]),
    }


def _square(poses: np.ndarray) -> np.ndarray:
    """Poses [n, 4, 4] from [n, 3, 4]."""
    bottom = np.broadcast_to(np.array([[[0.0, 0.0, 0.0, 1.0]]]), (len(poses), 1, 4))
    return np.concatenate([np.asarray(poses, np.float64), bottom], axis=1)


KINDS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "cameras.npz": check_cameras,
    "dataset_item.npz": check_dataset_item,
}
