"""`eval.py --plan causal`: files, numbers, resuming bit by bit, forks, queries, and bad input."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.apps.reconstruct.files import OUTPUT_FILES
from tttlrm_jax.apps.reconstruct.stream_files import STREAM_FILES
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import EvalConfig, MeshConfig, RasterConfig, RuleConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.export.splats.ply import read_ply
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.rasterize import Renderer

SIZE = (16, 24)  # pixels; small, and not square


@pytest.fixture(scope="module")
def capture(tiny_capture_source):
    return tiny_capture_source


@pytest.fixture(scope="module")
def command(tiny_checkpoint, capture):
    """Runs `eval.py` in this process; returns its exit code and what it said on both channels."""

    def call(*arguments, with_capture=True, size=SIZE, checkpoint=tiny_checkpoint):
        common = ["--checkpoint", str(checkpoint)]
        if with_capture:
            common += ["--capture", str(capture), "--orbit-frames", "1", "--min-opacity", "0"]
        if size:
            common += ["--resolution", *map(str, size)]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = evaluate.main([*common, *map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    return call


def stream_of(command, directory: Path, frames: str, *more: str) -> Path:
    """Streams frames in chunks of two, and keeps the state and what was said."""
    code, out, err = command(
        "--plan", "causal", "--frames", frames, "--chunk-views", 2, "--accumulate", "all",
        "--output", directory / "out", "--save-state", directory / "state", *more,
    )  # fmt: skip
    assert code == 0, err
    (directory / "said").write_text(out)
    return directory


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """Five views in chunks of two, in one go."""
    return stream_of(command, tmp_path_factory.mktemp("whole"), "1-5", "--untrained-baseline")


@pytest.fixture(scope="module")
def half(command, tmp_path_factory):
    """The first four of these views."""
    return stream_of(command, tmp_path_factory.mktemp("half"), "1-4")


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*")) if path.is_file()
    }  # fmt: skip


def metrics_of(directory: Path):
    return json.loads((directory / "out" / "metrics.json").read_text())


def test_files_and_metrics(whole):
    assert sorted(path.name for path in (whole / "out").iterdir()) == sorted(
        (*OUTPUT_FILES, *STREAM_FILES)
    )
    metrics = metrics_of(whole)
    stream = metrics["stream"]
    assert metrics["plan"] == "causal"
    assert set(metrics["baselines"]) == {"mean_colour", "nearest_input", "untrained"}
    assert metrics["input_views"] == 5
    assert [entry["views_seen"] for entry in stream] == [2, 4, 5]  # the last is not dropped
    assert [name for entry in stream for name in entry["views"]] == metrics["inputs"]
    assert stream[-1]["psnr"] == pytest.approx(metrics["psnr"])
    assert stream[-1]["ssim"] == pytest.approx(metrics["ssim"])
    pixels = SIZE[0] * SIZE[1]
    assert [entry["num_gaussians"] for entry in stream] == [2 * pixels, 4 * pixels, 5 * pixels]
    assert metrics["num_gaussians_predicted"] == 5 * pixels
    assert len({entry["bytes_state"] for entry in stream}) == 1, "the state grew"
    assert all(entry["seconds"] > 0 for entry in stream)
    assert sum(entry["seconds"] for entry in stream) == pytest.approx(
        metrics["seconds"]["reconstruct"]
    )
    said = (whole / "said").read_text()
    assert "views seen" in said
    assert said.rstrip().endswith("report.html")


def test_plot_film_and_page(whole):
    with Image.open(whole / "out" / "stream.png") as plot:
        assert plot.size[0] == 2000
        assert np.asarray(plot).std() > 5
    film = iio.imread(whole / "out" / "growth.mp4", plugin="FFMPEG")
    assert len(film) == 1 + 1 + 3  # the last chunk is shown thrice as long
    assert np.abs(film[0].astype(int) - film[-1]).max() > 50  # other text, other thumbnails
    page = (whole / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:video/mp4") == 2
    assert "As the views came in" in page


def test_scene_lands_in_the_input_frame(whole, capture):
    """scene.ply seen from the capture's own cameras scores what metrics.json says."""
    metrics = metrics_of(whole)
    image, cameras = load_views(read_capture(capture), [0, 8], *SIZE)
    raster = RasterConfig(near=1e-3, backend="reference")
    rendering = Renderer(background=(1.0, 1.0, 1.0), config=raster)(
        read_ply(whole / "out" / "scene.ply"),
        Cameras(
            jnp.asarray(cameras.world_from_camera, jnp.float32),
            jnp.asarray(cameras.intrinsics, jnp.float32),
            *SIZE,
        ),
    )
    expected = [view["psnr"] for view in metrics["targets"]]
    np.testing.assert_allclose(psnr(rendering.rgb, jnp.asarray(image)), expected, atol=0.02)


