"""One made scene in every form of cameras that captures are read from, for tests and mutations.

Writers go by the specifications of the forms and share nothing with the readers. A lens is (fx, fy,
cx, cy) in pixels; distortion is (k1, k2, k3, k4, p1, p2) of OpenCV's model, k4 that of r^8.
"""

import dataclasses
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
NERFSTUDIO_TURN = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])
XCR = "http://www.capturingreality.com/ns/xcr/1.1#"


@dataclasses.dataclass(frozen=True, eq=False)
class MadeScene:
    """Pictures uint8 [view, h, w, c], poses camera to world [view, 4, 4] of OpenCV cameras."""

    images: np.ndarray
    world_from_camera: np.ndarray
    lens: tuple[float, float, float, float]
    distortion: tuple[float, ...] = (0.0,) * 6

    @property
    def camera_from_world(self) -> np.ndarray:
        return np.linalg.inv(self.world_from_camera)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]


@dataclasses.dataclass(frozen=True)
class Written:
    """How a form is written, and what of a lens it holds."""

    write: Callable[[Path, MadeScene], None]
    centre: bool = True  # a principal point off the middle
    aspect: bool = True  # two focal lengths
    radial: int = 0  # coefficients k1, k2, ... of distortion
    tangential: bool = False


def save_pictures(folder: Path, scene: MadeScene, name: str = "{:06d}.png") -> list[str]:
    """The pictures as PNG; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [name.format(number) for number in range(len(scene.images))]
    for each, image in zip(names, scene.images, strict=True):
        Image.fromarray(image).save(folder / each)
    return names


def _text(values) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def opencv_cameras(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene)
    lens = dict(zip(("fx", "fy", "cx", "cy"), scene.lens, strict=True))
    frames = [
        {"file_path": f"images/{name}", "w2c": pose.tolist(), **lens}
        for name, pose in zip(names, scene.camera_from_world, strict=True)
    ]
    (root / "opencv_cameras.json").write_text(json.dumps(frames))


def transforms(root: Path, scene: MadeScene, turn: np.ndarray | None = None) -> None:
    """With `turn` as nerfstudio does: the world is turned, and `applied_transform` says how."""
    names = save_pictures(root / "images", scene)
    height, width = scene.size
    document: dict = dict(zip(("fl_x", "fl_y", "cx", "cy"), scene.lens, strict=True))
    document |= {"w": width, "h": height, "camera_model": "OPENCV"}
    document |= dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), scene.distortion, strict=True))
    poses = scene.world_from_camera @ TO_OPENGL
    if turn is not None:
        poses = turn @ poses
        document["applied_transform"] = turn[:3].tolist()
    document["frames"] = [
        {"file_path": f"images/{name}", "transform_matrix": pose.tolist()}
        for name, pose in zip(names, poses, strict=True)
    ]
    (root / "transforms.json").write_text(json.dumps(document))


def blender(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "train", scene, "r_{}.png")
    angle = 2 * np.arctan(0.5 * scene.size[1] / scene.lens[0])
    frames = [
        {"file_path": f"./train/{name[:-4]}", "rotation": 0.1, "transform_matrix": pose.tolist()}
        for name, pose in zip(names, scene.world_from_camera @ TO_OPENGL, strict=True)
    ]
    document = {"camera_angle_x": float(angle), "frames": frames}
    (root / "transforms_train.json").write_text(json.dumps(document))


def _colmap_entries(scene: MadeScene) -> list[tuple[np.ndarray, np.ndarray]]:
    poses = scene.camera_from_world
    xyzw = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    return list(zip(np.roll(xyzw, 1, axis=1), poses[:, :3, 3], strict=True))


def _colmap_lens(scene: MadeScene) -> list[float]:
    k1, k2, _, _, p1, p2 = scene.distortion
    return [*scene.lens, k1, k2, p1, p2]


def colmap_text(root: Path, scene: MadeScene) -> None:
    names, model = save_pictures(root / "images", scene), root / "sparse" / "0"
    model.mkdir(parents=True)
    height, width = scene.size
    camera = f"1 OPENCV {width} {height} {_text(_colmap_lens(scene))}\n"
    (model / "cameras.txt").write_text("# made\n" + camera)
    lines = ["# made"]
    for number, (name, entry) in enumerate(zip(names, _colmap_entries(scene), strict=True), 1):
        lines += [f"{number} {_text(entry[0])} {_text(entry[1])} 1 {name}", "1.5 2.5 -1"]
    (model / "images.txt").write_text("\n".join(lines) + "\n")


def colmap_binary(root: Path, scene: MadeScene) -> None:
    names, model = save_pictures(root / "images", scene), root / "sparse" / "0"
    model.mkdir(parents=True)
    height, width = scene.size
    lens = struct.pack("<QIiQQ8d", 1, 1, 4, width, height, *_colmap_lens(scene))
    (model / "cameras.bin").write_bytes(lens)
    out = struct.pack("<Q", len(names))
    for number, (name, entry) in enumerate(zip(names, _colmap_entries(scene), strict=True), 1):
        out += struct.pack("<I7dI", number, *entry[0], *entry[1], 1) + name.encode() + b"\0"
        out += struct.pack("<Qddq", 1, 1.5, 2.5, -1)
    (model / "images.bin").write_bytes(out)


def polycam(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "keyframes" / "images", scene, "16100{:06d}.png")
    folder = root / "keyframes" / "cameras"
    folder.mkdir()
    height, width = scene.size
    for name, pose in zip(names, scene.world_from_camera @ TO_OPENGL, strict=True):
        entry: dict = dict(zip(("fx", "fy", "cx", "cy"), scene.lens, strict=True))
        entry |= {"width": width, "height": height, "blur_score": 90.0, "timestamp": 1}
        entry |= {f"t_{r}{c}": pose[r, c] for r in range(3) for c in range(4)}
        (folder / name).with_suffix(".json").write_text(json.dumps(entry))


def record3d(root: Path, scene: MadeScene, per_frame: bool = False) -> None:
    save_pictures(root / "rgb", scene, "{}.png")
    height, width = scene.size
    poses = scene.world_from_camera @ TO_OPENGL
    fx, fy, cx, cy = scene.lens
    document = {
        "w": width, "h": height, "dw": 4, "dh": 3, "fps": 30,
        "K": [fx, 0, 0, 0, fy, 0, cx, cy, 1],
        "poses": np.column_stack([
            Rotation.from_matrix(poses[:, :3, :3]).as_quat(), poses[:, :3, 3]
        ]).tolist(),
    }  # fmt: skip
    if per_frame:
        document |= {"K": [1, 0, 0, 0, 1, 0, 0, 0, 1]}
        document |= {"perFrameIntrinsicCoeffs": [list(scene.lens)] * len(poses)}
    (root / "metadata.json").write_text(json.dumps(document))


def _film(scene: MadeScene) -> tuple[float, float, float, float]:
    """Focal length in mm of film, fy over fx, the centre's offset over the larger side."""
    height, width = scene.size
    side = max(height, width)
    fx, fy, cx, cy = map(float, scene.lens)
    return 36 * fx / side, fy / fx, (cx - width / 2) / side, (cy - height / 2) / side


