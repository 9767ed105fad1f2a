"""Recordings of cameras and data items: `cameras.npz`, `dataset_item.npz`.

float64 quantities must agree to 1e-11 where the reference computed in float64 and to float32
storage (1e-6) elsewhere; resized images to one grey level; choices exactly.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.captures.pictures.images import resize
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
from tttlrm_jax.parity.recording import Recording, quick_jit
from tttlrm_jax.parity.report import Row

FLOAT64 = 1e-11
FLOAT32 = 3e-6  # a few roundings of float32 arithmetic
STORED = 2e-7  # float64 arithmetic rounded once to float32
GREY_LEVEL = 1.0


def check_cameras(recording: Recording) -> Iterator[Row]:
    """Every quantity of a `cameras.npz`."""
    yield from _check_normalisation(recording)
    yield from _check_rays(recording)
    yield from _check_kmeans(recording)
    yield from _check_resize(recording)
    yield from _check_paths(recording)
    yield from _check_lact_paths(recording)


def _check_normalisation(recording: Recording) -> Iterator[Row]:
    poses = recording["norm/c2w"]
    yield recording.compare("norm/mean_pose", mean_pose(poses), FLOAT64)
    for method in ("mean_cam", "first_cam"):
        actual, similarity = normalise_poses(poses, method)
        made = {
            "c2w": actual,
            "inv_scale": similarity.scale,
            "inv_apos": _recorded_anchor(poses, method),
        }
        yield from recording.compare_all(made, FLOAT64, prefix=f"norm/{method}/")
    single, _ = normalise_poses(poses.astype(np.float32), "mean_cam")
    yield recording.compare("norm/lact_fp32/c2w", single, FLOAT32)


def _recorded_anchor(poses: np.ndarray, method: str) -> np.ndarray:
    """The inverse anchor pose as recorded: for `first_cam` the reference returns the identity."""
    return np.linalg.inv(mean_pose(poses)) if method == "mean_cam" else np.eye(4)


def _check_rays(recording: Recording) -> Iterator[Row]:
    height, width = recording["rays/ray_o"].shape[-2:]
    given = (jnp.asarray(recording[f"rays/{key}"]) for key in ("c2w", "fxfycxcy"))
    rays = quick_jit(lambda cameras: plucker(*camera_rays(cameras)))(
        Cameras(*given, height=height, width=width)
    )
    parts = np.split(np.moveaxis(np.asarray(rays), -1, -3), 3, axis=-3)
    names = ("ray_o", "ray_d", "o_cross_d")
    yield from recording.compare_all(dict(zip(names, parts, strict=True)), FLOAT32, prefix="rays/")


def _check_kmeans(recording: Recording) -> Iterator[Row]:
    from sklearn.cluster import kmeans_plusplus

    poses, frames = recording["kmeans/c2w"], recording["kmeans/input_indices"]
    features = recording["kmeans/features"]
    yield recording.compare("kmeans/features", camera_features(poses), FLOAT64)
    centred = features - features.mean(axis=0)
    for count in recording["kmeans/ks"].tolist():
        clusters, chosen = kmeans(features, count), select_kmeans(poses, count)
        exact = {
            "indices": np.sort(frames[chosen]),
            "indices_default": chosen,
            "init_indices": kmeans_plusplus(centred, count, random_state=0)[1],
            "labels": clusters.labels_,
            "n_iter": clusters.n_iter_,
        }
        close = {"cluster_centers": clusters.cluster_centers_, "inertia": clusters.inertia_}
        prefix = f"kmeans/k{count}/"
        yield from recording.compare_all(exact, measure="exact", prefix=prefix)
        yield from recording.compare_all(close, FLOAT64, prefix=prefix)
    group = recording["kmeans_separated/true_group"]
    groups = np.unique(group)
    chosen = select_kmeans(recording["kmeans_separated/c2w"], len(groups))
    yield recording.compare("kmeans_separated/indices", chosen, measure="exact")
    found = np.unique(group[chosen])
    yield recording.compare("kmeans_separated/groups", found, measure="exact", expected=groups)


def _check_resize(recording: Recording) -> Iterator[Row]:
    for key in sorted(recording.cases("/target_size_hw")):
        size = tuple(recording[f"{key}/target_size_hw"].tolist())
        picture = recording[f"{key}/image"], recording[f"{key}/fxfycxcy"]
        for mode in ("tttlrm", "lact"):
            image, lens = resize(*picture, size, mode)
            yield recording.compare(f"{key}/{mode}/image", image, GREY_LEVEL, "abs")
            yield recording.compare(f"{key}/{mode}/fxfycxcy", lens, FLOAT64)


def _check_paths(recording: Recording) -> Iterator[Row]:
    poses, lenses = _square(recording["interp/in/c2w"]), recording["interp/in/K"]
    steps, order = int(recording["interp/in/steps"]), greedy_order(poses)

    def between(poses, lenses):
        return interpolate_poses(poses, steps), interpolate_linear(lenses, steps)

    made = {
        "plain": between(poses, lenses),
        "ordered": between(poses[order], lenses[order]),
        "loop8": loop_path(poses, lenses),
    }
    for name, (path_poses, path_lenses) in made.items():
        path = {"c2w": path_poses[:, :3], "K": path_lenses}
        yield from recording.compare_all(path, FLOAT32, prefix=f"interp/{name}/")
    own = quaternion_from_rotation(poses[:, :3, :3])
    yield recording.compare("interp/quaternions_wxyz", own, FLOAT32)
    quaternions = recording["interp/quaternions_wxyz"]
    mixed = slerp(quaternions[:-1], quaternions[1:], 0.3)
    yield recording.compare("interp/slerp_0.3", mixed, FLOAT64)


def _check_lact_paths(recording: Recording) -> Iterator[Row]:
    between = int(recording["lact_interp/in/num_views"])
    for name in ("c2w", "fxfycxcy"):
        actual = [entrywise_path(scene, between) for scene in recording[f"lact_interp/in/{name}"]]
        yield recording.compare(f"lact_interp/{name}", np.stack(actual), FLOAT32)
    meta = recording.meta["turntable"]
    poses, lenses = turntable(
        meta["num_views"], (meta["h"], meta["w"]), horizontal_fov=meta["hfov"],
        elevation=meta["elevation"], min_radius=meta["min_radius"], max_radius=meta["max_radius"],
    )  # fmt: skip
    for name, actual in (("c2w", poses), ("fxfycxcy", lenses)):
        tiled = np.broadcast_to(actual, (meta["batch_size"], *actual.shape))
        yield recording.compare(f"turntable/{name}", tiled, FLOAT32)


def check_dataset_item(recording: Recording) -> Iterator[Row]:
    """Both cases of a `dataset_item.npz`: selection, resizing and normalisation in one."""
    meta, poses = recording.meta, np.linalg.inv(recording["in/w2c"])
    candidates, targets = split_every(len(poses), meta["fold_size"])
    for case, options in meta["cases"].items():
        inputs = candidates[select_kmeans(poses[candidates], options["nin"])]
        frames, method = np.concatenate([inputs, targets]), options["frame_method"]
        normalised, similarity = normalise_poses(poses[frames], method)
        virtual = np.arange(len(inputs))
        if options["nvirt"] < len(inputs):
            single = normalised[: len(inputs)].astype(np.float32)
            virtual = select_virtual(single, options["nvirt"])
        images, lenses = _resized(recording, frames, tuple(meta["image_size_hw"]))
        stored = {
            "c2w": normalised,
            "fxfycxcy": lenses,
            "virtual_c2w": normalised[virtual],
            "virtual_fxfycxcy": lenses[virtual],
        }
        computed = {
            "scene_scale": similarity.scale,
            "apos": _recorded_anchor(poses[frames], method),
        }
        exact = {"num_input_views": len(inputs), "virtual_input_indices": virtual}
        index = recording[f"{case}/index"][:, 0]
        yield recording.compare(f"{case}/index", frames, measure="exact", expected=index)
        yield recording.compare(f"{case}/image_uint8", images, GREY_LEVEL, "abs")
        yield from recording.compare_all(stored, STORED, prefix=f"{case}/")
        yield from recording.compare_all(computed, FLOAT64, prefix=f"{case}/")
        yield from recording.compare_all(exact, measure="exact", prefix=f"{case}/")


def _resized(recording: Recording, frames: np.ndarray, size: tuple[int, int]):
    """Images [frame, channel, height, width] and intrinsics [frame, 4]."""
    images, lenses = recording["in/images_uint8"], recording["in/fxfycxcy"]
    pairs = [resize(images[f], lenses[f], size, "tttlrm") for f in frames]
    images, lenses = (np.stack(each) for each in zip(*pairs, strict=True))
    return np.moveaxis(images, -1, 1), lenses


def _square(poses: np.ndarray) -> np.ndarray:
    """Poses [n, 4, 4] from [n, 3, 4]."""
    bottom = np.broadcast_to(np.array([[[0.0, 0.0, 0.0, 1.0]]]), (len(poses), 1, 4))
    return np.concatenate([np.asarray(poses, np.float64), bottom], axis=1)
