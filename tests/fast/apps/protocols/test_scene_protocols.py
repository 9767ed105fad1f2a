"""`eval.py --protocol` on made scenes of DL3DV's form: numbers, files, going on, bad input."""

import contextlib
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import tttlrm_jax as tj
from tests.dl3dv import write_benchmark
from tests.fast.api.test_scenes import scene as posed_scene
from tttlrm_jax.api.scenes import score
from tttlrm_jax.apps.protocols import scene_command, scene_results
from tttlrm_jax.apps.protocols.scene_measure import TARGETS_AT_ONCE, score_targets
from tttlrm_jax.apps.protocols.scene_table import differences, make_table
from tttlrm_jax.apps.protocols.scenes import METHODS, read_scene_protocol
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.models import build_model, split_model

REPOSITORY = Path(__file__).resolve().parents[4]
FILES = sorted((REPOSITORY / "configs" / "tttlrm").glob("*.py"))
FRAMES = {"0a1b": 10, "1b2c": 18, "2c3d": 74}  # 2, 3 and 10 of them are targets
PROTOCOL = """
from tttlrm_jax.apps.protocols.scenes import PublishedRow, SceneProtocol, Stratum

PROTOCOL = SceneProtocol(
    dataset="made", layout="HASH/nerfstudio/", scenes=("*",), num_scenes=4, views=(3,),
    resolution=(24, 40), image_folder="images_4", labels="benchmark-meta.csv",
    source="a paper",
    published=(
        PublishedRow(method="METHOD", views=3, psnr=20.5, ssim=0.75, lpips=0.25, seconds=780),
        PublishedRow(method="tttLRM", variant="AR", views=3),
        PublishedRow(method="tttLRM", views=4, psnr=99),
    ),
    strata=(
        Stratum(name="indoor", label=".*=indoor", psnr=24.96),
        Stratum(name="low", label=".*freq.*=low"),
    ),
    strata_source="supplement",
    differs=("nothing here is real",),
)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "made"
    write_benchmark(root, FRAMES, 32, 48)
    return root


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    path = tmp_path_factory.mktemp("protocols") / "made.py"
    path.write_text(PROTOCOL.replace("METHOD", "3DGS"))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, dense_run):
    """A run directory: it keeps the rasterizer that has no capacity to follow from scenes."""
    params = split_model(build_model(dense_run.model, seed=1))[1]
    model = export_model(dense_run, params, tmp_path_factory.mktemp("runs") / "model")
    config = json.loads((model / "config.json").read_text())
    config["raster"]["backend"] = "reference"
    run = model.with_name("run")
    shutil.copytree(model / "params", run / "checkpoints" / "1" / "params")
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.fixture(scope="module")
def arguments(data, protocol, checkpoint):
    paths = {"protocol": protocol, "root": data, "checkpoint": checkpoint}
    return [text for name, path in paths.items() for text in (f"--{name}", str(path))]


@pytest.fixture(scope="module")
def compilations():
    """Programs that were compiled, or fetched from the cache, since the list was cleared."""
    found, counting = [], [True]

    def listen(event, seconds, **_):
        if counting and event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    counting.clear()


@pytest.fixture(scope="module")
def measured(arguments, tmp_path_factory, compilations):
    """The output of one whole run, and how many programs each scene took."""
    output, counts = tmp_path_factory.mktemp("protocol") / "out", []
    measure = scene_command.measure_scene

    def counted(*given):
        compilations.clear()
        record = measure(*given)
        counts.append(len(compilations))
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_command, "measure_scene", counted)
        assert evaluate.main([*arguments, "--output", str(output)]) == 0
    return output, counts


def lines(output):
    return list(csv.DictReader((output / "scenes.csv").open()))


def records(output):
    return [json.loads(path.read_text()) for path in sorted((output / "scenes").glob("*.json"))]


def test_scores_are_those_of_the_front_door(measured, data, checkpoint):
    model, found = tj.load(checkpoint), {line["scene"]: line for line in lines(measured[0])}
    assert list(found) == list(FRAMES)
    assert [int(line["targets"]) for line in found.values()] == [2, 3, 10]
    capture = tj.open_capture(data / "2c3d")
    scores = model.reconstruct(capture, views=3, resolution=(24, 40)).scores()
    record, line = records(measured[0])[-1], found["2c3d"]
    made = [[target["psnr"], target["ssim"]] for target in record["targets"]]
    np.testing.assert_allclose(made, np.stack([scores.psnr, scores.ssim], 1), rtol=1e-6)
    assert float(line["psnr"]) == pytest.approx(scores.mean("psnr"))
    assert record["targets"][0]["name"] == "images_4/frame_00001.png"
    assert not {each["name"] for each in record["targets"]} & set(record["inputs"])
    assert float(line["seconds"]) > 0
    assert int(line["num_gaussians"]) == 3 * 24 * 40


def test_scenes_of_a_size_share_their_programs(measured):
    """Also where they have other numbers of frames, and more targets than are drawn at a time."""
    assert max(FRAMES.values()) > 8 * TARGETS_AT_ONCE
    first, *others = measured[1]
    assert first > 0
    assert others == [0, 0]


def test_the_table_stands_beside_the_published_rows(measured):
    table = json.loads((measured[0] / "table.json").read_text())
    (part,) = table["parts"]
    assert [row["method"] for row in part["published"]] == ["3DGS", "tttLRM (AR)"]
    assert part["published"][0]["psnr"] == 20.5
    (ours,) = part["rows"]
    assert (ours["method"], ours["scenes"], ours["lpips"]) == ("this model", 3, None)
    assert ours["psnr"] == pytest.approx(np.mean([float(x["psnr"]) for x in lines(measured[0])]))
    indoor, low = part["strata"]
    (inside,) = (float(x["psnr"]) for x in lines(measured[0]) if x["scene"] == "1b2c")
    assert (indoor["scenes"], indoor["psnr"]) == (1, pytest.approx(inside))
    assert (low["scenes"], low["psnr"]) == (0, None)
    text = (measured[0] / "table.md").read_text()
    assert "made, 3 input views, 40x24 pixels, means over 3 scenes" in text
    assert re.search(r"\| 3DGS +\| 20.50 \| 0.750 \| 0.250 \| +780.00 \|", text)
    assert re.search(r"\| tttLRM \(AR\) \| +– \| +– \| +– \| +– \|", text)
    assert re.search(rf"\| this model +\| +{ours['psnr']:.2f} \|", text)
    assert "This model: run (tttlrm), plan full, products in float32.\n" in text
    for said in ("nothing here is real", "3 of 4 scenes", "by k-means", "LPIPS", "images_4"):
        assert said in text


def test_pixels_that_do_not_count_belong_to_their_targets():
    """Where there are fewer targets than are scored at a time."""
    valid = np.ones((2, 9, 12), bool)
    valid[0, :, :4] = False
    scene = dataclasses.replace(posed_scene(), target_valid=valid)
    pictures = np.clip(np.asarray(scene.targets.image[0]) + 0.1, 0, 1)
    pictures[0, :, :4] = 0.5
    found, _ = score_targets(scene, None, lambda where, _: (pictures[where], 0.0))
    expected = score(pictures, scene)
    np.testing.assert_allclose(found.psnr, expected.psnr, rtol=1e-6)
    np.testing.assert_allclose(found.ssim, expected.ssim, rtol=1e-6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_protocol(path):
    protocol = read_scene_protocol(str(path))
    assert f"configs/tttlrm/{path.name}" in path.read_text()
    assert {row.views for row in protocol.published} == set(protocol.views)
    assert {row.method for row in protocol.published} <= set(METHODS)
    names = [(row.views, row.name, row.resolution) for row in protocol.published]
    assert len(set(names)) == len(names)
    assert all(row.seconds is None or row.seconds > 0 for row in protocol.published)


def test_shipped_numbers_are_those_of_the_paper():
    """Some of each table, as printed."""
    numbers = {
        (path.stem, row.name, row.views, row.resolution): (row.psnr, row.ssim, row.lpips)
        for path in FILES
        for row in read_scene_protocol(str(path)).published
    }
    scenes, objects = "dl3dv_140", "gso"
    assert numbers[scenes, "tttLRM", 64, None] == (25.95, 0.844, 0.195)
    assert numbers[scenes, "tttLRM (+10 steps)", 32, None] == (26.37, 0.854, 0.201)
    assert numbers[scenes, "tttLRM (AR, selective update)", 64, None] == (24.95, 0.818, 0.223)
    assert numbers[scenes, "Scaffold-GS", 16, None] == (22.13, 0.738, 0.250)
    assert numbers["tanks_and_temples", "Mip-Splatting", 32, None] == (18.39, 0.700, 0.262)
    assert numbers["tanks_and_temples", "tttLRM (+3 steps)", 64, None] == (20.76, 0.724, 0.269)
    assert numbers[objects, "GS-LRM", 24, (512, 512)] == (33.26, 0.976, 0.022)
    assert numbers[objects, "tttLRM", 8, (1024, 1024)] == (None, None, None)
    strata = {each.name: each.psnr for each in read_scene_protocol(str(FILES[0])).strata}
    assert strata == {
        "indoor": 24.96, "outdoor": 24.45, "low frequency": 25.97, "high frequency": 24.20
    }  # fmt: skip


def test_where_the_paper_has_no_numbers_the_table_says_so():
    protocol = read_scene_protocol(str(REPOSITORY / "configs" / "tttlrm" / "gso.py"))
    record = {"views": 8, "prescribed": True, "rows": []}
    large, usual = (
        differences(protocol, make_table(protocol, [record], {}, (side, side)), {})
        for side in (1024, 512)
    )
    assert "the paper gives no numbers for 8 input views of 1024x1024 pixels" in large
    assert not any("gives no numbers" in text for text in usual)


def test_a_run_that_was_interrupted_goes_on(measured, arguments, tmp_path, monkeypatch, capsys):
    """Nothing is measured twice; every file is the one of a run that was not interrupted."""
    output, names = tmp_path / "out", []
    known = {record["scene"]: record for record in records(measured[0])}

    def measure(_common, name, path, views):
        if len(names) == 2:
            raise KeyboardInterrupt
        names.append(name)
        assert (path.name, views) == (name, 3)
        return known[name]

    monkeypatch.setattr(scene_command, "measure_scene", measure)
    assert evaluate.main([*arguments, "--output", str(output)]) == 130
    assert "2 of 3 results are in" in capsys.readouterr().err
    assert [line["scene"] for line in lines(output)] == names == ["0a1b", "1b2c"]
    (output / "scenes" / ".2c3d-3views.json.partial").write_text('{"scene": "2c3')  # as if killed
    (output / "scenes.csv").unlink()  # the same, before it was there
    names[:] = ["0a1b"]  # room for one more
    assert evaluate.main([*arguments, "--output", str(output), "--resume"]) == 0
    assert names == ["0a1b", "2c3d"]
    for name in ("scenes.csv", "table.json", "table.md", "protocol.json"):
        assert (output / name).read_bytes() == (measured[0] / name).read_bytes()


def test_more_views_or_rows_are_measured_in_the_same_directory(
    measured, arguments, tmp_path, monkeypatch
):
    output, asked = tmp_path / "out", []
    shutil.copytree(measured[0], output)
    known = {record["scene"]: record for record in records(output)}

    def measure(_common, name, _path, views):
        asked.append((name, views))
        return known[name] | {"views": views}

    monkeypatch.setattr(scene_command, "measure_scene", measure)
    more = ["--output", str(output), "--resume", "--views", "3", "4", "--scenes", "1b2c"]
    assert evaluate.main([*arguments, *more]) == 0
    assert asked == [("1b2c", 4)]
    assert evaluate.main([*arguments, *more, "--baselines"]) == 0
    assert asked[1:] == [("1b2c", 3), ("1b2c", 4)]


def test_lines_are_in_natural_order_whenever_they_were_measured(tmp_path):
    results = scene_results.Results(tmp_path, {})
    for scene, views in (("s10", 3), ("s2", 4), ("s9", 3)):
        row = {"method": "this model", "steps": 0}
        results.add({"scene": scene, "views": views, "rows": [row], "targets": []})
    again = scene_results.Results(tmp_path, scene_results._records(tmp_path / "scenes"))
    for each in (results, again):
        assert [record["scene"] for record in each.ordered()] == ["s9", "s10", "s2"]
    assert again.lines() == results.lines()


def test_rows_that_are_not_measured_again_are_kept(tmp_path):
    def record(steps, psnr):
        rows = [{"method": "this model", "steps": n, "psnr": psnr} for n in steps]
        return {"scene": "a", "views": 3, "rows": rows, "targets": []}

    results = scene_results.Results(tmp_path, {})
    results.add(record((0, 10), 20.0))
    results.add(record((0, 3), 21.0))
    written = json.loads((tmp_path / "scenes" / "a-3views.json").read_text())
    assert [(row["steps"], row["psnr"]) for row in written["rows"]] == [(0, 21), (3, 21), (10, 20)]
    assert results.has("a", 3, [("this model", 10), ("this model", 3)])


def test_a_kill_at_any_write_leaves_files_to_go_on_with(measured, tmp_path, monkeypatch):
    """Before and after each file is put in its place, what is there can be read, and the rest
    follows."""
    wanted, settings = records(measured[0]), json.loads((measured[0] / "protocol.json").read_text())

    def measure_rest(output):
        results = scene_results._opened(output, settings, resume=True)
        for record in wanted:
            if not results.has(record["scene"], record["views"], [("this model", 0)]):
                results.add(record)
                results.write_table({"scenes": len(results.records)}, "text")
        results.write_table({"scenes": len(results.records)}, "text")

    replace, survived = os.replace, 0
    for death in range(100):
        output, left = tmp_path / str(death), [death]

        def put(draft, path, left=left):
            if left[0] == 0:
                raise KeyError
            left[0] -= 1
            replace(draft, path)

        with monkeypatch.context() as patch, contextlib.suppress(KeyError):
            patch.setattr(os, "replace", put)
            measure_rest(output)
            survived = death
        if (output / "scenes.csv").exists():
            assert len(lines(output)) <= len(records(output))
        measure_rest(output)
        assert (output / "scenes.csv").read_bytes() == (measured[0] / "scenes.csv").read_bytes()
        assert json.loads((output / "table.json").read_text()) == {"scenes": 3}
        if survived:
            break
    assert survived == 1 + 3 * 4 + 3  # settings; record, lines and two tables; the last time


@pytest.fixture
def refused(arguments, tmp_path, capsys):
    """Runs the command, which is to end in one sentence; nothing is left behind."""

    def call(*more, **replaced):
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        given |= {"--output": str(tmp_path / "new" / "out")}
        given |= {f"--{name}": str(value) for name, value in replaced.items()}
        flags = [text for name, value in given.items() if value != "None" for text in (name, value)]
        before = sorted(tmp_path.rglob("*"))
        assert evaluate.main([*flags, *more]) == 2
        out, err = capsys.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        assert (out, err.count("error: "), "Traceback" in err) == ("", 1, False)
        return err.strip().splitlines()[-1]

    return call


def test_bad_data_sets(refused, data, tmp_path):
    empty = tmp_path / "empty"
    (empty / "notes").mkdir(parents=True)
    assert refused(root=empty) == (
        f"error: root={empty} holds no scene of made; expected HASH/nerfstudio/"
    )
    assert "is not a folder; give one with HASH/nerfstudio/" in refused(root=empty / "none")
    assert "is one scene, no folder of scenes; give the folder above" in refused(root=data / "0a1b")
    assert refused(root=None).endswith("there is no data set; give --root DIR")
    part = tmp_path / "part"
    shutil.copytree(data, part, ignore=shutil.ignore_patterns("1b2c"))
    said = "lacks 1 of the 3 scenes in benchmark-meta.csv: 1b2c; restore them, or name"
    assert said in refused(root=part)
    said = "error: scenes=1b2c is not in "
    assert refused("--scenes", "0a1b", "1b2c", root=part).startswith(said)
    (part / "benchmark-meta.csv").write_text("name,frequency\n0a1b,low\n")
    assert "has no column 'hash' with names of scenes" in refused(root=part)
    shutil.rmtree(part / "0a1b" / "nerfstudio" / "images_4")
    (part / "benchmark-meta.csv").unlink()
    assert "10 images do not exist" in refused(root=part)  # the first scene: nothing to go on from


def test_bad_protocols(refused, protocol, tmp_path):
    file = tmp_path / "other.py"
    file.write_text(PROTOCOL.replace("METHOD", "4DGS"))
    said = refused(protocol=file)
    assert f"protocol {file}, line " in said
    assert f"published.method='4DGS' is none of {', '.join(METHODS)}; correct it" in said
    assert "is no Python file; give one such as" in refused(protocol=tmp_path / "none.py")
    file.write_text("")
    assert "builds no SceneProtocol named PROTOCOL; add it" in refused(protocol=file)
    file.write_text(PROTOCOL.replace("METHOD", "3DGS").replace("views=(3,),", "views=(),", 1))
    assert "line 4: views=() names no number of input views" in refused(protocol=file)
    sequences = REPOSITORY / "configs" / "ttt3r" / "bonn_depth.py"
    said = "no SceneProtocol named PROTOCOL but a SequenceProtocol; leave --model out"
    assert said in refused("--model", "tttlrm", protocol=sequences)
    said = "no SequenceProtocol named PROTOCOL but a SceneProtocol; leave --model out"
    assert said in refused("--model", "ttt3r")
    assert "holds no sequence of Bonn" in refused(protocol=sequences)  # told by the file
    assert "post_optimize=(-1,) are not whole numbers from 0 on" in refused("--post-optimize", "-1")


def test_bad_checkpoints(refused, tiny_run, tmp_path):
    said = "a protocol is run with published weights, which the package does not ship"
    assert said in refused(checkpoint=None)
    model = dataclasses.replace(tiny_run.model, kind="lvsm")
    run = dataclasses.replace(tiny_run, model=model)
    other = export_model(run, split_model(build_model(model, 0))[1], tmp_path / "lvsm")
    said = "holds a model of kind lvsm, and the protocol of made measures tttlrm; give another"
    assert said in refused(checkpoint=other)
    shipped = REPOSITORY / "tttlrm_jax" / "assets" / "ttt3r_small"
    assert "holds a TTT3R network; use eval.py --model ttt3r with it" in refused(checkpoint=shipped)


def test_models_that_draw_views_are_measured(data, tiny_run, tmp_path, capsys):
    """The scores are those of the front door; what needs Gaussians is refused."""
    file = tmp_path / "views.py"
    file.write_text(
        PROTOCOL.replace("METHOD", "3DGS").replace(
            "views=(3,)", 'kinds=("tttlrm", "lvsm"), views=(3,)', 1
        )
    )
    model = dataclasses.replace(tiny_run.model, kind="lvsm")
    run = dataclasses.replace(tiny_run, model=model)
    weights = export_model(run, split_model(build_model(model, 0))[1], tmp_path / "lvsm")
    arguments = ["--protocol", file, "--root", data, "--checkpoint", weights, "--scenes", "1b2c"]
    arguments = [*map(str, arguments), "--output", str(tmp_path / "out")]
    assert evaluate.main([*arguments, "--post-optimize", "0", "3"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "post_optimize=3 needs Gaussians, which model.kind=lvsm has not" in said
    assert evaluate.main([*arguments, "--keep-ratio", "0.5"]) == 2
    assert "keep_ratio=0.5 needs Gaussians" in capsys.readouterr().err
    assert evaluate.main(arguments) == 0
    (line,) = lines(tmp_path / "out")
    scene = tj.load(weights).reconstruct(data / "1b2c", views=3, resolution=(24, 40))
    assert float(line["psnr"]) == pytest.approx(scene.scores().mean("psnr"), rel=1e-5)
    assert (line["targets"], line["num_gaussians"]) == ("3", "")


def test_other_results_are_not_gone_on_with(measured, refused, tiny_run, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(measured[0], output)
    said = refused(output=output)
    assert "holds results of an earlier run; add --resume to go on, or choose another" in said
    said = refused("--resume", "--seed", "1", output=output)
    assert f"options.seed=1 is not the 0 that {output} was begun with; go on with that" in said
    said = refused("--resume", "--resolution", "16", "16", output=output)
    assert "resolution=[16, 16] is not the [24, 40] that" in said
    params = split_model(build_model(tiny_run.model, seed=2))[1]
    other = export_model(tiny_run, params, tmp_path / "other")
    assert "checkpoint_sha256=" in refused("--resume", output=output, checkpoint=other)
    (output / "scenes" / "0a1b-3views.json").write_text("{")
    said = refused("--resume", output=output)
    assert "0a1b-3views.json cannot be read" in said
    (output / "protocol.json").unlink()
    said = refused("--resume", output=output)
    assert "holds files of another program; choose a new directory" in said


def test_a_scene_that_cannot_be_read_is_left_out_and_named(
    measured, arguments, data, tmp_path, capsys
):
    root, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(data, root)
    shutil.copytree(measured[0], output)
    (output / "scenes" / "1b2c-3views.json").unlink()
    (root / "1b2c" / "nerfstudio" / "transforms.json").write_text("{")
    more = ["--root", str(root), "--output", str(output), "--resume"]
    assert evaluate.main([*arguments, *more]) == 0
    assert "transforms.json is not JSON" in capsys.readouterr().out
    table = json.loads((output / "table.json").read_text())
    assert list(table["failed"]) == ["1b2c, 3 views"]
    assert table["parts"][0]["scenes"] == len(lines(output)) == 2


@pytest.mark.extended
@pytest.mark.parametrize(
    "options",
    [
        ["--plan", "causal", "--chunk-views", "2"],
        ["--plan", "sequential", "--chunk-views", "2", "--rule", "elastic"],
    ],
    ids=["causal", "selective"],
)
def test_plans_in_chunks_score_as_on_one_capture(options, arguments, data, checkpoint, tmp_path):
    """A stream, or the selective update of the supplement; with steps and baselines."""
    output, alone = tmp_path / "out", tmp_path / "alone"
    more = ["--views", "4", "--scenes", "0a1b", "--post-optimize", "0", "2", "--baselines"]
    assert evaluate.main([*arguments, *options, *more, "--output", str(output)]) == 0
    single = ["--capture", str(data / "0a1b"), "--checkpoint", str(checkpoint), "--views", "4"]
    single += ["--resolution", "24", "40", "--post-optimize", "2", "--orbit-frames", "1"]
    single += ["--untrained-baseline"]
    assert evaluate.main([*single, *options, "--output", str(alone)]) == 0
    metrics = json.loads((alone / "metrics.json").read_text())
    ours = {(line["method"], int(line["steps"])): float(line["psnr"]) for line in lines(output)}
    assert ours == pytest.approx({
        ("this model", 0): metrics["post_optimize"]["psnr_before"],
        ("this model", 2): metrics["psnr"],
        ("nearest input view", 0): metrics["baselines"]["nearest_input"],
        ("mean colour of the inputs", 0): metrics["baselines"]["mean_colour"],
        ("untrained model", 0): metrics["baselines"]["untrained"],
    }, abs=0.01)  # fmt: skip
    text = (output / "table.md").read_text()
    assert f"(tttlrm), plan {options[1]}, 2 views per update" in text


@pytest.mark.extended
def test_a_run_that_was_killed_goes_on(arguments, measured, tmp_path):
    """SIGKILL once the first scene is there; the rest is measured, the first one not again."""
    output = tmp_path / "out"
    command = [sys.executable, "eval.py", *arguments, "--output", str(output)]
    first = output / "scenes" / "0a1b-3views.json"
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not first.exists():
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = first.read_bytes(), first.stat().st_mtime_ns
    if (output / "scenes.csv").exists():
        assert {line["scene"] for line in lines(output)} < set(FRAMES)
    again = subprocess.run(
        [*command, "--resume"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "0a1b, 3 views" not in again.stderr
    assert (first.read_bytes(), first.stat().st_mtime_ns) == kept
    assert [line["scene"] for line in lines(output)] == list(FRAMES)
    made, whole = (json.loads((x / "table.json").read_text()) for x in (output, measured[0]))
    assert made["parts"][0]["rows"][0]["psnr"] == whole["parts"][0]["rows"][0]["psnr"]
    assert "means over 3 scenes" in again.stdout
