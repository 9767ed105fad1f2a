"""Which check a recording belongs to, by its file name and, where names collide, its content."""

import dataclasses
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity import cameras
from tttlrm_jax.parity.gsplat import raster, stages
from tttlrm_jax.parity.recording import Check, load
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.ttt3r import components, network, published, recurrence, sequences
from tttlrm_jax.parity.tttlrm import files, layers, losses, lvsm, models, ttt

RECORDING_SUFFIXES = (".npz", ".json")

# Of a suite the first pattern that fits a file's name decides; None: known, but not yet checked.
SUITES: Mapping[str, Mapping[str, Check | None]] = {
    "gsplat": {
        "spherical_harmonics.npz": stages.check_spherical_harmonics,
        "quat_scale_to_covar.npz": stages.check_covariance,
        "projection.npz": stages.check_projection,
        "raster_*.npz": raster.check_raster,
        "garden.npz": raster.check_raster,
    },
    "tttlrm": {
        "cameras.npz": cameras.check_cameras,
        "dataset_item.npz": cameras.check_dataset_item,
        "newton_schulz.npz": ttt.check_newton_schulz,
        "fast_weight_update_*.npz": ttt.check_fast_weight_update,
        "ttt_layer.npz": layers.check_ttt_layer,
        "lact_ttt_layer.npz": layers.check_ttt_layer,
        "window_attention.npz": layers.check_window_attention,
        "mlp.npz": layers.check_mlp,
        "block.npz": layers.check_block,
        "model_*_cotangents.npz": models.check_cotangents,
        "model_*_full_grads_*.npz": models.check_model_gradients,
        "model_*_ar_grads_*.npz": models.check_model_gradients,
        "model_*_full_*.npz": models.check_model_outputs,
        "model_*_ar_*.npz": models.check_model_outputs,
        "model_*.npz": models.check_model_inputs,
        "lvsm_forward.npz": lvsm.check_lvsm,
        "lvsm_forward_grads.npz": lvsm.check_lvsm_gradients,
        "losses.npz": losses.check_losses,
        "perceptual_loss.npz": losses.check_perceptual_loss,
        "checkpoint_keys.json": files.check_checkpoint_keys,
        "manifest.json": files.check_manifest,
    },
    "ttt3r": {
        "rope2d*.npz": components.check_rope,
        "encoder_block*.npz": components.check_encoder_block,
        "decoder_block*.npz": components.check_decoder_block,
        "modulation_block*.npz": components.check_modulation_block,
        "patch_embed*.npz": components.check_patch_embed,
        "encode_modalities*.npz": network.check_modalities,
        "pose_memory*.npz": components.check_pose_memory,
        "state_update*.npz": recurrence.check_state_update,
        "head_*.npz": network.check_head,
        "heads_postprocess*.npz": components.check_postprocess,
        "full_*_params*.npz": network.check_params,
        "full_*.npz": recurrence.check_run,
        "published_config_procedural*.npz": published.check_published_run,
        "checkpoint_keys.json": published.check_checkpoint_keys,
        "metrics_pose*.npz": sequences.check_pose_metrics,
        "metrics_depth*.npz": sequences.check_depth_metrics,
        "metrics_recon*.npz": sequences.check_reconstruction_metrics,
        "camera_utils*.npz": sequences.check_camera_utils,
        "preprocess*.npz": sequences.check_preprocess,
    },
}


@dataclasses.dataclass(frozen=True)
class Found:
    """A recording, the suite it is of, and its check; `check` is None where there is none yet."""

    path: Path
    suite: str
    check: Check | None

    @property
    def name(self) -> str:
        return f"{self.suite}/{self.path.name}"

    def rows(self) -> list[Row]:
        """A verdict on every quantity; a recording that cannot be run raises what stops it."""
        assert self.check is not None
        return list(self.check(load(self.path)))


def collect(folder: Path, only: str = "*") -> tuple[list[Found], list[Path]]:
    """Recordings in `folder` and its subfolders, and files of no known kind.

    `only` is a pattern for file names. Raises InputError if nothing is found, or if a recording
    that was asked for cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"recordings folder {folder} is not a folder; give a folder of recordings")
    kinds = {path: recognise(path) for path in _files(folder) if fnmatchcase(path.name, only)}
    found = [kind for kind in kinds.values() if kind is not None]
    if not found:
        raise InputError(
            f"no recordings named {only} of a known kind in {folder} or its subfolders; give a "
            f"folder shaped like goldens, or one of its subfolders"
        )
    return found, [path for path, kind in kinds.items() if kind is None]


def recognise(path: Path) -> Found | None:
    """The kind of one file; an unreadable one raises InputError."""
    matches = [
        Found(path, suite, check)
        for suite, kinds in SUITES.items()
        for pattern, check in kinds.items()
        if fnmatchcase(path.name, pattern)
    ]
    if not matches:
        return None
    recording = load(path)
    if path.name == "checkpoint_keys.json":
        suite = "tttlrm" if files.holds_checkpoint_shapes(recording) else "ttt3r"
        matches = [match for match in matches if match.suite == suite]
    return matches[0]


def _files(folder: Path) -> Iterator[Path]:
    folders = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    for each in folders:
        for path in sorted(each.iterdir()):
            if path.is_file() and path.suffix in RECORDING_SUFFIXES:
                yield path
