"""Models of glTF and Wavefront files as scenes for shards, each once, with their credits."""

import collections
import sys
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from tqdm import tqdm

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.scenes import Split
from tttlrm_jax.datasets.shards.records import SceneRecord, rendered_record
from tttlrm_jax.procedural.model_files import (
    ModelFiles,
    is_held_out,
    load_or_name,
    open_models,
    render_model,
)
from tttlrm_jax.procedural.objects import scene_seed

Found = tuple[ModelFiles, str]  # where a model lies, and its name there


def check_models(paths: Sequence[str], refuse: bool = False) -> list[Found]:
    """The models that can be read, in order; the others are named on standard error, and counted.

    So is what of them is not shown. Raises InputError where none can be read, and with `refuse` at
    the first that cannot.
    """
    found = [(files, name) for files in open_models(tuple(paths)) for name in files.names]
    usable: list[Found] = []
    notes: collections.Counter[str] = collections.Counter()
    for files, name in tqdm(found, desc="reading models", unit="model"):
        model = load_or_name(files, name, refuse)
        if model is not None:
            usable.append((files, name))
            notes.update(model.notes)
    print(f"{len(usable)} of {len(found)} models can be read", file=sys.stderr)
    for note, count in notes.items():
        print(f"not shown: {note} (of {count} models)", file=sys.stderr)
    if not usable:
        raise InputError.of(
            "--models", " ".join(paths), "hold no model that can be read", "name others"
        )
    return usable


def model_records(
    models: Sequence[Found], split: Split, credit: str, config: SyntheticConfig
) -> Iterator[SceneRecord] | None:
    """Renders every model of a split once, with cameras and sizes of `config`; None without any."""
    chosen = [each for each in models if is_held_out(each[1]) == (split == "eval")]
    return _records(chosen, credit, config) if chosen else None


def _records(
    models: Sequence[Found], credit: str, config: SyntheticConfig
) -> Iterator[SceneRecord]:
    for index, (files, name) in enumerate(models):
        model = files.load(name)
        scene = render_model(model, scene_seed(config, index), config)
        title = str(PurePosixPath(name).with_suffix("")).replace("/", "-")
        yield rendered_record(title, scene, files.credit(name, model, credit))
