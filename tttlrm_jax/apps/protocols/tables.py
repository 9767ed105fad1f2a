"""How a table of a paper is measured: which sequences, frames and limits, and what it should say.

A protocol is a file in `configs/ttt3r/` that builds a `SequenceProtocol` named PROTOCOL. With
`--root ROOT` the sequences below ROOT that match are run one after the other.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tttlrm_jax.apps.protocols.files import built_protocol, read_protocol_file
from tttlrm_jax.config.evaluation import DepthAlignment, SequenceEvalConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.files.natural_order import natural_order

Task = Literal["pose", "depth", "reconstruction"]
SCORED_PARTS = ("trajectory", "depth", "reconstruction")  # of metrics.json


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceProtocol:
    """One table's measurement of one data set."""

    dataset: str
    task: Task
    kind: str  # form of each sequence, of `sequences.readers.READERS`
    layout: str  # folders expected below the root, as text
    sequences: tuple[str, ...]  # patterns of sequence folders below the root
    table: str  # paper, table and row that this reproduces
    listed: dict[str, float] = dataclasses.field(
        default_factory=dict
    )  # that row in a listing elsewhere; not checked against the paper's own table
    listed_alignment: DepthAlignment | None = None  # of listed depth errors; None: not known
    size: int = 512
    fit: Literal["crop", "resize"] = "crop"
    behaviour: Literal["streaming", "batch"] = "streaming"
    start: int = 0
    stride: int = 1
    lengths: tuple[int | None, ...] = (None,)  # frames; None: all; the first is the default
    max_depth: float | None = None
    clip_depth: float | None = None
    depth_alignments: tuple[DepthAlignment, ...] = ("scale", "metric")

    def settings(self, length: int | None = None) -> dict[str, Any]:
        """Fields of `SequenceEvalConfig` that the protocol fixes, for one of its lengths."""
        if length is not None and length not in self.lengths:
            known = [each for each in self.lengths if each is not None]
            raise ConfigError.of(
                "length", length, f"is none of the {self.dataset} protocol",
                f"use one of {known}" if known else "leave it out",
            )  # fmt: skip
        return {
            "kind": self.kind, "size": self.size, "fit": self.fit, "behaviour": self.behaviour,
            "start": self.start, "stride": self.stride,
            "max_frames": self.lengths[0] if length is None else length,
            "max_depth": self.max_depth, "clip_depth": self.clip_depth,
            "depth_alignments": self.depth_alignments,
            "reconstruction": self.task == "reconstruction", "skip_bad_poses": True,
        }  # fmt: skip

    def find(self, root: Path) -> list[Path]:
        """The sequence folders below `root`, in order of names. Raises InputError for none."""
        if not root.is_dir():
            raise InputError.of("capture", root, "is not a folder", f"give one with {self.layout}")
        found = {path for pattern in self.sequences for path in root.glob(pattern)}
        if not found:
            raise InputError.of(
                "capture", root, f"holds no sequence of {self.dataset}", f"expected {self.layout}"
            )
        return natural_order(found)


def read_protocol(name: str) -> SequenceProtocol:
    """The PROTOCOL of a configuration file. Raises ConfigError where it builds none."""
    return read_protocol_file(name, SequenceProtocol)


def scene_names(paths: list[Path], root: Path) -> dict[str, Path]:
    """A name for each sequence, of its folders below the root; numbered where two would be one."""
    named: dict[str, Path] = {}
    for path in paths:
        plain = name = "_".join(path.relative_to(root).parts) or path.name
        while name.casefold() in map(str.casefold, named):
            name = f"{plain}-{len(named) + 1}"
        named[name] = path
    return named


def is_of_sequences(name: str) -> bool:
    """Whether a file builds a `SequenceProtocol`. Raises ConfigError as `built_protocol`."""
    return isinstance(built_protocol(name), SequenceProtocol)


def apply_protocol(config: SequenceEvalConfig) -> SequenceEvalConfig:
    """The configuration with what its protocol fixes where it holds the defaults.

    A field that was set to its default on purpose cannot be told from one that was left alone.
    """
    if config.protocol is None:
        return config
    defaults = {each.name: each.default for each in dataclasses.fields(SequenceEvalConfig)}
    changes = {
        name: value
        for name, value in read_protocol(config.protocol).settings(config.length).items()
        if getattr(config, name) == defaults[name]
    }
    return dataclasses.replace(config, **changes)


def protocol_overrides(config: SequenceEvalConfig) -> dict[str, Any]:
    """Fields in which a configuration differs from its protocol, and what they are instead."""
    if config.protocol is None:
        return {}
    fixed = read_protocol(config.protocol).settings(config.length)
    found = {name: getattr(config, name) for name in fixed if getattr(config, name) != fixed[name]}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in found.items()}


def table_row(all_metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """What a table states of several metrics.json.

    Trajectories and reconstructions count alike, depth counts by its valid pixels. Sequences
    that lack a score which others have are left out of its mean and named in `unscored`.
    """
    row: dict[str, Any] = {"sequences": len(all_metrics)}
    poses = [each["trajectory"] for each in all_metrics if each["trajectory"] is not None]
    if poses:
        row["pose"] = _means(poses, ("ate", "rpe_translation", "rpe_rotation"))
    depths = [each["depth"] for each in all_metrics if each["depth"]]
    if depths:
        row["depth"] = {name: _weighted([each[name] for each in depths]) for name in depths[0]}
    points = [each["reconstruction"] for each in all_metrics if each["reconstruction"]]
    if points:
        row["reconstruction"] = _means(points, points[0])
    scored = [part for part in SCORED_PARTS if any(each[part] for each in all_metrics)]
    row["unscored"] = [
        each["scene"] for each in all_metrics
        if not scored or not all(each[part] for part in scored)
    ]  # fmt: skip
    return row


def _means(rows: list[dict[str, Any]], names: Iterable[str]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in rows])) for name in names}


def _weighted(errors: list[dict[str, Any]]) -> dict[str, float]:
    """Means of Abs Rel and the share within 1.25, weighted by valid pixels."""
    weight = np.array([each["valid_pixels"] for each in errors], np.float64)
    values = np.array([[each["abs_rel"], each["delta"][1]] for each in errors])
    mean = (weight[:, None] * values).sum(axis=0) / weight.sum()
    return {"abs_rel": float(mean[0]), "delta_125": float(mean[1])}
