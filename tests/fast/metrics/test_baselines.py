import numpy as np

from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.metrics.baselines import mean_colour, nearest_input


def cameras(*centres, target=(0.0, 0.0, 0.0)):
    return look_at(np.array(centres), np.array(target), np.array([0.0, 0.0, 1.0]))


def test_mean_colour_by_hand():
    inputs = np.zeros((2, 4, 6, 3), np.float32)
    inputs[0, ..., 0] = 1.0
    inputs[1, :2, :, 2] = 0.5
    pictures = mean_colour(inputs, num_targets=3)
    assert pictures.shape == (3, 4, 6, 3)
    assert pictures.dtype == np.float32
    np.testing.assert_allclose(
        pictures, np.broadcast_to([0.5, 0.0, 0.125], pictures.shape), rtol=1e-6
    )


def test_nearest_input_by_centre():
    inputs = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 5, 3), np.float32)
    around = cameras((1.0, 0, 0), (0, 1.0, 0), (-1.0, 0, 0))
    targets = cameras((0.9, 0.2, 0.1), (-0.8, 0.5, 0), (0.1, 1.0, 0))
    pictures, numbers = nearest_input(inputs, around, targets)
    assert numbers.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(pictures[:, 0, 0, 0], [0, 2, 1])


def test_direction_counts_as_well_as_position():
    """Of two cameras in one place the one that looks the same way is nearer."""
    here = (0.5, 0.0, 0.0)
    inputs = np.stack([np.zeros((2, 2, 3)), np.ones((2, 2, 3))])
    poses = np.concatenate([cameras(here, target=(5, 0, 0)), cameras(here, target=(-5, 0, 0))])
    target = cameras((0.9, 0.0, 0.0), target=(-5, 0, 0))
    assert nearest_input(inputs, poses, target)[1].tolist() == [1]
