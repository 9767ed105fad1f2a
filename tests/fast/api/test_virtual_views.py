"""Virtual views: some of the inputs, other pictures, or cameras alone carry the Gaussians."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import tttlrm_jax as tj
from tttlrm_jax.api import virtual_views
from tttlrm_jax.api.request import resolve
from tttlrm_jax.api.scenes import pose_scene
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.view_selection import select_virtual
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.core.types import Views

CAMERAS = "opencv_cameras.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_capture_source):
    """`folder(name, numbers)`: a camera file of these frames, with images in those of `shown`."""

    def make(name, numbers, shown=()):
        source = Path(tiny_capture_source)
        document = json.loads((source / CAMERAS).read_text())
        frames = [document["frames"][number] for number in numbers]
        for number, frame in zip(numbers, frames, strict=True):
            place = source if number in shown else Path("nowhere")
            frame["file_path"] = str(place / frame["file_path"])
        made = tmp_path_factory.mktemp(name)
        (made / CAMERAS).write_text(json.dumps({**document, "frames": frames}))
        return made

    return make


@pytest.fixture(scope="module")
def scene(model, tiny_capture_source):
    return model.reconstruct(tiny_capture_source, views=4, virtual_views=2)


def predicted(model, scene, **virtual):
    """Gaussians of the pure network for the same inputs."""
    made = jax.jit(lambda views, virtual: model.network()(views, **virtual))
    return jax.tree.map(lambda x: x[0], made(scene.posed.inputs, virtual))


def assert_same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_some_inputs_chosen_as_published(model, scene):
    height, width = scene.posed.resolution
    assert scene.predicted.mean.shape == (2 * height * width, 3)
    poses = np.asarray(scene.posed.inputs.cameras.world_from_camera[0])
    assert poses.dtype == np.float32
    places = select_virtual(poses, 2)
    np.testing.assert_array_equal(scene.posed.virtual, places)
    assert_same(scene.predicted, predicted(model, scene, virtual_indices=places[None]))


def test_as_many_as_inputs_are_the_inputs(model, tiny_capture_source):
    usual = model.reconstruct(tiny_capture_source, views=4)
    same = model.reconstruct(tiny_capture_source, views=4, virtual_views=4)
    assert same.posed.virtual is None
    np.testing.assert_array_equal(same.predicted.mean, usual.predicted.mean)


def test_other_pictures_and_bare_cameras_of_a_file(model, scene, tiny_capture_source, folder):
    capture, size = read_capture(tiny_capture_source), scene.posed.resolution
    pictures = folder("pictures", [0, 5, 9], shown=[0, 5, 9])
    made = model.reconstruct(capture, views=4, virtual_views=pictures)
    assert isinstance(made.posed.virtual, Views)
    views = model.views(capture, [0, 5, 9], resolution=size)
    poses = made.posed.similarity.apply_poses(np.asarray(views.cameras.world_from_camera[0]))
    virtual = made.posed.virtual
    np.testing.assert_array_equal(virtual.image, views.image)
    np.testing.assert_allclose(virtual.cameras.world_from_camera[0], poses, atol=1e-6)
    np.testing.assert_allclose(virtual.cameras.intrinsics, views.cameras.intrinsics, rtol=1e-6)
    assert_same(made.predicted, predicted(model, made, virtual=virtual))
    bare = model.reconstruct(capture, views=4, virtual_views=folder("bare", [0, 5, 9]))
    np.testing.assert_allclose(bare.posed.virtual.intrinsics, views.cameras.intrinsics, rtol=1e-6)
    grey = virtual.replace(image=np.full_like(virtual.image, 0.5))
    assert_same(bare.predicted, predicted(model, made, virtual=grey))


def test_they_are_read_once_whatever_size_is_shown(
    model, scene, tiny_capture_source, folder, monkeypatch
):
    """Improving shows more pixels than the model sees; what carried the Gaussians stays."""
    read = virtual_views.read_other_views
    sizes = []

    def counted(path, field, size, *options):
        sizes.append(size)
        return read(path, field, size, *options)

    monkeypatch.setattr(virtual_views, "read_other_views", counted)
    wish = EvalConfig(views=4, virtual_views=str(folder("once", [0, 5], shown=[0, 5])))
    capture = read_capture(tiny_capture_source)
    request = resolve(wish, model.run, capture)
    seen = pose_scene(capture, request, model.run.data)
    height, width = seen.resolution
    shown = seen.at((2 * height, 2 * width))
    assert shown.resolution == (2 * height, 2 * width)
    assert sizes == [(height, width)]
    assert shown.virtual is seen.virtual
    np.testing.assert_array_equal(scene.posed.at((2 * height, 2 * width)).virtual,
                                  scene.posed.virtual)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("5",), r"virtual_views=5 is not in 1\.\.3, the number of input views"),
        (("0",), r"virtual_views=0 is not in 1\.\.3"),
        (("nowhere",), "virtual_views=nowhere is not a directory"),
        (("2", "--plan", "causal"), "virtual_views=2 is not read by a stream"),
    ],
)
def test_what_cannot_be_is_refused(
    options, words, tiny_checkpoint, tiny_capture_source, capsys, tmp_path
):
    arguments = ["--checkpoint", tiny_checkpoint, "--capture", tiny_capture_source]
    arguments += ["--output", tmp_path / "out", "--virtual-views", *options]
    assert evaluate.main([str(each) for each in arguments]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(words, err), err


def test_some_pictures_missing_or_sizes_unknown_is_refused(model, tiny_capture_source, folder):
    with pytest.raises(tj.InputError, match="has images for some of its 2 frames and none for"):
        model.reconstruct(tiny_capture_source, virtual_views=folder("half", [0, 5], shown=[5]))
    unsized = folder("unsized", [0, 5])
    document = json.loads((unsized / CAMERAS).read_text())
    for frame in document["frames"]:
        del frame["w"], frame["h"]
    (unsized / CAMERAS).write_text(json.dumps(document))
    with pytest.raises(tj.InputError, match=r"virtual_views: frame 0 .* add w and h"):
        model.reconstruct(tiny_capture_source, virtual_views=unsized)
