"""The two text files of the tttLRM recordings: published parameter names, and checksums."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tttlrm_jax.convert import IGNORED_PREFIXES, config_from_shapes, published_shapes
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model
from tttlrm_jax.parity.report import Row, row


def load_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"recording {path} is truncated or no JSON; fetch it again") from error
    if not isinstance(content, dict):
        raise InputError(f"recording {path} holds no JSON object; fetch it again")
    return content


def holds_checkpoint_shapes(path: Path) -> bool:
    """Whether a `checkpoint_keys.json` is that of tttLRM and LaCT (TTT3R has one too)."""
    return any(isinstance(entry, dict) and "shapes" in entry for entry in load_json(path).values())


def check_checkpoint_keys(path: Path) -> Iterator[Row]:
    """Our models, built without memory, have exactly the published names and shapes."""
    content = load_json(path)
    frozen = content.pop("optional_frozen_modules", {})
    for entry_name, entry in content.items():
        expected = {name: tuple(shape) for name, shape in entry["shapes"].items()}
        ours = published_shapes(abstract_model(config_from_shapes(expected)))
        wrong = {
            "names": len(ours.keys() ^ expected.keys()),
            "shapes": sum(ours.get(name) != shape for name, shape in expected.items()),
            "tensors": abs(len(ours) - entry["num_tensors"]),
            "parameters": abs(sum(map(_size, ours.values())) - entry["total_params"]),
        }
        for what, count in wrong.items():
            yield row(path, f"{entry_name}/{what}", count, 0.0, "exact")
    for module, tensors in frozen.items():
        listed = [name.startswith(tuple(IGNORED_PREFIXES)) for name in tensors]
        quantity = f"optional_frozen_modules/{module} left out"
        yield row(path, quantity, listed.count(False), 0.0, "exact")


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def check_manifest(path: Path) -> Iterator[Row]:
    """Checksums of the listed files that lie beside the manifest."""
    for name, entry in load_json(path).items():
        file = path.with_name(name)
        if file.is_file():
            same = hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]
            yield row(path, f"sha256 of {name}", 0.0 if same else 1.0, 0.0, "exact")
