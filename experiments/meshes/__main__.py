"""Meshes of held-out sculptures against their exact surfaces: one table, and pictures.

    python -m experiments.meshes --objects 4 --output outputs/meshes

Rows are means over objects: exact depth fused (all around, and in the capture's own cameras),
Gaussians of the weights in the package, the same refined, and Gaussians from nothing. Distances
are in the units of the objects, which lie in the unit ball.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image

import tttlrm_jax as tj
from experiments.meshes.objects import Sculpture, picture
from experiments.meshes.scores import SAMPLES, sample_surface, surface_scores
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.mesh import SurfaceMesh, mesh_of_views

PICTURED = (1, 4)  # cameras, of eight around an object


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared."""

    objects: int = 4
    first: int = 0  # number of the first object
    views: int = 16  # inputs
    frames: int = 24  # of a capture; every 8th is held out
    side: int = 128  # pixels of its pictures
    seconds: float = 20.0  # of refining, and of fits from nothing
    steps: int = 100_000  # of a fit from nothing, at most
    voxel: float = 0.0125
    within: float = 0.02  # distance of the F-score
    depths: tuple[Literal["median", "expected"], ...] = ("median", "expected")
    pictured_side: int = 256
    output: Path = Path("outputs/meshes")


Method = tuple[str, Callable[[], SurfaceMesh]]


def main() -> None:
    study = tyro.cli(Study)
    study.output.mkdir(parents=True, exist_ok=True)
    synthetic = SyntheticConfig(
        generator="sculptures", split="eval", num_views=study.frames, height=study.side,
        width=study.side,
    )  # fmt: skip
    rows: dict[str, list[dict[str, float]]] = {}
    for index in range(study.first, study.first + study.objects):
        sculpture = Sculpture.make(index, synthetic)
        surface = sculpture.scene.surface
        shown = [strip(surface.vertices, surface.triangles, None, study)]
        for name, make in methods(sculpture, study):
            start = time.perf_counter()
            mesh = make()
            row = scored(mesh, sculpture, study) | {"seconds": time.perf_counter() - start}
            rows.setdefault(name, []).append(row)
            shown.append(strip(mesh.vertices, mesh.faces, mesh.colours, study))
            print(index, name, {k: round(v, 4) for k, v in row.items()}, flush=True)
        Image.fromarray(np.concatenate(shown, axis=1)).save(study.output / f"object{index}.png")
        (study.output / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows, study))


def methods(sculpture: Sculpture, study: Study) -> Iterator[Method]:
    """Every way to a mesh of an object, by name."""
    config = SurfaceConfig(voxel=study.voxel)
    yield "exact depth, 64 cameras", lambda: mesh_of_views(sculpture.all_around(64, 512), config)
    yield "exact depth, the capture's", lambda: mesh_of_views(sculpture.depth_views(), config)
    with tempfile.TemporaryDirectory() as folder:
        capture: Any = tj.open_capture(sculpture.write(Path(folder) / "object"))
        scene: Any = tj.load().reconstruct(capture, views=study.views)
        yield from of_scene("feed-forward", scene, study)
        size = (study.side, study.side)
        refined, record = scene.refine(seconds=study.seconds, resolution=size)
        print("refined", len(record.losses), "steps", refined.scores(), file=sys.stderr)
        yield from of_scene("refined", refined, study)
        fitted, record = tj.fit(capture, study.views, seconds=study.seconds, steps=study.steps)
        print("fitted", len(record.losses), "steps", fitted.scores(), file=sys.stderr)
        yield from of_scene("from nothing", fitted, study)


def of_scene(name: str, scene: tj.Reconstruction, study: Study) -> Iterator[Method]:
    for depth in study.depths:
        yield f"{name}, {depth}", lambda depth=depth: scene.mesh(voxel=study.voxel, depth=depth)


def scored(mesh: SurfaceMesh, sculpture: Sculpture, study: Study) -> dict[str, float]:
    points, normals = sample_surface(mesh.vertices, mesh.faces, SAMPLES, np.random.default_rng(1))
    true_points, true_normals = sculpture.outside
    chosen = np.random.default_rng(2).choice(len(true_points), min(SAMPLES, len(true_points)),
                                             replace=False)  # fmt: skip
    scores = surface_scores(
        points, normals, true_points[chosen], true_normals[chosen], study.within
    )
    return dataclasses.asdict(scores) | {"faces": float(len(mesh.faces))}


def strip(vertices, faces, colours, study: Study) -> np.ndarray:
    """Pictures of triangles from some sides, below one another."""
    side = study.pictured_side
    return np.concatenate([picture(vertices, faces, colours, n, side) for n in PICTURED])


def table(rows: dict[str, list[dict[str, float]]], study: Study) -> str:
    """Markdown: means over objects, lengths in thousandths of the unit."""
    head = (
        "| mesh of | accuracy | completion | Chamfer | F-score within "
        f"{1000 * study.within:g} | normals |\n|---|---|---|---|---|---|"
    )
    lines = [head]
    for name, found in rows.items():
        mean = {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        lengths = (f"{1000 * mean[key]:.1f}" for key in ("accuracy", "completion", "chamfer"))
        lines.append(
            f"| {name} | {' | '.join(lengths)} | {100 * mean['f_score']:.1f} % | "
            f"{mean['normal_consistency']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
