"""The two text files of the tttLRM recordings: published parameter names, and checksums."""

from collections.abc import Iterator

from tttlrm_jax.checkpoints.checks import file_sha256
from tttlrm_jax.convert import IGNORED_PREFIXES, config_from_shapes, published_shapes
from tttlrm_jax.models import abstract_model
from tttlrm_jax.parity.modules import compare_shapes, listed_shapes, num_parameters
from tttlrm_jax.parity.recording import Recording
from tttlrm_jax.parity.report import Row

FROZEN = "optional_frozen_modules"


def holds_checkpoint_shapes(recording: Recording) -> bool:
    """Whether a `checkpoint_keys.json` is that of tttLRM and LaCT (TTT3R has one too)."""
    return any(isinstance(entry, dict) and "shapes" in entry for entry in recording.meta.values())


def check_checkpoint_keys(recording: Recording) -> Iterator[Row]:
    """Our models, built without memory, have exactly the published names and shapes."""
    for name, entry in recording.meta.items():
        if name == FROZEN:
            continue
        expected = listed_shapes(entry["shapes"])
        ours = published_shapes(abstract_model(config_from_shapes(expected)))
        yield from compare_shapes(recording, ours, expected, f"{name}/")
        yield recording.row(f"{name}/tensors", abs(len(ours) - entry["num_tensors"]))
        wrong = abs(num_parameters(ours) - entry["total_params"])
        yield recording.row(f"{name}/parameters", wrong)
    for module, tensors in recording.meta.get(FROZEN, {}).items():
        unlisted = sum(not name.startswith(tuple(IGNORED_PREFIXES)) for name in tensors)
        yield recording.row(f"{FROZEN}/{module} left out", unlisted)


def check_manifest(recording: Recording) -> Iterator[Row]:
    """Checksums of the listed files that lie beside the manifest."""
    for name, entry in recording.meta.items():
        file = recording.path.with_name(name)
        if file.is_file():
            yield recording.row(f"sha256 of {name}", file_sha256(file) != entry["sha256"])
