"""Furniture of Sweet Home 3D (.sh3f archives) as objects for training.

An archive is a zip file with `PluginFurnitureCatalog.properties` and Wavefront models. Only public
domain and CC-BY catalogues are taken, and no piece of them that states another licence of its own;
who made a model and its licence go into the credits of the shards. Each model stands upright in the
unit ball, in its true proportions, under random lamps.
"""

import dataclasses
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.shards.records import SceneRecord, rendered_record
from tttlrm_jax.procedural.model_files import check_triangles, render_model
from tttlrm_jax.procedural.objects import scene_seed
from tttlrm_jax.procedural.surfaces.models import Model
from tttlrm_jax.procedural.surfaces.wavefront import read_obj

CATALOGUE = "PluginFurnitureCatalog.properties"
FREE = re.compile(r"public domain|cc0|cc-0|creative commons (zero|attribution)|cc[- ]by", re.I)
UNFREE = re.compile(r"share|non-?commercial|no-?deriv|[- ](sa|nc|nd)\b", re.I)
UNTURNED = "1 0 0 0 1 0 0 0 1"


@dataclasses.dataclass(frozen=True)
class Piece:
    """One piece of furniture in an archive."""

    name: str
    model: str  # path in the archive
    size: np.ndarray  # [3] width, depth, height in centimetres
    rotation: np.ndarray  # [3, 3] of the model, y up
    licence: str  # its own or, where it states none, the archive's
    credit: str


class Archive:
    """An .sh3f file; raises InputError if it is none or its licence is not one we take."""

    def __init__(self, path: str | Path):
        try:
            self._zip = zipfile.ZipFile(path)
            entries = _properties(self._zip.read(CATALOGUE).decode("latin-1"))
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise InputError(
                f"archive={path} is no Sweet Home 3D catalogue ({error}); name an .sh3f file"
            ) from None
        licence = entries.get("license", "")
        _check_licence(f"archive={path}", licence, "name another archive")
        self.path = Path(path)
        self.pieces = tuple(self._pieces(entries, licence))

    def _pieces(self, entries: dict[str, str], licence: str) -> Iterator[Piece]:
        numbers = [key.partition("#")[2] for key in entries if key.startswith("model#")]
        for number in numbers:
            own = {key: entries.get(f"{key}#{number}") for key in (
                "name", "model", "width", "depth", "height", "modelRotation", "creator", "license"
            )}  # fmt: skip
            name, creator = own["name"] or number, own["creator"] or "unknown"
            try:
                size = np.array([float(own[side] or "") for side in ("width", "depth", "height")])
                rotation = np.array(list(map(float, (own["modelRotation"] or UNTURNED).split())))
                rotation = rotation.reshape(3, 3)
            except ValueError as error:
                raise InputError(
                    f"archive={self.path}: piece {number} ({name}) has no numbers for its size or "
                    f"rotation ({error}); correct the catalogue"
                ) from None
            own_licence = own["license"] or licence
            yield Piece(
                name, (own["model"] or "").lstrip("/"), size, rotation, own_licence,
                f"{name} by {creator}; {own_licence}; {self.path.name}",
            )  # fmt: skip

    def load(self, piece: Piece) -> Model:
        """The model upright (z up), in the proportions of its size, centred, of radius 1.

        Raises InputError if it cannot be read, is too large or of a licence that we do not take.
        """
        _check_licence(f"piece={piece.name}", piece.licence, "leave it out")
        model = read_obj(piece.model, self._zip.read)
        check_triangles(piece.model, model)
        return model.upright(piece.size, piece.rotation)


def furniture_records(
    archives: Sequence[str | Path], config: SyntheticConfig
) -> Iterator[SceneRecord]:
    """Renders every piece of the archives once, with cameras and sizes of `config`, in order.

    Pieces without a usable model or licence, or of too many triangles, are left
    out, and named on standard error.
    """
    index = 0
    for path in archives:
        archive = Archive(path)
        for number, piece in enumerate(archive.pieces):
            try:
                model = archive.load(piece)
            except InputError as error:
                print(f"left out {piece.name}: {error}", file=sys.stderr)
                continue
            scene = render_model(model, scene_seed(config, index), config)
            yield rendered_record(f"{archive.path.stem}-{number:04d}", scene, piece.credit)
            index += 1


def _check_licence(what: str, licence: str, remedy: str) -> None:
    if not FREE.search(licence) or UNFREE.search(licence):
        raise InputError(
            f"{what} has license={licence!r}, which is neither public domain nor CC-BY; {remedy}"
        )


def _properties(text: str) -> dict[str, str]:
    """Entries of a Java properties file, Latin-1 with \\uXXXX escapes."""
    entries = {}
    for line in re.sub(r"\\\r?\n\s*", "", text).splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith(("#", "!")):
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value)
            entries[key.strip()] = re.sub(r"\\(.)", r"\1", value).strip()
    return entries
