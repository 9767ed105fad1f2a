"""Models of pictures that do not all show one scene, as those of a film with a cut.

COLMAP loosens its limits for a first pair only while there is no model, so what a first model
leaves out may never begin one. It is mapped again by itself here, as if there were nothing else.
How a model grows hangs on its first pair, and that on chance: poor ones are tried again.
"""

from collections.abc import Callable, Sequence
from typing import Any

MIN_MODEL = 3  # pictures
TRIES = 3  # of the same pictures, each with another seed
GOOD = 0.5  # share of the pictures in one model, from which on there is no other try
SIZEABLE = 0.2  # share of all pictures without a model, above which they are mapped again
MOST_MODELS = 6

Mapper = Callable[[Sequence[str], int], Sequence[Any]]  # names and seed to models


def find_models(
    names: Sequence[str], mapper: Mapper, fit_lenses: Callable[[Any], bool]
) -> list[Any]:
    """Models of pictures, the largest first; no picture is in two of them.

    Args:
        names: of the pictures.
        mapper: makes models of some of them with a seed.
        fit_lenses: makes lenses simpler that have too many coefficients for a model (None: for no
            picture); whether there were any. Then there is another try.
    """
    models, rest = [], list(names)
    while len(models) < MOST_MODELS:
        model = _largest(rest, mapper, fit_lenses)
        if model is None:
            break
        models.append(model)
        known = set(names_in(model))
        rest = [name for name in rest if name not in known]
        if len(rest) < MIN_MODEL or len(rest) <= SIZEABLE * len(names):
            break
    return sorted(models, key=_size, reverse=True)


def names_in(model: Any) -> list[str]:
    """Names of the pictures that have a camera in a model, in order."""
    return sorted(model.image(number).name for number in model.reg_image_ids())


def cut_note(models: Sequence[Any], names: Sequence[str]) -> str:
    """One sentence about pictures that make several models, and what to do."""
    sizes = " and ".join(f"{_size(model)}" for model in models)
    inside = {name for model in models for name in names_in(model)}
    none = sum(name not in inside for name in names)
    return (
        f"the pictures make {len(models)} models that do not join, of {sizes} pictures ({none} are "
        "in none), as a film with a cut does; the largest is taken: give one shot at a time, or "
        "pictures of what lies between"
    )


def _largest(names: Sequence[str], mapper: Mapper, fit_lenses: Callable[[Any], bool]) -> Any:
    """The largest model of a few tries, of equal ones the last; None where there is none."""
    best = None
    for seed in range(TRIES):
        found = max(mapper(names, seed), key=_size, default=None)
        if found is not None and (best is None or _size(found) >= _size(best)):
            best = found
        simpler = fit_lenses(best)
        if best is not None and _size(best) >= GOOD * len(names) and not simpler:
            break
    return best


def _size(model: Any) -> int:
    return model.num_reg_images()
