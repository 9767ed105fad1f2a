"""What is written is read by other people's programs, within the format's own precision.

GaussForge (C++, with Niantic's own reader of .spz) and pygltflib are pinned in `test`; what needs
Node.js is in tests/slow/export.
"""

import numpy as np
import pytest

from tests.fast.export.test_spz import close, gaussians
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import write_splats
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.writable import importance_order


def with_gaussforge(path, kind):
    """As it reads a file: in the file's axes."""
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not there")
    found = gaussforge.GaussForge().read(path.read_bytes(), kind)["data"]
    count = found["numPoints"]

    def values(name, *shape):
        return np.frombuffer(found[name], "<f4").reshape(count, *shape)

    base, rest = values("colors", 1, 3), values("sh", -1, 3)
    return Gaussians(
        mean=values("positions", 3), sh=np.concatenate([base, rest], axis=1),
        log_scale=values("scales", 3), quaternion=values("rotations", 4),
        opacity_logit=values("alphas"),
    )  # fmt: skip


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_gaussforge_reads_ply(tmp_path, degree):
    given = gaussians(degree=degree)
    write_splats(tmp_path / "scene.ply", given)
    found = with_gaussforge(tmp_path / "scene.ply", "ply")
    for field in ("mean", "sh", "log_scale", "opacity_logit"):
        np.testing.assert_array_equal(getattr(found, field), getattr(given, field))
    np.testing.assert_allclose(found.quaternion, given.quaternion, atol=1e-7)


@pytest.mark.parametrize(
    ("degree", "options", "reach"),
    [(1, {}, 1.0), (3, {}, 1.0), (4, {}, 1.0), (3, {"version": 4}, 1.0), (3, {}, 3000.0)],
)
def test_niantics_reader_reads_spz(tmp_path, degree, options, reach):
    """Also beyond 2,048 units, where the file has fewer fractional bits."""
    given = gaussians(degree=degree, reach=reach, size=1.0 if reach > 1 else 0.02)
    write_splats(tmp_path / "scene.spz", given, **options)
    found = with_gaussforge(tmp_path / "scene.spz", "spz")
    close(turned_about_x(found), given, step=2**-11 if reach > 1 else 2**-12)


def test_gaussforge_reads_splat(tmp_path):
    """Through its own PLY: `read` fails on scenes of degree 0."""
    gaussforge = pytest.importorskip("gaussforge", reason="gaussforge is not there")
    given = gaussians(degree=1)
    write_splats(tmp_path / "scene.splat", given)
    ply = gaussforge.GaussForge().convert((tmp_path / "scene.splat").read_bytes(), "splat", "ply")
    head, _, body = bytes(ply["data"]).partition(b"end_header\n")
    names = [line.split()[2].decode() for line in head.splitlines() if line[:8] == b"property"]
    table = np.frombuffer(body, "<f4").reshape(30, len(names))
    found = {name: table[:, number] for number, name in enumerate(names)}
    order = importance_order(given)
    for number, name in enumerate("xyz"):
        np.testing.assert_array_equal(found[name], given.mean[order, number])
    for number in range(3):
        colour = given.sh[order, 0, number]
        np.testing.assert_allclose(
            found[f"f_dc_{number}"], colour, atol=0.5 / 255 / SH_CONSTANT + 1e-5
        )
        scale = given.log_scale[order, number]
        np.testing.assert_allclose(found[f"scale_{number}"], scale, atol=1e-5)
    rotation = np.stack([found[f"rot_{number}"] for number in range(4)], axis=-1)
    np.testing.assert_allclose(rotation, given.quaternion[order], atol=1 / 128 + 1e-3)


def test_pygltflib_reads_glb(tmp_path):
    pygltflib = pytest.importorskip("pygltflib", reason="pygltflib is not there")
    given = gaussians(degree=3)
    write_splats(tmp_path / "scene.glb", given)
    document = pygltflib.GLTF2().load(str(tmp_path / "scene.glb"))
    (primitive,), blob = document.meshes[0].primitives, document.binary_blob()
    assert primitive.mode == pygltflib.POINTS
    assert set(primitive.extensions) == set(document.extensionsUsed) == {"KHR_gaussian_splatting"}

    def values(name):
        accessor = document.accessors[getattr(primitive.attributes, name)]
        view = document.bufferViews[accessor.bufferView]
        assert accessor.componentType == pygltflib.FLOAT
        return np.frombuffer(blob, "<f4", view.byteLength // 4, view.byteOffset).reshape(30, -1)

    prefix, turned = "KHR_gaussian_splatting:", turned_about_x(given)
    np.testing.assert_array_equal(values("POSITION"), turned.mean)
    np.testing.assert_allclose(
        values(prefix + "ROTATION"), np.roll(turned.quaternion, -1, axis=-1), atol=1e-6
    )
    np.testing.assert_allclose(values(prefix + "SCALE"), np.exp(given.log_scale), rtol=1e-6)
    last = values(prefix + "SH_DEGREE_3_COEF_6")
    np.testing.assert_array_equal(last, turned.sh[:, 15])
