"""PlayCanvas's splat-transform (npm, pinned) reads what is written, and what it writes is read.

Skipped where neither it nor npx is found, or npx cannot fetch it.
"""

import subprocess

import numpy as np
import pytest

from tests.fast.export.test_spz import close, gaussians
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.export.splats.converted import converter
from tttlrm_jax.export.splats.formats import read_splats, write_splats
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.writable import opacity

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def transform():
    """Runs the program on two files."""
    try:
        command = converter()
        version = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=240, check=True
        )
    except (InputError, subprocess.SubprocessError) as error:
        pytest.skip(f"splat-transform cannot be run here: {error}")
    assert "splat-transform" in version.stdout + version.stderr

    def run(source, target, *options):
        done = subprocess.run(
            [*command, "-w", *options, str(source), str(target)], capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return target

    return run


def matched(found, given):
    """`found` in the order of `given`: a program may sort."""
    places = np.asarray(found.mean)
    order = [int(np.argmin(np.abs(places - mean).max(axis=-1))) for mean in given.mean]
    assert len(set(order)) == len(given.mean) == len(found.mean)
    return type(found)(*(
        np.asarray(getattr(found, name))[order]
        for name in ("mean", "sh", "log_scale", "quaternion", "opacity_logit")
    ))  # fmt: skip


@pytest.mark.parametrize("degree", [0, 3])
def test_it_reads_ply(tmp_path, transform, degree):
    given = gaussians(degree=degree)
    write_splats(tmp_path / "ours.ply", given)
    back = matched(read_splats(transform(tmp_path / "ours.ply", tmp_path / "theirs.ply")), given)
    for name in ("mean", "sh", "log_scale", "opacity_logit"):
        np.testing.assert_allclose(getattr(back, name), getattr(given, name), atol=1e-6)


@pytest.mark.parametrize("version", [3, 4])
def test_it_reads_and_writes_spz(tmp_path, transform, version):
    """In the file's axes, both ways: what it makes of a PLY is turned half round x for us."""
    given = gaussians(degree=3)
    write_splats(tmp_path / "ours.spz", given, version=version)
    theirs = read_splats(transform(tmp_path / "ours.spz", tmp_path / "theirs.ply"))
    close(matched(turned_about_x(theirs), given), given)
    write_splats(tmp_path / "ours.ply", given)
    option = ("--spz-version", str(version))
    made = transform(tmp_path / "ours.ply", tmp_path / "made.spz", *option)
    close(matched(turned_about_x(read_splats(made)), given), given)


def test_it_reads_splat(tmp_path, transform):
    given = gaussians(degree=0)
    write_splats(tmp_path / "ours.splat", given)
    back = matched(read_splats(transform(tmp_path / "ours.splat", tmp_path / "out.ply")), given)
    np.testing.assert_allclose(back.mean, given.mean, atol=1e-6)
    np.testing.assert_allclose(back.log_scale, given.log_scale, atol=1e-5)
    np.testing.assert_allclose(back.sh, given.sh, atol=0.5 / 255 / SH_CONSTANT + 1e-5)
    same_turns(back, given, atol=0.03)


def test_its_glb_is_read(tmp_path, transform):
    """Half a turn about y apart: it makes z forward of what we make z backward, y up in both."""
    given = gaussians(degree=3)
    write_splats(tmp_path / "ours.ply", given)
    read = read_splats(transform(tmp_path / "ours.ply", tmp_path / "theirs.glb"))
    about_y = PoseNormalisation(
        rotation=np.diag([-1.0, 1.0, -1.0]), translation=np.zeros(3), scale=1.0
    )
    back = matched(transform_gaussians(read, about_y), given)
    np.testing.assert_allclose(back.mean, given.mean, atol=1e-5)
    np.testing.assert_allclose(back.sh, given.sh, atol=1e-4)
    np.testing.assert_allclose(back.log_scale, given.log_scale, atol=1e-4)
    same_turns(back, given, atol=1e-4)


@pytest.mark.parametrize("suffix", [".sog", ".compressed.ply"])
def test_what_it_makes_of_ours_comes_back(tmp_path, transform, suffix):
    """Through `write_splats` and `read_splats`, within the precision of its formats."""
    given = gaussians(count=200, degree=1)
    path = tmp_path / f"scene{suffix}"
    assert write_splats(path, given).num_written == 200
    back = matched(read_splats(path), given)
    np.testing.assert_allclose(back.mean, given.mean, atol=2e-3)
    np.testing.assert_allclose(opacity(back.opacity_logit), opacity(given.opacity_logit), atol=0.01)
    same_turns(back, given, atol=0.05)
    np.testing.assert_allclose(back.log_scale, given.log_scale, atol=0.1)
    np.testing.assert_allclose(back.sh[:, 0], given.sh[:, 0], atol=0.05)


def same_turns(found, given, atol):
    """Of ellipsoids, which half a turn about an axis of their own leaves as they are."""
    turns = [rotation_from_unit_quaternion(unit(each.quaternion)) for each in (found, given)]
    shapes = [turn @ np.diag([0.2, 0.6, 1.0]) @ np.swapaxes(turn, -1, -2) for turn in turns]
    np.testing.assert_allclose(*shapes, atol=atol)


def unit(quaternion):
    quaternion = np.asarray(quaternion, np.float64)
    return quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