def test_resumed_equals_uninterrupted_and_leaves_its_source_alone(whole, half, command, tmp_path):
    before = contents(half / "state")
    code, _, err = command(
        "--load-state", half / "state", "--frames", "5", "--output", tmp_path / "out",
        "--save-state", tmp_path / "state", size=None,
    )  # fmt: skip
    assert code == 0, err
    assert contents(half / "state") == before
    assert (tmp_path / "out" / "scene.ply").read_bytes() == (
        whole / "out" / "scene.ply"
    ).read_bytes()
    documents = [
        json.loads((directory / "state" / "state.json").read_text())
        for directory in (tmp_path, whole)
    ]
    for document in documents:
        del document["files"], document["own_sha256"]  # Orbax draws the files' names
    assert documents[0] == documents[1]  # with the SHA-256 of all arrays
    assert (documents[0]["views_seen"], documents[0]["num_chunks"]) == (5, 3)
    source = json.loads((half / "state" / "state.json").read_text())
    assert source["similarity"] == documents[0]["similarity"]  # fixed by the first chunk
    assert source["sha256"] != documents[0]["sha256"]
    resumed, straight = metrics_of(tmp_path), metrics_of(whole)
    assert resumed["targets"] == straight["targets"]
    assert (resumed["input_views"], resumed["views_seen"]) == (1, 5)


def test_query_without_images(whole, capture, command, tmp_path):
    """The targets' cameras, without any image: pictures that score as in the evaluation."""
    document = json.loads((capture / "opencv_cameras.json").read_text())
    frames = [document["frames"][index] for index in (0, 8)]
    image, cameras = load_views(read_capture(capture), [0, 8], *SIZE)
    for frame, lens in zip(frames, cameras.intrinsics, strict=True):
        frame |= dict(zip(("fx", "fy", "cx", "cy"), lens.tolist(), strict=True))
        frame |= {"w": SIZE[1], "h": SIZE[0]}
    frames.append({**frames[0], "w": 40, "h": 20, "file_path": "elsewhere/wide.png"})
    (tmp_path / "cameras").mkdir()
    (tmp_path / "cameras" / "opencv_cameras.json").write_text(json.dumps(frames))
    code, out, err = command(
        "--load-state", whole / "state", "--query", tmp_path / "cameras", "--output",
        tmp_path / "out", with_capture=False, size=None,
    )  # fmt: skip
    assert code == 0, err
    assert "3 views" in out
    names = ["000000.png", "000008.png", "wide.png"]
    assert sorted(path.name for path in (tmp_path / "out" / "views").iterdir()) == names
    pictures = [np.asarray(Image.open(tmp_path / "out" / "views" / name)) for name in names]
    assert pictures[2].shape == (20, 40, 3)
    made = on_device(np.stack(pictures[:2]) / 255.0, np.float32)
    expected = [view["psnr"] for view in metrics_of(whole)["targets"]]
    np.testing.assert_allclose(psnr(made, jnp.asarray(image)), expected, atol=0.05)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "query.json", "scene.ply", "views",
    ]  # fmt: skip


# ---- bad input ----------------------------------------------------------------------------------


