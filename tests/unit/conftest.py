"""Writes checkpoints as `torch.save` does and did before PyTorch 1.6, without PyTorch."""

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

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
