"""`python -m tttlrm_jax.convert SRC DEST`: a published PyTorch checkpoint to a model directory.

SRC is a `.pth` or `.pt` file of tttLRM, of LaCT's view synthesis, or of CUT3R (which TTT3R runs);
DEST is what `eval.py --checkpoint` reads. Strict both ways: every tensor is used once, or left
out with a reason that is printed. Nothing in the file is executed, and PyTorch is not needed.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tyro

from tttlrm_jax.apps.export_model import report_size
from tttlrm_jax.checkpoints.models import export_model, export_ttt3r
from tttlrm_jax.config import DataConfig, ModelConfig, RunConfig, SyntheticConfig
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.convert import (
    IGNORED_PREFIXES,
    config_from_shapes,
    config_from_ttt3r_shapes,
    params_from_published,
    published_shapes,
    settle,
)
from tttlrm_jax.convert.names import canonical_name
from tttlrm_jax.convert.pytorch_file import StoredTensor, read_checkpoint
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model, split_model

Kind = Literal["tttlrm", "lvsm", "ttt3r"]
# A tensor that only a checkpoint of that kind has.
NOT_SAID = "data of its authors (converted from a published checkpoint, which does not say)"
MARKS: dict[Kind, str] = {
    "tttlrm": "tokenizer.1.weight",
    "lvsm": "input_linear.weight",
    "ttt3r": "decoder_embed.weight",
}
HEADS = ("encoder_heads", "decoder_heads", "state_heads", "memory_heads")
GRID_PATCHES = 8  # image side, in patches, of the configuration written for tttLRM and LVSM


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What to convert. A checkpoint does not tell numbers of heads; defaults are published ones."""

    source: tyro.conf.Positional[str]  # .pth or .pt file
    dest: tyro.conf.Positional[str]  # model directory to write
    kind: Literal["auto", "tttlrm", "lvsm", "ttt3r"] = "auto"  # auto: told by the tensors' names
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the stored weights
    skip_unexpected: bool = False  # leave out tensors that no table lists, naming each
    encoder_heads: int | None = None  # of TTT3R networks
    decoder_heads: int | None = None
    state_heads: int | None = None
    memory_heads: int | None = None
    state_positions: Literal["2d", "1d", "none"] = "2d"


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    return run_command(ConvertConfig, convert, "convert", arguments)


def convert(options: ConvertConfig) -> Path:
    """Converts one file; returns the model directory."""
    stored, others = read_checkpoint(options.source)
    if others:
        print(f"left out, not weights: {', '.join(others)}")
    tensors: Mapping[str, StoredTensor] = _by_name(stored)
    kind = detect(tensors) if options.kind == "auto" else options.kind
    if kind == "ttt3r":
        tensors = settle(tensors, print)
    config = model_config(kind, tensors, options)
    model = abstract_model(config)
    tensors = _expected(tensors, published_shapes(model), options.skip_unexpected)
    _check_numbers(tensors)
    try:
        params = split_model(params_from_published(tensors, model))[1]
    except InputError as error:
        remedy = "--skip-unexpected leaves tensors out that the model does not have"
        raise InputError(f"{error}; {remedy}") from error
    print(f"{kind}: {len(tensors)} tensors")
    if kind == "ttt3r":
        return report_size(
            export_ttt3r(config, params, options.dest, options.dtype, provenance=NOT_SAID)
        )
    side = GRID_PATCHES * config.patch_size
    data = DataConfig(synthetic=SyntheticConfig(height=side, width=side))
    name = Path(options.dest).name or kind
    run = RunConfig(name=name, model=config, data=data, provenance=NOT_SAID)
    return report_size(export_model(run, params, options.dest, options.dtype))


def detect(tensors: Mapping[str, Any]) -> Kind:
    """The kind of model by its tensors' names. Raises InputError if they fit none."""
    for kind, mark in MARKS.items():
        if mark in tensors:
            return kind
    raise InputError(
        f"checkpoint has none of the tensors {', '.join(MARKS.values())}, by which tttlrm, lvsm "
        f"and ttt3r are known; give a complete file, or --kind"
    )


def model_config(kind: Kind, tensors: Mapping[str, StoredTensor], options: ConvertConfig) -> Any:
    """Sizes from the tensors, the rest from the options or the published configuration."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    given = {name: getattr(options, name) for name in HEADS}
    given = {name: value for name, value in given.items() if value is not None}
    if kind == "ttt3r":
        return config_from_ttt3r_shapes(shapes, state_positions=options.state_positions, **given)
    if given:
        raise InputError(f"--{next(iter(given)).replace('_', '-')} is for ttt3r; leave it out")
    return config_from_shapes(shapes, ModelConfig(kind=kind))


def _by_name(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Tensors under names without wrappers; frozen networks are left out."""
    named: dict[str, StoredTensor] = {}
    dropped: dict[str, int] = {}
    for name, tensor in tensors.items():
        short = canonical_name(name)
        prefix = next((p for p in IGNORED_PREFIXES if short.startswith(p)), None)
        if prefix is not None:
            dropped[prefix] = dropped.get(prefix, 0) + 1
        elif short in named:
            raise InputError(f"checkpoint has {short} twice, once as {name}; remove one")
        else:
            named[short] = tensor
    for prefix, count in dropped.items():
        print(f"left out {count} tensors of {prefix}*: {IGNORED_PREFIXES[prefix]}")
    return named


def _expected(tensors: Mapping[str, StoredTensor], shapes, skip: bool) -> dict[str, StoredTensor]:
    """All tensors, or with `skip` those that the model has, saying which it has not."""
    extra = sorted(tensors.keys() - shapes.keys())
    if not skip or not extra:
        return dict(tensors)
    print(f"left out as asked, of no known use: {', '.join(extra)}")
    return {name: tensor for name, tensor in tensors.items() if name in shapes}


def _check_numbers(tensors: Mapping[str, StoredTensor]) -> None:
    """Raises InputError for tensors of whole numbers: weights are floating-point."""
    whole = [name for name, tensor in tensors.items() if tensor.dtype.kind in "iub"]
    if whole:
        raise InputError(
            f"tensors {', '.join(whole[:3])} hold whole numbers, not weights; give another file"
        )
