"""Scenes to array_record shards for training, in one command.

`python -m tttlrm_jax.datasets.prepare OUTPUT captures --directory DIR --layout dl3dv` packs a
folder of captures, checks their poses against COLMAP's points and reports on each scene; started
again after it was stopped it goes on where it was. `... synthetic --config.num-scenes 1000` renders
procedural scenes, `... models --models A.zip --credit WHO` glTF and Wavefront models,
`... furniture --archives A.sh3f` furniture of Sweet Home 3D; `... join --directories A B` makes one
dataset of several. Train with `--data.source shards --data.shard-directory OUTPUT`.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.furniture import furniture_records
from tttlrm_jax.datasets.shards.join import joined_splits
from tttlrm_jax.datasets.shards.models import check_models, model_records
from tttlrm_jax.datasets.shards.preparation import TABLE, CaptureShards, prepare_captures
from tttlrm_jax.datasets.shards.records import synthetic_records

SCULPTURES = SyntheticConfig(generator="sculptures")
PROG = "python -m tttlrm_jax.datasets.prepare"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthetic:
    """Procedural scenes; `eval_scenes` others become the split `eval`."""

    config: SyntheticConfig = SCULPTURES
    eval_scenes: int = 0
    workers: int = 2

    def splits(self) -> dict:
        splits = {"train": synthetic_records(self.config, self.workers)}
        if self.eval_scenes:
            held_out = dataclasses.replace(self.config, split="eval", num_scenes=self.eval_scenes)
            splits["eval"] = synthetic_records(held_out, self.workers)
        return splits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Furniture:
    """Pieces of Sweet Home 3D's public-domain and CC-BY archives, each once; credits are kept.

    Debian's package `sweethome3d-furniture` brings such archives. Of `config` the number of views,
    the image size and the cameras count.
    """

    archives: tuple[str, ...]
    config: SyntheticConfig = SCULPTURES

    def splits(self) -> dict:
        return {"train": furniture_records(self.archives, self.config)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
    """glTF (extra `objects`) and Wavefront models of ZIP archives, folders or files, each once.

    A tenth of them, told by their names, becomes the split `eval`. Of `config` the number of views,
    the image size and the cameras count.
    """

    models: tuple[str, ...]
    credit: str  # who made them, under which licence
    bad: Literal["leave_out", "refuse"] = "leave_out"  # models that cannot be read, by name
    config: SyntheticConfig = SCULPTURES

    def splits(self) -> dict:
        usable = check_models(self.models, self.bad == "refuse")
        records = {
            split: model_records(usable, split, self.credit, self.config)
            for split in ("train", "eval")
        }
        return {split: scenes for split, scenes in records.items() if scenes is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Join:
    """Datasets that this command wrote, as one; every scene is drawn as often as every other."""

    directories: tuple[str, ...]

    def splits(self) -> Mapping:
        return joined_splits(self.directories)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Where shards are written and what becomes of them."""

    output: tyro.conf.Positional[str]
    scenes: (
        Annotated[Synthetic, tyro.conf.subcommand("synthetic", prefix_name=False)]
        | Annotated[CaptureShards, tyro.conf.subcommand("captures", prefix_name=False)]
        | Annotated[Models, tyro.conf.subcommand("models", prefix_name=False)]
        | Annotated[Furniture, tyro.conf.subcommand("furniture", prefix_name=False)]
        | Annotated[Join, tyro.conf.subcommand("join", prefix_name=False)]
    )


def prepare(config: PrepareConfig) -> None:
    """Writes the shards and says where they lie."""
    if isinstance(config.scenes, CaptureShards):
        path = prepare_captures(config.output, config.scenes)
        print((Path(config.output) / TABLE).read_text(encoding="utf-8"), end="")
    else:
        path = write_shards(config.output, config.scenes.splits())
    print(f"shards {path}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(tyro.conf.OmitSubcommandPrefixes[PrepareConfig], prepare, PROG, arguments)


if __name__ == "__main__":
    sys.exit(main())
