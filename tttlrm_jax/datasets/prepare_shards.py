"""Writes scenes to array_record shards for training.

`python -m tttlrm_jax.datasets.prepare_shards OUTPUT synthetic --config.num-scenes 1000 ...` renders
procedural scenes, `... captures --directory DIR --layout dl3dv` packs a folder of captures,
`... furniture --archives A.sh3f ...` draws furniture of Sweet Home 3D, `... join --directories A B`
makes one dataset of several. Train on them with
`--data.source shards --data.shard-directory OUTPUT`.
"""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Annotated

import tyro

from tttlrm_jax.captures.collections import CollectionConfig, open_collection
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.furniture import furniture_records
from tttlrm_jax.datasets.shards.join import joined_splits
from tttlrm_jax.datasets.shards.records import capture_records, synthetic_records

SCULPTURES = SyntheticConfig(generator="sculptures")
PROG = "python -m tttlrm_jax.datasets.prepare_shards"


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
class Captures(CollectionConfig):
    """A folder of captures; training holds every n-th frame of each out."""

    max_side: int | None = None  # pixels; larger pictures are reduced
    credit: str = ""  # who made them, under which licence

    def splits(self) -> dict:
        return {"train": capture_records(open_collection(self), self.max_side, self.credit)}


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
class Join:
    """Datasets that this command wrote, as one; every scene is drawn as often as every other."""

    directories: tuple[str, ...]

    def splits(self) -> Mapping:
        return joined_splits(self.directories)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardConfig:
    """Where shards are written and what becomes of them."""

    output: tyro.conf.Positional[str]
    scenes: (
        Annotated[Synthetic, tyro.conf.subcommand("synthetic", prefix_name=False)]
        | Annotated[Captures, tyro.conf.subcommand("captures", prefix_name=False)]
        | Annotated[Furniture, tyro.conf.subcommand("furniture", prefix_name=False)]
        | Annotated[Join, tyro.conf.subcommand("join", prefix_name=False)]
    )


def prepare(config: ShardConfig) -> None:
    """Writes the shards and says where they lie."""
    print(f"shards {write_shards(config.output, config.scenes.splits())}")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_command(tyro.conf.OmitSubcommandPrefixes[ShardConfig], prepare, PROG, arguments)


if __name__ == "__main__":
    sys.exit(main())
