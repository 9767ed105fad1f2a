"""Reading parts of checkpoints with Orbax, and what damage is called."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tttlrm_jax.core.errors import InputError, first_line


class DamagedCheckpoint(InputError):
    """A checkpoint cannot be read, or does not hold what was saved."""


def damaged(path: Path, reason: str) -> DamagedCheckpoint:
    """The error that says why a checkpoint cannot be used."""
    return DamagedCheckpoint.of(
        "checkpoint", path, f"is damaged: {reason}",
        "remove it to fall back to the one before, or use another",
    )  # type: ignore[return-value]  # fmt: skip


def read_on_one_device(path: Path, expected: Any) -> Any:
    """A part of a checkpoint, like `expected`."""
    target = jax.tree.map(
        lambda e: jax.ShapeDtypeStruct(e.shape, e.dtype, sharding=_one_device()), expected
    )
    with reading(path), ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), target)


def saved_shapes(params_path: Path) -> Any:
    """The tree of a saved item, with metadata of shape and dtype for leaves."""
    with reading(params_path), ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(params_path.absolute())
        saved = metadata.item_metadata if hasattr(metadata, "item_metadata") else metadata
        tree = saved.tree if hasattr(saved, "tree") else saved
    if not jax.tree.leaves(tree):
        raise damaged(params_path, "it lists no arrays")
    return tree


def _one_device():
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


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
        raise DamagedCheckpoint.of(
            "checkpoint", path, f"cannot be read ({first_line(error)})",
            "remove it to fall back to the one before, or use another",
        ) from error  # fmt: skip