def heading_pitch_roll(world_from_opengl: np.ndarray) -> tuple[float, float, float]:
    """Degrees, from the entries of Rz(-heading) Rx(pitch) Ry(roll)."""
    matrix = world_from_opengl[:3, :3]
    pitch = np.arctan2(matrix[2, 1], np.hypot(matrix[0, 1], matrix[1, 1]))
    heading = np.arctan2(matrix[0, 1], matrix[1, 1])
    roll = np.arctan2(-matrix[2, 0], matrix[2, 2])
    if np.hypot(matrix[0, 1], matrix[1, 1]) < 1e-9:  # level: only roll and heading together count
        heading, roll = 0.0, np.arctan2(matrix[0, 2], matrix[0, 0])
    return tuple(float(each) for each in np.degrees([heading, pitch, roll]))  # type: ignore


def reality_csv(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene)
    focal, _, px, py = _film(scene)
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    for name, pose in zip(names, scene.world_from_camera @ TO_OPENGL, strict=True):
        values = (*pose[:3, 3], *heading_pitch_roll(pose), focal, px, py, *scene.distortion)
        lines.append(",".join([name, *(repr(float(value)) for value in values)]))
    (root / "cameras.csv").write_text("\n".join(lines) + "\n")


def reality_xmp(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene)
    focal, aspect, px, py = _film(scene)
    for name, w2c, c2w in zip(names, scene.camera_from_world, scene.world_from_camera, strict=True):
        text = (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
            '22-rdf-syntax-ns#">\n  <rdf:Description xcr:Version="3" xcr:PosePrior="exact" '
            'xcr:Coordinates="absolute" xcr:DistortionModel="brown4t2" '
            f'xcr:FocalLength35mm="{focal!r}" xcr:Skew="0" xcr:AspectRatio="{aspect!r}" '
            f'xcr:PrincipalPointU="{px!r}" xcr:PrincipalPointV="{py!r}" xmlns:xcr="{XCR}">\n'
            f"   <xcr:Rotation>{_text(w2c[:3, :3])}</xcr:Rotation>\n"
            f"   <xcr:Position>{_text(c2w[:3, 3])}</xcr:Position>\n"
            f"   <xcr:DistortionCoeficients>{_text(scene.distortion)}</xcr:DistortionCoeficients>\n"
            "  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n"
        )
        (root / "images" / name).with_suffix(".xmp").write_text(text)


