"""The table of `experiments.quality` and the curves of `experiments.pretraining`, at tiny sizes."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import pretraining
from experiments.quality import __main__ as quality
from experiments.quality.methods import (
    ATTENTION,
    CAUSAL,
    CONTROL,
    ELASTIC,
    FEWER,
    FULL,
    MEAN,
    NEAREST,
    UNTRAINED,
    Network,
    digest_of,
    fit_name,
)
from experiments.quality.report import claims, table
from experiments.quality.rows import GrowingTable, rows_of
from experiments.quality.scenes import captures, objects, on_procedural_objects
from tttlrm_jax.apps.make_sample import SampleConfig, write_sample
from tttlrm_jax.checkpoints.models import export_model, load_model
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import build_model, split_model


def row(method: str, views: int, psnr: list[float], seconds: float = 1.0) -> dict:
    return quality.row("objects", views, method, [(value, 0.5, np.nan, seconds) for value in psnr])


def test_claims_follow_from_paired_rows():
    fewest, most = [15.0, 16.0, 17.0, 15.0, 16.0], [16.0, 17.1, 18.0, 16.0, 17.1]
    rows = [row(FULL, 2, fewest), row(FULL, 8, most)]
    rows += [row(FEWER, 8, [15.9, 17.0, 17.95, 15.9, 17.0])]
    rows += [row(f"{FULL}, + 3 steps", 8, [16.1, 16.9, 18.0, 16.1, 17.0])]
    found = {claim["claim"].partition(" (")[0]: claim for claim in claims(rows)}
    assert found["more views help"]["answer"] == "yes"
    np.testing.assert_allclose(found["more views help"]["gain"], (3 * 1.0 + 2 * 1.1) / 5)
    assert found["half the virtual views keep quality within 0.2 dB"]["answer"] == "yes"
    assert found["post-optimisation helps"]["answer"] == "open"
    assert "elastic update helps streams" not in found  # there are no such rows
    rows += [row(NEAREST, 8, [11.0, 13.0, 13.5, 12.0, 13.0])]
    near = {claim["claim"]: claim["answer"] for claim in claims(rows)}
    assert near["better than the nearest view (8 views)"] == "yes"
    assert near["better than the nearest view by 4 dB (8 views)"] == "open"
    worse = [row(FULL, 2, fewest), row(FULL, 8, [14.0, 15.1, 16.0, 14.0, 15.1])]
    assert claims(worse)[0]["answer"] == "no"


def test_ours_is_judged_by_the_shortest_fit_that_takes_as_long():
    rows = [row(FULL, 4, [16.0, 17.0, 18.0, 16.0, 17.0, 99.0])]
    rows += [row(f"{FULL}, + 3 steps", 4, [20.0] * 6, seconds=7.0)]
    rows += [row(fit_name(50), 4, [99.0] * 6, 0.5), row(fit_name(500), 4, [15.0] * 5, 5.0)]
    rows += [row(fit_name(2000), 4, [14.0, 16.0], 8.0)]
    rows += [row(ATTENTION, 4, [16.1, 17.2, 18.1, 16.1, 17.2, 99.1])]
    rows += [row(CONTROL, 4, [16.0, 17.0, 18.0, 16.0, 17.0, 99.0])]
    found = {claim["claim"]: claim for claim in claims(rows)}
    beaten = f"{FULL}{{}} better than the shortest fit that takes as long ({{}}, 4 views)"
    alone = found[beaten.format("", fit_name(500))]
    np.testing.assert_allclose(alone["gain"], 1.8)  # of the scenes that the fit covers
    assert (alone["scenes"], alone["answer"]) == (5, "yes")
    few = found[beaten.format(", + 3 steps", fit_name(2000))]
    assert (few["scenes"], few["answer"]) == (2, "open")  # 4 and 6 dB, but two scenes
    alike = found["TTT better than softmax attention, trained alike (4 views)"]
    assert alike["answer"] == "no"
    np.testing.assert_allclose(alike["gain"], -0.8 / 6)


def test_fits_cover_so_many_scenes():
    assert quality.scenes_of_fits([5, 9], [3]) == {fit_name(5): 3, fit_name(9): 3}
    assert quality.scenes_of_fits([5, 9], [3, 1]) == {fit_name(5): 3, fit_name(9): 1}
    with pytest.raises(InputError, match=r"--fit-scenes=1 2 3 is neither one number nor 2"):
        quality.scenes_of_fits([5, 9], [1, 2, 3])


def test_table_says_what_is_absent():
    rows = [row(FULL, 2, [15.0, 16.0])]
    result = {
        "checkpoint": "x", "resolution": [32, 48], "chunk_views": 1, "device": "cpu",
        "lpips": "LPIPS needs weights", "rows": rows, "claims": claims(rows),
    }  # fmt: skip
    text = table(result)
    assert "48x32 pixels" in text
    assert "15.50 +- 0.50" in text
    assert "absent" in text
    json.dumps(rows, allow_nan=False)


def test_targets_stay_and_inputs_are_apart(tmp_path, tiny_run):
    data = on_procedural_objects(tiny_run, str(tmp_path)).data
    for subject in objects(data, 2, num_views=5, num_targets=2):
        scenes = [subject.posed(count, data) for count in (1, 3)]
        assert scenes[0].target_names == scenes[1].target_names
        first, second = (np.asarray(scene.targets.image) for scene in scenes)
        np.testing.assert_array_equal(first, second)
        for count, scene in zip((1, 3), scenes, strict=True):
            assert len(set(scene.input_names)) == count == scene.inputs.image.shape[1]
            assert not set(scene.input_names) & set(scene.target_names)


def test_clouds_of_one_size_with_other_harmonics_are_drawn_too(tiny_checkpoint, tmp_path):
    run, model = load_model(tiny_checkpoint)
    network = Network(run, *split_model(model), "full")
    data = on_procedural_objects(run, str(tmp_path)).data
    scene = objects(data, 1, num_views=2, num_targets=1)[0].posed(2, data)
    made, _ = network.gaussians(scene)
    more = dataclasses.replace(made, sh=np.pad(made.sh, ((0, 0), (0, 5), (0, 0)))[:, :9])
    drawn = network.pictures(scene, made)
    np.testing.assert_allclose(network.pictures(scene, more), drawn, atol=1e-6)


def written(run: RunConfig, directory: Path) -> Path:
    """A model directory of an untrained network."""
    _, params = split_model(build_model(run.model))
    return export_model(run, params, directory)


def attending(run: RunConfig) -> RunConfig:
    model = dataclasses.replace(run.model, across_views="attention")
    return dataclasses.replace(run, name="attending", model=model)


def test_attention_and_its_control_are_trained_alike(tiny_run, tmp_path, capsys):
    control = written(tiny_run, tmp_path / "control")
    attention = written(attending(tiny_run), tmp_path / "attention")
    quality.check_trained_alike(attention, control)
    with pytest.raises(InputError, match=r"has model.across_views=ttt as well"):
        quality.check_trained_alike(control, control)
    longer = dataclasses.replace(tiny_run.train, num_steps=tiny_run.train.num_steps + 1)
    other = written(dataclasses.replace(tiny_run, train=longer), tmp_path / "longer")
    with pytest.raises(InputError, match=rf"has train.num_steps={longer.num_steps}, which is"):
        quality.check_trained_alike(attention, other)
    shutil.copy(control / "config.json", other / "config.json")
    (other / "checkpoints" / "1" / "params").mkdir(parents=True)
    with pytest.raises(InputError, match=rf"is at step 1 of {tiny_run.train.num_steps}"):
        quality.check_trained_alike(attention, other)
    with pytest.raises(SystemExit):
        quality.main(["--attention", str(attention)])
    assert "give both or none" in capsys.readouterr().err


def test_captures_with_too_few_frames_are_refused_at_once(
    tiny_checkpoint, tiny_capture_source, tmp_path, capsys
):
    arguments = ["--checkpoint", str(tiny_checkpoint), "--views", "2", "1000"]
    assert quality.main([*arguments, "--captures", str(tiny_capture_source)]) == 2
    said = capsys.readouterr()
    assert re.search(r"--views=1000 exceeds the \d+ frames", said.err)
    assert "input views" not in said.out


def test_rows_before_a_failure_are_printed(tiny_checkpoint, monkeypatch, capsys):
    def measured(options):
        rows = [row(FULL, 2, [15.0, 16.0])]
        yield {
            "checkpoint": "x", "resolution": [32, 48], "chunk_views": 1, "device": "cpu",
            "lpips": "", "rows": rows, "claims": [],
        }  # fmt: skip
        raise InputError("the second group fails")

    monkeypatch.setattr(quality, "measure", measured)
    assert quality.main(["--checkpoint", str(tiny_checkpoint)]) == 2
    said = capsys.readouterr()
    assert "15.50 +- 0.50" in said.out
    assert "the second group fails" in said.err


def test_a_call_goes_on_with_the_rows_of_an_earlier_one(tmp_path):
    weights = {"checkpoint": "c0", "attention": "a0"}
    output, settings = tmp_path / "quality.json", {"targets": 2, "weights": weights}
    assert rows_of(str(output), settings) == ([], settings)
    rows = [row(FULL, 2, [15.0, 16.0]), row(fit_name(5), 2, [14.0])]
    output.write_text(json.dumps({**settings, "rows": rows}))
    growing = GrowingTable(rows_of(str(output), settings)[0])
    done = growing.measured("objects", 2, {FULL: 2, fit_name(5): 1, NEAREST: 2})
    assert done == {FULL, fit_name(5)}
    assert growing.measured("objects", 2, {FULL: 2, fit_name(5): 2}) == {FULL}  # of one scene
    assert growing.measured("objects", 4, {FULL: 2}) == set()
    growing.add([row(FULL, 4, [17.0, 17.0]), row(NEAREST, 2, [12.0, 12.0])])
    growing.add([row(fit_name(5), 2, [14.0, 15.0])])
    methods = [FULL, NEAREST, fit_name(5)]
    found = [(r["views"], r["method"], r["scenes"]) for r in growing.rows(methods)]
    assert found == [(2, FULL, 2), (2, NEAREST, 2), (2, fit_name(5), 2), (4, FULL, 2)]
    with pytest.raises(InputError, match=r"was measured with targets=2, now 3"):
        rows_of(str(output), {**settings, "targets": 3})
    gone = {**settings, "weights": {"checkpoint": "c0", "attention": None}}
    assert rows_of(str(output), gone) == (rows, settings)  # the file knows what it was
    with pytest.raises(InputError, match=r"was measured with weights=.*c0.*, now .*c1"):
        rows_of(str(output), {**settings, "weights": {"checkpoint": "c1"}})
    output.write_text("{}")
    with pytest.raises(InputError, match=r"is no table of this command"):
        rows_of(str(output), settings)


def test_captures_keep_their_shape_at_the_pixels_of_training(tiny_run, tiny_capture_source):
    """32x48 pixels at the pixels of 32x32, multiples of 8."""
    (subject,) = captures([str(tiny_capture_source)], tiny_run, 1, 2)
    assert subject.posed(2, tiny_run.data).inputs.image.shape[-3:-1] == (24, 40)


@pytest.mark.timeout(3600)
def test_every_row_on_objects_and_captures(tiny_checkpoint, dense_run, tmp_path, capsys):
    """The capture is as large as the objects, so that they share their programs."""
    output, capture = tmp_path / "quality.json", tmp_path / "object"
    views = dataclasses.replace(
        dense_run.data.synthetic, split="eval", num_views=10, max_primitives=2, supersampling=1
    )
    write_sample(SampleConfig(output=str(capture), object=views))
    control = written(dense_run, tmp_path / "control")
    attention = written(attending(dense_run), tmp_path / "attention")
    arguments = [
        "--checkpoint", str(tiny_checkpoint), "--scenes", "1", "--targets", "1", "--views", "2",
        "--chunk-views", "1", "--post-optimize", "1", "--fit", "2", "--capture-targets", "1",
        "--captures", str(capture), "--output", str(output),
        "--attention", str(attention), "--control", str(control),
    ]  # fmt: skip
    assert quality.main(arguments) == 0
    assert "claims at this scale" in capsys.readouterr().out
    rows = json.loads(output.read_text())["rows"]
    names = {FULL, CAUSAL, ELASTIC, FEWER, UNTRAINED, NEAREST, MEAN, ATTENTION, CONTROL}
    names |= {f"{FULL}, + 1 steps", "3DGS from nothing, 2 steps"}
    assert {row["method"] for row in rows} == names
    assert len(rows) == 2 * len(names)
    assert all(0 < r["psnr"] < 60 for r in rows)
    shutil.rmtree(attention)  # is needed no more
    assert quality.main([*arguments, "--fit", "2", "3"]) == 0
    more = json.loads(output.read_text())["rows"]
    assert [r for r in more if r["method"] != "3DGS from nothing, 3 steps"] == rows
    assert len(more) == len(rows) + 2


def test_digests_follow_the_parameters(tiny_checkpoint, tmp_path):
    run, model = load_model(tiny_checkpoint)
    copies = [export_model(run, split_model(model)[1], tmp_path / name) for name in "ab"]
    assert digest_of(copies[0]) == digest_of(copies[1])
    assert digest_of(copies[0]) != digest_of(written(run, tmp_path / "untrained"))


def test_two_captures_of_one_name_are_refused(tiny_checkpoint, tiny_capture_source, capsys):
    twice = ["--captures", str(tiny_capture_source), str(tiny_capture_source)]
    arguments = ["--checkpoint", str(tiny_checkpoint), "--scenes", "0", "--views", "2", *twice]
    assert quality.main([*arguments, "--chunk-views", "1"]) == 2
    assert "rows go by the name" in capsys.readouterr().err


def test_bad_options_are_one_sentence(tiny_checkpoint, capsys):
    assert quality.main(["--checkpoint", str(tiny_checkpoint), "--chunk-views", "5"]) == 2
    assert "--chunk-views=5 is not in 1..2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        quality.main(["--views", "0"])
    with pytest.raises(SystemExit):
        quality.main(["--output", "/no/such/directory/quality.json"])
    assert "lies in no directory" in capsys.readouterr().err


def _records(directory, psnr: dict[int, float]):
    directory.mkdir(parents=True)
    lines = [json.dumps({"kind": "eval", "step": s, "psnr": p}) for s, p in psnr.items()]
    (directory / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_pretraining_is_compared_at_equal_steps_of_both_kinds(tmp_path, capsys):
    assert pretraining.main(["--runs", str(tmp_path)]) == 2
    assert "train it first" in capsys.readouterr().err
    _records(tmp_path / "pretraining_lvsm", {10: 12.0, 20: 13.0})
    _records(tmp_path / "pretraining_gaussians", {10: 15.0, 20: 16.0})
    _records(tmp_path / "pretraining_none", {10: 14.0, 20: 15.5})
    _records(tmp_path / "pretraining_none_long", {10: 14.0, 20: 15.0, 30: 15.5, 40: 16.2})
    plot = tmp_path / "plot.png"
    assert pretraining.main(["--runs", str(tmp_path), "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "equal gaussian steps: yes, +0.50 dB at step 20, +0.75 dB over the curve" in said
    assert "equal steps in all: no, -0.20 dB at step 40, -0.35 dB over the curve" in said
    assert Image.open(plot).size[0] > 100
