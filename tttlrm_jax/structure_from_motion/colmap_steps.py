"""pycolmap's steps, each with a bar: features, matches, mapping. All go on where a run was killed.

The database holds what is done: features are written picture by picture, matches pair by pair.
"""

import contextlib
import dataclasses
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from tttlrm_jax.captures.pictures.images import open_image
from tttlrm_jax.core.errors import InputError, first_line
from tttlrm_jax.structure_from_motion.diagnosis import Evidence
from tttlrm_jax.structure_from_motion.pairs import Pair, in_blocks
from tttlrm_jax.structure_from_motion.shots import MIN_MODEL, find_models, names_in

LARGEST_SIDE = 1600  # pixels in which features are looked for
MOST_FEATURES = 4096  # of a picture
MANY_PICTURES = 20  # of one camera, from which on its lens has four coefficients in place of one
AT_ONCE = 8  # pictures between two steps of the bar
EXIF_IFD = 0x8769
EXIF_OF_LENS = (0x920A, 0xA405, 0xA404)  # focal length, the same for 35 mm film, digital zoom
EXIF_OF_BODY = (0x010F, 0x0110)  # make, model
SEED = 0


def load_pycolmap() -> ModuleType:
    """The package. Raises InputError where it is not installed.

    SIGTERM ends a run as it did before: COLMAP's log would print a stack of its own.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        import pycolmap  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError.of(
            "poses", "sfm", "needs the package pycolmap, which is not installed",
            'pip install "tttlrm-jax[sfm]", give the cameras in a file, or use --poses ttt3r',
        ) from None  # fmt: skip
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)
    return pycolmap


@dataclasses.dataclass(frozen=True)
class Colmap:
    """A database of the pictures `names` in a folder."""

    colmap: Any  # the package
    database: Path
    images: Path
    names: Sequence[str]

    @classmethod
    def open(cls, work: Path, images: Path, names: Sequence[str]) -> "Colmap":
        """Goes on with the database in `work`; one that is damaged is begun again."""
        colmap, database = load_pycolmap(), work / "database.db"
        colmap.set_random_seed(SEED)
        if database.exists() and not _is_sound(database):
            print("  the database of an earlier run is damaged: again", file=sys.stderr)
            for path in work.glob(f"{database.name}*"):
                path.unlink()
        return cls(colmap, database, images, names)

    # ---- features ----------------------------------------------------------------------------

    def extract(self, masks: Path | None) -> None:
        """SIFT features of every picture. Pictures of one body, zoom and size share a camera."""
        groups = camera_groups([self.images / name for name in self.names])
        with tqdm(desc="features", total=len(self.names), unit=" pictures") as bar, self._quiet():
            for group in groups:
                model = "OPENCV" if len(group) >= MANY_PICTURES else "SIMPLE_RADIAL"
                for start in range(0, len(group), AT_ONCE):
                    some = [self.names[each] for each in group[start : start + AT_ONCE]]
                    self._extract(some, model, self._camera_of(group), masks)
                    bar.update(len(some))

    def _extract(self, names: list[str], model: str, camera: int | None, masks: Path | None):
        reading, options = self.colmap.ImageReaderOptions(), self.colmap.FeatureExtractionOptions()
        reading.camera_model = model
        if camera is not None:
            reading.existing_camera_id = camera
        if masks is not None:
            reading.mask_path = str(masks)
        options.max_image_size, options.sift.max_num_features = LARGEST_SIDE, MOST_FEATURES
        options.use_gpu = False
        self.colmap.extract_features(
            self.database, self.images, names, camera_mode=self.colmap.CameraMode.SINGLE,
            reader_options=reading, extraction_options=options, device=self.colmap.Device.cpu,
        )  # fmt: skip

    def _camera_of(self, group: Sequence[int]) -> int | None:
        """The camera that an earlier step has made for these pictures."""
        wanted = {self.names[each] for each in group}
        with self._open() as database:
            images = database.read_all_images() if self.database.exists() else []
        return next((image.camera_id for image in images if image.name in wanted), None)

    def descriptors(self, most: int = 1000) -> list[np.ndarray]:
        """Some of each picture's, uint8 [feature, 128]; none of pictures that were not read."""
        numbers, found = self._numbers(), []
        with self._open() as database:
            for name in self.names:
                none = np.zeros((0, 128), np.uint8)
                all_of = database.read_descriptors(numbers[name]).data if name in numbers else none
                found.append(all_of[:: max(1, len(all_of) // most)])
        return found

    # ---- matches -----------------------------------------------------------------------------

    def match(self, pairs: Sequence[Pair]) -> None:
        """Matches pairs and verifies them by geometry; those that are in the database are not."""
        listing, options = (
            self.database.with_name("pairs.txt"),
            self.colmap.ImportedPairingOptions(),
        )
        matching = self.colmap.FeatureMatchingOptions()
        matching.use_gpu, options.match_list_path = False, str(listing)
        with tqdm(desc="matching", total=len(pairs), unit=" pairs") as bar, self._quiet():
            for block in in_blocks(pairs):
                lines = (f"{self.names[a]} {self.names[b]}\n" for a, b in block)
                listing.write_text("".join(lines), encoding="utf-8")
                self.colmap.match_image_pairs(
                    self.database, matching, options, device=self.colmap.Device.cpu
                )
                bar.update(len(block))

    def evidence(self) -> Evidence:
        """What there is to find cameras by."""
        numbers, kinds = self._numbers(), self.colmap.TwoViewGeometryConfiguration
        with self._open() as database:
            features = [database.num_keypoints_for_image(each) for each in numbers.values()]
            _, geometries = database.read_two_view_geometries()
        configurations = [each.config for each in geometries]
        turned = (kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC, kinds.PLANAR)
        moved = (kinds.CALIBRATED, kinds.UNCALIBRATED)
        return Evidence(
            num_pictures=len(self.names),
            median_features=int(np.median(features)) if features else 0,
            matched_pairs=sum(each in (*turned, *moved) for each in configurations),
            turned_pairs=sum(each in turned for each in configurations),
        )

    # ---- mapping -----------------------------------------------------------------------------

    def map(self, target: Path) -> list[Any]:
        """Models that share no picture, the largest first and written to `target`."""
        models = find_models(self.names, self._map, self._fit_lenses)
        if models:
            target.mkdir(parents=True, exist_ok=True)
            models[0].write_binary(target)
        return models

    def _map(self, names: Sequence[str], seed: int) -> list[Any]:
        """The models of some pictures."""
        options = self.colmap.IncrementalPipelineOptions()
        options.min_model_size, options.random_seed = MIN_MODEL, SEED + seed
        options.image_names = list(names)
        with (
            tempfile.TemporaryDirectory(dir=self.database.parent) as drafts,
            tqdm(desc="cameras", total=len(names), unit=" pictures") as bar,
            self._quiet(),
        ):
            models = self.colmap.incremental_mapping(
                self.database, self.images, drafts, options,
                initial_image_pair_callback=lambda: _begun(bar), next_image_callback=bar.update,
            )  # fmt: skip
        return list(models.values())

    def _fit_lenses(self, model: Any) -> bool:
        """Lenses with four coefficients have one where few of their pictures are in the model."""
        inside = set() if model is None else set(names_in(model))
        changed = False
        with self._open() as database:
            images = database.read_all_images()
            for camera in database.read_all_cameras():
                seen = sum(i.camera_id == camera.camera_id and i.name in inside for i in images)
                if camera.model_name == "OPENCV" and seen < MANY_PICTURES:
                    centre = camera.principal_point_x, camera.principal_point_y
                    camera.model = self.colmap.CameraModelId.SIMPLE_RADIAL
                    camera.params = [camera.params[0], *centre, 0.0]
                    database.update_camera(camera)
                    changed = True
        return changed

    @staticmethod
    def parallax(model: Any, most: int = 2000) -> float:
        """Median angle in degrees at which the rays to a point cross, at their widest."""
        centres = {each: model.image(each).projection_center() for each in model.reg_image_ids()}
        points = list(model.points3D.values())
        angles = []
        for point in points[:: max(1, len(points) // most)]:
            seen_by = {element.image_id for element in point.track.elements}
            rays = np.stack([centres[each] for each in seen_by]) - point.xyz
            rays /= np.linalg.norm(rays, axis=1, keepdims=True)
            angles.append(np.degrees(np.arccos(np.clip((rays @ rays.T).min(), -1, 1))))
        return float(np.median(angles)) if angles else 0.0

    # ---- what they share ---------------------------------------------------------------------

    def _numbers(self) -> dict[str, int]:
        with self._open() as database:
            return {image.name: image.image_id for image in database.read_all_images()}

    def _open(self) -> Any:
        return self.colmap.Database.open(self.database)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without COLMAP's log; what stops it is said in one sentence."""
        logging = self.colmap.logging
        before, logging.minloglevel = logging.minloglevel, 3
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"pycolmap stopped at {self.database} ({first_line(error)}); run again, or give "
                "the cameras in a file"
            ) from None
        finally:
            logging.minloglevel = before


def _begun(bar: tqdm) -> None:
    """A model has its first two pictures: the bar begins again with every model."""
    bar.reset()
    bar.update(2)


def camera_groups(pictures: Sequence[Path]) -> list[list[int]]:
    """Numbers of the pictures of each camera: of one size, body and zoom, as EXIF has it."""
    groups: dict[Any, list[int]] = {}
    for number, path in enumerate(pictures):
        groups.setdefault(open_image(path, _camera_key), []).append(number)
    return list(groups.values())


def _camera_key(image: Image.Image) -> tuple:
    exif = image.getexif()
    lens = exif.get_ifd(EXIF_IFD)
    tags = [*map(exif.get, EXIF_OF_BODY), *map(lens.get, EXIF_OF_LENS)]
    return (image.size, *map(str, tags))


def _is_sound(database: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(database)) as opened:
            return opened.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return False
