""".spz: bytes by the public description, ranges, versions, and what is refused."""

import gzip
import struct

import jax
import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import read_splats, write_splats
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.spz import read_spz, write_spz
from tttlrm_jax.export.splats.writable import opacity


def gaussians(count=30, degree=3, reach=1.0, size=0.02, seed=0):
    """A scene within the format's range of colours; its numbers are not those of its steps."""
    rng = np.random.default_rng(seed)
    quaternion = rng.normal(size=(count, 4))
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
    sh = 0.3 * rng.normal(size=(count, (degree + 1) ** 2, 3))
    values = (
        reach * rng.uniform(-1, 1, (count, 3)), sh.clip(-0.95, 0.95),
        np.log(size) + 0.5 * rng.normal(size=(count, 3)), quaternion, 2 * rng.normal(size=count),
    )  # fmt: skip
    return Gaussians(*(each.astype(np.float32) for each in values))


def one():
    """Values that lie on the format's steps."""
    half = np.sqrt(0.5)
    return Gaussians(
        mean=np.float32([[1.0, -2.5, 1 / 4096]]),
        sh=np.float32([[[0, 1.0, 99.0], [0.5, 0, 0], [0, -0.25, 0], [0, 0, 1.0]]]),
        log_scale=np.float32([[-10, 0, 1.5]]),
        quaternion=np.float32([[half, 0, 0, -half]]),
        opacity_logit=np.float32([0.0]),
    )


# in the file's axes y and z are negated, with the coefficients of y (the first) and z (the second)
BODY = struct.pack(
    "<9B B 3B 3B I 9B",
    0x00, 0x10, 0x00, 0x00, 0x28, 0x00, 0xFF, 0xFF, 0xFF,  # 4096, 10240, -1
    128,  # 127.5 away from zero
    128, 166, 255,  # 127.5, 127.5 + 38.25 and what is beyond the range
    0, 160, 184,  # 16 (s + 10)
    # of x, y, z, w the largest is the first of two equal ones, z; it is +0.7071 in the file's axes
    2 << 30 | 511,  # x, y: 0; w: 511 / 511 of 0.7071
    64, 128, 128, 128, 160, 128, 128, 128, 255,
)  # fmt: skip


def test_bytes_of_version_3(tmp_path):
    count = write_spz(tmp_path / "scene.spz", one())
    content = (tmp_path / "scene.spz").read_bytes()
    assert content[:2] == b"\x1f\x8b"
    head = struct.pack("<4sIIBBBB", b"NGSP", 3, 1, 1, 12, 0, 0)
    assert gzip.decompress(content) == head + BODY
    assert count.num_clipped == 1  # a colour of 99


