"""Reads PyTorch checkpoints (`torch.save`) without PyTorch and without running them.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the stream of pickles before
it, in which torchvision's older files are. What a pickle may say is in `pytorch_pickle`.
"""

import dataclasses
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

from tttlrm_jax.convert.files.pytorch_pickle import (
    CheckpointUnpickler,
    StoredTensor,
    damaged,
)
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.pickles import UNREADABLE, Refused

MAX_PICKLE_BYTES = 2**28
MAGIC_PICKLE = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of 0x1950a86a20f9469cfc6c
MAGIC_ZIP = b"PK\x03\x04"  # whose table of contents is at the end
WEIGHTS_KEYS = ("model", "state_dict", "model_state_dict", "module")
MAX_NESTING = 3  # of those keys


def read_checkpoint(
    path: Path | str, key: str | None = None
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of a checkpoint by name, and the names of what else the file holds.

    Weights may be the whole content or lie under `WEIGHTS_KEYS`, also one within another, or else
    under the only key that has more tensors than lie beside it (a step counter and the like);
    `key` says which, dots for one within another. Raises InputError for files that are no
    checkpoint, are damaged, hold no tensors or several sets of them, or name anything that would
    have to be run.
    """
    content, others = _opened(_unpickle(Path(path)), path, key)
    tensors = _tensors(content) if isinstance(content, dict) else {}
    if not tensors:
        where = f"whole or under one key ({_names(content)})" if key is None else f"under {key}"
        raise InputError.of(
            "checkpoint", path, f"holds no tensors by name, {where}",
            "give a file with a model's state",
        )  # fmt: skip
    _refuse_unread(path, tensors)
    said = [
        f"{other} (weights as well: --key {other_key})"
        if key is None and _num_tensors(value) >= len(tensors) else other
        for other, other_key, value in others
    ]  # fmt: skip
    return tensors, said + sorted(str(name) for name in content if name not in tensors)


def _refuse_unread(path: Path | str, tensors: dict[str, StoredTensor]) -> None:
    """Raises InputError for a tensor that carries more than numbers: it would be dropped."""
    for name, tensor in tensors.items():
        if tensor.unread:
            raise InputError.of(
                "checkpoint", path, f"has {listed(tensor.unread)} on {name}, beside its numbers",
                "save it from PyTorch as a plain tensor (resolve_conj(), clone())",
            )  # fmt: skip


def _opened(
    content: Any, path: Path | str, key: str | None
) -> tuple[Any, list[tuple[str, str, Any]]]:
    """What lies under the key of the weights; name, dotted key and value of all beside it."""
    asked = [] if key is None else key.split(".")
    others: list[tuple[str, str, Any]] = []
    opened = ""
    for levels in range(MAX_NESTING + len(asked), 0, -1):
        inner = asked.pop(0) if asked else _weights_key(content, levels)
        if inner is None and key is None:
            inner = _only_key(content, path)
        if inner is None:
            break
        if not isinstance(content, dict) or inner not in content:
            raise InputError.of(
                "key", key, f"is not in {path}, which holds {_names(content)}", "use one of them"
            )
        beside = sorted((name for name in content if name != inner), key=str)
        others += [(str(name), f"{opened}{name}", content[name]) for name in beside]
        content, opened = content[inner], f"{opened}{inner}."
    return content, others


def _num_tensors(content: Any) -> int:
    """Tensors by name that a content holds, whole or under `WEIGHTS_KEYS`."""
    if not isinstance(content, dict):
        return 0
    key = _weights_key(content)
    return len(_tensors(content)) if key is None else _num_tensors(content[key])


def _names(content: Any) -> str:
    """What a content holds, for errors."""
    names = [str(name) for name in content] if isinstance(content, dict) else []
    return listed(names) if names else "nothing by name"


def _weights_key(content: Any, levels: int = MAX_NESTING) -> str | None:
    """The first of `WEIGHTS_KEYS` under which tensors lie, at once or under another of them."""
    if not isinstance(content, dict) or levels == 0:
        return None
    for key in WEIGHTS_KEYS:
        inner = content.get(key)
        if isinstance(inner, dict) and (_tensors(inner) or _weights_key(inner, levels - 1)):
            return key
    return None


def _only_key(content: Any, path: Path | str) -> str | None:
    """The key under which more tensors lie than beside it. Raises InputError if there are two."""
    if not isinstance(content, dict):
        return None
    beside = len(_tensors(content))
    sizes = {
        key: _num_tensors(value) for key, value in content.items() if isinstance(key, str)
    }  # fmt: skip
    keys = [key for key, size in sizes.items() if size > beside]
    if len(keys) > 1:
        raise InputError.of(
            "checkpoint", path, f"holds tensors under {listed(keys)}", "say which with --key"
        )
    return keys[0] if keys else None


def _tensors(content: dict) -> dict[str, StoredTensor]:
    return {
        name: value for name, value in content.items()
        if isinstance(name, str) and isinstance(value, StoredTensor)
    }  # fmt: skip


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise InputError.of(
            "checkpoint", path, "is not a file", "give a .pt, .pth or .safetensors file"
        )
    try:
        return _of_archive(path) if zipfile.is_zipfile(path) else _of_stream(path)
    except Refused as error:
        raise InputError.of(
            "checkpoint", path, f"names {error}, which is neither tensor nor plain data: nothing "
            f"of it was run", "use a file from a source you trust that holds tensors only",
        ) from error  # fmt: skip
    except UNREADABLE as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, str(error) or type(error).__name__) from error


# ---- PyTorch 1.6 and later: a zip archive ------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Archive:
    path: Path
    archive: zipfile.ZipFile
    prefix: str

    def read(self, key: str, size: int) -> bytes:
        del size
        return self.archive.read(f"{self.prefix}data/{key}")


def _of_archive(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    pickles = [info for info in archive.infolist() if info.filename.endswith("data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise damaged(path, "it has no single data.pkl of a checkpoint's size")
    prefix = pickles[0].filename.removesuffix("data.pkl")
    names = set(archive.namelist())
    order = archive.read(prefix + "byteorder") if prefix + "byteorder" in names else b"little"
    stream = io.BytesIO(archive.read(pickles[0]))
    source = _Archive(path, archive, prefix)
    return CheckpointUnpickler(stream, source, order.strip().decode()).load()


# ---- before PyTorch 1.6: pickles one after another, then the numbers ---------------------------


@dataclasses.dataclass(frozen=True)
class _Stream:
    path: Path
    starts: dict[str, int]  # of each storage's numbers, in bytes from the beginning

    def read(self, key: str, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.starts[key])
            return file.read(size)


def _of_stream(path: Path) -> Any:
    """A magic number, a version, facts of the machine, the content, keys; then every storage as
    its count (int64) and its numbers."""
    source = _Stream(path, {})
    with path.open("rb") as file:
        begins = file.read(len(MAGIC_PICKLE))
        if begins.startswith(MAGIC_ZIP):
            raise damaged(path, "its end is missing")
        if begins != MAGIC_PICKLE:
            raise InputError.of(
                "checkpoint", path, "is in no format of PyTorch's torch.save",
                "load it there and save it again, or fetch it again",
            )  # fmt: skip
        CheckpointUnpickler(file, source).load()  # the version of the format
        machine = CheckpointUnpickler(file, source).load()
        little = not isinstance(machine, dict) or machine.get("little_endian", True)
        order = "little" if little else "big"
        unpickler = CheckpointUnpickler(file, source, order)
        content = unpickler.load()
        for key in CheckpointUnpickler(file, source).load():
            (count,) = struct.unpack("<q" if little else ">q", file.read(8))
            if count < 0:
                raise damaged(path, f"storage {key} has {count} numbers")
            source.starts[str(key)] = file.tell()
            file.seek(count * unpickler.kinds[str(key)].itemsize, io.SEEK_CUR)
    return content