def metashape(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene)
    height, width = scene.size
    fx, fy, cx, cy = scene.lens
    k1, k2, k3, k4, p1, p2 = scene.distortion
    values = {
        "f": fy, "cx": cx - width / 2, "cy": cy - height / 2, "b1": fx - fy, "k1": k1, "k2": k2,
        "k3": k3, "k4": k4, "p1": p2, "p2": p1,
    }  # fmt: skip
    lens = "".join(f"<{key}>{float(value)!r}</{key}>" for key, value in values.items())
    size = f'<resolution width="{width}" height="{height}"/>'
    cameras = "".join(
        f'<camera id="{n}" sensor_id="0" component_id="0" label="{name[:-4]}">'
        f"<transform>{_text(pose)}</transform></camera>\n"
        for n, (name, pose) in enumerate(zip(names, scene.world_from_camera, strict=True))
    )
    (root / "cameras.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0">\n <chunk label="1" '
        'enabled="true">\n  <sensors next_id="1">\n   <sensor id="0" label="made" type="frame">'
        f'{size}<calibration type="frame" class="adjusted">{size}{lens}</calibration></sensor>\n'
        f'  </sensors>\n  <cameras next_id="99">\n{cameras}  </cameras>\n </chunk>\n</document>\n'
    )


def bundler(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "images", scene)
    poses = TO_OPENGL @ scene.camera_from_world
    lines = ["# Bundle file v0.3", f"{len(names)} 1"]
    for pose in poses:
        lines.append(_text([scene.lens[0], *scene.distortion[:2]]))
        lines += [_text(row) for row in (*pose[:3, :3], pose[:3, 3])]
    ahead = scene.world_from_camera[0] @ [0.0, 0.0, 1.0, 1.0]
    lines += [_text(ahead[:3]), "255 0 0", "1 0 7 0.5 0.5"]
    (root / "bundle.out").write_text("\n".join(lines) + "\n")
    (root / "list.txt").write_text("".join(f"{name} 0 {scene.lens[0]}\n" for name in names))


def llff(root: Path, scene: MadeScene) -> None:
    save_pictures(root / "images", scene)
    pose = scene.world_from_camera
    axes = np.stack([pose[:, :3, 1], pose[:, :3, 0], -pose[:, :3, 2], pose[:, :3, 3]], axis=-1)
    column = np.array([*scene.size, scene.lens[0]])
    matrix = np.concatenate([axes, np.broadcast_to(column[:, None], (len(pose), 3, 1))], axis=2)
    rows = np.column_stack([matrix.reshape(-1, 15), np.full(len(pose), 0.5), np.full(len(pose), 9)])
    np.save(root / "poses_bounds.npy", rows)


def idr(root: Path, scene: MadeScene) -> None:
    save_pictures(root / "image", scene, "{:03d}.png")
    fx, fy, cx, cy = scene.lens
    matrix = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    arrays = {}
    for number, pose in enumerate(scene.camera_from_world):
        arrays[f"world_mat_{number}"] = (-2.5 if number % 2 else 1.0) * matrix @ pose
        arrays[f"scale_mat_{number}"] = np.diag([3.0, 3.0, 3.0, 1.0])
    np.savez(root / "cameras.npz", **arrays)


def realestate(root: Path, scene: MadeScene) -> None:
    names = save_pictures(root / "frames", scene, "5{:09d}.png")
    height, width = scene.size
    lens = np.array(scene.lens) / [width, height, width, height]
    lines = ["https://example.org/watch?v=made"]
    for name, pose in zip(names, scene.camera_from_world, strict=True):
        lines.append(f"{name[:-4]} {_text([*lens, 0, 0])} {_text(pose[:3])}")
    (root / "clip.txt").write_text("\n".join(lines) + "\n")


def nerfstudio(root: Path, scene: MadeScene) -> None:
    transforms(root, scene, NERFSTUDIO_TURN)


def record3d_per_frame(root: Path, scene: MadeScene) -> None:
    record3d(root, scene, per_frame=True)


WRITERS = {
    "opencv_cameras.json": Written(opencv_cameras),
    "transforms.json": Written(transforms, radial=4, tangential=True),
    "nerfstudio": Written(nerfstudio, radial=4, tangential=True),
    "transforms_train.json": Written(blender, centre=False, aspect=False),
    "COLMAP text": Written(colmap_text, radial=2, tangential=True),
    "COLMAP binary": Written(colmap_binary, radial=2, tangential=True),
    "Polycam": Written(polycam),
    "Record3D": Written(record3d),
    "Record3D per frame": Written(record3d_per_frame),
    "RealityCapture CSV": Written(reality_csv, aspect=False, radial=4, tangential=True),
    "RealityCapture XMP": Written(reality_xmp, radial=4, tangential=True),
    "Metashape": Written(metashape, radial=4, tangential=True),
    "Bundler": Written(bundler, centre=False, aspect=False, radial=2),
    "LLFF": Written(llff, centre=False, aspect=False),
    "IDR": Written(idr),
    "RealEstate10K": Written(realestate),
}