@pytest.fixture
def refused(command, tmp_path, half):
    """Runs the command; its one sentence, after a look that nothing was written or changed."""

    def call(*arguments, **options):
        before, source = contents(tmp_path), contents(half / "state")
        code, out, err = command(*arguments, "--output", tmp_path / "a" / "b", **options)
        assert code == 2, err
        assert out == ""
        assert contents(tmp_path) == before, "something was left behind"
        assert contents(half / "state") == source
        assert not (tmp_path / "a").exists()
        sentence = err.strip().splitlines()[-1]
        assert sentence.startswith("error: ")
        assert "Traceback" not in err
        return sentence

    return call


@pytest.fixture
def spoilt(half, tmp_path):
    """A copy of the half stream's state to spoil."""
    return Path(shutil.copytree(half / "state", tmp_path / "spoilt"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--plan", "causal", "--views", "3", "--chunk-views", "4"), ("chunk_views=4", "3 views")),
        (("--plan", "causal", "--views", "0"), ("views=0", "positive")),
        (("--plan", "causal", "--chunk-views", "0"), ("chunk_views=0", "positive")),
        (("--plan", "causal", "--frames", "1-3,8"), ("frames=8", "targets")),
        (("--plan", "causal", "--frames", "1,2,1"), ("frames=1", "twice")),
        (("--plan", "causal", "--frames", "1,77"), ("frames=77", "not in")),
        (("--plan", "causal", "--frames", "some"), ("frames=some", "1-7,9")),
        (("--plan", "causal", "--first-distance", "nan"), ("first_distance", "positive")),
        (("--plan", "full", "--save-state", "x"), ("save_state", "--plan causal")),
        (("--accumulate", "all"), ("accumulate", "--plan causal")),
        (("--query", "x"), ("query", "--load-state")),
        (("--plan", "causal", "--load-state", "nowhere"), ("nowhere", "state.json")),
    ],
)
def test_bad_values(refused, arguments, words):
    sentence = refused(*arguments)
    assert all(word in sentence for word in words), sentence


def test_state_exists_unwritable_or_inside_the_output(refused, spoilt, tmp_path):
    stream = ("--plan", "causal", "--views", "2", "--save-state")
    assert "--overwrite-state" in refused(*stream, spoilt)
    (tmp_path / "file").write_text("precious")
    assert "cannot be written" in refused(*stream, tmp_path / "file" / "state")
    assert "within each other" in refused(*stream, tmp_path / "a" / "b" / "state")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    assert "thesis.tex" in refused(*stream, tmp_path / "mine", "--overwrite-state")


def test_state_of_another_model_weights_or_rule(refused, half, tmp_path, dense_run):
    go_on = ("--load-state", half / "state", "--frames", "5,7")
    wide = dataclasses.replace(dense_run, model=dataclasses.replace(dense_run.model, d_model=64))
    for run, seed, words in ((wide, 1, "d_model: 32 in the state, 64"), (dense_run, 2, "weights")):
        params = split_model(build_model(run.model, seed))[1]
        other = export_model(run, params, tmp_path / f"model{seed}")
        assert words in refused(*go_on, size=None, checkpoint=other)
    sentence = refused(*go_on, "--rule", "momentum", size=None)
    assert "another update rule" in sentence
    assert "momentum" in sentence


def test_what_the_first_chunk_fixed_stays(refused, half):
    go_on = ("--load-state", half / "state", "--frames", "5,7")
    assert "resolution=(8, 8)" in refused(*go_on, size=(8, 8))
    assert "accumulate=chunk" in refused(*go_on, "--accumulate", "chunk", size=None)
    assert "background" in refused(*go_on, "--background", "0", "0", "0", size=None)
    assert "first_distance" in refused(*go_on, "--first-distance", "2", size=None)


def test_too_few_unseen_frames(refused, half):
    sentence = refused("--load-state", half / "state", "--views", "5", size=None)
    assert "views=5" in sentence
    assert "4 frames" in sentence


