import random

import pytest

from tttlrm_jax.core.files.natural_order import natural_order

IN_ORDER = {
    "counts": ["frame1.png", "frame2.png", "frame10.png", "frame100.png"],
    "counts and padding": ["1.png", "02.png", "3.png", "0010.png"],
    "floats as printed": [
        "1764470000.8.jpg", "1764470000.8333335.jpg", "1764470000.866667.jpg", "1764470000.9.jpg",
        "1764470001.0.jpg", "1764470001.0333.jpg",
    ],
    "floats of six digits": ["9.900000.png", "9.950000.png", "10.050000.png"],
    "floats with exponents": ["0.0.png", "1e-05.png", "0.0001.png", "1.0e+01.png"],
    "decimals inside": ["r_0.25_a", "r_0.5_a", "r_1_a", "r_1.5_a"],
    "two counts with a point": ["1.1.png", "1.9.png", "1.10.png", "2.1.png"],
    "versions": ["v1.2.3", "v1.10.2", "v2.0.0"],
    "superscripts are letters": [f"room{n}\u00b2.jpg" for n in range(12)],
    "circled digits are letters": [f"{chr(0x2460 + n)}.jpg" for n in range(9)],
    "folders": ["cam2/9.png", "cam2/10.png", "cam10/1.png", "cams/1.png"],
    "backslashes": ["images\\9.png", "images\\10.png"],
    "numbers of any length": ["1" * 5000, "2" * 5000, "1" * 5001],
    "endings last": ["a.jpg", "a.png", "a1.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("kind", IN_ORDER)
def test_order(kind):
    names = IN_ORDER[kind]
    for seed in range(5):
        mixed = list(names)
        random.Random(seed).shuffle(mixed)
        assert natural_order(mixed) == names


def test_items_are_ordered_by_the_name_asked_for():
    assert natural_order([(1, "b10"), (2, "b9")], lambda item: item[1]) == [(2, "b9"), (1, "b10")]
