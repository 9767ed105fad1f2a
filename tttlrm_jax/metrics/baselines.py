"""Answers that need no model; a reconstruction that does not beat them has failed."""

import numpy as np


def mean_colour(inputs: np.ndarray, num_targets: int) -> np.ndarray:
    """The mean colour of all input pixels as a plain picture for every target.

    `inputs` is [view, height, width, 3]; the result [target, height, width, 3].
    """
    colour = np.asarray(inputs, np.float64).mean(axis=(0, 1, 2)).astype(inputs.dtype)
    return np.broadcast_to(colour, (num_targets, *inputs.shape[1:])).copy()


def nearest_input(
    inputs: np.ndarray, input_poses: np.ndarray, target_poses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each target the input picture taken from the most similar camera, and its number.

    Cameras are compared by centre and viewing direction together: squared distance of the centres
    plus squared distance of the unit viewing directions. Poses [view, 4, 4] must be normalised
    (input centres in [-1, 1]), so that both count alike. Pictures are shown as they are, not
    warped: [target, height, width, 3]; numbers [target].
    """
    distance = sum(
        np.square(target_poses[:, None, :3, column] - input_poses[None, :, :3, column]).sum(-1)
        for column in (2, 3)
    )
    nearest = np.argmin(distance, axis=1)
    return inputs[nearest], nearest
