"""Damaged captures end in an answer or in one sentence; the script does so for 10,000."""

import pytest

from experiments import mutate_captures
from experiments.capture_forms import WRITERS
from experiments.mutate_captures import (
    attempt,
    made_scene,
    run,
    summary,
    use_capture,
    use_sequence,
)
from experiments.sequence_forms import SEQUENCE_WRITERS
from tttlrm_jax.core.errors import InputError

SEED = 1


@pytest.mark.parametrize("form", [*WRITERS, *SEQUENCE_WRITERS])
def test_whole_captures_are_answered(tmp_path, form):
    """Else damage would prove nothing."""
    if form in SEQUENCE_WRITERS:
        SEQUENCE_WRITERS[form](tmp_path, made_scene())
        use_sequence(tmp_path)
    else:
        WRITERS[form].write(tmp_path, made_scene())
        use_capture(tmp_path)


@pytest.mark.parametrize("part", range(4))
def test_damaged_captures_are_answered_or_refused(tmp_path, part):
    scene = made_scene()
    outcomes = [
        attempt(number, SEED, tmp_path, scene) for number in range(80 * part, 80 * part + 80)
    ]
    failures = [(each.number, each.form, each.words[-800:]) for each in outcomes if each.is_failure]
    assert not failures
    assert {"answered", "refused"} == {each.kind for each in outcomes}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x"), "KeyError"),
        (MemoryError(), "memory"),
        (InputError(""), "not one sentence"),
    ],
)
def test_what_else_happens_is_a_failure(tmp_path, monkeypatch, error, kind):
    def fail(_root):
        raise error

    monkeypatch.setattr(mutate_captures, "use_capture", fail)
    monkeypatch.setattr(mutate_captures, "use_sequence", fail)
    outcome = attempt(0, SEED, tmp_path, made_scene())
    assert (outcome.kind, outcome.is_failure) == (kind, True)


@pytest.mark.extended
def test_worker_processes_try_each_number_once():
    outcomes = run(count=24, seed=SEED, workers=2)
    assert sorted(each.number for each in outcomes) == list(range(24))
    assert summary(outcomes)["failed"] == 0
