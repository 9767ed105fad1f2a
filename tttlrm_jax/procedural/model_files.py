"""Models of other programs as objects for training: glTF and Wavefront files, also inside a ZIP.

Each model stands upright in the unit ball in its true proportions, under random lamps. A tenth of
the models, told by their names, is kept for evaluation. ZIP archives are read without unpacking.
"""

import functools
import hashlib
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.procedural.appearance.lighting import random_lights, shadow_map
from tttlrm_jax.procedural.objects import random_cameras
from tttlrm_jax.procedural.sculptures import Group
from tttlrm_jax.procedural.surfaces.gltf import read_gltf
from tttlrm_jax.procedural.surfaces.models import Fetch, Model
from tttlrm_jax.procedural.surfaces.triangle_views import rendered_scene
from tttlrm_jax.procedural.surfaces.wavefront import read_obj

MODEL_VERSION = 1  # part of the cache key: raise it when the same seed gives other pixels
MAX_TRIANGLES = 300_000  # of both sides; larger models are left out
HELD_OUT = 10  # one in so many models is of the split `eval`
READERS: dict[str, Callable[[str, Fetch], Model]] = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".obj": read_obj,
}


class ModelFiles:
    """The models of a ZIP archive, of a folder and those below it, or of one file.

    `names` are their paths there, in natural order. Raises InputError where there are none.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._zip: zipfile.ZipFile | None = None
        if self.path.is_dir():
            self.root = self.path
            files = [str(f.relative_to(self.path).as_posix()) for f in self.path.rglob("*")]
        elif self.path.suffix.lower() in READERS and self.path.is_file():
            self.root, files = self.path.parent, [self.path.name]
        else:
            self._zip = _opened(self.path)
            self.root, files = self.path, self._zip.namelist()
        names = [name for name in files if PurePosixPath(name).suffix.lower() in READERS]
        self.names = tuple(natural_order(names))
        if not self.names:
            raise InputError.of(
                "models", path, f"holds no {', '.join(READERS)}", "name a folder or ZIP of models"
            )

    def fetch(self, name: str) -> bytes:
        """A file's bytes; raises KeyError where it is none, also where it lies outside."""
        clean = _inside(name)
        try:
            if self._zip is not None:
                return self._zip.read(clean)
            return (self.root / clean).read_bytes()
        except OSError:
            raise KeyError(name) from None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise InputError(f"models={self.path}: {name} cannot be read ({error})") from None

    def load(self, name: str) -> Model:
        """A model upright (z up), centred, of radius 1; raises InputError for a bad one."""
        model = READERS[PurePosixPath(name).suffix.lower()](name, self.fetch)
        check_triangles(name, model)
        return model.upright()

    def credit(self, name: str, model: Model, credit: str) -> str:
        """A line for CREDITS.txt: the model, what its file and `credit` say, and where from."""
        said = "; ".join(part for part in (model.copyright, credit) if part)
        return f"{name}; {said}; {self.path.name}"

    def identity(self) -> str:
        """A digest of the names and contents of the models."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\n".encode())
            if self._zip is not None:
                entry = self._zip.getinfo(name)
                digest.update(f"{entry.file_size} {entry.CRC}\n".encode())
            else:
                digest.update(hashlib.sha256(self.fetch(name)).digest())
        return digest.hexdigest()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError.of(
            "models", path, f"is no folder, model or ZIP archive ({error})", "name one"
        ) from None


def _inside(name: str) -> str:
    """A name without `.` and `..`; raises KeyError where it leads out of its root."""
    parts: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        if part == "..":
            if not parts:
                raise KeyError(name)
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if name.startswith("/"):
        raise KeyError(name)
    return "/".join(parts)


def check_triangles(name: str, model: Model) -> None:
    """Raises InputError for a model of more than `MAX_TRIANGLES`."""
    count = len(model.surface.triangles)
    if count > MAX_TRIANGLES:
        raise InputError.of(
            f"triangles of {name}", count, f"exceed {MAX_TRIANGLES}", "simplify the model"
        )


@functools.lru_cache(maxsize=8)  # of a process: archives are listed once
def open_models(paths: tuple[str, ...]) -> tuple[ModelFiles, ...]:
    """The files of each path, in order."""
    return tuple(map(ModelFiles, paths))


def is_held_out(name: str) -> bool:
    """Whether a model is of the split `eval`."""
    return zlib.crc32(name.encode()) % HELD_OUT == 0


def models_of_split(files: Sequence[ModelFiles], split: str) -> list[tuple[ModelFiles, str]]:
    """Files and names of the models of a split, in order.

    Raises InputError where the split has none.
    """
    chosen = [
        (each, name) for each in files for name in each.names
        if is_held_out(name) == (split == "eval")
    ]  # fmt: skip
    if not chosen:
        count = sum(len(each.names) for each in files)
        raise InputError.of(
            "synthetic.models", f"{count} models",
            f"leave none to the split {split}, which is given by their names",
            "name more models",
        )  # fmt: skip
    return chosen


def render_drawn_model(seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """All views of the model that a seed draws; arrays as `objects.render_object` returns them.

    Scenes take the models of `config.models` by turns in a random order. In place of a bad one,
    named on standard error, comes the next, unless `config.bad_models` is `refuse`.
    """
    models = models_of_split(open_models(config.models), config.split)
    lap, place = divmod(seed // 2 % 2**32, len(models))
    order = np.random.default_rng([MODEL_VERSION, config.seed, lap]).permutation(len(models))
    for number in np.roll(order, -place):
        files, name = models[number]
        model = load_or_name(files, name, config.bad_models == "refuse")
        if model is not None:
            return render_model(model, seed, config)
    raise InputError.of(
        "synthetic.models",
        ", ".join(config.models),
        "hold no model that can be read",
        "name others",
    )


def load_or_name(files: ModelFiles, name: str, refuse: bool) -> Model | None:
    """The model, or None for a bad one, which is named; with `refuse` InputError."""
    try:
        return files.load(name)
    except InputError as error:
        if refuse:
            raise InputError(f"{error} (or leave such models out: bad_models=leave_out)") from None
        print(f"left out: {error}", file=sys.stderr)
        return None


def render_model(model: Model, seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """All views of a model of radius 1; arrays as `objects.render_object` returns them."""
    rng = np.random.default_rng([seed, 3])
    radius = rng.uniform(0.7, 1.0)
    surface, lights = model.surface.moved(radius, np.zeros(3)), random_lights(rng)
    unturned, centres = np.eye(3)[None], np.zeros((len(model.materials), 3))
    group = Group(surface, unturned.repeat(len(centres), axis=0), centres, radius)
    scene = group.scene(model.materials, lights, shadow_map(surface, lights, 1.01 * radius))
    poses, intrinsics = random_cameras(rng, config, radius)
    return rendered_scene(scene, poses, intrinsics, config)


def model_credits(config: SyntheticConfig) -> Iterator[str]:
    """Credits of all models that scenes of a configuration may show."""
    for files, name in models_of_split(open_models(config.models), config.split):
        yield f"{name}; {config.models_credit}; {files.path.name}"
