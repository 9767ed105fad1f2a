"""A capture on disk; checkpoints as `torch.save` writes them and did before PyTorch 1.6."""

import collections
import contextlib
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.procedural.objects import render_object

STORAGE_NAMES = {
    "float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage", "int64": "LongStorage",
}  # fmt: skip


class _Numbers:
    """What a pickle refers to as a storage."""

    def __init__(self, array: np.ndarray):
        self.array = array


class _Tensor:
    """Pickles as a tensor: strides are kept, so that zeros of any shape are one number."""

    def __init__(self, array: np.ndarray):
        repeated = array.size > 1 and set(array.strides) == {0}
        base = array[(0,) * array.ndim].reshape(1) if repeated else np.array(array, order="C")
        strides = array.strides if repeated else base.strides
        self.numbers, self.shape = _Numbers(base.ravel()), array.shape
        self.steps = tuple(step // array.itemsize for step in strides)

    def __reduce__(self):
        utils = sys.modules["torch._utils"]
        arguments = (self.numbers, 0, self.shape, self.steps)
        if hasattr(utils, "_rebuild_tensor"):  # as files of 2017 have it
            return utils._rebuild_tensor, arguments
        return utils._rebuild_tensor_v2, (*arguments, False, collections.OrderedDict())


def _rebuild_tensor_v2(*arguments):
    """Named in pickles, never called here."""


def _rebuild_tensor(*arguments):
    """Likewise."""


_rebuild_tensor.__module__ = _rebuild_tensor_v2.__module__ = "torch._utils"


class _Pickler(pickle.Pickler):
    def __init__(self, stream, old=False):
        super().__init__(stream, protocol=2)
        self.old = old
        self.storages: list[np.ndarray] = []

    def persistent_id(self, obj):
        if not isinstance(obj, _Numbers):
            return None
        self.storages.append(obj.array)
        kind = getattr(sys.modules["torch"], STORAGE_NAMES[str(obj.array.dtype)])
        reference = ("storage", kind, str(len(self.storages) - 1), "cpu", obj.array.size)
        return (*reference, None) if self.old else reference


def _tensors(content):
    if isinstance(content, dict):
        return type(content)((key, _tensors(value)) for key, value in content.items())
    return _Tensor(content) if isinstance(content, np.ndarray) else content


@pytest.fixture
def torch_modules(monkeypatch):
    """`torch_modules(old)`: a context in which pickles may name what checkpoints name."""

    @contextlib.contextmanager
    def named(old=False):
        torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        for name in STORAGE_NAMES.values():
            setattr(torch, name, type(name, (), {"__module__": "torch"}))
        rebuild = _rebuild_tensor if old else _rebuild_tensor_v2
        setattr(utils, rebuild.__name__, rebuild)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            patch.setitem(sys.modules, "torch._utils", utils)
            yield

    return named


@pytest.fixture
def write_checkpoint(torch_modules):
    """`write(path, content)`: nested dictionaries whose arrays become tensors."""

    def write(path, content):
        stream = io.BytesIO()
        pickler = _Pickler(stream)
        with torch_modules():
            pickler.dump(_tensors(content))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", stream.getvalue())
            archive.writestr("archive/byteorder", "little")
            for key, array in enumerate(pickler.storages):
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return path

    return write


@pytest.fixture
def write_old_checkpoint(torch_modules):
    """The same as a stream: a magic number, version, machine, content, keys, then the numbers."""

    def write(path, content):
        sizes = {"short": 2, "int": 4, "long": 4}
        machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
        with open(path, "wb") as file, torch_modules(old=True):
            for plain in (0x1950A86A20F9469CFC6C, 1001, machine):
                pickle.dump(plain, file, protocol=2)
            pickler = _Pickler(file, old=True)
            pickler.dump(_tensors(content))
            keys = [str(key) for key in range(len(pickler.storages))][::-1]
            pickle.dump(keys, file, protocol=2)
            for key in keys:
                array = pickler.storages[int(key)]
                file.write(struct.pack("<q", array.size) + array.tobytes())
        return path

    return write


@pytest.fixture(scope="session")
def rendered() -> dict[str, np.ndarray]:
    """Twelve views of 30 x 44 pixels with transparency."""
    return render_object(1, SyntheticConfig(num_views=12, height=30, width=44))


@pytest.fixture
def capture_directory(tmp_path, rendered):
    """`rendered` as PNG files with an opencv_cameras.json."""
    directory = tmp_path / "toy"
    write_opencv_capture(
        directory, rendered["image"], rendered["world_from_camera"], rendered["intrinsics"]
    )
    return directory


class CameraFile:
    """The camera file of a capture, to be changed by a test."""

    def __init__(self, directory: Path):
        self._path = directory / "opencv_cameras.json"

    def edit(self, change):
        """Rewrites the file after `change(document)`, which edits it or returns another."""
        document = json.loads(self._path.read_text())
        self._path.write_text(json.dumps(change(document) or document))

    def edit_frame(self, number, **fields):
        """Sets fields of one frame; None deletes."""

        def change(document):
            frame = document["frames"][number]
            for key, value in fields.items():
                frame.pop(key, None) if value is None else frame.update({key: value})

        self.edit(change)

    def to_transforms(self, shared_intrinsics=True, **extra):
        """Replaces the file by the equivalent one of nerfstudio, with `extra` at the top."""
        document = json.loads(self._path.read_text())
        frames, lens = [], {}
        for frame in document["frames"]:
            pose = np.linalg.inv(np.array(frame["w2c"])) @ np.diag([1.0, -1, -1, 1])
            entry = {"file_path": frame["file_path"], "transform_matrix": pose.tolist()}
            lens = {"fl_x": frame["fx"], "fl_y": frame["fy"], "cx": frame["cx"], "cy": frame["cy"]}
            lens |= {"w": frame["w"], "h": frame["h"]}
            frames.append(entry if shared_intrinsics else entry | lens)
        top = (lens if shared_intrinsics else {}) | extra | {"frames": frames}
        self._path.unlink()
        self._path = self._path.with_name("transforms.json")
        self._path.write_text(json.dumps(top))


@pytest.fixture
def camera_file(capture_directory):
    return CameraFile(capture_directory)
