"""The state of a stream on disk: resumed, forked and queried by later commands.

A state directory holds `state.json` (what the stream is: model, rule, chunks, views seen, its frame
of coordinates, names and shapes of the arrays, SHA-256 of their values, of every file and of
itself) and `arrays/` (Orbax): the fast weights and rule state of every layer, and the scene so far.
It is only ever read or written whole.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.checkpoints.arrays import read_arrays, write_arrays
from tttlrm_jax.checkpoints.checks import file_sha256
from tttlrm_jax.config import Accumulate, ModelConfig, config_from_dict, config_to_dict
from tttlrm_jax.core.errors import InputError, first_line, listed
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.models import init_stream
from tttlrm_jax.models.live_stream import StreamScene
from tttlrm_jax.ttt.rules import RULES

FORMAT = "tttlrm-jax stream state, version 1"
STATE_FILE, ARRAYS = "state.json", "arrays"
STATE_FILES = (STATE_FILE, ARRAYS)
ITS_CHECKPOINT = "use the checkpoint it was made with"
UNRELATED_FIELDS = ("remat",)  # change neither shapes nor numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """What a stream is, beside its arrays. All lengths are in the frame of `similarity`."""

    model: ModelConfig
    parameters_sha256: str
    similarity: PoseNormalisation  # from the frame of the captures; fixed by the first chunk
    has_scale: bool  # the first chunk's cameras had an extent to take the scale from
    resolution: tuple[int, int]  # height, width
    background: tuple[float, float, float]
    chunk_views: int
    num_chunks: int
    accumulate: Accumulate
    keep_ratio: float
    random_ratio: float
    frames: tuple[tuple[str, str], ...]  # capture and name of every view seen, in order

    def settings(self) -> dict[str, Any]:
        """What a stream that goes on keeps, unless it is asked for something else."""
        names = ("background", "chunk_views", "accumulate", "keep_ratio", "random_ratio")
        return {"plan": "causal"} | {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedStream:
    """A stream that can go on."""

    record: StreamRecord
    scene: StreamScene


def fingerprint(arrays: Any) -> str:
    """SHA-256 of the bytes of all leaves of a tree, in its order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return digest.hexdigest()


def write_stream(directory: Path, saved: SavedStream) -> None:
    """Writes both parts into an empty directory; `state.json` comes last."""
    arrays = _named_leaves(_parts(saved.scene))
    write_arrays(directory / ARRAYS, arrays)
    listing = {name: [list(x.shape), str(x.dtype)] for name, x in arrays.items()}
    files = {
        str(path.relative_to(directory)): file_sha256(path)
        for path in sorted((directory / ARRAYS).rglob("*"))
        if path.is_file()
    }
    parts = {"arrays": listing, "sha256": fingerprint(arrays), "files": files}
    document = _document(saved.record) | parts
    document["own_sha256"] = _own_sha256(document)
    text = json.dumps(document, indent=2, allow_nan=False)
    (directory / STATE_FILE).write_text(text + "\n", encoding="utf-8")


def read_record(directory: Path) -> StreamRecord:
    """Reads and checks `state.json` alone. Raises InputError where it is missing or spoilt."""
    return _record(directory, _read_document(directory))


def read_stream(directory: Path, model: ModelConfig, params: Any, graph: Any) -> SavedStream:
    """Reads a stream made by this model with these parameters.

    Raises InputError for a state of another model, other weights or another update rule, and for
    files that are missing, cut short or changed.
    """
    document = _read_document(directory)
    record = _record(directory, document)
    _check_same_model(directory, record.model, model)
    if record.parameters_sha256 != fingerprint(params):
        limit = "was made with other weights of the same configuration"
        raise _refused(directory, limit, ITS_CHECKPOINT)
    arrays = _read_arrays(directory, document)
    return SavedStream(record=record, scene=_scene(directory, record, arrays, params, graph))


def _refused(directory: Path, limit: str, remedy: str = "save the state again") -> InputError:
    return InputError.of("load_state", directory, limit, remedy)


# ---- state.json -----------------------------------------------------------------------------


