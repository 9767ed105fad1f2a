"""`--save` and `--write-cameras`: what is refused before the work, and what after it."""

import dataclasses

import pytest

from tttlrm_jax.apps.reconstruct import command, gaussian_files
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.export.splats import converted
from tttlrm_jax.export.splats.writable import ExportCount


def test_formats_that_are_none():
    for changes, message in (
        ({"save": ("obj",)}, "save=obj is unknown"),
        ({"save": ()}, "names no format"),
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


@dataclasses.dataclass
class Scene:
    """Stands in place of a reconstruction that .spz cannot hold."""

    gaussians: None = None

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


def test_a_refused_format_ends_the_command_in_words(monkeypatch, capsys, tmp_path):
    """After all else is written and said."""
    told = {"not_saved": {"scene.spz": "scene.spz was not written: it is too far."}}
    monkeypatch.setattr(command, "evaluate", lambda *given: (tmp_path, told))
    monkeypatch.setattr(command, "summary", lambda metrics: "the table")
    assert command.main(["--capture", "toy", "--save", "spz"]) == 2
    out, err = capsys.readouterr()
    assert "the table" in out
    assert err == (f"error: scene.spz was not written: it is too far. All else is in {tmp_path}.\n")
