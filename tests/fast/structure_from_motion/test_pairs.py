"""Which pictures are matched."""

import numpy as np

from tttlrm_jax.structure_from_motion.pairs import (
    BLOCK,
    all_pairs,
    in_blocks,
    neighbours,
    similar_pairs,
)


def test_all_and_neighbours():
    assert all_pairs(4) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    near = neighbours(12, overlap=2)
    assert len(near) == len(set(near))
    assert {second - first for first, second in near} == {1, 2, 4, 8}
    assert {pair for pair in near if pair[1] - pair[0] == 1} == {(n, n + 1) for n in range(11)}
    assert neighbours(2) == [(0, 1)]


def test_pictures_of_one_place_are_similar():
    """Ten places, three pictures each, in no order; one picture has no features at all."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 256, (10, 40, 128))
    order = rng.permutation(30)
    seen = [places[n % 10] + rng.integers(-6, 7, (40, 128)) for n in order]
    features = [np.clip(each, 0, 255).astype(np.uint8) for each in seen]
    pairs = similar_pairs([*features, np.zeros((0, 128), np.uint8)], most=2)
    wanted = {(a, b) for a in range(30) for b in range(a + 1, 30) if order[a] % 10 == order[b] % 10}
    assert wanted <= set(pairs)
    assert len(pairs) <= 2 * 31
    assert all(first < second for first, second in pairs)


def test_blocks_hold_every_pair_once_and_few_pictures():
    pairs = [*all_pairs(50), (3, 9)]
    blocks = in_blocks(pairs)
    assert sorted(pair for block in blocks for pair in block) == all_pairs(50)
    assert max(len({n for pair in block for n in pair}) for block in blocks) <= 2 * BLOCK
