"""`tj.fit`: Gaussians of a capture without a model."""

import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.api.fitting import chosen_frames


def test_all_frames_but_the_targets_are_fitted(capture):
    inputs, targets = chosen_frames(capture, None)
    assert sorted([*inputs, *targets]) == list(range(len(capture)))
    assert targets.tolist() == list(range(0, len(capture), 8))
    few, same = chosen_frames(capture, 3)
    assert len(few) == 3
    assert not set(few) & set(same)
    assert same.tolist() == targets.tolist()


def test_what_cannot_be_fitted_is_refused(capture):
    for views in (0, len(capture)):
        with pytest.raises(tj.InputError, match=f"views={views} is not in 1.."):
            tj.fit(capture, views)
    with pytest.raises(tj.InputError, match="seconds=0"):
        tj.fit(capture, seconds=0)
    with pytest.raises(tj.InputError, match="more pixels than the pictures"):
        tj.fit(capture, resolution=(4000, 10))


@pytest.mark.extended
def test_a_capture_is_fitted_from_nothing(capture):
    """A few steps: everything that a reconstruction has, in the capture's frame."""
    scene, record = tj.fit(capture, 4, seconds=0.05, resolution=(16, 24))
    assert record.moments[0].size == scene.posed.resolution == (16, 24)
    assert len(record.losses) > 0
    assert len(scene.gaussians.mean) == record.best.num_gaussians
    assert scene.scores().psnr.shape == (len(scene.posed.target_names),)
    assert np.isfinite(np.asarray(scene.render().rgb)).all()
