"""What is said of an improvement: too few views, too little memory, cameras and exposures."""

import types

import numpy as np
import pytest

from tttlrm_jax.apps.reconstruct.refined_files import refined_notes, refined_settings
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.per_scene import Improved
from tttlrm_jax.per_scene.memory import room_for


def record(**changes):
    cameras = Cameras(np.zeros((3, 4, 4)), np.zeros((3, 4)), 64, 64)
    room = room_for(10**6, 8, 2, Views(np.zeros((3, 64, 64, 3)), cameras), 0.5)
    nothing = dict.fromkeys(Improved.__dataclass_fields__)
    gaussians = Gaussians(*[np.zeros((0, 3))] * 5)
    return Improved(
        **nothing | {"gaussians": gaussians, "held_back": (1,), "num_dropped": 0, "room": room}
        | changes
    )  # fmt: skip


def notes(refinement, numbers=(0, 1, 2), **options):
    frames = [types.SimpleNamespace(number=number) for number in numbers]
    job = types.SimpleNamespace(
        config=EvalConfig(seconds=1.0, memory_limit=0.5, **options),
        scene=types.SimpleNamespace(input_names=["a", "b"], read_points=lambda: None),
        capture=types.SimpleNamespace(frames=frames, points_file=None),
    )
    return refined_notes(job, types.SimpleNamespace(refinement=refinement))


def test_limits_are_said():
    said = notes(record(held_back=(), num_dropped=7))
    assert len(said) == 3
    assert "2 input views are too few to hold one back" in said[0]
    assert "memory_limit=0.5 GiB leaves room for " in said[1]
    assert "in place of 1000000" in said[1]
    assert "no room (--memory-limit) for 7 intersections" in said[2]
    assert len(notes(record())) == 1
    assert notes(None) == []


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("refine_cameras", "scored at the cameras that were given"),
        ("exposure", "scored as drawn, and psnr_colour_aligned is with a gain"),
    ],
)
def test_what_targets_are_scored_with_is_said(option, text):
    assert text in notes(record(), **{option: True})[-1]


def test_refined_cameras_of_a_capture_that_lacks_frames_have_other_targets():
    said = notes(record(), numbers=(0, 2), refine_cameras=True)[-1]
    assert "transforms.json numbers its frames anew" in said
    assert "anew" not in notes(record(), numbers=(0, 1), refine_cameras=True)[-1]  # the last lacks


def test_refused_growth_is_in_the_report():
    improved = {
        "steps": 3, "psnr_before": 20.0, "ssim_before": 0.5, "held_back": [], "start": "points",
        "ended": "seconds", "sh_degree": 2, "max_gaussians": 16384, "num_refused": 38_171,
        "bytes_estimated": 30 * 2**20,
    }  # fmt: skip
    metrics = {
        "post_optimize": improved, "seconds": {"post_optimize": 1.0, "post_optimize_compile": 2.0}
    }  # fmt: skip
    assert refined_settings(metrics)["room for Gaussians"] == (
        "16384 with spherical harmonics of degree 2, about 30 MiB; 38171 times there was none for "
        "a new one (--max-gaussians)"
    )
    improved |= {"held_back": ["a.png"], "best": {"step": 0, "psnr": None}, "ended": "interrupted"}
    said = refined_settings(metrics)["refined on the inputs"]  # before the first look
    assert "but a.png, which judge; interrupted in 1.00 s" in said
    improved["best"]["psnr"] = 21.0
    assert (
        "which judge: step 0 is kept, with 21.00 dB"
        in refined_settings(metrics)["refined on the inputs"]
    )
    improved["num_refused"] = 0
    assert refined_settings(metrics)["room for Gaussians"].endswith("about 30 MiB: enough")
