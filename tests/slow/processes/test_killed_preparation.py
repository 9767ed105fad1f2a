"""SIGKILL while a data set is prepared: the same command goes on, and gives the same shards."""

import signal
import subprocess
import sys
import time

import numpy as np

from tests.dl3dv import write_nerfstudio, write_points
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.datasets.shards.preparation import CaptureShards, prepare_captures
from tttlrm_jax.datasets.shards.reader import ShardScenes
from tttlrm_jax.datasets.shards.staging import FOLDER
from tttlrm_jax.procedural.objects import render_object

SIZE = (180, 320)
PATIENCE = 300  # seconds until the first scene is finished, on a busy machine
VIEWS = SyntheticConfig(num_views=8, height=SIZE[0], width=SIZE[1], supersampling=1)


def test_the_same_command_goes_on(tmp_path):
    scene = render_object(1, VIEWS)
    for number in range(6):
        folder = tmp_path / "dl3dv" / f"{number}a" / "nerfstudio"
        write_nerfstudio(folder, scene, k1=0.05)  # undistorting takes time
        write_points(folder / "sparse" / "0", scene, world=np.eye(3, 4), lens=(0.05, 0.0))
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    process = subprocess.Popen(_command(tmp_path, killed), stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE
    while not list(killed.glob(f"{FOLDER}/*.zip")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(list(killed.glob(f"{FOLDER}/*.zip")))
    assert 0 < finished < 6
    assert not (killed / "scene_shards").exists()
    done = subprocess.run(_command(tmp_path, killed), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("written before") == finished
    prepare_captures(straight, CaptureShards(directory=str(tmp_path / "dl3dv"), layout="dl3dv"))
    ours, theirs = (ShardScenes(path, "train", SIZE) for path in (killed, straight))
    assert ours.table.keys() == theirs.table.keys()
    for name, array in theirs.table.items():
        np.testing.assert_array_equal(ours.table[name], array)
    for record, other in zip(ours.records, theirs.records, strict=True):
        assert record == other


def _command(root, output):
    return [
        sys.executable, "-m", "tttlrm_jax.datasets.prepare", str(output), "captures",
        "--directory", str(root / "dl3dv"), "--layout", "dl3dv",
    ]  # fmt: skip
