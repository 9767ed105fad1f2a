"""Truth in other units, of another time, or for some frames only is said, with a guess at why."""

import numpy as np
import pytest

from tttlrm_jax.sequences.time_stamps import nearest_stamps
from tttlrm_jax.sequences.truth_notes import match_note

START = 1305031102.175304
EPOCH, CLOCK = START + np.arange(8) / 30, 0.5 + np.arange(8) / 30


def note(stamps, others):
    matches = nearest_stamps(stamps, others, 0.02)
    return " ".join(match_note("groundtruth.txt", stamps, others, matches, 0.02))


@pytest.mark.parametrize("stamps", [EPOCH, CLOCK])
@pytest.mark.parametrize(
    ("factor", "unit"), [(1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
def test_units_are_guessed(stamps, factor, unit):
    said = note(stamps, stamps * factor)
    assert said.startswith("groundtruth.txt: 0 of 8 pictures match one of its 8 stamps")
    assert f"its stamps look like {unit} beside seconds" in said
    assert f"the pictures' stamps look like {unit}" in note(stamps * factor, stamps)
    longer = (stamps[0] + np.arange(-20, 60) / 10) * factor  # the truth began before
    assert f"its stamps look like {unit}" in note(stamps, longer)


@pytest.mark.parametrize("stamps", [EPOCH, CLOCK])
def test_another_time(stamps):
    said = note(stamps, stamps + 1.0)
    assert "0 of 8 pictures" in said
    assert f"pictures go from {stamps[0]:.3f} to {stamps[-1]:.3f}" in said
    assert f"groundtruth.txt from {stamps[0] + 1:.3f} to {stamps[-1] + 1:.3f}" in said
    assert "begins 1 s late" in said
    assert "begins 3 s early" in note(stamps, stamps - 3.0)
    assert "not taken at the same time" in note(stamps, stamps[0] + 9e7 + np.arange(90))


def test_some_that_match_and_all():
    stamps = EPOCH
    assert note(stamps, stamps + 0.01) == ""
    said = note(stamps, stamps[:5])
    assert said.startswith("groundtruth.txt: 5 of 8 pictures match one of its 5 stamps within 0.02")
    assert "look like" not in said
    assert note(stamps, np.zeros(0)).endswith("it is empty")
