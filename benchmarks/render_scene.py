"""`python -m tttlrm_jax.render` on a scene of millions of Gaussians: seconds and peak memory.

The scene is made, as fits of photographs are: surfaces of a room with spheres in it, sampled
evenly, flat Gaussians along them about as large as their spacing, with a tail of large ones, most
of them nearly opaque, four in ten faint, colours with spherical harmonics. Cameras stand in the
room.

    python -m benchmarks.render_scene --gaussians 3000000 --degree 3 --size 1280 720 --cameras 4
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.arguments import positive
from tttlrm_jax.core.geometry.poses import look_at, rigid_inverse
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.ply import write_ply

ROOM = np.array([8.0, 3.0, 6.0])  # metres; y points down
UP = np.array([0.0, -1.0, 0.0])
SPHERES = 24
OVERLAP = 0.7  # median standard deviation along the surface, in units of the spacing
TAIL = 0.7  # of the logarithm of scales


def main(arguments: list[str] | None = None) -> None:
    """Makes the scene, renders it in a process of its own, prints a row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render_scene", description=__doc__)
    parser.add_argument("--gaussians", type=positive, default=3_000_000)
    parser.add_argument("--degree", type=int, choices=range(4), default=0)
    parser.add_argument("--size", type=positive, nargs=2, default=(1280, 720))
    parser.add_argument("--cameras", type=positive, default=4)
    parser.add_argument("--keep", type=Path, help="folder for the scene and the pictures")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        scene, cameras = place / "room.ply", place / "opencv_cameras.json"
        if not scene.is_file():
            write_ply(scene, made_room(options.gaussians, options.degree))
        write_cameras(cameras, options.cameras, *options.size)
        row = measured(scene, cameras, place / "pictures")
    print(json.dumps({"gaussians": options.gaussians, "degree": options.degree, **row}))


def measured(scene: Path, cameras: Path, output: Path) -> dict:
    """Seconds and memory of the command, apart from this process."""
    command = [sys.executable, "-m", "tttlrm_jax.render", str(scene), "--cameras", str(cameras)]
    begun = time.perf_counter()
    done = subprocess.run(
        [*command, "--output", str(output)], env=os.environ, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "file_mib": round(scene.stat().st_size / 2**20),
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "said": done.stdout.splitlines()[0],
    }


def made_room(count: int, degree: int, seed: int = 0) -> Gaussians:
    """Gaussians [count] of a room with spheres in it, in a shuffled order."""
    rng = np.random.default_rng(seed)
    places, normals, hues = sampled_surfaces(rng, count)
    spacing = np.sqrt(surface_area() / count)
    along = np.log(OVERLAP * spacing) + TAIL * rng.standard_normal((count, 2))
    across = along.min(axis=1, keepdims=True) - 1.5
    coefficients = (degree + 1) ** 2
    sh = 0.05 * rng.standard_normal((count, coefficients, 3))
    sh[:, 0] = (pattern(places, hues) - 0.5) / SH_CONSTANT
    faint = rng.random(count) < 0.4
    logit = np.where(faint, rng.normal(-2, 1, count), rng.normal(3, 1.5, count))
    order = rng.permutation(count)
    turn = quaternion_from_rotation(frames_along(normals, rng))
    numbers = (places, sh, np.concatenate([along, across], axis=1), turn, logit)
    mean, sh, log_scale, quaternion, logit = (x[order].astype(np.float32) for x in numbers)
    return Gaussians(mean, sh, log_scale, quaternion, logit)  # type: ignore[arg-type]


def _spheres() -> tuple[np.ndarray, np.ndarray]:
    """Centres [sphere, 3] and radii."""
    rng = np.random.default_rng(7)
    radius = rng.uniform(0.15, 0.6, SPHERES)
    centre = rng.uniform(-0.45, 0.45, (SPHERES, 3)) * ROOM
    centre[:, 1] = ROOM[1] / 2 - radius  # on the floor
    return centre, radius


def surface_area() -> float:
    width, height, depth = ROOM
    walls = 2 * (width * height + height * depth + width * depth)
    return float(walls + 4 * np.pi * np.sum(_spheres()[1] ** 2))


def sampled_surfaces(rng, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points evenly on all surfaces, their normals, and a hue of the surface that each is on."""
    centre, radius = _spheres()
    width, height, depth = ROOM
    sides = np.repeat([height * depth, width * depth, width * height], 2)
    share = np.concatenate([sides, 4 * np.pi * radius**2])
    which = rng.choice(len(share), count, p=share / share.sum())
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = rng.uniform(-0.5, 0.5, (count, 3)) * ROOM
    axis, sign = which // 2, np.where(which % 2, 1.0, -1.0)
    normals = direction.copy()
    flat = np.flatnonzero(which < 6)
    inside[flat, axis[flat]] = sign[flat] * ROOM[axis[flat]] / 2
    normals[flat] = 0
    normals[flat, axis[flat]] = -sign[flat]
    ball = np.flatnonzero(which >= 6)
    number = which[ball] - 6
    inside[ball] = centre[number] + radius[number, None] * direction[ball]
    return inside, normals, which / len(share)


def pattern(places: np.ndarray, hues: np.ndarray) -> np.ndarray:
    """Colours in [0, 1] [point, 3]: boards and stripes that differ by surface."""
    board = np.sin(6 * places).prod(axis=1, keepdims=True) > 0
    hue = np.stack([np.cos(2 * np.pi * (hues + shift)) for shift in (0, 1 / 3, 2 / 3)], axis=1)
    return np.clip(0.55 + 0.25 * hue + 0.15 * board - 0.1 * np.sin(40 * places), 0, 1)


def frames_along(normals: np.ndarray, rng) -> np.ndarray:
    """Rotations [point, 3, 3] whose third axis is the normal, turned at random about it."""
    hint = rng.standard_normal(normals.shape)
    first = np.cross(normals, hint)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(normals, first), normals], axis=2)


def write_cameras(path: Path, count: int, width: int, height: int) -> None:
    """Cameras on a circle in the room, at the height of eyes, that look across it."""
    angle = 2 * np.pi * np.arange(count) / count
    circle = np.stack([np.cos(angle), np.zeros(count), np.sin(angle)], axis=1)
    poses = look_at(circle * 0.4 * ROOM + [0, -0.1, 0], -circle + [0, 0.4, 0], UP)
    lens = {"fx": 0.6 * width, "fy": 0.6 * width, "cx": width / 2, "cy": height / 2}
    frames = [
        {"file_path": f"{n:03d}.png", "w": width, "h": height, **lens,
         "w2c": rigid_inverse(pose).tolist()}
        for n, pose in enumerate(poses)
    ]  # fmt: skip
    path.write_text(json.dumps({"frames": frames}))


if __name__ == "__main__":
    main()
