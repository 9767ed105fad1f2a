"""How often sculptures have what, counted over many draws without making meshes or pictures."""

import math
from collections import Counter

import numpy as np
import pytest

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.procedural import sculptures
from tttlrm_jax.procedural.appearance import materials, pictures
from tttlrm_jax.procedural.appearance.materials import random_material
from tttlrm_jax.procedural.appearance.pictures import random_picture
from tttlrm_jax.procedural.sculptures import random_count, random_group
from tttlrm_jax.procedural.surfaces.solids import Placed, tubes

SIGMAS = 5.0  # of a count around its mean; the seeds are fixed, so a test that passes goes on to
WEIGHTS = (5, 5, 5, 4, 4, 3, 2, 1, 1)  # of one to nine solids, as asked for


class _Enough(Exception):
    """Ends a call before what takes long."""


def assert_drawn(counts, shares):
    """That counts by name are what draws with these probabilities give."""
    draws = sum(counts.values())
    assert set(counts) == set(shares)
    for name, share in shares.items():
        spread = math.sqrt(draws * share * (1 - share))
        assert abs(counts[name] - draws * share) < SIGMAS * spread, (name, counts[name], draws)


@pytest.mark.parametrize(("least", "most"), [(1, 9), (2, 4)])
def test_numbers_of_solids(least, most):
    rng = np.random.default_rng(0)
    counts = Counter(random_count(rng, least, most) for _ in range(8000))
    weights = {number: WEIGHTS[number - 1] for number in range(least, most + 1)}
    total = sum(weights.values())
    assert_drawn(counts, {number: weight / total for number, weight in weights.items()})


def test_sculptures_have_the_number_that_is_drawn(monkeypatch):
    """With the limits of the configuration, which are one and nine unless it says otherwise."""
    asked, made = [], []

    def count(rng, least, most):
        asked.append((least, most))
        return 3

    def group(rng, number):
        made.append(number)
        raise _Enough

    monkeypatch.setattr(sculptures, "random_count", count)
    monkeypatch.setattr(sculptures, "random_group", group)
    for config in (SyntheticConfig(), SyntheticConfig(min_primitives=2, max_primitives=5)):
        with pytest.raises(_Enough):
            sculptures.random_sculpture(np.random.default_rng(0), config)
    assert asked == [(1, 9), (2, 5)]
    assert made == [3, 3]


def test_shares_of_swollen_wired_and_cut_solids(monkeypatch):
    """Half swell; a tenth are wires; a quarter of the others have a bite taken out."""
    seen = Counter()
    stand_in = tubes(np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]), 0.5)

    def counting(name, result):
        def instead(*arguments, **options):
            seen[name] += 1
            return result

        return instead

    monkeypatch.setattr(sculptures, "random_heights", counting("swollen", None))
    monkeypatch.setattr(Placed, "wires", counting("wired", stand_in))
    monkeypatch.setattr(Placed, "surface", counting("surface", stand_in))
    monkeypatch.setattr(sculptures, "cut", counting("cut", stand_in))
    monkeypatch.setattr(sculptures, "join", counting("join", stand_in))
    rng, groups, solids = np.random.default_rng(0), 400, 10
    for _ in range(groups):
        random_group(rng, solids)
    number = groups * solids
    cut = seen["cut"] // 2  # the solid by its tool, and the other way round
    for share, count in ((0.5, seen["swollen"]), (0.1, seen["wired"]), (0.9 * 0.25, cut)):
        assert_drawn({True: count, False: number - count}, {True: share, False: 1 - share})


def test_shares_of_textures_and_pictures(monkeypatch):
    """Half are pictures, half solid textures; of those drawn plain three in ten stay so."""
    monkeypatch.setattr(materials, "random_picture", lambda rng: np.zeros((1, 1, 3), np.uint8))
    rng = np.random.default_rng(0)
    drawn = [random_material(rng) for _ in range(4000)]
    kinds = Counter("picture" if m.texture is None else m.texture.kind for m in drawn)
    patterns = ("noise", "stripes", "checks", "dots", "cells")
    each = 0.5 / (len(patterns) + 0.3)
    shares = {"picture": 0.5, "plain": 0.3 * each} | dict.fromkeys(patterns, each)
    assert_drawn(kinds, shares)
    glossy = sum(m.gloss > 0 for m in drawn)
    assert_drawn({True: glossy, False: len(drawn) - glossy}, {True: 0.35, False: 0.65})


def test_shares_of_kinds_of_pictures(monkeypatch):
    named = {kind: (lambda rng, kind=kind: kind, weight)
             for kind, (_, weight) in pictures.PICTURES.items()}  # fmt: skip
    monkeypatch.setattr(pictures, "PICTURES", named)
    rng = np.random.default_rng(0)
    counts = Counter(random_picture(rng) for _ in range(4000))
    assert_drawn(counts, {"writing": 0.3, "clouds": 0.4, "bricks": 0.12, "collage": 0.18})
