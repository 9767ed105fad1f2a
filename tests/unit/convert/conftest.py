"""Writes checkpoints as `torch.save` does, without PyTorch."""

import collections
import io
import pickle
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
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        arguments = (self.numbers, 0, self.shape, self.steps, False, collections.OrderedDict())
        return rebuild, arguments


def _rebuild_tensor_v2(*arguments):
    """Named in pickles, never called here."""


_rebuild_tensor_v2.__module__ = "torch._utils"


class _Pickler(pickle.Pickler):
    def __init__(self, stream):
        super().__init__(stream, protocol=2)
        self.storages: list[np.ndarray] = []

    def persistent_id(self, obj):
        if not isinstance(obj, _Numbers):
            return None
        self.storages.append(obj.array)
        kind = getattr(sys.modules["torch"], STORAGE_NAMES[str(obj.array.dtype)])
        return ("storage", kind, str(len(self.storages) - 1), "cpu", obj.array.size)


def _tensors(content):
    if isinstance(content, dict):
        return type(content)((key, _tensors(value)) for key, value in content.items())
    return _Tensor(content) if isinstance(content, np.ndarray) else content


@pytest.fixture
def write_checkpoint(monkeypatch):
    """`write(path, content)`: nested dictionaries whose arrays become tensors."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGE_NAMES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2

    def write(path, content):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "torch", torch)
            patch.setitem(sys.modules, "torch._utils", utils)
            stream = io.BytesIO()
            pickler = _Pickler(stream)
            pickler.dump(_tensors(content))
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", stream.getvalue())
            archive.writestr("archive/byteorder", "little")
            for key, array in enumerate(pickler.storages):
                archive.writestr(f"archive/data/{key}", array.tobytes())
        return path

    return write