def test_any_file_of_a_state_cut_short_or_gone(refused, half, spoilt):
    go_on = ("--load-state", spoilt, "--frames", "5,7")
    good = contents(half / "state")
    assert len(good) > 3
    for name, content in good.items():
        (spoilt / name).write_bytes(content[: len(content) // 2])
        sentence = refused(*go_on, size=None)
        assert name in sentence or name == "state.json"
        (spoilt / name).unlink()
        assert name in refused(*go_on, size=None)
        (spoilt / name).write_bytes(content)


def test_state_json_that_lies(refused, spoilt):
    go_on = ("--load-state", spoilt, "--frames", "5,7")
    document = json.loads((spoilt / "state.json").read_text())

    def with_changes(signed=True, **changes):
        changed = {k: v for k, v in (document | changes).items() if v is not None}
        if signed:
            del changed["own_sha256"]
            text = json.dumps(changed, sort_keys=True)
            changed["own_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        (spoilt / "state.json").write_text(json.dumps(changed))
        return refused(*go_on, size=None)

    assert "format" in with_changes(format="something else")
    assert "without chunk_views" in with_changes(chunk_views=None)
    assert "SHA-256" in with_changes(sha256="0" * 64)
    assert "cannot be read" in with_changes(similarity={"rotation": [1]})
    for edited in ({"chunk_views": "4"}, {"keep_ratio": 7}, {"resolution": [8, 48]}):
        assert "state.json was changed" in with_changes(signed=False, **edited)


def test_frames_that_a_state_has_seen(refused, half):
    sentence = refused("--load-state", half / "state", "--frames", "5,1", size=None)
    assert "frames=1 are in the state already" in sentence


def test_query_needs_sizes(refused, half, tmp_path):
    (tmp_path / "cameras").mkdir()
    frame = {"file_path": "a.png", "w2c": np.eye(4).tolist(), "fx": 1, "fy": 1, "cx": 1, "cy": 1}
    (tmp_path / "cameras" / "opencv_cameras.json").write_text(json.dumps([frame]))
    query = ("--load-state", half / "state", "--query", tmp_path / "cameras")
    assert "add w and h" in refused(*query, with_capture=False, size=None)
    assert "capture" in refused(*query, size=None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("views", 3), ("seconds", 1.0), ("post_optimize", 2), ("resolution", (8, 8)),
        ("background", (0.0, 0.0, 0.0)), ("virtual_views", "2"), ("fit", "crop"),
        ("write_cameras", ("tum",)), ("mesh", MeshConfig(seq=2)), ("untrained_baseline", True),
        ("plan", "causal"),
    ],
)  # fmt: skip
def test_what_a_query_does_not_read_is_refused(field, value):
    with pytest.raises(ConfigError, match=f"^{field}=.* is not used when a saved state is queried"):
        EvalConfig(load_state="state", query="cameras", **{field: value})


def test_what_a_query_reads():
    EvalConfig(
        load_state="state", query="cameras", near=0.2, max_alpha=0.9, min_opacity=0.1,
        checkpoint="model", rule=RuleConfig.of("muon"), compute_dtype="bfloat16",
        compile_cache=False, output="there", save=("spz", "glb"),
    )  # fmt: skip


@pytest.mark.extended
def test_refinement_comes_after_the_last_chunk(command, tmp_path, whole):
    """The curve over chunks and the saved state are those without it; the result is better fed."""
    code, out, err = command(
        "--plan", "causal", "--frames", "1-5", "--chunk-views", 2, "--accumulate", "all",
        "--post-optimize", 2, "--output", tmp_path / "out", "--save-state", tmp_path / "state",
    )  # fmt: skip
    assert code == 0, err
    metrics, plain = metrics_of(tmp_path), metrics_of(whole)
    assert metrics["post_optimize"]["psnr_before"] == pytest.approx(plain["psnr"])
    assert metrics["stream"][-1]["psnr"] == pytest.approx(plain["psnr"])
    assert metrics["psnr"] != plain["psnr"]
    assert metrics["post_optimize"]["loss"][1] < metrics["post_optimize"]["loss"][0]
    assert "before 2 steps on inputs" in out
    assert "Refinement on the inputs came after the last chunk" in (
        tmp_path / "out" / "report.html"
    ).read_text(encoding="utf-8")