def test_bytes_of_version_4(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    write_splats(tmp_path / "scene.spz", one(), version=4)
    content = (tmp_path / "scene.spz").read_bytes()
    assert content[:32] == struct.pack("<4sIIBBBBI12x", b"NGSP", 4, 1, 1, 12, 0, 6, 32)
    table = struct.unpack("<12Q", content[32:128])
    assert table[1::2] == (9, 1, 3, 3, 4, 9)
    place, streams = 128, []
    for length in table[::2]:
        streams.append(zstandard.ZstdDecompressor().decompress(content[place : place + length]))
        place += length
    assert (b"".join(streams), place) == (BODY, len(content))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", range(5))
def test_what_is_written_is_read_within_the_steps(tmp_path, version, degree):
    if version == 4:
        pytest.importorskip("zstandard")
    given = gaussians(degree=degree)
    count = write_spz(tmp_path / "scene.spz", given, version=version)
    assert (count.num_written, count.num_clipped) == (30, 0)
    close(read_spz(tmp_path / "scene.spz"), given)


def close(back, given, step=2**-12):
    np.testing.assert_allclose(back.mean, given.mean, atol=0.5 * step + 1e-6)
    np.testing.assert_allclose(back.log_scale, given.log_scale, atol=0.5 / 16 + 1e-5)
    np.testing.assert_allclose(
        opacity(back.opacity_logit), opacity(given.opacity_logit), atol=0.5 / 255 + 1e-5
    )
    np.testing.assert_allclose(back.sh[:, 0], given.sh[:, 0], atol=0.5 / 38.25 + 1e-5)
    np.testing.assert_allclose(back.sh[:, 1:4], given.sh[:, 1:4], atol=0.5 / 16 + 0.5 / 128 + 1e-5)
    np.testing.assert_allclose(back.sh[:, 4:], given.sh[:, 4:], atol=0.5 / 8 + 0.5 / 128 + 1e-5)
    turned = [rotation_from_unit_quaternion(each.quaternion) for each in (back, given)]
    np.testing.assert_allclose(*turned, atol=0.006)  # a 511th of 0.71 in each of three numbers


def test_far_and_tiny_scenes_have_other_fractional_bits(tmp_path):
    """In place of the wrapping that 12 bits bring beyond 2,048 units."""
    for reach, size, bits in ((2047.0, 1.0, 12), (3000.0, 1.0, 11), (40_000.0, 5.0, 7),
                              (0.01, 1e-5, 22), (1.9, 1e-4, 22), (100.0, 1e-4, 16)):  # fmt: skip
        given = gaussians(reach=reach, size=size)
        write_spz(tmp_path / "scene.spz", given)
        head = gzip.decompress((tmp_path / "scene.spz").read_bytes())[:16]
        assert head[13] == bits
        back = read_spz(tmp_path / "scene.spz")
        np.testing.assert_allclose(back.mean, given.mean, atol=0.5 * 2.0**-bits, rtol=1e-6)
    with pytest.raises(InputError, match=r"positions reach .* units from the origin, .* median"):
        write_spz(tmp_path / "none.spz", gaussians(reach=3e5, size=0.01))
    assert not (tmp_path / "none.spz").exists()


def test_the_ends_of_the_range(tmp_path):
    """Just inside nothing is counted or wraps; beyond, values end where the range does."""
    given = gaussians(count=6, degree=1)
    given.mean[0, 0], given.mean[1, 1] = 2047.9998, -2047.9998
    given.log_scale[2], given.log_scale[3] = -10.02, 5.95
    given.sh[4, 0] = 3.33
    assert write_spz(tmp_path / "scene.spz", given).num_clipped == 0
    np.testing.assert_allclose(read_spz(tmp_path / "scene.spz").mean, given.mean, atol=2e-4)
    given.log_scale[2], given.sh[4, 0], given.sh[5, 2, 1] = -11.0, 3.4, -1.5
    assert write_spz(tmp_path / "scene.spz", given).num_clipped == 3
    back = read_spz(tmp_path / "scene.spz")
    np.testing.assert_allclose(back.log_scale[2], -10)
    np.testing.assert_allclose(back.sh[4, 0], 127.5 / 38.25, atol=1e-5)
    assert back.sh[5, 2, 1] == -127 / 128  # 255 in the file's axes, whose z is the other way


def test_more_bits_of_spherical_harmonics(tmp_path):
    given = gaussians(degree=2)
    write_splats(tmp_path / "scene.spz", given, sh_bits=(8, 8))
    np.testing.assert_allclose(
        read_spz(tmp_path / "scene.spz").sh[:, 1:], given.sh[:, 1:], atol=0.5 / 128 + 1e-6
    )


def test_axes_may_stay_as_they_are(tmp_path):
    given = gaussians(degree=1)
    write_splats(tmp_path / "scene.spz", given, turned=False)
    close(turned_about_x(read_spz(tmp_path / "scene.spz")), given)


def test_version_2_is_read(tmp_path):
    """Whose rotations are x, y, z of a quaternion with w that is not negative, a byte each."""
    body = bytearray(BODY)
    body[16:20] = bytes([0, 128, 128])  # x = -1
    head = struct.pack("<4sIIBBBB", b"NGSP", 2, 1, 1, 12, 0, 0)
    (tmp_path / "scene.spz").write_bytes(gzip.compress(head + bytes(body)))
    back = read_spz(tmp_path / "scene.spz")
    np.testing.assert_allclose(back.quaternion, [[0, -1, -1 / 255, -1 / 255]], atol=0.01)
    np.testing.assert_allclose(back.mean, one().mean)


def test_what_is_no_spz_is_refused(tmp_path):
    path = tmp_path / "scene.spz"
    write_spz(path, one())
    body = gzip.decompress(path.read_bytes())
    for content, message in (
        (b"", "no .spz file"),
        (path.read_bytes()[:-20], "no .spz file, or is cut short"),
        (gzip.compress(b"other" * 9), "no .spz file; give one"),
        (gzip.compress(body[:-4]), "are not the 29 of its header"),
        (gzip.compress(body[:4] + b"\x01" + body[5:]), "version 1, degree 1 is not read"),
        (gzip.compress(body[:12] + b"\x09" + body[13:]), "degree 9 is not read"),
        (b"NGSP" + b"\x04" * 5, "cut short"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_splats(path)
    none = jax.tree.map(lambda values: values[:0], one())
    with pytest.raises(InputError, match="no Gaussian is left to write"):
        write_spz(path, none)
    axes = struct.pack("<III", 0xADBE0003, 4, 5)
    path.write_bytes(gzip.compress(body[:14] + b"\x02" + body[15:] + axes))
    with pytest.raises(InputError, match="states axes of its own"):
        read_splats(path)
    with pytest.raises(InputError, match="version=5 is not written"):
        write_spz(path, one(), version=5)
