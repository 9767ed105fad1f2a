"""TTT3R at its published size: names and shapes of tensors, and a run with made-up weights."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import params_from_published, published_shapes
from tttlrm_jax.convert.ttt3r_names import ALIASES
from tttlrm_jax.models import TTT3R, abstract_model
from tttlrm_jax.parity.memory import available_memory
from tttlrm_jax.parity.modules import compare_shapes, listed_shapes, num_parameters
from tttlrm_jax.parity.recording import Recording
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.ttt3r.network import judged_outputs
from tttlrm_jax.parity.ttt3r.recurrence import check_positions, run_sequence

PUBLISHED = 3e-4  # |a - b| / (1 + |b|), the recording's own bound
GIB = 2**30
WORKING_MEMORY = 3 * GIB  # of the program and the weights on their way in, beside the weights
LEARNED_TOKENS = {"pose_token", "masked_img_token", "masked_ray_map_token", "masked_token", "mem"}
CONFIG_KEYS = {
    "enc_embed_dim": "encoder_width",
    "enc_depth": "encoder_depth",
    "enc_num_heads": "encoder_heads",
    "ray_enc_depth": "ray_encoder_depth",
    "ray_enc_num_heads": "ray_encoder_heads",
    "dec_embed_dim": "decoder_width",
    "dec_depth": "decoder_depth",
    "dec_num_heads": "decoder_heads",
    "state_dec_num_heads": "state_heads",
    "state_size": "num_state_tokens",
    "state_pe": "state_positions",
    "local_mem_size": "memory_slots",
    "local_mem_depth": "memory_depth",
    "patch_size": "patch_size",
    "mlp_ratio": "mlp_factor",
    "head_type": "head",
}
DPT_KEYS = {
    "feature_dim": "dpt_width",
    "last_dim": "dpt_last_width",
    "layer_dims": "dpt_layer_widths",
}


def check_checkpoint_keys(recording: Recording) -> Iterator[Row]:
    """`checkpoint_keys.json`: names, shapes, aliases and counts of both published networks."""
    content = recording.meta
    config, aliases = listed_config(content["config"]), content["aliases"]
    ours = published_shapes(abstract_model(config))
    expected = listed_shapes(content["state_dict"])
    differing = {name for name in aliases if ALIASES.get(name) != aliases[name]}
    yield recording.row("aliases", len(differing | (ALIASES.keys() ^ aliases.keys())))
    unique = {name: shape for name, shape in expected.items() if name not in aliases}
    yield from compare_shapes(recording, ours, unique, "published/")
    entries = len(ours) + sum(name in expected for name in ALIASES)
    yield recording.row("state_dict_entries", abs(entries - content["state_dict_entries"]))
    yield recording.row("parameters", abs(num_parameters(ours) - content["total_parameters"]))
    for group, count in content["parameters_by_group"].items():
        mine = {name: s for name, s in ours.items() if f"{name}.".startswith(f"{group}.")}
        yield recording.row(f"parameters of {group}", abs(num_parameters(mine) - count))
    sibling = content.get("linear_224_variant")
    if sibling is not None:
        shapes = published_shapes(abstract_model(listed_config(content["config"], head="linear")))
        head = {name: s for name, s in shapes.items() if name.startswith("downstream_head.")}
        listed = listed_shapes(sibling["downstream_head"])
        yield from compare_shapes(recording, head, listed, "linear/")
        difference = abs(num_parameters(shapes) - sibling["total_parameters"])
        yield recording.row("linear/parameters", difference)


def listed_config(listed: Mapping[str, Any], **fixed: Any) -> TTT3RConfig:
    """The configuration that a `checkpoint_keys.json` lists."""
    fields = {CONFIG_KEYS[key]: value for key, value in listed.items() if key in CONFIG_KEYS}
    for key, value in listed.get("dpt", {}).items():
        if key in DPT_KEYS:
            fields[DPT_KEYS[key]] = tuple(value) if isinstance(value, list) else value
    if "decoder_heads" in fields:
        fields["memory_heads"] = fields["decoder_heads"]
    return TTT3RConfig(**{**fields, **fixed})


class ProceduralTensor:
    """A tensor that is drawn when it is asked for: 793 million at once would not fit twice."""

    dtype = np.dtype(np.float32)

    def __init__(self, name: str, shape: tuple[int, ...], prefix: str, seed: int):
        self.name, self.shape, self.prefix, self.seed = name, shape, prefix, seed

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy
        drawn = procedural_values(self.name, self.shape, self.prefix, self.seed)
        return drawn if dtype is None else drawn.astype(dtype)


def procedural_values(name: str, shape: tuple[int, ...], prefix: str, seed: int) -> np.ndarray:
    """Section 12 of the recordings' text: normal numbers keyed by name, scaled by kind."""
    key = zlib.crc32(f"{seed}:{prefix}{name}".encode())
    values = np.random.RandomState(key).standard_normal(shape)
    kind = name.rsplit(".", 1)[-1]
    if kind in LEARNED_TOKENS:
        values *= 0.5
    elif len(shape) >= 2:
        values /= np.sqrt(np.prod(shape[1:]))
    else:
        values = 1 + 0.2 * values if kind == "weight" else 0.1 * values
    if "cross_attn.projq" in name or "cross_attn.projk" in name:
        values *= 1.5 if kind == "weight" else 8
    if name.endswith(".head.4.weight"):
        values *= 0.5
    return values.astype(np.float32)


def check_published_run(recording: Recording) -> Iterator[Row]:
    """`published_config_procedural.npz`: a few frames at full size, where memory allows."""
    meta = recording.meta
    config = listed_config({"head_type": meta.get("head", "dpt"), **meta.get("config", {})})
    abstract: Any = abstract_model(config)
    shapes = published_shapes(abstract)
    needed, free = 4 * num_parameters(shapes) + WORKING_MEMORY, available_memory()
    if free is not None and free < needed:
        reason = f"skipped: needs {needed / GIB:.0f} GiB, {free / GIB:.1f} GiB are free"
        yield recording.row(reason, 0, measure="skipped")
        return
    tensors = {
        name: ProceduralTensor(name, shape, meta.get("prefix", "pub."), meta["seed"])
        for name, shape in shapes.items()
    }
    for name, values in recording.under("probe/").items():
        drawn = np.asarray(tensors[name]).ravel()[: values.size].reshape(values.shape)
        yield recording.compare(f"probe/{name}", drawn, 1e-7, "1+abs")
    network: TTT3R = params_from_published(tensors, abstract)
    outputs, stages = run_sequence(recording, network, scores=False)
    for key in recording.arrays:
        name, part = strided(key)
        if name in stages:
            yield recording.compare(key, part(stages[name]), PUBLISHED, "1+abs")
    linear = network.config.head == "linear"
    yield from judged_outputs(recording, "out/", outputs, PUBLISHED, linear)
    yield from check_positions(recording, network)


def strided(key: str) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """A key such as `enc_feat[:, :, ::4]`: the name, and what takes that part of an array."""
    match = re.fullmatch(r"([\w/]+)\[([\d:, ]+)\]", key)
    if match is None:
        return key, lambda array: array
    parts = [
        slice(*(int(number) if number else None for number in part.strip().split(":")))
        if ":" in part else int(part)
        for part in match.group(2).split(",")
    ]  # fmt: skip
    return match.group(1), lambda array: array[tuple(parts)]
