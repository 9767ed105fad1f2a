"""Model configuration that the shapes of published tensors imply."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.convert.names import canonical_name
from tttlrm_jax.core.errors import InputError

INPUT_CHANNELS = 12
CHANNELS_BESIDE_SH = 11  # of one Gaussian: position, scale, rotation, opacity
FIRST_BLOCK = "blocks.0.module_list."


def config_from_shapes(
    shapes: Mapping[str, tuple[int, ...]], base: ModelConfig | None = None
) -> ModelConfig:
    """`base` with every size replaced by what the tensors of a published model say.

    What shapes cannot tell (learning rates, Newton-Schulz steps, precision, elastic
    regularisation) is kept from `base`. Raises InputError if a tensor that decides a size is
    missing.
    """
    shapes = {canonical_name(name): tuple(shape) for name, shape in shapes.items()}
    size = size_reader(shapes, "a tttLRM or LaCT view-synthesis model")

    kind = "lvsm" if "input_linear.weight" in shapes else "tttlrm"
    tokenizer = "input_linear.weight" if kind == "lvsm" else "tokenizer.1.weight"
    d_model, patch_features = size(tokenizer, 0), size(tokenizer, 1)
    patch_size = math.isqrt(patch_features // INPUT_CHANNELS)
    w0 = FIRST_BLOCK + "1.f.w0"
    d_head, d_hid = size(w0, 1), size(w0, 2)
    norm_width = size(FIRST_BLOCK + "1.f.o_norm.weight", 0)
    sizes = {
        "kind": kind,
        "d_model": d_model,
        "num_layers": sum(name.endswith(".module_list.1.f.w0") for name in shapes),
        "patch_size": patch_size,
        "attention_head_dim": size(FIRST_BLOCK + "0.f.q_norm.weight", 0),
        "num_ttt_heads": size(w0, 0),
        "ttt_inner_factor": ratio(d_hid, d_head),
        "mlp_factor": ratio(size(FIRST_BLOCK + "2.f.c_fc.weight", 0), d_model),
        "output_norm": "merged" if norm_width == d_model else "head",
    }
    if kind == "tttlrm":
        channels = size("decoder.1.weight", 0) // patch_size**2
        sizes["sh_degree"] = math.isqrt((channels - CHANNELS_BESIDE_SH) // 3) - 1
    return dataclasses.replace(base or ModelConfig(), **sizes)


def size_reader(shapes: Mapping[str, tuple[int, ...]], expected: str) -> Callable[[str, int], int]:
    """`size(name, axis)` of a tensor; InputError that asks for the `expected` if it is missing."""

    def size(name: str, axis: int) -> int:
        if name not in shapes:
            raise InputError(
                f"tensor {name} is missing, so the model's sizes are unknown; give the complete "
                f"state of {expected}"
            )
        return shapes[name][axis]

    return size


def ratio(hidden: int, width: int) -> float:
    """The factor for which `int(width * factor) == hidden`, rounding included."""
    factor = hidden / width
    return factor if int(width * factor) == hidden else math.nextafter(factor, math.inf)
