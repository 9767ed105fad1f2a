"""Which pictures are matched with each other: all, neighbours in order, similar ones.

Similar are pictures whose vectors of locally aggregated descriptors (VLAD; Jegou et al., 2010)
are: sums of residuals to the centres of clusters of the pictures' own SIFT descriptors, so no
vocabulary has to be fetched.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from sklearn.cluster import MiniBatchKMeans

ALL_PAIRS = 60  # pictures up to which each is matched with each
OVERLAP = 8  # neighbours in order, on either side
SIMILAR = 20  # pictures most like each
CLUSTERS, MOST_SAMPLES = 64, 100_000
BLOCK = 20  # pictures whose pairs are matched together: their descriptors are read once

Pair = tuple[int, int]  # the lower number first


def all_pairs(count: int) -> list[Pair]:
    """Every pair of so many pictures."""
    return list(itertools.combinations(range(count), 2))


def neighbours(count: int, overlap: int = OVERLAP) -> list[Pair]:
    """Each with those that follow it, and with some at 2, 4, 8, ... times the last distance."""
    steps = [*range(1, overlap + 1), *(overlap * 2**power for power in range(1, 4))]
    return [(first, first + step) for step in steps for first in range(count - step)]


def similar_pairs(descriptors: Sequence[np.ndarray], most: int = SIMILAR) -> list[Pair]:
    """Each picture with the `most` that look most like it; descriptors are [feature, 128]."""
    vectors = vlad(descriptors)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :most]
    found = {
        (min(first, int(second)), max(first, int(second)))
        for first, row in enumerate(nearest) for second in row if second != first
    }  # fmt: skip
    return sorted(found)


def vlad(descriptors: Sequence[np.ndarray], clusters: int = CLUSTERS) -> np.ndarray:
    """Unit vectors [picture, clusters * 128]; zero for pictures without features."""
    sampled = np.concatenate([each.astype(np.float32) for each in descriptors])
    step = -(-len(sampled) // MOST_SAMPLES)
    clusters = min(clusters, len(sampled[::step]))
    means = MiniBatchKMeans(clusters, random_state=0, batch_size=4096).fit(sampled[::step])
    return np.stack([_vlad_of(each.astype(np.float32), np.asarray(means.cluster_centers_))
                     for each in descriptors])  # fmt: skip


def _vlad_of(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Of descriptors [feature, 128] and centres [cluster, 128]."""
    nearest = (np.square(centres).sum(axis=1) - 2 * features @ centres.T).argmin(axis=1)
    sums = np.zeros_like(centres)
    np.add.at(sums, nearest, features - centres[nearest])
    sums /= np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9  # of each cluster apart
    vector = sums.reshape(-1)
    return vector / (np.linalg.norm(vector) + 1e-9)


def in_blocks(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """The pairs in groups that have few pictures each."""
    blocks: dict[Pair, list[Pair]] = {}
    for pair in sorted(set(pairs)):
        blocks.setdefault((pair[0] // BLOCK, pair[1] // BLOCK), []).append(pair)
    return list(blocks.values())
