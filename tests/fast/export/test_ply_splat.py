"""PLY and .splat: layout by hand, round trip, and what is never written."""

import struct

import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import read_splats, write_splats
from tttlrm_jax.export.splats.ply import read_offset, read_ply, write_ply
from tttlrm_jax.export.splats.splat import encode_splat, write_splat
from tttlrm_jax.export.splats.writable import importance_order, opacity

FIELDS = ("mean", "sh", "log_scale", "quaternion", "opacity_logit")


def random_gaussians(count=7, degree=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((3,), ((degree + 1) ** 2, 3), (3,), (4,), ())
    values = [rng.normal(size=(count, *shape)).astype(np.float32) for shape in shapes]
    values[3] /= np.linalg.norm(values[3].astype(np.float64), axis=-1, keepdims=True)
    return Gaussians(*values)


def header(path):
    return path.read_bytes().split(b"end_header\n")[0].decode().splitlines()


@pytest.mark.parametrize("degree", range(5))
def test_round_trip_is_exact(tmp_path, degree):
    gaussians = random_gaussians(degree=degree)
    count = write_ply(tmp_path / "scene.ply", gaussians)
    assert count.num_written == 7
    back = read_ply(tmp_path / "scene.ply")
    for field in FIELDS:
        np.testing.assert_allclose(
            getattr(back, field), getattr(gaussians, field), rtol=0,
            atol=1e-7 if field == "quaternion" else 0,  # made unit again
        )  # fmt: skip


def test_standard_layout_by_hand(tmp_path):
    gaussians = random_gaussians(count=2, degree=1)
    write_ply(tmp_path / "scene.ply", gaussians)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3))]
    names += [*(f"f_rest_{i}" for i in range(9)), "opacity", *(f"scale_{i}" for i in range(3))]
    names += [f"rot_{i}" for i in range(4)]
    assert header(tmp_path / "scene.ply") == [
        "ply", "format binary_little_endian 1.0", "element vertex 2",
        *(f"property float {name}" for name in names),
    ]  # fmt: skip
    body = (tmp_path / "scene.ply").read_bytes().split(b"end_header\n")[1]
    rows = np.frombuffer(body, "<f4").reshape(2, len(names))
    np.testing.assert_array_equal(rows[:, 6:9], gaussians.sh[:, 0])
    red, green = rows[:, 9:12], rows[:, 12:15]  # channel-major: three coefficients of one channel
    np.testing.assert_array_equal(red, gaussians.sh[:, 1:, 0])
    np.testing.assert_array_equal(green, gaussians.sh[:, 1:, 1])
    np.testing.assert_array_equal(rows[:, 3:6], 0)


def test_an_offset_is_stated_in_the_head_and_changes_no_position(tmp_path):
    path, gaussians = tmp_path / "scene.ply", random_gaussians()
    for offset in (np.array([431230.0, 5412350.5, -0.125]), np.array([0.0, 1e16, -1e-7])):
        for published in (False, True):
            write_ply(path, gaussians, published_layout=published, offset=offset)
            assert read_offset(path).tolist() == offset.tolist()
            np.testing.assert_array_equal(read_ply(path).mean, gaussians.mean)
    write_ply(path, gaussians, offset=np.array([431230.0, 5412350.5, -0.125]))
    assert "comment offset 431230 5412350.5 -0.125" in header(path)
    write_splats(path, gaussians, offset=np.zeros(3))
    assert not [line for line in header(path) if "comment" in line]
    assert read_offset(path).tolist() == [0, 0, 0]


def test_published_layout_packs_45_columns_from_the_left(tmp_path):
    path, gaussians = tmp_path / "scene.ply", random_gaussians(count=3, degree=1)
    write_ply(path, gaussians, published_layout=True)
    assert [line for line in header(path) if " nx" in line] == ["property uchar nx"]
    assert sum("f_rest" in line for line in header(path)) == 45
    back = read_ply(path, published_degree=1)
    np.testing.assert_array_equal(back.sh, gaussians.sh)
    as_degree_3 = read_ply(path)
    assert np.all(as_degree_3.sh[:, 10:, 0] == 0)
    with pytest.raises(InputError, match="45 columns"):
        write_ply(path, random_gaussians(degree=4), published_layout=True)


