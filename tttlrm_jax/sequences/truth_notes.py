"""Sentences about truth that is there in part only: poses and depth that belong to no picture."""

import numpy as np

from tttlrm_jax.sequences.sequence import FrameFiles

UNITS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}  # beside seconds


def missing_truth(files: list[FrameFiles]) -> tuple[str, ...]:
    """How many frames have depth and a true pose, where some have and some have not."""
    counts = {
        "a true pose": sum(each.world_from_camera is not None for each in files),
        "true depth": sum(each.depth is not None for each in files),
    }
    return tuple(
        f"{count} of {len(files)} frames have {what}"
        for what, count in counts.items() if 0 < count < len(files)
    )  # fmt: skip


def match_note(
    what: str, stamps: np.ndarray, others: np.ndarray, matches: np.ndarray, limit: float
) -> tuple[str, ...]:
    """Says how many of the pictures' `stamps` [n] were matched by those of the file `what` [m].

    `matches` [n] are indices into `others`, -1 where none is within `limit` seconds. Nothing is
    said where all are matched; where none is, a guess at the reason is added.
    """
    count = int((matches >= 0).sum())
    if count == len(stamps):
        return ()
    text = (
        f"{what}: {count} of {len(stamps)} pictures match one of its {len(others)} stamps within "
        f"{limit:g} s"
    )
    if not len(others):
        return (f"{text}: it is empty",)
    text += f"; pictures go from {_range(stamps)}, {what} from {_range(others)}"
    return (text + ("" if count else _reason(stamps, others)),)


def _reason(stamps: np.ndarray, others: np.ndarray) -> str:
    """A guess at why nothing matches: units, a shift, or another recording."""
    guesses = {"": _unlikeness(stamps, others)}  # by what is said; that of equal units is nothing
    for first, second, whose in ((stamps, others, "its"), (others, stamps, "the pictures'")):
        for factor, name in UNITS.items():
            if _overlap(first, second / factor):
                said = f"; {whose} stamps look like {name} beside seconds: write both in seconds"
                guesses[said] = _unlikeness(first, second / factor)
    said = min(guesses, key=lambda each: guesses[each])
    if said:
        return said
    late = float(others.min() - stamps.min())
    if guesses[""] < np.log(2):
        word = "late" if late > 0 else "early"
        return f"; it begins {abs(late):.6g} s {word}: if both clocks are one, correct the shift"
    return "; the two were not taken at the same time, or their clocks differ"


def _unlikeness(first: np.ndarray, second: np.ndarray) -> float:
    """How many times longer one lasts than the other, as the size of a logarithm."""
    return abs(float(np.log((np.ptp(second) + 1e-3) / (np.ptp(first) + 1e-3))))


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    margin = max(float(np.ptp(first)), float(np.ptp(second)))
    return second.max() >= first.min() - margin and second.min() <= first.max() + margin


def _range(stamps: np.ndarray) -> str:
    return f"{stamps.min():.3f} to {stamps.max():.3f}"
