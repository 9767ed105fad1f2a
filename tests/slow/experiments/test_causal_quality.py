"""The command `experiments.causal_quality` at tiny sizes."""

import json

from experiments import causal_quality
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.models import build_model, split_model


def test_causal_quality_runs(tiny_checkpoint, dense_run, tmp_path, capsys):
    """Equal weights gain nothing; after one view, one update and one reading, plans agree."""
    other = split_model(build_model(dense_run.model, seed=2))[1]
    control = export_model(dense_run, other, tmp_path / "control")
    arguments = ["--checkpoint", str(tiny_checkpoint), "--baseline", str(tiny_checkpoint),
                 "--control", str(control), "--chunk-views", "1", "--scenes", "2"]  # fmt: skip
    assert causal_quality.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["scenes"], result["views"]) == (2, [1, 2, 3])
    assert len(result["rows"]) == 6
    for row in result["rows"].values():
        assert len(row["psnr"]) == len(row["standard_error"]) == 3
    gain = {name: row["psnr"] for name, row in result["gain"].items()}
    assert gain["over shipped, causal"] == [0, 0, 0]
    for plan in ("sequential", "full"):
        first, _, last = gain[f"over shipped, {plan}"]
        assert abs(first) < 2e-4 < abs(last)  # untrained weights: plans differ by 8e-4 dB and more
    first, *_ = gain["over sequentially trained, causal"]
    assert abs(first) > 1e-3  # other weights
    assert causal_quality.main([*arguments[:-4], "--chunk-views", "2"]) == 2
    assert "chunk_views=2 does not divide the 3 input views" in capsys.readouterr().err