def test_invalid_gaussians_are_never_written(tmp_path):
    gaussians = random_gaussians(count=8)
    gaussians.mean[0, 1] = np.nan
    gaussians.sh[1, 2, 0] = np.inf
    gaussians.log_scale[2, 2] = -np.inf
    gaussians.quaternion[3] = 0
    gaussians.opacity_logit[4] = -np.inf
    gaussians.opacity_logit[5] = np.inf  # opaque: kept, with a finite logit
    path = tmp_path / "scene.ply"
    count = write_ply(path, gaussians)
    assert (count.num_written, count.num_invalid, count.num_transparent) == (3, 5, 0)
    back = read_ply(path)
    assert all(np.isfinite(getattr(back, field)).all() for field in FIELDS)
    assert back.opacity_logit[0] == 30
    np.testing.assert_array_equal(back.mean, gaussians.mean[5:])
    encoded, splat_count = encode_splat(gaussians)
    assert splat_count.num_written == 3
    assert len(encoded) == 3 * 32


def test_opacity_threshold(tmp_path):
    gaussians = random_gaussians(count=3)
    gaussians.opacity_logit[:] = [0.0, -6.0, 2.0]  # opacities 0.5, 0.0025, 0.88
    count = write_ply(tmp_path / "scene.ply", gaussians, min_opacity=0.01)
    assert (count.num_written, count.num_transparent) == (2, 1)
    with pytest.raises(InputError, match="min_opacity=1"):
        write_ply(tmp_path / "scene.ply", gaussians, min_opacity=1.0)


def test_a_batch_of_scenes_is_refused(tmp_path):
    gaussians = random_gaussians()
    batch = Gaussians(*(getattr(gaussians, field)[None] for field in FIELDS))
    with pytest.raises(InputError, match="one scene"):
        write_ply(tmp_path / "scene.ply", batch)
    assert not (tmp_path / "scene.ply").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"solid x", "not a PLY"),
        (b"ply\nformat ascii 1.0\nend_header\n", "no element vertex"),
        (b"ply\nformat ascii 1.0\nelement vertex 2\n", "head does not end"),
        (b"ply\nformat binary_middle_endian 1.0\nend_header\n", "no known format"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int a\nend_header\n1 2",
         "not plain numbers"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 2\nproperty float x\nend_header\n",
         "are missing"),
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty float x\nend_header\n",
         "missing"),
    ],
)  # fmt: skip
def test_foreign_files_are_refused(tmp_path, content, message):
    (tmp_path / "scene.ply").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ply(tmp_path / "scene.ply")


def any_tools_ply(path, gaussians, form, kind="float"):
    """A splat PLY as other tools write them: columns mixed and added, elements around."""
    rng, count = np.random.default_rng(3), len(gaussians.mean)
    rest = np.moveaxis(gaussians.sh[:, 1:], 1, 2).reshape(count, -1)
    columns = {"confidence": rng.normal(size=count)}
    columns |= {"xyz"[axis]: gaussians.mean[:, axis] for axis in (2, 0, 1)}
    columns |= {f"rot_{n}": gaussians.quaternion[:, n] for n in (2, 0, 3, 1)}
    columns |= {f"f_rest_{n}": rest[:, n] for n in rng.permutation(rest.shape[1])}
    columns |= {"opacity": gaussians.opacity_logit, "class": np.arange(count) % 7}
    columns |= {f"scale_{n}": gaussians.log_scale[:, n] for n in range(3)}
    columns |= {f"f_dc_{n}": gaussians.sh[:, 0, n] for n in range(3)}
    types = {name: "uchar" if name == "class" else kind for name in columns}
    head = ["ply", f"format {form} 1.0", "comment of another tool", "element camera 2"]
    head += ["property double f", "property int id", f"element vertex {count}"]
    head += [f"property {types[name]} {name}" for name in columns]
    head += ["element face 0", "property list uchar int vertex_indices", "end_header"]
    order = ">" if "big" in form else "<"
    cameras = np.array([(1.5, 1), (2.5, 2)], [("f", order + "f8"), ("id", order + "i4")])
    codes = {"uchar": "u1", "float": order + "f4", "double": order + "f8"}
    table = np.empty(count, [(name, codes[types[name]]) for name in columns])
    for name, values in columns.items():
        table[name] = values
    body = cameras.tobytes() + table.tobytes()
    if form == "ascii":
        rows = [*cameras.tolist(), *table.tolist()]
        body = "".join(" ".join(map(repr, row)) + "\r\n" for row in rows).encode()
    path.write_bytes("\n".join([*head, ""]).encode() + body)


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_ply_of_any_tool_is_read(tmp_path, monkeypatch, degree, form):
    """In blocks smaller than the file, whatever the order of columns."""
    monkeypatch.setattr("tttlrm_jax.export.ply.BLOCK", 3)
    path, gaussians = tmp_path / "scene.PLY", random_gaussians(degree=degree)
    any_tools_ply(path, gaussians, form, "double" if degree == 2 else "float")
    back = read_splats(path)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(back, field), getattr(gaussians, field))
        assert getattr(back, field).dtype == np.float32


