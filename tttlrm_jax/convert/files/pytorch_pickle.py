"""What a PyTorch checkpoint's pickle may say: tensors, plain containers, and inert stand-ins.

A pickle may name any function to be called. Here a name stands for a tensor, for a plain
container, or for something inert that is not looked at; every other name is refused before
anything is done. Tensors stay on disk until they are asked for.
"""

import collections
import dataclasses
import pickle
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.pickles import TableUnpickler

READING_ERRORS = (KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError)
STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
# Training arguments and the like: read as nothing. A star stands for every name of a module.
INERT = {
    "argparse": {"Namespace"},
    "builtins": {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object",
                 "set", "slice", "str", "tuple"},
    "__builtin__": {"dict", "int", "list", "object", "set", "str", "unicode"},
    "_codecs": {"encode"},
    "collections": {"Counter", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "copy_reg": {"_reconstructor"},
    "lightning.fabric.utilities.data": {"AttributeDict"},
    "lightning_fabric.utilities.data": {"AttributeDict"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "omegaconf.base": {"*"},
    "omegaconf.dictconfig": {"*"},
    "omegaconf.listconfig": {"*"},
    "omegaconf.nodes": {"*"},
    "pathlib": {"*"},
    "pytorch_lightning.utilities.parsing": {"AttributeDict"},
    "torch": {"Size", "device", "float16", "float32", "float64", "bfloat16", "int64"},
    "typing": {"*"},
}  # fmt: skip


class Inert:
    """Stands for an object that nobody needs; takes whatever a pickle does to it."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    # what a pickle may call to fill an object; each takes anything and does nothing
    __setstate__ = __setitem__ = append = extend = add = __init__


class Source(Protocol):
    """Where a checkpoint keeps the bytes of its storages."""

    @property
    def path(self) -> Path:
        """The checkpoint's file."""
        ...

    def read(self, key: str, size: int) -> bytes:
        """At least `size` bytes of a storage, or what there is; may raise `READING_ERRORS`."""
        ...


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of numbers in a checkpoint."""

    source: Source
    key: str
    dtype: np.dtype
    count: int
    swapped: bool  # written on a machine of the other byte order

    def read(self) -> np.ndarray:
        """All numbers; InputError if there are fewer than the checkpoint says."""
        size = self.count * self.dtype.itemsize
        try:
            content = self.source.read(self.key, size)
        except READING_ERRORS as error:
            raise damaged(self.source.path, f"storage {self.key} cannot be read") from error
        if len(content) < size:
            raise damaged(self.source.path, f"storage {self.key} is too short")
        if self.swapped:
            content = np.frombuffer(content, f"u{self.dtype.itemsize}").byteswap().tobytes()
        return np.frombuffer(content, self.dtype, self.count)


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, read from disk by `np.asarray`."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    negated: bool = False  # PyTorch's negative bit: the numbers count with the other sign
    unread: tuple[str, ...] = ()  # what else it carries, of which nothing is known here

    @property
    def dtype(self) -> np.dtype:
        return self.storage.dtype

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy
        numbers, strides = self.storage.read()[self.offset :], self.stride
        strides = tuple(step * self.dtype.itemsize for step in strides)
        view = np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)
        view = np.negative(view) if self.negated else view
        return view if dtype is None else view.astype(dtype)


def _rebuild_tensor(
    storage, offset, shape, stride, _grad=False, _hooks=None, bits=None
) -> StoredTensor:
    """What a checkpoint calls `torch._utils._rebuild_tensor_v2`; `bits` are those that are set."""
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without numbers")
    numbers = (offset, *shape, *stride)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(shape) != len(stride):
        raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.count:
        raise pickle.UnpicklingError("a tensor beyond the end of its numbers")
    bits = {} if bits is None else bits
    if not isinstance(bits, dict):
        raise pickle.UnpicklingError("a tensor with bits that have no names")
    unread = tuple(str(key) for key, value in bits.items() if key != "neg" and value)
    negated = bool(bits.get("neg"))
    return StoredTensor(storage, offset, tuple(shape), tuple(stride), negated, unread)


def _rebuild_parameter(tensor, *_) -> Any:
    """What a checkpoint calls `torch._utils._rebuild_parameter`."""
    return tensor


TABLE = {
    **{(module, name): Inert for module, names in INERT.items() for name in names},
    **{("torch", name): kind for name, kind in STORAGES.items()},
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,  # before PyTorch 0.4
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
}


class CheckpointUnpickler(TableUnpickler):
    """Unpickles tensors as `StoredTensor`; imports and runs nothing that the stream names."""

    def __init__(self, stream: IO[bytes], source: Source, order: str = "little"):
        super().__init__(stream, TABLE)
        self._source, self._swapped = source, order != sys.byteorder
        self.kinds: dict[str, np.dtype] = {}  # of the storages met so far, by key

    def persistent_load(self, pid: Any) -> Storage:
        """A storage: (word, kind, key, device, count) and, before PyTorch 1.6, a view of it."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("an unknown reference")
        _, dtype, key, _, count = pid[:5]
        if not isinstance(dtype, np.dtype) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError("numbers of an unknown kind")
        if pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("a storage that is a view of another")
        self.kinds[str(key)] = dtype
        return Storage(self._source, str(key), dtype, count, self._swapped)


def damaged(path: Any, reason: str) -> InputError:
    """The error for a checkpoint that is not whole."""
    return InputError.of("checkpoint", path, f"is damaged ({reason})", "fetch it again")
