"""Several datasets of shards made into one, so that a run draws from all of them alike."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tttlrm_jax.data.scene_records import SceneRecord, ViewRecord
from tttlrm_jax.data.shard_builder import CREDITS_FILE
from tttlrm_jax.data.shards import ShardScenes

SPLITS = ("train", "eval")


def joined_splits(directories: Sequence[str]) -> Mapping[str, Iterator[SceneRecord]]:
    """All scenes of datasets that `data.prepare_shards` wrote, in order, pictures as they are.

    There is a split `eval` where one of them has it, with their held-out scenes. Raises InputError
    where a directory holds no shards.
    """
    datasets = {split: [_open(directory, split) for directory in directories] for split in SPLITS}
    return {
        split: _records([dataset for dataset in opened if dataset.split == split])
        for split, opened in datasets.items()
        if any(dataset.split == split for dataset in opened)
    }


def _open(directory: str, split: str) -> ShardScenes:
    return ShardScenes(directory, split, size=(1, 1))  # pyright: ignore[reportArgumentType]


def _records(datasets: list[ShardScenes]) -> Iterator[SceneRecord]:
    for dataset in datasets:
        credit, table = _credits(dataset.path), dataset.table
        for index, name in enumerate(table["name"]):
            first = int(table["first"][index])
            places = range(first, first + int(table["count"][index]))
            yield SceneRecord(
                name=str(name),
                world_from_camera=table["world_from_camera"][places],
                intrinsics=table["intrinsics"][places],
                numbers=table["number"][places],
                views=[ViewRecord(**record) for record in dataset.records.__getitems__(places)],
                has_mask=bool(table["has_mask"]),
                has_depth=bool(table["has_depth"]),
                credit=credit,
            )


def _credits(path: Path) -> str:
    """Who made a dataset's scenes, a line each; empty where nobody is named."""
    file = path / CREDITS_FILE
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""
