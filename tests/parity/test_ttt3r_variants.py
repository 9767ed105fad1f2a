"""Recordings of TTT3R unlike the ones at hand: other names, optional keys left out, other paths."""

import jax
import numpy as np
import pytest

from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.suites import collect


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def judged(shared, tmp_path):
    """Rows of a recording of `goldens/ttt3r` after `change(arrays)`, under another name."""

    def run(name, change, new_name=None):
        with np.load(shared / "goldens" / "ttt3r" / name) as stored:
            arrays = {key: stored[key] for key in stored.files}
        path = tmp_path / (new_name or name)
        np.savez(path, **change(arrays))
        load.cache_clear()
        (found,), _ = collect(tmp_path, path.name)
        return list(found.check(path))

    return run


def one_case(arrays, case, new_case):
    """The arrays of one scenario, renamed."""
    return {
        key.replace(case, new_case, 1): x for key, x in arrays.items() if key.startswith(case + "/")
    }


def failed(rows):
    assert rows
    return [row.line() for row in rows if not row.ok]


def test_a_scenario_of_the_third_path_never_gates(judged):
    def changed(arrays):
        return one_case(arrays, "batch_cut3r_b2", "recurrent_ttt3r_b2")

    assert not failed(judged("state_update.npz", changed))


def test_meta_data_win_over_the_name_of_a_scenario(judged):
    def changed(meta):
        return lambda arrays: {
            **one_case(arrays, "streaming_ttt3r", "recurrent"),
            "meta": np.array(meta),
        }

    told = '{"path": "streaming", "model_update_type": "ttt3r"}'
    assert not failed(judged("state_update.npz", changed(told)))
    assert failed(judged("state_update.npz", changed("{}")))


def test_update_and_reset_may_be_left_out(judged):
    def changed(arrays):
        case = one_case(arrays, "streaming_ttt3r", "streaming_ttt3r")
        frames = int(np.flatnonzero(case["streaming_ttt3r/reset"].any(axis=1))[0])
        case = {key: x if "/init_" in key else x[:frames] for key, x in case.items()}
        case["streaming_ttt3r/img_mask"] &= case.pop("streaming_ttt3r/update")
        del case["streaming_ttt3r/reset"]
        return case

    rows = judged("state_update.npz", changed)
    assert not failed(rows)
    assert {"streaming_ttt3r/gate", "streaming_ttt3r/mem_after"} <= {row.quantity for row in rows}
