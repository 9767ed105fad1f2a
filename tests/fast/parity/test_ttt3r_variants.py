"""Recordings of TTT3R unlike those in ../shared: other names and paths, keys left out."""

import jax
import numpy as np
import pytest

from tttlrm_jax.models.nn.rope import state_positions
from tttlrm_jax.parity.memory import available_memory
from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.suites import collect, recognise
from tttlrm_jax.parity.ttt3r.network import judged_positions


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
        return found.rows()

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


def small_memory(arrays, width=5, heads=2):
    """A pose memory whose widths no rotary embedding could split."""
    sizes = {24: width, 48: 2 * width, 32: 7, 144: 6 * width, 192: 8 * width}
    random, made = np.random.default_rng(0), {}
    for key, x in arrays.items():
        shape = [sizes.get(side, side) for side in x.shape]
        made[key] = random.normal(size=shape, scale=0.3).astype(np.float32)
    made["meta"] = np.array(f'{{"num_heads": {heads}}}')
    made["mem0"] = made["param/mem"].repeat(len(made["feat_k_1"]), axis=0)
    return made


def test_a_pose_memory_of_any_width_runs(judged):
    rows = judged("pose_memory.npz", small_memory, "pose_memory_small.npz")
    assert {row.quantity for row in rows if row.ok} == {"mem0 float32", "mem0 float64"}
    assert all(np.isfinite(row.error) for row in rows)  # compared, with made-up results


@pytest.mark.extended
@pytest.mark.parametrize("name", ["head_linear.npz", "head_dpt.npz"])
def test_sizes_of_a_head_come_from_its_tensors(judged, name):
    def changed(arrays):
        return {**arrays, "meta": np.array('{"num_heads": 2}')}

    assert not failed(judged(name, changed))


def test_state_tokens_without_positions_are_not_compared(judged, shared):
    recording = load(shared / "goldens" / "ttt3r" / "encode_modalities.npz")
    for kind, compared in (("none", False), ("2d", True)):
        made = {"init_state_pos": state_positions(10, kind)}
        assert bool(list(judged_positions(recording, made))) is compared


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rope2d_hd8", "rope2d"), ("encoder_block_wide", "encoder_block"),
        ("decoder_block_b3", "decoder_block"), ("state_update_seed2", "state_update"),
        ("metrics_recon_2", "metrics_recon"), ("preprocess_portrait", "preprocess"),
        ("full_dpt_params_seed2", "full_dpt_params"), ("head_dpt_odd", "head_dpt"),
    ],
)  # fmt: skip
def test_a_longer_name_is_of_the_same_kind(shared, tmp_path, name, kind):
    path, known = tmp_path / f"{name}.npz", shared / "goldens" / "ttt3r" / f"{kind}.npz"
    np.savez(path, x=np.zeros(1))
    longer, shorter = recognise(path), recognise(known)
    assert longer is not None
    assert shorter is not None
    assert longer.check is shorter.check


def test_distances_stay_strict_where_normals_are_rounded(judged):
    def changed(distance, normal):
        def change(arrays):
            case = one_case(arrays, "icp", "icp")
            for key in [key for key in case if "[mean" in key]:
                case[key] = case[key] + np.array([distance, distance, normal, normal])
            return case

        return change

    def which(rows):
        return {line.split()[2] for line in failed(rows)}

    assert not failed(judged("metrics_recon.npz", changed(0.0, 4e-6)))
    assert which(judged("metrics_recon.npz", changed(1e-7, 0.0))) == {"distances"}
    assert which(judged("metrics_recon.npz", changed(0.0, 1e-3))) == {"normals"}


def write_files(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": 5}, None),
        ({"sys/fs/cgroup/memory.max": 900, "sys/fs/cgroup/memory.current": 500}, 400),
        ({"sys/fs/cgroup/memory.max": 9000, "sys/fs/cgroup/memory.current": 50}, 2048),
        ({"sys/fs/cgroup/memory.max": 900, "sys/fs/cgroup/memory.current": 500,
          "sys/fs/cgroup/memory.stat": "anon 7\ninactive_file 300"}, 700),
        ({"sys/fs/cgroup/a/memory.max": 800, "sys/fs/cgroup/a/memory.current": 790,
          "sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/b/memory.current": 5,
          "proc/self/cgroup": "0::/a/b"}, 10),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": 700,
          "sys/fs/cgroup/memory/memory.usage_in_bytes": 600}, 100),
    ],
)  # fmt: skip
def test_available_memory_heeds_control_groups(tmp_path, files, expected):
    write_files(tmp_path, files)
    if expected is not None:
        write_files(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   2 kB"})
    assert available_memory(tmp_path) == expected