@pytest.mark.parametrize("form", ["binary_big_endian", "ascii"])
def test_a_ply_that_is_cut_short_is_refused(tmp_path, form):
    path = tmp_path / "scene.ply"
    any_tools_ply(path, random_gaussians(), form)
    content = path.read_bytes()
    path.write_bytes(content[: -len(content.splitlines(keepends=True)[-1] or b"x") - 1])
    with pytest.raises(InputError, match="less than the 7 of its header"):
        read_splats(path)
    path.write_bytes(content.replace(b"f_rest_0", b"f_lost_0"))
    with pytest.raises(InputError, match="is not the number of any wanted degree"):
        read_splats(path)


def test_what_is_no_splat_scene_is_refused(tmp_path):
    path = tmp_path / "points.ply"
    head = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
    path.write_bytes(head + b"property float z\nproperty uchar red\nend_header\n1 2 3 4\n")
    with pytest.raises(
        InputError, match=r"ply: f_dc_0, .* missing from the vertex, which has x, y"
    ):
        read_splats(path)
    path.write_bytes(head + b"property uint packed_position\nend_header\n1 2 3\n")
    with pytest.raises(InputError, match="compressed PLY; unpack it with"):
        read_splats(path)
    for name in ("scene.ply", "scene.splat", "scene.spz", "scene.glb"):
        with pytest.raises(InputError, match="cannot be read"):
            read_splats(tmp_path / name)
        (tmp_path / name).write_bytes(b"no scene at all")
        with pytest.raises(InputError, match=r"not a PLY|32-byte|no \.spz|not a binary glTF"):
            read_splats(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_splats(tmp_path / "scene.sog")


def test_what_viewers_compute_is_finite(tmp_path):
    """Scales that overflow and quaternions whose square is 0 in float32 get into no file."""
    gaussians = random_gaussians(count=5, degree=0)
    gaussians.log_scale[0, 1] = 89.0
    gaussians.quaternion[1] = [1e-30, 0, 0, 0]  # a rotation none the less
    gaussians.quaternion[2] = [0, 0, 0, 0]
    gaussians.quaternion[3] *= 1e20
    for name in ("scene.ply", "scene.splat", "scene.spz", "scene.glb"):
        count = write_splats(tmp_path / name, gaussians)
        assert (count.num_written, count.num_invalid) == (3, 2)
        back = read_splats(tmp_path / name)
        length = np.linalg.norm(back.quaternion, axis=-1)
        np.testing.assert_allclose(length, 1, atol=0.02)  # of bytes
        assert np.isfinite(np.exp(back.log_scale)).all()


def test_splat_is_read_within_its_bytes(tmp_path):
    gaussians = random_gaussians(degree=1)
    gaussians.sh[:, 0] *= 0.5
    write_splats(tmp_path / "scene.splat", gaussians)
    back = read_splats(tmp_path / "scene.splat")
    order = importance_order(gaussians)
    np.testing.assert_array_equal(back.mean, gaussians.mean[order])
    np.testing.assert_allclose(back.log_scale, gaussians.log_scale[order], atol=1e-6)
    np.testing.assert_allclose(back.sh[:, 0], gaussians.sh[order, 0], atol=0.5 / 255 / 0.282 + 1e-5)
    assert back.sh.shape == (7, 1, 3)
    np.testing.assert_allclose(
        opacity(back.opacity_logit), opacity(gaussians.opacity_logit[order]), atol=0.5 / 255 + 1e-6
    )
    np.testing.assert_allclose(back.quaternion, gaussians.quaternion[order], atol=1 / 128)


def test_splat_record_by_hand(tmp_path):
    gaussians = Gaussians(
        mean=np.float32([[1, 2, 3], [4, 5, 6]]),
        sh=np.float32([[[0, 10, -10]], [[0, 0, 0]]]),
        log_scale=np.log(np.float32([[1, 1, 1], [2, 2, 2]])),
        quaternion=np.float32([[0, 0, 0, -3], [1, 0, 0, 0]]),
        opacity_logit=np.float32([0, 0]),
    )
    write_splat(tmp_path / "scene.splat", gaussians)
    content = (tmp_path / "scene.splat").read_bytes()
    large, small = content[:32], content[32:]
    assert struct.unpack("<6f8B", large) == pytest.approx(
        (4, 5, 6, 2, 2, 2, 128, 128, 128, 128, 255, 128, 128, 128)
    )
    assert struct.unpack("<6f8B", small) == pytest.approx(
        (1, 2, 3, 1, 1, 1, 128, 255, 0, 128, 128, 128, 128, 0)
    )


def test_splat_keeps_the_most_important():
    gaussians = random_gaussians(count=20)
    encoded, count = encode_splat(gaussians, max_count=5)
    assert (len(encoded), count.num_written) == (5 * 32, 5)
    assert encode_splat(gaussians)[0].startswith(encoded)


@pytest.mark.parametrize("write", [write_ply, write_splat])
@pytest.mark.parametrize("upper", [False, True])
def test_the_suffix_chooses_the_format(tmp_path, write, upper):
    suffix = {write_ply: ".ply", write_splat: ".splat"}[write]
    path = tmp_path / f"scene{suffix.upper() if upper else suffix}"
    gaussians = random_gaussians()
    gaussians.opacity_logit[0] = -6.0  # opacity 0.0025
    count = write_splats(path, gaussians, min_opacity=0.01)
    assert (count.num_written, count.num_transparent) == (6, 1)
    write(tmp_path / "expected", gaussians, min_opacity=0.01)
    assert path.read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("name", ["scene.obj", "scene", "scene.ply.gz"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"\.ply, \.splat"):
        write_splats(tmp_path / name, random_gaussians())
    assert not list(tmp_path.iterdir())


def test_a_splat_of_nothing_is_refused(tmp_path):
    """As `.spz` and `.glb` do; the reader takes no empty file either."""
    gaussians = random_gaussians(count=2)
    gaussians.mean[:] = np.nan
    with pytest.raises(InputError, match="no Gaussian is left to write"):
        write_splats(tmp_path / "scene.splat", gaussians)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".ply", ".splat"])
