"""Recordings of what surrounds TTT3R's network: metrics, cameras, chunks, preprocessing.

Errors are |a - b| / (1 + |b|), largest over a quantity, as the recordings define their
tolerances; choices are exact. Ours is float64 where the reference is float32 in places.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.core.geometry.alignment import (
    median_frame,
    placed_by_medians,
    transform_points,
    umeyama,
    weighted_rigid_fit,
)
from tttlrm_jax.core.geometry.pointmaps import median_focal, ray_map, weiszfeld_focal
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.metrics.depth import (
    align_depth,
    depth_errors,
    score_depth,
    valid_pixels,
    weighted_average,
)
from tttlrm_jax.metrics.point_clouds import compare_clouds, estimate_normals, icp, voxel_downsample
from tttlrm_jax.metrics.resample import resize_cubic
from tttlrm_jax.metrics.trajectory import trajectory_errors
from tttlrm_jax.models.ttt3r_schedule import PoseChain, schedule
from tttlrm_jax.parity.recording import Recording
from tttlrm_jax.parity.report import Row
from tttlrm_jax.sequences.frame_images import plan_fit

STORED64 = 1e-9  # the reference computed in float64 as well
STORED32 = 1e-5  # rounded to float32, or computed in it
UNCONVERGED = 1e-2  # ten reweighted steps; the last digits depend on summation order
ADAM = 2e-3
GREY_LEVEL = 1.0
DEPTH_TOLERANCES = {
    "metric": STORED32, "scale": UNCONVERGED, "scale_shift": ADAM, "median": STORED32,
}  # fmt: skip
MEASURE = "1+rel"
ROW = "[mean,median,nc_mean,nc_median]"


def _recorded(recording: Recording, case: str, made: dict, tolerance: float) -> Iterator[Row]:
    """A row for each of our values that the recording holds."""
    return recording.compare_all(made, tolerance, MEASURE, f"{case}/", optional=True)


def check_pose_metrics(recording: Recording) -> Iterator[Row]:
    """Every trajectory of a `metrics_pose.npz`, and alignments of mirrored points."""
    for case in recording.cases("/pred_c2w"):
        errors = trajectory_errors(recording[f"{case}/pred_c2w"], recording[f"{case}/gt_c2w"])
        made = {
            "ate_rmse": errors.ate,
            "rpe_trans_rmse": errors.rpe_translation,
            "rpe_rot_deg_rmse": errors.rpe_rotation,
            "align_R": errors.alignment.rotation,
            "align_t": errors.alignment.translation,
            "align_s": errors.alignment.scale,
            "aligned_xyz": errors.aligned[:, :3, 3],
        }
        yield from _recorded(recording, case, made, STORED64)
    for case in recording.cases("/x"):
        points = recording[f"{case}/x"].T, recording[f"{case}/y"].T
        scaled, rigid = umeyama(*points), umeyama(*points, with_scale=False)
        made = {
            "R": scaled.rotation, "t": scaled.translation, "s": scaled.scale,
            "R_noscale": rigid.rotation, "t_noscale": rigid.translation,
        }  # fmt: skip
        yield from _recorded(recording, case, made, STORED64)


def check_depth_metrics(recording: Recording) -> Iterator[Row]:
    """Every alignment and limit of a `metrics_depth.npz`, aggregates, cubic resizing."""
    predicted = recording["pred"]
    for key in recording.arrays:
        kind, *rest = key.split("/")
        if kind not in ("gt32", "gt64") or len(rest) != 2:
            continue
        true = recording["gt"].astype(np.float32 if kind == "gt32" else np.float64)
        alignment: Any = rest[0]
        max_depth, clip = _limits(rest[1])
        pixels = valid_pixels(predicted, true, max_depth)
        scale, shift = align_depth(*pixels, alignment)
        tolerance = DEPTH_TOLERANCES[alignment]
        errors = score_depth(*pixels, scale, shift, clip)
        yield recording.compare(key, errors.row(), tolerance, MEASURE)
        aligned = {"aligned_pred": scale * predicted + shift}
        yield from _recorded(recording, key, aligned, tolerance)
    if "aggregate/n_frames" in recording:
        yield from _check_aggregate(recording)
    for case in recording.cases("/scale"):
        pixels = valid_pixels(recording[f"{case}/pred"], recording[f"{case}/gt"])
        errors = depth_errors(*pixels, "scale")
        made = {
            "scale": align_depth(*pixels, "scale")[0],
            "abs_rel": errors.abs_rel,
            "delta125": errors.delta[1],
        }
        yield from _recorded(recording, case, made, STORED32)
    for case in recording.cases("/input"):
        resized = resize_cubic(recording[f"{case}/input"], recording[f"{case}/output"].shape)
        yield recording.compare(f"{case}/output", resized, STORED32, MEASURE)


def _limits(name: str) -> tuple[float | None, ...]:
    """Limit of the true depth and clip of the predicted one, as in `max70_clip70`, `nomax`."""
    found = [re.search(rf"(?:^|_){kind}([^_]+)", name) for kind in ("max", "clip")]
    return tuple(float(match[1]) if match else None for match in found)


def _check_aggregate(recording: Recording) -> Iterator[Row]:
    errors = []
    scales = recording["aggregate/pred_scale"].tolist()
    for frames, factor in zip(recording["aggregate/n_frames"].tolist(), scales, strict=True):
        predicted = recording["pred"][:frames] * np.float32(factor)
        errors.append(depth_errors(*valid_pixels(predicted, recording["gt"][:frames], 70.0)))
    mean = weighted_average(errors)
    made = {"abs_rel": mean.abs_rel, "delta125": mean.delta[1]}
    yield from _recorded(recording, "aggregate", made, UNCONVERGED)


def check_reconstruction_metrics(recording: Recording) -> Iterator[Row]:
    """Distances, the ICP chain, voxels and the alignment of pointmaps."""
    for case in recording.cases("/pred_normals"):
        names = ("pred", "pred_normals", "gt", "gt_normals")
        clouds = [recording[f"{case}/{name}"] for name in names]
        yield from _check_distances(recording, case, clouds, STORED64)
    for case in recording.cases("/pred_in"):
        yield from _check_icp(recording, case)
    for case in recording.cases("/points_sorted"):
        yield _check_voxels(recording, case)
    for case in recording.cases("/gt_world"):
        yield from _check_pointmaps(recording, case)


def _check_distances(
    recording: Recording, case: str, clouds: Sequence[np.ndarray], normal_tolerance: float
) -> Iterator[Row]:
    """Distances to what float64 keeps, agreement of normals to what the normals are known to.

    `clouds`: predicted points and normals, true points and normals.
    """
    errors = compare_clouds(*clouds)
    for name, found in (("accuracy", errors.accuracy), ("completion", errors.completion)):
        key = f"{case}/{name}{ROW}"
        if key not in recording:
            continue
        for part, which, tolerance in (
            (slice(2), "distances", STORED64), (slice(2, None), "normals", normal_tolerance)
        ):  # fmt: skip
            own, expected = found.row()[part], recording[key][part]
            yield recording.compare(f"{key} {which}", own, tolerance, MEASURE, expected)


def _check_icp(recording: Recording, case: str) -> Iterator[Row]:
    source, target = recording[f"{case}/pred_in"], recording[f"{case}/gt"]
    found = icp(source, target, float(recording[f"{case}/threshold"]))
    moved = transform_points(found.transform, source)
    made = {
        "transformation": found.transform,
        "fitness": found.fitness,
        "inlier_rmse": found.inlier_rmse,
        "pred_out": moved,
    }
    yield from _recorded(recording, case, made, STORED64)
    clouds = []
    for kind, points in (("pred", moved), ("gt", target)):
        key, own = f"{case}/{kind}_normals_knn30", estimate_normals(points)
        sign = np.where(np.sum(own * recording[key], axis=1, keepdims=True) < 0, -1.0, 1.0)
        yield recording.compare(key, sign * own, STORED32, MEASURE)
        clouds += [points, own]
    yield from _check_distances(recording, case, clouds, STORED32)


def _check_voxels(recording: Recording, case: str) -> Row:
    """The cloud that was sampled is the one of `simple/pred`."""
    key = f"{case}/points_sorted"
    cloud = recording[f"{case}/points_in" if f"{case}/points_in" in recording else "simple/pred"]
    own, expected = voxel_downsample(cloud, float(recording[f"{case}/size"])), recording[key]
    own, expected = (points[np.lexsort(points.T[::-1])] for points in (own, expected))
    return recording.compare(key, own, STORED64, MEASURE, expected)


def _check_pointmaps(recording: Recording, case: str) -> Iterator[Row]:
    first = recording[f"{case}/gt_c2w"][0].astype(np.float64)
    true = transform_points(np.linalg.inv(first), recording[f"{case}/gt_world"])
    predicted, valid = recording[f"{case}/pred"].astype(np.float64), recording[f"{case}/valid"]
    own, wanted = median_frame(predicted[valid]), median_frame(true[valid])
    made = {
        "gt_out": placed_by_medians(true, wanted, (0.0, wanted[1])),
        "pred_out": placed_by_medians(predicted, own, (0.0, wanted[1])),
        "gt_scale": wanted[1],
        "pred_scale": own[1],
        "gt_shift_z": wanted[0],
        "pred_shift_z": own[0],
        "pred_world_final": transform_points(first, placed_by_medians(predicted, own, wanted)),
        "gt_world_final": recording[f"{case}/gt_world"],
    }
    yield from _recorded(recording, case, made, STORED32)


def check_camera_utils(recording: Recording) -> Iterator[Row]:
    """Focal lengths, weighted rigid fit, ray map, the chunks of the demo."""
    points, middle = recording["focal/pts3d"], recording["focal/pp"]
    made = {"weiszfeld": weiszfeld_focal(points, middle), "median": median_focal(points, middle)}
    yield from _recorded(recording, "focal", made, STORED32)
    fit = weighted_rigid_fit(*(recording[f"procrustes/{name}"] for name in ("A", "B", "w")))
    yield from _recorded(recording, "procrustes", {"T": fit}, STORED32)
    moved = transform_points(recording["geotrf/T"], recording["geotrf/pts"])
    yield from _recorded(recording, "geotrf", {"out": moved}, STORED32)
    given = (recording[f"raymap/{name}"] for name in ("c2w_first", "c2w_view", "K"))
    height, width = recording["raymap/out"].shape[:2]
    rays = ray_map(*given, height=height, width=width)
    yield from _recorded(recording, "raymap", {"out": rays}, STORED32)
    yield from _check_chunks(recording)


def _check_chunks(recording: Recording) -> Iterator[Row]:
    count = int(recording["chunks/n_images"])
    visits = list(schedule(count, reset_every=int(recording["chunks/reset_interval"])))
    order = {
        "view_image_index": [visit.index for visit in visits],
        "view_reset": [visit.reset for visit in visits],
    }
    yield from recording.compare_all(order, measure="exact", prefix="chunks/")
    chain, kept = PoseChain(), []
    encodings = recording["chunks/camera_pose_per_view"]
    for index, visit in enumerate(visits):
        pose = chain.advance(np.asarray(matrix_from_encoding(encodings[index])), visit.reset)
        if visit.keep:
            kept.append((index, pose))
    views, poses = [index for index, _ in kept], np.stack([pose for _, pose in kept])
    points = recording["chunks/pts3d_in_self_view"][views]
    middle = np.array([points.shape[2] // 2, points.shape[1] // 2])
    made = {
        "out_R": poses[:, :3, :3],
        "out_t": poses[:, :3, 3],
        "out_focal": weiszfeld_focal(points, middle),
        "out_pp": np.tile(middle, (count, 1)),
        "out_pts_world": transform_points(poses, points),
    }
    yield from _recorded(recording, "chunks", made, STORED32)


def check_preprocess(recording: Recording) -> Iterator[Row]:
    """Fitted pictures in both modes; a case without `eval_nocrop_u8` has no resize mode."""
    for case in recording.cases("/input_u8"):
        picture, size = recording[f"{case}/input_u8"], int(recording[f"{case}/size"])
        fit = plan_fit(*picture.shape[:2], size)
        yield recording.compare(f"{case}/true_shape", [list(fit.output)], measure="exact")
        yield recording.compare(f"{case}/demo_u8", fit.image(picture), GREY_LEVEL, "abs")
        if f"{case}/eval_nocrop_u8" in recording:
            squeezed = plan_fit(*picture.shape[:2], size, "resize").image(picture)
            yield recording.compare(f"{case}/eval_nocrop_u8", squeezed, GREY_LEVEL, "abs")
