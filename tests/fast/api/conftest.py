"""The tiny model and capture as the front door gives them."""

import pytest

import tttlrm_jax as tj


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return tj.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def capture(tiny_capture_source):
    return tj.open_capture(tiny_capture_source)
