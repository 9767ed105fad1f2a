"""Which model the tensors of a file are of, and under which names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tttlrm_jax.convert.files.pytorch import read_checkpoint
from tttlrm_jax.convert.files.safetensors import is_safetensors, read_safetensors
from tttlrm_jax.convert.names import IGNORED_PREFIXES
from tttlrm_jax.convert.published import canonical_tensors
from tttlrm_jax.core.errors import InputError, listed

Kind = Literal["tttlrm", "lvsm", "ttt3r"]
Say = Callable[[str], None]
# A tensor that only a checkpoint of that kind has.
MARKS: dict[Kind, str] = {
    "tttlrm": "tokenizer.1.weight",
    "lvsm": "input_linear.weight",
    "ttt3r": "decoder_embed.weight",
}


def read_tensors(
    path: Path, say: Say, key: str | None = None, prefix: str | None = None
) -> dict[str, Any]:
    """The tensors of a `.pt`, `.pth` or safetensors file by the names that a model gives them.

    Names lose the prefixes of wrappers, and one that all tensors of the model have (Lightning's
    `model.`; `prefix` says which). `say` gets a sentence about everything that is left out. Raises
    InputError for files that cannot be read, two models in one file, and numbers that are no
    finite weights.
    """
    if is_safetensors(path):
        if key is not None:
            raise InputError.of("key", key, f"is not in {path}, which has no keys", "leave it out")
        stored, others = read_safetensors(path), []
    else:
        stored, others = read_checkpoint(path, key)
    if others:
        say(f"left out beside the weights: {', '.join(others)}")
    tensors = _without_prefix(canonical_tensors(stored), prefix, say)
    return _without_frozen(tensors, say)


def detect(tensors: Mapping[str, Any]) -> Kind:
    """The kind of model by its tensors' names. Raises InputError if they fit none."""
    for kind, mark in MARKS.items():
        if mark in tensors:
            return kind
    raise InputError(
        f"checkpoint has none of the tensors {', '.join(MARKS.values())}, by which tttlrm, lvsm "
        f"and ttt3r are known; give a complete file, or --kind"
    )


def check_numbers(tensors: Mapping[str, Any]) -> None:
    """Raises InputError for tensors of whole or complex numbers, and for ones not finite."""
    whole = [name for name, tensor in tensors.items() if tensor.dtype.kind in "iubc"]
    if whole:
        raise InputError(
            f"tensors {listed(whole, 3)} hold whole or complex numbers, not weights; give another "
            "file"
        )
    spoilt = [n for n, tensor in sorted(tensors.items()) if not np.isfinite(tensor).all()]
    if spoilt:
        raise InputError(
            f"tensors {listed(spoilt)} hold NaN or infinite numbers; fetch the file again, or give "
            "weights from before they were spoilt"
        )


def _without_prefix(tensors: dict[str, Any], prefix: str | None, say: Say) -> dict[str, Any]:
    """The tensors whose names begin with the prefix of the only model there is, without it."""
    if prefix is None:
        prefix = _prefix(tensors)
    elif any(name.startswith(f"{prefix}.") for name in tensors):
        prefix += "."
    inside = {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}
    outside = [name for name in tensors if not name.startswith(prefix)]
    if not inside:
        raise InputError.of("prefix", prefix, "begins no name of a tensor", "correct it")
    if outside:
        say(f"left out {len(outside)} tensors that are not of {prefix}*: {listed(outside)}")
    return inside


def _prefix(tensors: Mapping[str, Any]) -> str:
    marks = tuple(MARKS.values())
    if any(mark in tensors for mark in marks):
        return ""
    found = {n.removesuffix(m) for n in tensors for m in marks if n.endswith("." + m)}
    if len(found) > 1:
        raise InputError(
            f"checkpoint holds several models, {listed(sorted(found))}; say which with --prefix"
        )
    return found.pop() if found else ""


def _without_frozen(tensors: dict[str, Any], say: Say) -> dict[str, Any]:
    """The tensors without those of networks that only training losses use."""
    for prefix, reason in IGNORED_PREFIXES.items():
        frozen = [name for name in tensors if name.startswith(prefix)]
        if frozen:
            say(f"left out {len(frozen)} tensors of {prefix}*: {reason}")
    return {n: x for n, x in tensors.items() if not n.startswith(tuple(IGNORED_PREFIXES))}
