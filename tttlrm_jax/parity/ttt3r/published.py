"""TTT3R at its published size: names and shapes of tensors, and a run with made-up weights."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import params_from_published, published_shapes
from tttlrm_jax.convert.ttt3r_names import ALIASES
from tttlrm_jax.models import TTT3R, abstract_model
from tttlrm_jax.parity.memory import available_memory
from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.parity.ttt3r.components import MEASURE
from tttlrm_jax.parity.ttt3r.network import judged_outputs
from tttlrm_jax.parity.ttt3r.recurrence import check_positions, run_sequence
from tttlrm_jax.parity.tttlrm.files import load_json

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


def check_checkpoint_keys(path: Path) -> Iterator[Row]:
    """`checkpoint_keys.json`: names, shapes, aliases and counts of both published networks."""
    content = load_json(path)
    config, aliases = listed_config(content["config"]), content["aliases"]
    ours = published_shapes(abstract_model(config))
    expected = _shapes(content["state_dict"])
    differing = {name for name in aliases if ALIASES.get(name) != aliases[name]}
    yield row(path, "aliases", len(differing | (ALIASES.keys() ^ aliases.keys())), 0, "exact")
    unique = {name: shape for name, shape in expected.items() if name not in aliases}
    yield from _compare_shapes(path, "published", ours, unique)
    entries = len(ours) + sum(name in expected for name in ALIASES)
    yield row(path, "state_dict_entries", entries - content["state_dict_entries"], 0, "exact")
    yield row(path, "parameters", _count(ours) - content["total_parameters"], 0, "exact")
    for group, count in content["parameters_by_group"].items():
        mine = sum(np.prod(s) for name, s in ours.items() if f"{name}.".startswith(f"{group}."))
        yield row(path, f"parameters of {group}", abs(mine - count), 0, "exact")
    sibling = content.get("linear_224_variant")
    if sibling is not None:
        shapes = published_shapes(abstract_model(listed_config(content["config"], head="linear")))
        head = {name: s for name, s in shapes.items() if name.startswith("downstream_head.")}
        yield from _compare_shapes(path, "linear", head, _shapes(sibling["downstream_head"]))
        difference = abs(_count(shapes) - sibling["total_parameters"])
        yield row(path, "linear/parameters", difference, 0, "exact")


def listed_config(listed: Mapping[str, Any], **fixed: Any) -> TTT3RConfig:
    """The configuration that a `checkpoint_keys.json` lists."""
    fields = {CONFIG_KEYS[key]: value for key, value in listed.items() if key in CONFIG_KEYS}
    for key, value in listed.get("dpt", {}).items():
        if key in DPT_KEYS:
            fields[DPT_KEYS[key]] = tuple(value) if isinstance(value, list) else value
    if "decoder_heads" in fields:
        fields["memory_heads"] = fields["decoder_heads"]
    return TTT3RConfig(**{**fields, **fixed})


def _shapes(listed: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in listed.items()}


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return int(sum(np.prod(shape) for shape in shapes.values()))


def _compare_shapes(path: Path, title: str, ours: Mapping, expected: Mapping) -> Iterator[Row]:
    wrong = sum(ours.get(name) != shape for name, shape in expected.items())
    yield row(path, f"{title}/names", len(ours.keys() ^ expected.keys()), 0, "exact")
    yield row(path, f"{title}/shapes", wrong, 0, "exact")


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


def check_published_run(path: Path) -> Iterator[Row]:
    """`published_config_procedural.npz`: a few frames at full size, where memory allows."""
    recording = load(path)
    meta = recording.meta
    config = listed_config({"head_type": meta.get("head", "dpt"), **meta.get("config", {})})
    abstract = abstract_model(config)
    shapes = published_shapes(abstract)
    needed, free = 4 * _count(shapes) + WORKING_MEMORY, available_memory()
    if free is not None and free < needed:
        reason = f"skipped: needs {needed / GIB:.0f} GiB, {free / GIB:.1f} GiB are free"
        yield row(path, reason, 0, 0, "skipped")
        return
    tensors = {
        name: ProceduralTensor(name, shape, meta.get("prefix", "pub."), meta["seed"])
        for name, shape in shapes.items()
    }
    for name, values in recording.under("probe/").items():
        drawn = np.asarray(tensors[name]).ravel()[: values.size]
        yield compare(path, f"probe/{name}", drawn, values.ravel(), 1e-7, MEASURE)
    network: TTT3R = params_from_published(tensors, abstract)  # type: ignore[arg-type]
    outputs, stages = run_sequence(recording, network, scores=False)
    for key in recording.arrays:
        name, part = strided(key)
        if name in stages:
            actual = part(stages[name])
            yield compare(path, key, actual, recording[key], PUBLISHED, MEASURE)
    yield from judged_outputs(
        recording, "out/", outputs, "", PUBLISHED, network.config.head == "linear"
    )
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
