"""A loss that is not finite changes nothing, is counted, and ends the run when it stays so."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.runs.tiny_run import CONFIG
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.training.nonfinite import NonfiniteWatch
from tttlrm_jax.training.tasks import reconstruction
from tttlrm_jax.training.trainer import train


@pytest.mark.extended
def test_run_ends_after_so_many_nonfinite_steps_and_keeps_the_batch(tmp_path, monkeypatch):
    """Of batches 1..8 those after the third one are broken; one before it is too, alone."""
    config = dataclasses.replace(
        CONFIG,
        data=dataclasses.replace(CONFIG.data, cache_directory=str(tmp_path / "cache")),
        train=dataclasses.replace(
            CONFIG.train, directory=str(tmp_path), max_nonfinite=3, eval_every=100, eval_scenes=1
        ),
    )
    make_loader = reconstruction.make_loader

    def broken_loader(*arguments, **settings):
        for number, batch in enumerate(make_loader(*arguments, **settings)):
            if number == 1 or number >= 3:
                batch["target_image"] = np.full_like(batch["target_image"], np.nan)
            yield batch

    class Loader:
        def __init__(self, *arguments, **settings):
            self.batches = broken_loader(*arguments, **settings)

        def __next__(self):
            return next(self.batches)

        def get_state(self):
            return {}

    monkeypatch.setattr(reconstruction, "make_loader", Loader)
    with pytest.raises(InputError, match="not finite for 3 steps in a row, up to step 6") as caught:
        train(config)
    path = Path(str(caught.value).split("its batch is in ")[1].split(")")[0])
    with np.load(path) as saved:
        assert np.isnan(saved["target_image"]).all()
        assert np.isfinite(saved["input_image"]).all()
    lines = (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()
    skipped = [json.loads(line)["num_skipped"] for line in lines]
    assert skipped == [0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [{"loss": np.nan}, {"grad_norm": np.inf}])
def test_only_steps_in_a_row_count(tmp_path, bad):
    watch, fine = NonfiniteWatch(tmp_path, 2), {"loss": 1.0, "grad_norm": 2.0}
    for step, metrics in enumerate([fine | bad, fine, fine | bad, fine]):
        watch.judge(step, metrics, {})
    watch.judge(4, fine | bad, {})
    with pytest.raises(InputError, match="not finite for 2 steps in a row, up to step 5"):
        watch.judge(5, fine | bad, {"images": np.full(3, 7.0)})
    (saved,) = tmp_path.glob("nonfinite_00000005_process0.npz")
    with np.load(saved) as batch:
        np.testing.assert_array_equal(batch["images"], 7.0)
