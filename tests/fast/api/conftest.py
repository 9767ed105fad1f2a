"""The tiny model and capture as the front door gives them."""

import pytest

import tttlrm_jax as tj


@pytest.fixture(scope="module")
def model(dense_checkpoint):
    return tj.load(dense_checkpoint)


@pytest.fixture(scope="module")
def capture(tiny_capture_source):
    return tj.open_capture(tiny_capture_source)
