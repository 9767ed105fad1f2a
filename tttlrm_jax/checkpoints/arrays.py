"""Parts of checkpoints written and read with Orbax, and what damage is called."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tttlrm_jax.core.errors import InputError, first_line


class DamagedCheckpoint(InputError):
    """A checkpoint cannot be read, or does not hold what was saved."""


def damaged(path: Path, reason: str, what: str = "is damaged: {}") -> DamagedCheckpoint:
    """The error that says why a checkpoint cannot be used."""
    return DamagedCheckpoint.of(
        "checkpoint", path, what.format(reason),
        "remove it to fall back to the one before, or use another",
    )  # type: ignore[return-value]  # fmt: skip


def write_arrays(path: Path, tree: Any) -> None:
    """Writes a tree of arrays as a part of its own."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree)
    (path / "commit_success.txt").unlink(missing_ok=True)  # names this machine's path


def read_arrays(path: Path, expected: Any) -> Any:
    """A part of a checkpoint, like `expected`, on one device; raises whatever Orbax raises."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda e: jax.ShapeDtypeStruct(e.shape, e.dtype, sharding=device), expected
    )
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), target)


def read_on_one_device(path: Path, expected: Any) -> Any:
    """`read_arrays` that raises DamagedCheckpoint."""
    with reading(path):
        return read_arrays(path, expected)


def saved_shapes(params_path: Path) -> Any:
    """The tree of a saved item, with metadata of shape and dtype for leaves."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    with reading(params_path), ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(params_path.absolute())
        saved = metadata.item_metadata if hasattr(metadata, "item_metadata") else metadata
        tree = saved.tree if hasattr(saved, "tree") else saved
    if not jax.tree.leaves(tree):
        raise damaged(params_path, "it lists no arrays")
    return tree


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what Orbax raises for a damaged checkpoint into one sentence.

    TensorStore's errors have no type of their own, so every exception of the reader counts.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise damaged(path, first_line(error), "cannot be read ({})") from error
