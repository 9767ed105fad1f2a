"""Structure from motion for real: pictures of a made corner, by a camera that moves or turns."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import tttlrm_jax as tj
from experiments.camera_recovery import errors
from tttlrm_jax.export.video import write_video
from tttlrm_jax.structure_from_motion import captures
from tttlrm_jax.structure_from_motion.colmap_steps import Colmap

pytest.importorskip("pycolmap")
HEIGHT, WIDTH, FOCAL = 240, 320, 300.0
COUNT = 8


@pytest.fixture(scope="module")
def walls() -> list[np.ndarray]:
    """Textures uint8 [1024, 1024, 3] of three walls: blobs of several sizes."""
    rng, walls = np.random.default_rng(0), []
    for _ in range(3):
        octaves = [gaussian_filter(rng.normal(size=(1024, 1024)), s) * s for s in (1.5, 4, 12)]
        grey = np.clip(128 + 220 * sum(octaves), 0, 255)
        walls.append(np.stack([grey, np.roll(grey, 100, 0), np.roll(grey, 200, 1)], -1))
    return walls


def drawn(walls: list[np.ndarray], pose: np.ndarray) -> np.ndarray:
    """The corner of the planes x, y and z = 3 as a camera [4, 4] sees it; uint8 [h, w, 3]."""
    y, x = np.mgrid[0 : 2 * HEIGHT, 0 : 2 * WIDTH] / 2 + 0.25
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], -1)
    rays, centre = rays @ pose[:3, :3].T, pose[:3, 3]
    with np.errstate(divide="ignore"):
        depth = (3 - centre) / rays
    depth = np.where(depth > 0, depth, np.inf)
    wall = depth.argmin(-1)
    points = centre + rays * depth.min(-1)[..., None]
    out = np.zeros((*x.shape, 3))
    for axis, texture in enumerate(walls):
        across = np.delete(points, axis, axis=-1)
        row, column = np.moveaxis((across * 170).astype(int) % 1024, -1, 0)
        out = np.where((wall == axis)[..., None], texture[row, column], out)
    small = out.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    return small.astype(np.uint8)


def looking(centre: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """A camera at a place that looks into the corner, turned by some degrees about its vertical."""
    z = (3 - centre) / np.linalg.norm(3 - centre)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], -1)
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("y", turn, degrees=True).as_matrix()
    pose[:3, 3] = centre
    return pose


def arc(count: int) -> np.ndarray:
    """Cameras on a piece of a circle about the corner's diagonal."""
    angles = np.linspace(0, np.pi, count)
    places = [[0.9 * np.cos(a), 0.9 * np.sin(a), 0.3 * np.sin(3 * a)] for a in angles]
    return np.stack([looking(np.array(place)) for place in places])


def test_photographs_of_several_sizes_and_a_mask(walls, tmp_path, capsys, monkeypatch):
    """A run that dies amid the matches goes on with its features; a damaged one begins again."""
    folder, poses = tmp_path / "corner", arc(COUNT)
    folder.mkdir()
    for number, pose in enumerate(poses):
        picture = Image.fromarray(drawn(walls, pose))
        wide = number == 3  # cut off, as from another camera
        picture.crop((0, 20, WIDTH, 220) if wide else (0, 0, WIDTH, HEIGHT)).save(
            folder / f"{number}.png"
        )
    (folder / "masks").mkdir()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:60] = 0
    Image.fromarray(mask).save(folder / "masks" / "5.png")

    def dying(self, pairs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Colmap, "match", dying)
    with pytest.raises(KeyboardInterrupt):
        tj.open_capture(folder, poses="sfm", keep_in=tmp_path)
    monkeypatch.undo()
    database = tmp_path / "corner-sfm" / ".work" / "database.db"
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2])
    capture = tj.open_capture(folder, poses="sfm", keep_in=tmp_path)
    said = capsys.readouterr().err
    assert "damaged: again" in said
    assert [frame.name for frame in capture.frames] == [f"{n}.png" for n in range(COUNT)]
    found = errors(capture, poses)
    assert found["centre_worst_percent"] < 3
    assert found["rotation_worst_degrees"] < 0.5
    assert abs(capture.frames[0].intrinsics[0] / FOCAL - 1) < 0.03
    assert capture.image_size(3) == (200, WIDTH)
    assert capture.frames[5].mask is not None
    points, colours = capture.points()
    assert len(points) == len(colours) > 300
    again = tj.open_capture(folder, poses="sfm", keep_in=tmp_path)
    np.testing.assert_array_equal(again.world_from_camera, capture.world_from_camera)
    assert "cameras are those found before" in capsys.readouterr().err


def test_a_film(walls, tmp_path):
    """Twice as many frames as needed, every second one blurred."""
    poses = arc(24)
    frames = [drawn(walls, pose) for pose in poses]
    for number in range(1, 24, 2):
        frames[number] = gaussian_filter(frames[number], (0, 3, 0))
    film = tmp_path / "walk.mp4"
    write_video(film, np.stack(frames), frames_per_second=10, min_side=1)
    capture = tj.open_capture(film, poses="sfm", keep_in=tmp_path, film_frames=12)
    numbers = [int(frame.name[:6]) for frame in capture.frames]
    assert len(numbers) >= 6
    assert not any(number % 2 for number in numbers)
    assert len({tuple(frame.intrinsics) for frame in capture.frames}) == 1
    found = errors(capture, poses[numbers])
    assert found["centre_worst_percent"] < 5
    assert found["rotation_worst_degrees"] < 1


@pytest.mark.parametrize(
    ("pictures", "said"),
    [
        (lambda walls: [drawn(walls, looking(np.zeros(3), 4 * n - 14)) for n in range(8)],
         "the camera had turned without moving"),
        (lambda walls: [np.full((HEIGHT, WIDTH, 3), 20 * n, np.uint8) for n in range(4)],
         "0 features or fewer, as blurred"),
        (lambda walls: [wall[:HEIGHT, :WIDTH].astype(np.uint8) for wall in walls],
         "pairs of the 3 pictures show the same things"),
    ],
    ids=["turned", "plain", "apart"],
)  # fmt: skip
def test_what_is_wrong_with_pictures(walls, tmp_path, pictures, said):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(pictures(walls)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    with pytest.raises(tj.InputError, match=said):
        tj.open_capture(folder, poses="sfm", keep_in=tmp_path)


def test_real_photographs(shared, tmp_path):
    """A stretch of the desk, its cameras withheld."""
    truth = tj.open_capture(shared / "data" / "mydesk")
    chosen = truth.frames[40:88:4]
    folder = tmp_path / "desk"
    folder.mkdir()
    for number, frame in enumerate(chosen):
        (folder / f"{number:03d}.jpg").write_bytes(frame.image_path.read_bytes())
    capture = captures.capture_by_sfm(folder, tmp_path)
    assert len(capture) == len(chosen)
    found = errors(capture, np.stack([frame.world_from_camera for frame in chosen]))
    assert found["centre_rms_percent"] < 3
    assert found["rotation_worst_degrees"] < 1
