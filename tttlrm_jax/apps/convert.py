"""`python -m tttlrm_jax.convert SRC DEST`: published weights to a model directory.

SRC is a `.pth`, `.pt` or `.safetensors` file (or the index of several) of tttLRM, of LaCT's view
synthesis, or of CUT3R (which TTT3R runs); DEST is what `eval.py --checkpoint` reads, with the
settings that these weights are evaluated with. Strict both ways: every tensor is used once, or left
out with a reason that is printed. Nothing in the file is executed, and PyTorch is not needed.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tyro

from tttlrm_jax.apps.export_model import report_size
from tttlrm_jax.checkpoints.models import export_model, export_ttt3r
from tttlrm_jax.config import ModelConfig, Plan, RunConfig
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.config.validation import PositiveInt, check_fields
from tttlrm_jax.convert import (
    config_from_shapes,
    config_from_ttt3r_shapes,
    params_from_published,
    published_shapes,
    settle,
)
from tttlrm_jax.convert.published import checked_tensors
from tttlrm_jax.convert.published_settings import (
    CUT3R_SIZES,
    NOT_SAID,
    Level,
    Wishes,
    published_run,
    settle_settings,
)
from tttlrm_jax.convert.recognition import Kind, check_numbers, detect, read_tensors
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model, split_model

HEADS = ("encoder_heads", "decoder_heads", "state_heads", "memory_heads")  # of TTT3R
SETTINGS = tuple(field.name for field in dataclasses.fields(Wishes))  # of posed images


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What to convert, and what its tensors do not tell: None for what was published.

    Everything that is taken for granted is printed.
    """

    source: tyro.conf.Positional[str]  # .pth, .pt, .safetensors or .safetensors.index.json file
    dest: tyro.conf.Positional[str]  # model directory to write
    kind: Literal["auto", "tttlrm", "lvsm", "ttt3r"] = "auto"  # auto: told by the tensors' names
    key: str | None = None  # that weights are under in the file; dots for one within another
    prefix: str | None = None  # of the names of the model's tensors, such as model.
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the stored weights
    skip_unexpected: bool = False  # leave out tensors that no table lists, naming each
    # of tttLRM and LVSM, written as what eval.py takes by default
    plan: Plan | None = None  # sequential for autoregressive weights of tttLRM
    level: Level | None = None  # what the weights were trained on
    views: PositiveInt | None = None  # input views
    chunk_views: PositiveInt | None = None  # per update, of autoregressive weights
    resolution: tuple[int, int] | None = None  # height width
    # of TTT3R networks
    encoder_heads: PositiveInt | None = None
    decoder_heads: PositiveInt | None = None
    state_heads: PositiveInt | None = None
    memory_heads: PositiveInt | None = None
    state_positions: Literal["2d", "1d", "none"] = "2d"

    def __post_init__(self):
        check_fields("", self)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    return run_command(ConvertConfig, convert, "convert", arguments)


def convert(options: ConvertConfig) -> Path:
    """Converts one file; returns the model directory."""
    tensors: Mapping[str, Any] = read_tensors(
        Path(options.source), print, options.key, options.prefix
    )
    kind = detect(tensors) if options.kind == "auto" else options.kind
    if kind == "ttt3r":
        tensors = settle(tensors, print)
    config = model_config(kind, tensors, options)
    run = None if kind == "ttt3r" else _run(config, options)
    model = abstract_model(config)
    tensors = _expected(tensors, published_shapes(model), options.skip_unexpected)
    try:
        tensors = checked_tensors(tensors, model)
    except InputError as error:
        remedy = "--skip-unexpected leaves tensors out that the model does not have"
        raise InputError(f"{error}; {remedy}") from error
    check_numbers(tensors)
    params = split_model(params_from_published(tensors, model))[1]
    print(f"{kind}: {len(tensors)} tensors")
    if run is not None:
        return report_size(export_model(run, params, options.dest, options.dtype))
    size = CUT3R_SIZES[config.head]
    return report_size(export_ttt3r(config, params, options.dest, options.dtype, size, NOT_SAID))


def _run(model: ModelConfig, options: ConvertConfig) -> RunConfig:
    """What the weights are evaluated with; prints what nobody said of it."""
    wishes = Wishes(**{name: getattr(options, name) for name in SETTINGS})
    settings = settle_settings(model, Path(options.source), wishes)
    for sentence in settings.said:
        print(sentence)
    return published_run(model, settings, Path(options.dest).name or model.kind)


def model_config(kind: Kind, tensors: Mapping[str, Any], options: ConvertConfig) -> Any:
    """Sizes from the tensors, the rest from the options or the published configuration."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    given = {name: value for name in HEADS if (value := getattr(options, name)) is not None}
    foreign = SETTINGS if kind == "ttt3r" else HEADS
    for name in foreign:
        if getattr(options, name) is not None:
            whose = "models of posed images" if kind == "ttt3r" else "ttt3r"
            raise InputError(f"--{name.replace('_', '-')} is for {whose}; leave it out")
    if kind == "ttt3r":
        return config_from_ttt3r_shapes(shapes, state_positions=options.state_positions, **given)
    config = config_from_shapes(shapes, ModelConfig(kind=kind))
    if config.kind != kind:
        raise InputError.of(
            "kind", kind, f"does not fit tensors that are of {config.kind} by their names",
            "use that, or a file of one model alone",
        )  # fmt: skip
    return config


def _expected(tensors: Mapping[str, Any], shapes, skip: bool) -> dict[str, Any]:
    """All tensors, or with `skip` those that the model has, saying which it has not."""
    extra = sorted(tensors.keys() - shapes.keys())
    if not skip or not extra:
        return dict(tensors)
    print(f"left out as asked, of no known use: {', '.join(extra)}")
    return {name: tensor for name, tensor in tensors.items() if name in shapes}
