"""Every wrong input ends in one sentence, exit code 2, and no trace on disk."""

import errno
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.apps.reconstruct.files import RESULT_FILES
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.models import build_model, split_model

REPOSITORY = Path(__file__).resolve().parents[4]
CAMERAS = "opencv_cameras.json"


@pytest.fixture
def capture(tmp_path, tiny_capture_source):
    """A copy of the capture to spoil."""
    return Path(shutil.copytree(tiny_capture_source, tmp_path / "capture"))


@pytest.fixture
def run(tmp_path, capture, tiny_checkpoint, capsys):
    """Runs the command in this process; returns its one sentence."""

    def call(*arguments, **replaced):
        options = {
            "capture": capture, "checkpoint": tiny_checkpoint,
            "output": tmp_path / "parent" / "result",
        } | replaced  # fmt: skip
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        before = listing(tmp_path)
        assert evaluate.main([*flags, *arguments]) == 2
        out, err = capsys.readouterr()
        assert listing(tmp_path) == before, "something was left behind"
        assert out == ""
        sentence = err.strip().splitlines()[-1]
        assert sentence.startswith("error: ")
        assert err.count("error:") == 1
        assert "Traceback" not in err
        return sentence

    return call


def listing(directory):
    return sorted(str(path) for path in directory.rglob("*"))


def edit(capture, change):
    """Applies `change` to the parsed camera file."""
    document = json.loads((capture / CAMERAS).read_text())
    document = change(document) or document
    (capture / CAMERAS).write_text(json.dumps(document))


def test_missing_image(run, capture):
    (capture / "images" / "000003.png").unlink()
    assert "images/000003.png" in run()


def test_truncated_image(run, capture):
    for path in (capture / "images").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    assert "truncated" in run()


def test_not_an_image(run, capture):
    (capture / "images" / "000000.png").write_text("hello")
    assert "000000.png" in run()


def test_json_that_is_not_json(run, capture):
    (capture / CAMERAS).write_text('{"frames": [')
    assert "not JSON" in run()


def test_frame_without_w2c(run, capture):
    edit(capture, lambda document: document["frames"][4].pop("w2c") and None)
    assert "w2c" in run()


@pytest.mark.parametrize(
    ("matrix", "word"),
    [
        (np.zeros((4, 4)), None),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "singular"),
        (np.diag([2.0, 2.0, 2.0, 1.0]), "rigid"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "rigid"),
        (np.full((4, 4), np.nan), "finite"),
        (np.eye(3), None),
    ],
)
def test_pose_that_is_no_rigid_transform(run, capture, matrix, word):
    edit(capture, lambda document: document["frames"][2].update(w2c=matrix.tolist()))
    sentence = run()
    assert "frame 2" in sentence
    assert word is None or word in sentence


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -3.0, "wide"])
def test_bad_intrinsics(run, capture, value):
    edit(capture, lambda document: document["frames"][1].update(fx=value))
    sentence = run()
    assert "frame 1" in sentence
    assert "fx" in sentence or "focal" in sentence


def test_zero_frames(run, capture):
    edit(capture, lambda document: document.update(frames=[]))
    assert "0 frames" in run()


@pytest.mark.parametrize("views", [9, 10, 500])
def test_fewer_frames_than_views(run, views):
    sentence = run("--views", str(views))
    assert f"={views} " in sentence
    assert "fewer input views" in sentence


def test_image_size_that_does_not_match(run, capture):
    Image.new("RGB", (20, 20)).save(capture / "images" / "000000.png")
    sentence = run()
    assert "20x20" in sentence
    assert "48x32" in sentence


def test_capture_that_does_not_exist(run, tmp_path):
    assert "nowhere" in run(capture=tmp_path / "nowhere")