def test_a_writer_that_is_stopped_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    def stopped(*_):
        raise KeyboardInterrupt

    path = tmp_path / f"scene{suffix}"
    write_splats(path, random_gaussians())
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            write_splats(path, random_gaussians(seed=1))
    assert path.read_bytes() == before
    write_splats(path, random_gaussians(seed=1))
    assert path.read_bytes() != before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["double", "float"])
def test_doubles_that_float32_would_snap_to_a_grid_are_refused(tmp_path, kind):
    """At 5e6 float32 has steps of 0.5; what is stored as float32 has lost nothing in reading."""
    gaussians = random_gaussians()
    gaussians.mean[:] += 5e6
    gaussians.log_scale[:] = np.log(0.1)
    any_tools_ply(tmp_path / "far.ply", gaussians, "binary_little_endian", kind)
    if kind == "float":
        np.testing.assert_array_equal(read_ply(tmp_path / "far.ply").mean, gaussians.mean)
        return
    with pytest.raises(InputError, match=r"steps of 0.5 in float32.*comment offset X Y Z"):
        read_ply(tmp_path / "far.ply")
    gaussians.log_scale[:] = 0
    any_tools_ply(tmp_path / "far.ply", gaussians, "binary_little_endian", kind)
    np.testing.assert_array_equal(read_ply(tmp_path / "far.ply").mean, gaussians.mean)


def test_lists_before_the_vertices_of_a_text(tmp_path):
    """Rows of a text are skipped whatever they hold; a binary file is refused."""
    path, gaussians = tmp_path / "scene.ply", random_gaussians()
    for form in ("ascii", "binary_little_endian"):
        any_tools_ply(path, gaussians, form)
        content = path.read_bytes()
        listed = content.replace(b"property int id", b"property list uchar int id")
        path.write_bytes(listed.replace(b"1.5 1\r", b"1.5 3 1 2 3\r"))
        if form == "ascii":
            np.testing.assert_array_equal(read_ply(path).mean, gaussians.mean)
            continue
        with pytest.raises(InputError, match="not plain numbers"):
            read_ply(path)
