"""The TFDS builder that writes scenes to array_record shards, without TensorFlow.

One record per view, scenes one after another, and beside the shards `scenes.npz` with what must be
known of a scene before its pictures are: name, cameras, place of its records. The same scenes give
the same bytes.
"""

import contextlib
import dataclasses
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.shards.records import SceneRecord
from tttlrm_jax.datasets.synthetic_cache import CREDITS_FILE

TABLE_FILE = "scenes.npz"
VERSION = "1.0.0"
NAME = "scene_shards"  # TFDS's name of the builder below
INCOMPLETE = f"{NAME}/*incomplete*"  # what TFDS leaves below a directory when it is killed


class SceneTable(tfds.core.Metadata):
    """Cameras and places of all scenes; TFDS saves it with the dataset's other metadata."""

    def __init__(self):
        self.splits: dict[str, list[SceneRecord]] = {}

    def save_metadata(self, data_dir) -> None:
        arrays, credits_ = {}, set()
        for split, scenes in self.splits.items():
            counts = np.array([len(scene.numbers) for scene in scenes], np.int64)
            arrays |= {
                f"{split}/name": np.array([scene.name for scene in scenes], str),
                f"{split}/first": np.cumsum(counts) - counts,
                f"{split}/count": counts,
                f"{split}/number": np.concatenate([scene.numbers for scene in scenes]),
                f"{split}/intrinsics": np.concatenate([scene.intrinsics for scene in scenes]),
                f"{split}/world_from_camera": np.concatenate([
                    scene.world_from_camera for scene in scenes
                ]),
                f"{split}/has_mask": np.array(all(scene.has_mask for scene in scenes)),
                f"{split}/has_depth": np.array(all(scene.has_depth for scene in scenes)),
            }  # fmt: skip
            credits_ |= {scene.credit for scene in scenes if scene.credit}
        np.savez(Path(data_dir) / TABLE_FILE, **arrays)
        if credits_:
            lines = "\n".join(sorted(credits_)) + "\n"
            (Path(data_dir) / CREDITS_FILE).write_text(lines, encoding="utf-8")

    def load_metadata(self, data_dir) -> None:
        """Readers open the table themselves (`reader.ShardScenes`)."""


class SceneShards(tfds.core.GeneratorBasedBuilder):
    """Writes named splits (`train`, `eval`) of scenes, each read once and in order."""

    VERSION = tfds.core.Version(VERSION)
    code_path = None  # nothing is downloaded, so there are no checksums beside this file

    def __init__(self, splits: Mapping[str, Iterable[SceneRecord]], **arguments):
        self._scenes = splits
        super().__init__(**arguments)

    def _info(self) -> tfds.core.DatasetInfo:
        encoded = tfds.features.Tensor(shape=(), dtype=np.object_)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Posed views of scenes, one record each.",
            features=tfds.features.FeaturesDict({  # of a ViewRecord
                "image": encoded, "depth": encoded, "depth_unit": np.float64, "disparity": encoded,
            }),
            disable_shuffling=True,
            metadata=SceneTable(),
        )  # fmt: skip

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self._scenes}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        metadata, key = self.info.metadata, 0
        assert isinstance(metadata, SceneTable), "_info gives it"
        table = metadata.splits.setdefault(split, [])
        for scene in self._scenes[split]:
            for view in scene.views:
                yield key, dataclasses.asdict(view)
                key += 1
            table.append(dataclasses.replace(scene, views=()))  # the pictures are written


def dataset_path(directory: str | Path) -> Path:
    """Where `write_shards` puts a dataset."""
    return Path(directory) / NAME / VERSION


def write_shards(
    directory: str | Path, splits: Mapping[str, Iterable[SceneRecord]], progress: bool = True
) -> Path:
    """Writes a dataset below `directory` and returns where it lies, the path that readers take.

    What TFDS says goes to standard error or, without `progress`, nowhere: standard output may be
    for a program. Raises InputError if there is one already.
    """
    builder = SceneShards(splits, data_dir=str(directory), file_format="array_record")
    path = Path(builder.data_dir)
    if path.exists():
        raise InputError(f"directory={path} holds a dataset already; delete it or choose another")
    if not progress:
        tfds.disable_progress_bar()
    said = contextlib.redirect_stdout(sys.stderr if progress else io.StringIO())
    with said, tempfile.TemporaryDirectory() as unused:  # TFDS makes a folder for downloads
        builder.download_and_prepare(download_dir=unused)
    return path