def _document(record: StreamRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    similarity = record.similarity
    values["model"] = config_to_dict(record.model)
    values["similarity"] = {
        "rotation": similarity.rotation.tolist(),
        "translation": similarity.translation.tolist(),
        "scale": float(similarity.scale),
    }
    values["frames"] = [{"capture": capture, "name": name} for capture, name in record.frames]
    return {"format": FORMAT, "views_seen": len(record.frames)} | values


def _read_document(directory: Path) -> dict[str, Any]:
    path = directory / STATE_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        limit = f"is not a saved state ({error.strerror}: {STATE_FILE})"
        raise _refused(directory, limit, "name a directory written by --save-state") from None
    except ValueError as error:
        raise _refused(directory, f"has a {STATE_FILE} that is not JSON ({error})") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        limit = f"has the format {found!r}, not {FORMAT!r}"
        raise _refused(directory, limit, "save the state again with this version")
    return document


def _own_sha256(document: dict[str, Any]) -> str:
    """SHA-256 of everything else in the document, whatever its layout."""
    rest = {name: value for name, value in document.items() if name != "own_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _record(directory: Path, document: dict[str, Any]) -> StreamRecord:
    names = [field.name for field in dataclasses.fields(StreamRecord)]
    others = ("arrays", "sha256", "files", "own_sha256")
    missing = [name for name in (*names, *others) if name not in document]
    if missing:
        raise _refused(directory, f"has a {STATE_FILE} without {', '.join(missing)}")
    if document["own_sha256"] != _own_sha256(document):
        raise _damaged(directory, f"{STATE_FILE} was changed after it was written")
    values = {name: document[name] for name in names}
    try:
        similarity = document["similarity"]
        values |= {
            "model": config_from_dict(ModelConfig, document["model"]),
            "similarity": PoseNormalisation(
                rotation=np.asarray(similarity["rotation"], np.float64).reshape(3, 3),
                translation=np.asarray(similarity["translation"], np.float64).reshape(3),
                scale=float(similarity["scale"]),
            ),
            "resolution": tuple(document["resolution"]),
            "background": tuple(document["background"]),
            "frames": tuple((frame["capture"], frame["name"]) for frame in document["frames"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(directory, f"has a {STATE_FILE} that cannot be read ({error})") from None
    return StreamRecord(**values)


def _check_same_model(directory: Path, made: ModelConfig, given: ModelConfig) -> None:
    """Raises InputError naming the fields, or the rules, in which two configurations differ."""
    differing = [
        f"model.{name}: {getattr(made, name)} in the state, {getattr(given, name)} here"
        for name in (field.name for field in dataclasses.fields(ModelConfig))
        if name not in (*UNRELATED_FIELDS, "rule") and getattr(made, name) != getattr(given, name)
    ]
    if differing:
        limit = f"is of another model ({listed(differing, 3, '; ')})"
        raise _refused(directory, limit, ITS_CHECKPOINT)
    rules = [RULES.complete(model.rule) for model in (made, given)]
    if rules[0] != rules[1]:
        limit = f"is of another update rule ({rules[0]} in the state, {rules[1]} here)"
        raise _refused(directory, limit, "use the rule it was made with")


# ---- arrays ---------------------------------------------------------------------------------


def _parts(scene: StreamScene) -> dict[str, Any]:
    parts = {
        "state": scene.state,
        "gaussians": scene.gaussians,
        "poses": scene.cameras.world_from_camera,
        "intrinsics": scene.cameras.intrinsics,
    }
    return parts if scene.images is None else parts | {"images": scene.images}


def _named_leaves(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by the path that leads to them, such as state.layers.weights.gate."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {_path_name(path): np.asarray(leaf) for path, leaf in leaves}


def _path_name(path: Any) -> str:
    return ".".join(
        str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry))))
        for entry in path
    )


def _read_arrays(directory: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The arrays that `state.json` lists; InputError where they are damaged.

    Files are compared first: Orbax lets errors of its threads reach the terminal.
    """
    try:
        _check_files(directory, document["files"])
        expected = {
            name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
            for name, (shape, dtype) in document["arrays"].items()
        }
        restored = read_arrays(directory / ARRAYS, expected)
        arrays = {name: np.asarray(restored[name]) for name in document["arrays"]}
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(directory, first_line(error)) from None
    if fingerprint(arrays) != document["sha256"]:
        raise _damaged(directory, "its arrays do not have the recorded SHA-256")
    return arrays


def _check_files(directory: Path, files: dict[str, str]) -> None:
    """Raises InputError naming the first file that is not as it was written."""
    for name, sha256 in files.items():
        path = directory / name
        if not path.is_file():
            raise _damaged(directory, f"{name} is missing")
        if file_sha256(path) != sha256:
            raise _damaged(directory, f"{name} is cut short or changed")


def _damaged(directory: Path, reason: str) -> InputError:
    limit = f"is damaged or incomplete ({reason})"
    return _refused(directory, limit, "restore its files or save the state again")


def _scene(
    directory: Path, record: StreamRecord, arrays: dict[str, Any], params, graph
) -> StreamScene:
    """Puts the arrays back in their places."""
    expected = jax.eval_shape(lambda p: init_stream(p, 1, graph=graph), params)
    paths, structure = jax.tree_util.tree_flatten_with_path({"state": expected})
    names = [_path_name(path) for path, _ in paths]
    fields = [field.name for field in dataclasses.fields(Gaussians)]
    wanted = {*names, *(f"gaussians.{name}" for name in fields), "poses", "intrinsics"}
    wanted |= {"images"} if record.accumulate == "all" else set()
    shapes_fit = all(
        name in arrays and arrays[name].shape == leaf.shape
        for name, (_, leaf) in zip(names, paths, strict=True)
    )
    if wanted != arrays.keys() or not shapes_fit or len(arrays["poses"]) != len(record.frames):
        limit = "holds arrays that are not those of this model and rule"
        raise _refused(directory, limit, "use the checkpoint and rule it was made with")
    leaves = [jax.numpy.asarray(arrays[name]) for name in names]
    return StreamScene(
        state=jax.tree.unflatten(structure, leaves)["state"],
        gaussians=Gaussians(**{name: arrays[f"gaussians.{name}"] for name in fields}),
        cameras=Cameras(arrays["poses"], arrays["intrinsics"], *record.resolution),
        images=arrays.get("images"),
    )
