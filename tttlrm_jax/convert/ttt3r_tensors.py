"""What is peculiar to checkpoints of CUT3R's network, before the strict conversion."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert.published import canonical_tensors
from tttlrm_jax.convert.shapes import size_reader
from tttlrm_jax.convert.ttt3r_names import ALIASES, COPIED_PREFIX, IGNORED_PREFIXES
from tttlrm_jax.core.errors import InputError


def settle(
    tensors: Mapping[str, Any], say: Callable[[str], None] = lambda sentence: None
) -> dict[str, Any]:
    """The tensors under one name each: aliases resolved, leftovers dropped, the state branch there.

    `say` gets one sentence about everything that was not taken as it is. Raises InputError if a
    tensor and its alias differ.
    """
    settled = canonical_tensors(tensors)
    for name in [n for n in settled if n.startswith(tuple(IGNORED_PREFIXES))]:
        prefix = next(p for p in IGNORED_PREFIXES if name.startswith(p))
        say(f"left out {name}: {IGNORED_PREFIXES[prefix]}")
        del settled[name]
    for alias, name in ALIASES.items():
        if alias not in settled:
            continue
        same = settled.pop(alias)
        if name in settled and not np.array_equal(np.asarray(settled[name]), np.asarray(same)):
            raise InputError(
                f"tensor {alias} differs from {name}, whose second name it is; restore the file"
            )
        settled.setdefault(name, same)
    missing, source = COPIED_PREFIX
    if not any(name.startswith(missing) for name in settled):
        copies = {missing + n.removeprefix(source): n for n in settled if n.startswith(source)}
        settled.update({copy: settled[name] for copy, name in copies.items()})
        say(f"{missing}* is not in the checkpoint: copied from {source}* ({len(copies)} tensors)")
    return settled


def config_from_ttt3r_shapes(
    shapes: Mapping[str, tuple[int, ...]], base: TTT3RConfig | None = None, **fixed: Any
) -> TTT3RConfig:
    """`base` with every size replaced by what the tensors say, then by `fixed`.

    Shapes do not tell numbers of heads, state positions and the base frequency. Raises
    InputError if a tensor that decides a size is missing.
    """
    shapes = {ALIASES.get(name, name): tuple(shape) for name, shape in shapes.items()}
    size = size_reader(shapes, "a CUT3R or TTT3R network")

    def depth(prefix: str) -> int:
        indices = {
            n.split(".")[prefix.count(".") + 1] for n in shapes if n.startswith(prefix + ".")
        }
        return len(indices)

    base = base or TTT3RConfig()
    decoder = size("decoder_embed.weight", 0)
    sizes: dict[str, Any] = {
        "patch_size": size("patch_embed.proj.weight", 2),
        "encoder_width": size("patch_embed.proj.weight", 0),
        "encoder_depth": depth("enc_blocks"),
        "ray_encoder_depth": depth("enc_blocks_ray_map"),
        "decoder_width": decoder,
        "decoder_depth": depth("dec_blocks"),
        "num_state_tokens": size("register_tokens.weight", 0),
        "memory_slots": size("pose_retriever.mem", 1),
        "memory_depth": depth("pose_retriever.write_blocks"),
        "mlp_factor": size("dec_blocks.0.mlp.fc1.weight", 0) / decoder,
        "head_depth": depth("downstream_head.final_transform"),
        "head": "linear" if "downstream_head.proj.fc1.weight" in shapes else "dpt",
    }
    if sizes["head"] == "dpt":
        adapter = "downstream_head.dpt_self."
        sizes["dpt_width"] = size(adapter + "scratch.layer1_rn.weight", 0)
        sizes["dpt_last_width"] = size(adapter + "head.2.weight", 0)
        sizes["dpt_layer_widths"] = tuple(
            size(f"{adapter}act_postprocess.{level}.0.weight", 0) for level in range(4)
        )
    return dataclasses.replace(base, **{**sizes, **fixed})