@pytest.mark.parametrize("field", ["capture", "checkpoint", "output"])
def test_an_empty_path_is_not_a_default(run, field, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert f"{field}='' is empty" in run(**{field: ""})


def test_memory_for_too_few_gaussians(run):
    """Said before the network reconstructs anything."""
    sentence = run("--seconds", "1", "--memory-limit", "1e-6")
    assert "memory_limit=1e-06 GiB is too little for 64 Gaussians" in sentence


def test_disk_full(run, monkeypatch, tmp_path):
    """Names the directory that is full, though a state is to be saved elsewhere."""

    def fill_the_disk(directory, job, evaluated):
        (directory / "scene.ply").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(evaluate, "measure", lambda *arguments: None)
    monkeypatch.setattr(evaluate, "write_result", fill_the_disk)
    sentence = run("--plan", "causal", "--save-state", str(tmp_path / "state"))
    assert "/parent/result cannot be written (No space left on device); free space" in sentence


def test_directory_without_cameras(run, capture):
    (capture / CAMERAS).unlink()
    assert CAMERAS in run("--poses", "file")


def test_output_below_a_file(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in run(output=tmp_path / "file" / "below" / "result")


def test_output_is_a_file(run, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "is a file" in run(output=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_output_holds_other_files(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    assert "thesis.tex" in run(output=tmp_path / "mine")


def test_unknown_field(run):
    sentence = run("--vews", "3")
    assert "--vews" in sentence
    assert "--views" in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--views", "many"), ("--views",)),
        (("--views", "0"), ("views=0", "positive")),
        (("--post-optimize", "-1"), ("post_optimize=-1", "negative")),
        (("--plan", "fastest"), ("plan", "sequential")),
        (("--keep-ratio", "1.5"), ("keep_ratio=1.5",)),
        (("--resolution", "20", "16"), ("20 16", "multiple of the patch size 8")),
        (("--plan", "sequential", "--chunk-views", "2"), ("chunk",)),
        (("--background", "0", "0", "255"), ("background",)),
    ],
)
def test_bad_values(run, arguments, words):
    sentence = run(*arguments)
    assert all(word in sentence for word in words), sentence


def test_checkpoint_missing(run, tmp_path):
    assert "nowhere" in run(checkpoint=tmp_path / "nowhere")


def test_checkpoint_without_parameters(run, tmp_path, tiny_checkpoint):
    (tmp_path / "half").mkdir()
    shutil.copy(tiny_checkpoint / "config.json", tmp_path / "half")
    assert "half" in run(checkpoint=tmp_path / "half")


def test_checkpoint_with_an_unknown_field(run, tmp_path, tiny_checkpoint):
    changed = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    config = json.loads((changed / "config.json").read_text())
    config["model"]["d_modle"] = 64
    (changed / "config.json").write_text(json.dumps(config))
    sentence = run(checkpoint=changed)
    assert "d_modle" in sentence
    assert "d_model" in sentence


@pytest.mark.parametrize("damage", ["cut", "gone", "tree", "list"])
def test_damaged_checkpoint(run, tmp_path, tiny_checkpoint, damage):
    broken = Path(shutil.copytree(tiny_checkpoint, tmp_path / "broken"))
    files = [path for path in (broken / "params").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    if damage == "cut":
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    elif damage == "gone":
        largest.unlink()
    elif damage == "tree":
        (broken / "params" / "_METADATA").unlink()
    else:
        (broken / "config.json").write_text("[]")
    sentence = run(checkpoint=broken)
    assert "broken" in sentence
    assert "another model" not in sentence


def test_checkpoint_of_another_model_size(run, tmp_path, tiny_checkpoint):
    changed = Path(shutil.copytree(tiny_checkpoint, tmp_path / "changed"))
    config = json.loads((changed / "config.json").read_text())
    config["model"]["d_model"] = 64
    (changed / "config.json").write_text(json.dumps(config))
    assert "another model" in run(checkpoint=changed)


def test_checkpoint_whose_gaussians_are_not_finite(run, tmp_path, tiny_run):
    params = split_model(build_model(tiny_run.model, seed=1))[1]
    params["tokenizer"]["kernel"] = params["tokenizer"]["kernel"] * np.nan
    broken = export_model(tiny_run, params, tmp_path / "broken")
    assert "not finite" in run(checkpoint=broken)


def test_as_a_process(capture, tiny_checkpoint, tmp_path):
    (capture / CAMERAS).write_text("no json")
    process = subprocess.run(
        [sys.executable, "eval.py", "--capture", str(capture), "--checkpoint",
         str(tiny_checkpoint), "--output", str(tmp_path / "result")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert process.stdout == ""
    assert len(process.stderr.strip().splitlines()) == 1
    assert "not JSON" in process.stderr
    assert not (tmp_path / "result").exists()


def test_interrupt_leaves_nothing(tmp_path, capture, tiny_checkpoint, monkeypatch, capsys):
    """Ctrl-C between two steps: code 130, a sentence, and the draft is gone."""

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "measure", interrupt)
    before = listing(tmp_path)
    output = tmp_path / "parent" / "result"
    code = evaluate.main([
        "--capture", str(capture), "--checkpoint", str(tiny_checkpoint), "--output", str(output)
    ])  # fmt: skip
    assert code == 130
    assert "interrupted" in capsys.readouterr().err
    assert listing(tmp_path) == before


def test_interrupt_keeps_what_was_ready(tmp_path, capture, tiny_checkpoint, monkeypatch, capsys):
    """Ctrl-C while films are drawn: picture, Gaussians and numbers of the first pass are there."""

    def interrupt(directory, *arguments):
        (directory / "orbit.mp4").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "write_exhibits", interrupt)
    output = tmp_path / "result"
    arguments = ["--capture", str(capture), "--checkpoint", str(tiny_checkpoint)]
    assert evaluate.main([*arguments, "--output", str(output)]) == 130
    said = capsys.readouterr().err
    assert f"interrupted; {output} holds what was ready" in said
    assert listing(output) == [str(output / name) for name in sorted(RESULT_FILES)]
    metrics = json.loads((output / "metrics.json").read_text())
    assert f"{metrics['psnr']:.2f} dB after" in said
    assert set(metrics["baselines"]) == {"mean_colour", "nearest_input"}  # no other unless asked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture", "result"]


def test_interrupt_keeps_the_state_of_a_stream(tmp_path, capture, tiny_checkpoint, monkeypatch):
    """It is that of the last chunk, whatever is drawn or refined after it."""

    def interrupt(*arguments):
        raise KeyboardInterrupt

    def write(directory):
        (directory / "state.json").write_text("{}")

    stream = types.SimpleNamespace(stream=types.SimpleNamespace(write=write))
    evaluated = types.SimpleNamespace(stream=stream)
    monkeypatch.setattr(evaluate, "measure", lambda job: evaluated)
    monkeypatch.setattr(evaluate, "write_result", lambda *arguments: {"psnr": 20.0})
    monkeypatch.setattr(evaluate, "write_exhibits", interrupt)
    arguments = ["--capture", str(capture), "--checkpoint", str(tiny_checkpoint), "--plan"]
    arguments += ["causal", "--output", str(tmp_path / "result")]
    assert evaluate.main([*arguments, "--save-state", str(tmp_path / "state")]) == 130
    assert listing(tmp_path / "state") == [str(tmp_path / "state" / "state.json")]
