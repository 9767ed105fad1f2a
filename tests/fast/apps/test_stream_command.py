"""Which frames come in which order and chunks, and where states may be written."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.api.request import choose_frames
from tttlrm_jax.api.scenes import Settings
from tttlrm_jax.apps.reconstruct.stream import state_directory
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.streams import StreamRecord
from tttlrm_jax.config import EvalConfig, ModelConfig, RunConfig, TrainConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation, look_at


def make_capture(count=20, name="desk", missing=()):
    rng = np.random.default_rng(0)
    poses = look_at(rng.normal(size=(count, 3)), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    frames = tuple(
        Frame(
            number=number, name=f"{number}.png", image_path=Path(f"{number}.png"),
            intrinsics=np.ones(4), world_from_camera=poses[number], size=(8, 8),
        )
        for number in range(count) if number not in missing
    )  # fmt: skip
    return Capture(name, Path("."), frames, {})


def make_record(frames=(), **changes):
    identity = PoseNormalisation(rotation=np.eye(3), translation=np.zeros(3), scale=1.0)
    record = StreamRecord(
        model=ModelConfig(), parameters_sha256="", similarity=identity, has_scale=True,
        resolution=(8, 8), background=(0.0, 0.0, 0.0), chunk_views=4, num_chunks=2,
        accumulate="all", keep_ratio=0.5, random_ratio=0.1, frames=tuple(frames),
    )  # fmt: skip
    return dataclasses.replace(record, **changes)


def choose(config, capture=None, saved=None, run=None):
    run = RunConfig(name="x") if run is None else run
    settings = Settings.resolve(config, run, None if saved is None else saved.settings())
    return choose_frames(capture or make_capture(), config, settings, saved)


def test_a_stream_follows_the_capture():
    config = EvalConfig(plan="causal", views=6)
    capture = make_capture()
    capture = dataclasses.replace(capture, folds={6: (9, 1, 17, 4, 2, 3)})
    inputs, targets, settings = choose(config, capture)
    assert inputs.tolist() == [1, 2, 3, 4, 9, 17]
    assert targets.tolist() == [0, 8, 16]
    assert (settings.views, settings.chunk_views) == (6, 4)  # as many as trained with
    prescribed = choose(EvalConfig(plan="full", views=6), capture)[0]
    assert prescribed.tolist() == [9, 1, 17, 4, 2, 3]


def test_named_frames_keep_their_order():
    config = EvalConfig(plan="causal", frames="12-10, 3,19", chunk_views=2)
    inputs, _, settings = choose(config)
    assert inputs.tolist() == [12, 11, 10, 3, 19]
    assert (settings.views, settings.chunk_views) == (5, 2)
    gaps = make_capture(missing=(1, 2))
    assert choose(config, gaps)[0].tolist() == [10, 9, 8, 1, 17]  # positions, not numbers
    with pytest.raises(InputError, match="frames=1,2 are not in desk"):
        choose(EvalConfig(frames="1-3"), gaps)


def test_chunk_sizes():
    short = EvalConfig(plan="causal", frames="1,2,3")
    assert choose(short)[2].chunk_views == 3  # the default of 4 fits itself to the stream
    with pytest.raises(InputError, match="larger than the stream of 3 views"):
        choose(dataclasses.replace(short, chunk_views=4))
    trained = RunConfig(name="x", train=TrainConfig(plan="sequential", chunk_views=2))
    assert choose(short, run=trained)[2].chunk_views == 2


def test_a_saved_stream_goes_on_with_what_it_has_not_seen():
    seen = [("desk", f"{number}.png") for number in (1, 2, 3, 4, 5, 6)]
    saved = make_record([*seen, ("other", "7.png")])
    config = EvalConfig(load_state="state", views=3)
    inputs, targets, settings = choose(config, saved=saved)
    assert settings.plan == "causal"
    assert (settings.accumulate, settings.keep_ratio, settings.chunk_views) == ("all", 0.5, 4)
    assert settings.background == (0.0, 0.0, 0.0)
    assert inputs.tolist() == sorted(inputs.tolist())
    assert not set(inputs) & {0, 1, 2, 3, 4, 5, 6, 8, 16}
    everything = choose(dataclasses.replace(config, views=11), saved=saved)[0]
    assert everything.tolist() == [7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19]
    with pytest.raises(InputError, match="views=12 exceeds the 11 frames"):
        choose(dataclasses.replace(config, views=12), saved=saved)
    assert len(targets) == 3


def test_a_state_is_replaced_only_when_asked_and_only_at_the_end(tmp_path):
    target = tmp_path / "state"

    def write(text, overwrite):
        config = EvalConfig(plan="causal", save_state=str(target), overwrite_state=overwrite)
        with state_directory(config, tmp_path / "out") as directory:
            assert directory is not None
            (directory / "state.json").write_text(text)
            if text == "broken":
                raise KeyboardInterrupt

    write("first", overwrite=False)
    with pytest.raises(InputError, match="--overwrite-state"):
        write("second", overwrite=False)
    with pytest.raises(KeyboardInterrupt):
        write("broken", overwrite=True)
    assert (target / "state.json").read_text() == "first"
    write("third", overwrite=True)
    assert (target / "state.json").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with state_directory(EvalConfig(), tmp_path) as nothing:
        assert nothing is None
