"""Several datasets of shards made into one, so that a run draws from all of them alike."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.scenes import Split
from tttlrm_jax.datasets.shards.reader import ShardScenes, find_shards
from tttlrm_jax.datasets.shards.records import SceneRecord, ViewRecord
from tttlrm_jax.datasets.synthetic_cache import CREDITS_FILE

SPLITS: tuple[Split, ...] = ("train", "eval")


def joined_splits(directories: Sequence[str]) -> Mapping[str, Iterator[SceneRecord]]:
    """All scenes of datasets that `datasets.prepare` wrote, in order, pictures as they are.

    There is a split `eval` where one of them has it, with their held-out scenes. Raises InputError
    where a directory holds no shards or is named twice, and where some of them know masks or depth
    and others do not: a run could then use them for none.
    """
    paths = [find_shards(directory).resolve() for directory in directories]
    if not paths or len(set(paths)) < len(paths):
        raise InputError.of(
            "--directories", " ".join(directories), "names none or one of them twice",
            "name every dataset once",
        )  # fmt: skip
    datasets = {
        split: [ShardScenes(d, split, size=(1, 1)) for d in directories] for split in SPLITS
    }
    for known in ("has_mask", "has_depth"):
        lacking = [d.path for opened in datasets.values() for d in opened if not d.table[known]]
        if 0 < len(lacking) < len(SPLITS) * len(paths):
            raise InputError.of(
                "--directories", lacking[0],
                f"lacks {known.removeprefix('has_')} and others do not",
                "join datasets that are alike",
            )  # fmt: skip
    return {
        split: _records([dataset for dataset in opened if dataset.split == split])
        for split, opened in datasets.items()
        if any(dataset.split == split for dataset in opened)
    }


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
