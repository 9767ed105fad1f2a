"""The package wandb itself, without an account: what is written, and under which name."""

import json

import numpy as np
import pytest

from tttlrm_jax.config import RunConfig
from tttlrm_jax.training.watching.wandb_log import WANDB_FILE, WandbLog

pytest.importorskip("wandb", reason="the extra wandb is not installed")


def test_an_offline_run_goes_on_under_the_same_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    for step in (1, 2):
        log = WandbLog(tmp_path, RunConfig(name="mine", wandb="scenes"))
        log.write({"train/loss": 0.5, "speed/utilisation": float("nan")}, step)
        log.preview("eval/preview", np.zeros((8, 8, 3), np.uint8), step)
        log.close()
    name = json.loads((tmp_path / WANDB_FILE).read_text())["scenes"]
    files = list(tmp_path.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb"))
    assert files
    assert b"train/loss" in b"".join(path.read_bytes() for path in files)
