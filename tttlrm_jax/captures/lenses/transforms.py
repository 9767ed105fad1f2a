"""The lens of a frame in `transforms.json`: COLMAP's names of models, and instant-ngp's keys."""

import dataclasses
import math
import re
import reprlib
from typing import Any

from tttlrm_jax.captures.lenses.distortion import AnyDistortion, Distortion
from tttlrm_jax.captures.lenses.models import (
    EQUIRECTANGULAR,
    LENS_MODELS,
    PANORAMA,
    READABLE,
    ModelDistortion,
)
from tttlrm_jax.core.errors import InputError

# nerfstudio's polynomial, whatever of it a file names; FULL_OPENCV has another k4
BROWN_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "RADIAL", "SIMPLE_RADIAL")
BROWN_TERMS = tuple(field.name for field in dataclasses.fields(Distortion))
PANORAMAS = ("latlong", "equirectangular")  # instant-ngp's keys
FISHEYES = {  # what is_fisheye makes of a model
    "OPENCV": "OPENCV_FISHEYE",
    "RADIAL": "RADIAL_FISHEYE",
    "SIMPLE_RADIAL": "SIMPLE_RADIAL_FISHEYE",
}
TERM = re.compile(r"[kp]\d|s[xy]1|omega")  # coefficients; those of another model are refused
REQUIRED = ("k", "omega", "alpha", "beta")  # the others are 0 where a file leaves them out


def lens_of_entry(where: str, entry: dict) -> AnyDistortion:
    """The distortion of a frame, whose keys include those of the whole file.

    Raises InputError for a model that is not known and for coefficients that it has not.
    """
    model = _model(where, entry)
    if model == EQUIRECTANGULAR:
        return PANORAMA
    names = _names(model, entry)
    for key in entry:
        if TERM.fullmatch(key) and key not in names and entry[key] not in (0, None):
            raise InputError(
                f"{where} has {key}={reprlib.repr(entry[key])}, which camera_model={model} has "
                "not; name the right model or undistort the images first"
            )
    values = _coefficients(where, model, names, entry)
    return Distortion(*values) if model in BROWN_MODELS else ModelDistortion(model, values)


def _model(where: str, entry: dict) -> str:
    model = entry.get("camera_model", "OPENCV")
    if model == EQUIRECTANGULAR or any(entry.get(key) for key in PANORAMAS):
        return EQUIRECTANGULAR
    unknown = None if model in READABLE else str(model)
    for key in entry:
        if key.startswith("ftheta_"):
            unknown = f"{model} with {key}={reprlib.repr(entry[key])}"
    if unknown is not None:
        raise InputError(
            f"{where} has camera_model={unknown}, which is none of {', '.join(READABLE)}; "
            "undistort the images first"
        )
    if not entry.get("is_fisheye"):
        return model
    if model in BROWN_MODELS and model not in FISHEYES:
        raise InputError(
            f"{where} has is_fisheye={entry['is_fisheye']} and camera_model={model}; leave the "
            "wrong one out"
        )
    return FISHEYES.get(model, model)


def _names(model: str, entry: dict) -> tuple[str, ...]:
    """Keys of the model's coefficients; the one radial coefficient is k, as COLMAP says, or k1."""
    if model == "SIMPLE_RADIAL" and "k" in entry:
        return ("k", *BROWN_TERMS[1:])
    if model in BROWN_MODELS:
        return BROWN_TERMS
    if model == "SIMPLE_RADIAL_FISHEYE" and "k" not in entry:
        return ("k1",)
    return LENS_MODELS[model].coefficients


def _coefficients(where: str, model: str, names: tuple[str, ...], entry: dict) -> tuple:
    values = [entry.get(name) for name in names]
    for name, value in zip(names, values, strict=True):
        if value is None and name in REQUIRED:
            raise InputError(f"{where} has camera_model={model} and no {name}; add it")
    numbers = [0.0 if value is None else value for value in values]
    return tuple(finite_numbers(where, "distortion", numbers))


def finite_numbers(where: str, field: str, values: list[Any]) -> list[float]:
    """Raises InputError unless all are numbers within float64."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    try:
        numbers = [float(value) for value in values] if numeric else [math.nan]
    except OverflowError:  # a whole number beyond float64
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        shown = ", ".join(map(reprlib.repr, values))
        raise InputError(f"{where}: {field}=[{shown}] are not all finite numbers; correct the file")
    return numbers
