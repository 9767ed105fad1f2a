"""Why cameras could not be found, in words, from what was matched."""

import dataclasses

FEW_FEATURES = 200  # of a picture
FEW_PAIRS = 1.0  # of pairs that match, per picture
MANY_TURNED = 0.5  # of pairs that match
ALL_TURNED = 0.9  # likewise; a model of such pairs is false unless its rays cross at
WIDE = 10.0  # degrees or more: a camera that only turns also fits a flat scene far away


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What structure from motion had to go by."""

    num_pictures: int
    median_features: int  # of a picture
    matched_pairs: int  # of pictures that show the same things
    turned_pairs: int  # of those, that a camera that only turned, or a flat scene, explains


def is_false(found: Evidence, parallax: float) -> bool:
    """Whether a model may come of a camera that only turned, `parallax` being the median angle in
    degrees at which rays to its points cross."""
    return found.turned_pairs >= ALL_TURNED * found.matched_pairs and parallax < WIDE


def reason(found: Evidence) -> tuple[str, str]:
    """What is wrong with the pictures, and what to do about it."""
    if found.median_features < FEW_FEATURES:
        return (
            f"half of the pictures have {found.median_features} features or fewer, as blurred, "
            "dark or plain ones have",
            "take sharp pictures of things with texture",
        )
    if found.matched_pairs < FEW_PAIRS * (found.num_pictures - 1):
        return (
            f"only {found.matched_pairs} pairs of the {found.num_pictures} pictures show the same "
            "things",
            "take pictures that overlap by two thirds",
        )
    if found.turned_pairs > MANY_TURNED * found.matched_pairs:
        return (
            f"{found.turned_pairs} of {found.matched_pairs} pairs that match look as if the camera "
            "had turned without moving, or the scene were flat",
            "take pictures while you walk around the scene",
        )
    return (
        f"{found.matched_pairs} pairs of the {found.num_pictures} pictures match, but make no "
        "scene",
        "take more pictures, from places nearer to each other",
    )
