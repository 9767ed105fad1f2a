"""How a table of a paper is measured on scenes of posed pictures, and what the paper's rows are.

A protocol is a file in `configs/tttlrm/` that builds a `SceneProtocol` named PROTOCOL. In every
scene each 8th frame is a target; inputs are those that the scene's file prescribes for their
number (`fold_8_kmeans_N_input`), else k-means over the other frames.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Collection
from pathlib import Path

from tttlrm_jax.apps.protocols.files import read_protocol_file
from tttlrm_jax.apps.protocols.tables import scene_names
from tttlrm_jax.captures.camera_files import TRANSFORMS_FILES
from tttlrm_jax.captures.capture import Capture, read_capture
from tttlrm_jax.captures.collections import read_dl3dv
from tttlrm_jax.captures.forms.table import find_camera_file, holds_cameras, other_forms_note
from tttlrm_jax.captures.outliers import checked_outliers
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.evaluation import ProtocolEvalConfig
from tttlrm_jax.config.validation import require
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_text

# of published rows; a misspelled one is refused
METHODS = ("3DGS", "Mip-Splatting", "Scaffold-GS", "GS-LRM", "Long-LRM", "tttLRM")
NAME_COLUMN = "hash"  # of the file of labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of a paper's table. None: the paper does not say, and no number is made up for it."""

    method: str
    views: int  # input views
    variant: str = ""  # of the method: "AR", "+3 steps"
    psnr: float | None = None  # dB
    ssim: float | None = None
    lpips: float | None = None
    seconds: float | None = None  # of reconstruction, on the paper's device
    resolution: tuple[int, int] | None = None  # height, width; None: the protocol's

    def __post_init__(self):
        known = ", ".join(METHODS)
        require(
            self.method in METHODS, "published.method", repr(self.method), f"is none of {known}",
            "correct it, or add it to METHODS in apps/protocols/scenes.py",
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Method and variant."""
        return f"{self.method} ({self.variant})" if self.variant else self.method


def row(views, method, seconds, psnr, ssim, lpips, variant="", resolution=None) -> PublishedRow:
    """A `PublishedRow`, in the order of the columns of a table, as protocol files write it."""
    return PublishedRow(
        method=method, variant=variant, views=views, resolution=resolution,
        psnr=psnr, ssim=ssim, lpips=lpips, seconds=seconds,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stratum:
    """A part of the scenes, by their labels."""

    name: str
    label: str  # regular expression of one whole "column=value" of the labels, in any case
    psnr: float | None = None  # published, dB

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether a scene of these labels belongs to it."""
        texts = [f"{column.strip()}={value.strip()}" for column, value in labels.items()]
        return any(re.fullmatch(self.label, text, re.IGNORECASE) for text in texts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneProtocol:
    """One table's measurement of one data set."""

    dataset: str
    kinds: tuple[str, ...] = ("tttlrm",)  # model.kind of checkpoints that are measured
    layout: str  # folders expected below the root, as text
    scenes: tuple[str, ...]  # patterns of scene folders below the root
    num_scenes: int | None = None  # that the paper measured
    views: tuple[int, ...]  # numbers of input views, each a table
    resolution: tuple[int, int]  # height, width
    image_folder: str | None = None  # pictures that are taken where transforms.json has them beside
    labels: str | None = None  # CSV file in the root: scenes in column `hash`, labels in others
    source: str  # paper and tables of the published rows
    published: tuple[PublishedRow, ...] = ()
    strata: tuple[Stratum, ...] = ()
    strata_source: str = ""
    differs: tuple[str, ...] = ()  # from what the paper did, or does not say

    def __post_init__(self):
        require(self.views != (), "views", "()", "names no number of input views", "add e.g. 16")

    def find(self, root: Path, names: Collection[str] = ()) -> dict[str, Path]:
        """Scene folders by name, those of `names` or all, in order.

        Raises InputError for a root that is no such data set, and where scenes are missing that
        the file of labels lists or that are named.
        """
        if not root.is_dir():
            raise InputError.of("root", root, "is not a folder", f"give one with {self.layout}")
        if holds_cameras(root):
            raise InputError.of(
                "root", root, "is one scene, no folder of scenes",
                "give the folder above, or the scene to eval.py --capture",
            )  # fmt: skip
        found = scene_names(self._folders(root), root)
        if not found:
            raise InputError.of(
                "root", root, f"holds no scene of {self.dataset}", f"expected {self.layout}"
            )
        unknown = [name for name in names if name not in found]
        if unknown:
            raise InputError.of(
                "scenes", listed(unknown), f"{_are(unknown)} not in {root}",
                f"use some of {listed(list(found), 4)}",
            )  # fmt: skip
        if names:
            return {name: path for name, path in found.items() if name in set(names)}
        wanted = set(self.read_labels(root))
        missing = sorted(wanted - {path.name for path in found.values()})
        if missing:
            raise InputError.of(
                "root", root, f"lacks {len(missing)} of the {len(wanted)} scenes in {self.labels}: "
                f"{listed(missing, 3)}", "restore them, or name those to measure (--scenes)",
            )  # fmt: skip
        return {n: path for n, path in found.items() if not wanted or path.name in wanted}

    def _folders(self, root: Path) -> list[Path]:
        """Folders that match and hold cameras; none within another one."""
        found: list[Path] = []
        matching = {path for pattern in self.scenes for path in root.glob(pattern)}
        for path in sorted(matching, key=lambda path: len(path.parts)):
            within = any(path.is_relative_to(outer) for outer in found)
            if path.is_dir() and not path.name.startswith(".") and not within:
                found += [path] if holds_cameras(path) else []
        return natural_order(found)

    def read_labels(self, root: Path) -> dict[str, dict[str, str]]:
        """Labels of scenes by name of their folders; empty where there is no such file.

        Raises InputError for a file without the column of names.
        """
        path = root / (self.labels or "")
        if self.labels is None or not path.is_file():
            return {}
        text = read_text(path, "labels").removeprefix("\ufeff")
        rows = list(csv.DictReader(io.StringIO(text)))
        if not rows or NAME_COLUMN not in rows[0]:
            raise InputError.of(
                "labels", path, f"has no column {NAME_COLUMN!r} with names of scenes",
                "restore the file or remove it",
            )  # fmt: skip
        return {
            name.strip(): {k: v for k, v in row.items() if k and isinstance(v, str)}
            for row in rows
            if (name := row[NAME_COLUMN])
        }

    def read(self, path: Path, config: ProtocolEvalConfig) -> Capture:
        """A scene, with its pictures from `image_folder` where they lie there.

        Raises InputError where it cannot be read.
        """
        cameras, scale = find_camera_file(path, "scene"), config.intrinsics_scale
        folder = self.image_folder or ""
        reduced = folder != "" and (cameras.parent / folder).is_dir()
        if reduced and cameras.name in TRANSFORMS_FILES and scale is None:
            capture = read_dl3dv(cameras, folder, path.name, config.skip_missing)
            said = f"pictures, and the size that intrinsics are for, are those of {folder}"
            notes = (said, *capture.notes, *other_forms_note(path, cameras))
            capture = dataclasses.replace(capture, notes=notes)
        else:
            capture = read_capture(path, config.skip_missing, scale)
        return checked_outliers(capture, config.drop_outliers)

    def check_model(self, run: RunConfig, checkpoint: Path) -> None:
        """Raises InputError for a model of a kind that the protocol does not measure."""
        if run.model.kind not in self.kinds:
            raise InputError.of(
                "checkpoint", checkpoint, f"holds a model of kind {run.model.kind}, and the "
                f"protocol of {self.dataset} measures {' and '.join(self.kinds)}",
                "give another checkpoint or protocol",
            )  # fmt: skip


def read_scene_protocol(name: str) -> SceneProtocol:
    """The PROTOCOL of a configuration file. Raises ConfigError where it builds none."""
    return read_protocol_file(name, SceneProtocol)


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
