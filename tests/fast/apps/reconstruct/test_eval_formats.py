"""Files that `eval.py` is asked for: what is refused before the work, and what after it."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tttlrm_jax.apps.reconstruct import camera_files, command, files, gaussian_files
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.export.splats import converted
from tttlrm_jax.export.splats.writable import ExportCount
from tttlrm_jax.mesh import SurfaceMesh


def test_formats_that_are_none():
    for changes, message in (
        ({"save": ("obj",)}, "save=obj is unknown"),
        ({"save": ()}, "names no format"),
        ({"save_mesh": ("stl",)}, "save_mesh=stl is unknown"),
        ({"save_mesh": ()}, r"save_mesh=\(\) names no format; use ply"),
        ({"write_cameras": ("kapture",)}, "write_cameras=kapture is unknown"),
    ):
        with pytest.raises(ConfigError, match=message):
            EvalConfig(**changes)


@pytest.mark.parametrize("name", ["sog", "compressed.ply"])
def test_a_converter_that_is_not_there_is_missed_before_the_work(monkeypatch, capsys, name):
    monkeypatch.setattr(converted.shutil, "which", lambda name: None)
    assert command.main(["--capture", "toy", "--save", "ply", name]) == 2
    err = capsys.readouterr().err
    assert "splat-transform, which makes .sog and .compressed.ply, is not found" in err
    assert err.count("\n") == 1


def test_a_converter_that_fails(monkeypatch, tmp_path):
    """In one sentence, with its own last line."""
    script = tmp_path / "splat-transform"
    script.write_text("#!/bin/sh\necho all is well\necho no device >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(InputError, match=r"failed \(it said: no device\); use \.ply"):
        converted.run([str(script)])
    with pytest.raises(InputError, match="cannot be run"):
        converted.run([str(tmp_path / "none")])


def test_meshes_need_their_extra_before_the_work(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    assert command.main(["--capture", "toy", "--save-mesh", "glb"]) == 2
    err = capsys.readouterr().err
    assert "meshes need trimesh" in err
    assert 'pip install "tttlrm-jax[mesh]"' in err
    assert err.count("\n") == 1


@dataclasses.dataclass
class Scene:
    """Stands in place of a reconstruction that .spz cannot hold."""

    gaussians: None = None
    surface: SurfaceMesh | None = None

    def mesh(self, cameras, *, bar):
        assert cameras == "the capture"
        bar("depth", 2)(2)
        if self.surface is None:
            raise InputError("voxel=0.1 finds no surface in 9 views; use a smaller one")
        return self.surface

    def save(self, path, min_opacity):
        if path.suffix == ".spz":
            raise InputError(".spz: positions reach 9 units; write .ply")
        path.write_bytes(b"x")
        return ExportCount(7, 1, 2, num_clipped=3 if path.suffix == ".splat" else 0)


def test_what_a_format_cannot_hold_keeps_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(gaussian_files, "Reconstruction", Scene)
    config = EvalConfig(save=("spz", "ply", "splat", "ply"))
    job = dataclasses.make_dataclass("Job", ["config"])(config)
    saved = gaussian_files.write_gaussians(tmp_path, job, Scene())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.ply", "scene.splat"]
    assert saved.refused == {
        "scene.spz": "scene.spz was not written: .spz: positions reach 9 units; write .ply."
    }
    assert (saved.num_written, saved.num_invalid) == (7, 1)
    assert saved.notes == [
        "scene.splat: 3 of 7 Gaussians have values beyond the range of the format, which are "
        "brought to its end"
    ]


def mesh_job(*formats):
    config = EvalConfig(save_mesh=formats)
    return dataclasses.make_dataclass("Job", ["config", "capture"])(config, "the capture")


def test_the_mesh_is_written_in_every_format_and_described(monkeypatch, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    monkeypatch.setattr(gaussian_files, "Reconstruction", Scene)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    surface = SurfaceMesh(
        vertices=corners, faces=faces, colours=np.full((4, 3), 9, np.uint8), voxel=0.25,
        notes=("depth: a pixel is as wide as 3 voxels",),
    )  # fmt: skip
    part, notes, refused = gaussian_files.write_surface(
        tmp_path, mesh_job("glb", "obj", "glb"), Scene(surface=surface)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mesh.glb", "mesh.obj"]
    for path in tmp_path.iterdir():
        assert trimesh.load(path, force="mesh", process=False).faces.tolist() == faces.tolist()
    assert part["surface"].pop("seconds") >= 0
    assert part["surface"] == {
        "files": ["mesh.glb", "mesh.obj"], "vertices": 4, "triangles": 4, "watertight": True,
        "voxel": 0.25,
    }  # fmt: skip
    assert notes == ("mesh: depth: a pixel is as wide as 3 voxels",)
    assert refused == {}
    ((name, said),) = gaussian_files.surface_settings(
        {"surface": {**part["surface"], "seconds": 1.0}}
    ).items()
    assert name == "mesh.glb, mesh.obj"
    assert "4 vertices, 4 triangles, watertight, voxels of 0.25 units" in said


def test_a_scene_without_a_surface_keeps_all_else(monkeypatch, tmp_path):
    monkeypatch.setattr(gaussian_files, "Reconstruction", Scene)
    metrics = {"notes": ["first"], "not_saved": {"scene.spz": "x"}}
    evaluated = dataclasses.make_dataclass("Evaluated", ["reconstruction"])(Scene())
    metrics = files.write_mesh(tmp_path, mesh_job("ply"), evaluated, metrics)
    said = "no mesh was written: voxel=0.1 finds no surface in 9 views; use a smaller one."
    assert metrics["not_saved"] == {"scene.spz": "x", "mesh.ply": said}
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_refused_format_ends_the_command_in_words(monkeypatch, capsys, tmp_path):
    """After all else is written and said."""
    told = {"not_saved": {"scene.spz": "scene.spz was not written: it is too far."}}
    monkeypatch.setattr(command, "evaluate", lambda *given: (tmp_path, told))
    monkeypatch.setattr(command, "summary", lambda metrics: "the table")
    assert command.main(["--capture", "toy", "--save", "spz"]) == 2
    out, err = capsys.readouterr()
    assert "the table" in out
    assert err == (f"error: scene.spz was not written: it is too far. All else is in {tmp_path}.\n")


def test_cameras_that_a_format_has_no_place_for(tmp_path, tiny_capture_source):
    """Others are written; the sentence joins what else was not saved."""
    capture = read_capture(tiny_capture_source)
    bent = [dataclasses.replace(each, distortion={"k1": 0.1}) for each in capture.frames]
    job = SimpleNamespace(
        capture=dataclasses.replace(capture, frames=tuple(bent)),
        config=EvalConfig(write_cameras=("opencv", "tum", "opencv")),
        request=SimpleNamespace(inputs=np.arange(2)),
    )
    refused = camera_files.write_all_cameras(tmp_path, job, SimpleNamespace(refinement=None))
    assert list(refused) == ["opencv"]
    assert "Cameras for opencv were not written" in refused["opencv"]
    assert [path.name for path in (tmp_path / "cameras").iterdir()] == ["trajectory_tum.txt"]
    metrics = files._with_refused({"not_saved": {"scene.spz": "too far."}}, refused)
    assert set(metrics["not_saved"]) == {"scene.spz", "opencv"}


def test_a_full_output_is_seen_before_cameras_are_looked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_asked", None)
    (tmp_path / "letter.txt").touch()
    assert command.main(["--capture", "toy", "--output", str(tmp_path)]) == 2
    assert "letter.txt, which this command does not write" in capsys.readouterr().err
