"""What a request comes to: sizes, plans and shares, and which frames come in which order."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tttlrm_jax.api.request import MAX_IMPROVED_PIXELS, as_wished, fitted_resolution, resolve
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
    return resolve(config, run or RunConfig(name="x"), capture or make_capture(), saved)


@pytest.mark.parametrize(
    ("capture", "trained", "expected"),
    [
        ((512, 512), (64, 64), (64, 64)),
        ((360, 640), (64, 64), (48, 88)),
        ((640, 360), (64, 64), (88, 48)),
        ((540, 960), (536, 960), (536, 960)),
        ((10, 2000), (64, 64), (8, 904)),
    ],
)
def test_resolution_keeps_aspect_and_pixel_budget(capture, trained, expected):
    assert fitted_resolution(capture, trained, patch_size=8) == expected


def sized(height, width):
    capture = make_capture()
    frames = tuple(dataclasses.replace(frame, size=(height, width)) for frame in capture.frames)
    return dataclasses.replace(capture, frames=frames)


def test_improving_has_a_resolution_of_its_own():
    """The model sees as many pixels as in training; Gaussians are improved on the pictures."""
    run = RunConfig(name="x")
    plain = choose(EvalConfig(), sized(128, 128))
    assert plain.shown == plain.resolution
    whole = choose(EvalConfig(seconds=1.0), sized(128, 128))
    assert (whole.resolution, whole.shown) == (plain.resolution, (128, 128))
    assert whole.resolution[0] * whole.resolution[1] <= 1.1 * np.prod(run.data.image_size)
    # any size, not only multiples of a patch
    asked = choose(EvalConfig(seconds=1.0, resolution=(37, 51)), sized(128, 128))
    assert (asked.resolution, asked.shown) == (plain.resolution, (37, 51))
    height, width = choose(EvalConfig(seconds=1.0), sized(3000, 4000)).shown
    assert 0.99 < height * width / MAX_IMPROVED_PIXELS < 1.01
    assert abs(width / height - 4 / 3) < 0.01
    with pytest.raises(InputError, match="use at most 128 128"):
        choose(EvalConfig(seconds=1.0, resolution=(129, 64)), sized(128, 128))
    # a stream has fixed what the model sees, not what is shown
    saved = make_record()
    resumed = EvalConfig(seconds=1.0, resolution=(32, 64), plan="causal", load_state="s")
    assert choose(resumed, sized(128, 128), saved).shown == (32, 64)


def test_a_request_is_as_trained_unless_asked():
    run = RunConfig(name="x")
    trained = choose(EvalConfig(), run=run)
    assert (len(trained.inputs), trained.plan, trained.keep_ratio) == (4, "full", 1.0)
    asked = choose(EvalConfig(views=9, plan="sequential", keep_ratio=0.4, seed=3), run=run)
    assert (len(asked.inputs), asked.plan, asked.keep_ratio, asked.seed) == (
        9, "sequential", 0.4, 3,
    )  # fmt: skip
    assert asked.background == run.data.background
    assert asked.similarity is None


def test_published_pruning_goes_by_the_number_of_views():
    run = RunConfig(name="x", train=TrainConfig(published_pruning=True))
    many = make_capture(count=90)

    def shares(saved=None, **wishes):
        request = resolve(EvalConfig(**wishes), run, many, saved)
        return request.keep_ratio, request.random_ratio

    assert shares() == (0.4, 0.1)
    assert shares(views=70) == (0.3, 0.05)
    assert shares(views=70, keep_ratio=0.5) == (0.5, 0.05)
    frames = ",".join(str(n) for n in range(90) if n % 8)  # 78 of them
    assert shares(frames=frames) == (0.3, 0.05)
    assert shares(frames=frames, keep_ratio=1.0, random_ratio=0.2) == (1.0, 0.2)
    saved = make_record(keep_ratio=0.7, random_ratio=0.0)
    assert shares(saved, views=70) == (0.7, 0.0)


def test_a_stream_follows_the_capture():
    config = EvalConfig(plan="causal", views=6)
    capture = make_capture()
    capture = dataclasses.replace(capture, folds={6: (9, 1, 17, 4, 2, 3)})
    settings = choose(config, capture)
    inputs, targets = settings.inputs, settings.targets
    assert inputs.tolist() == [1, 2, 3, 4, 9, 17]
    assert targets.tolist() == [0, 8, 16]
    assert (len(inputs), settings.chunk_views) == (6, 4)  # as many as trained with
    prescribed = choose(EvalConfig(plan="full", views=6), capture).inputs
    assert prescribed.tolist() == [9, 1, 17, 4, 2, 3]


def test_named_frames_keep_their_order():
    config = EvalConfig(plan="causal", frames="12-10, 3,19", chunk_views=2)
    settings = choose(config)
    inputs = settings.inputs
    assert inputs.tolist() == [12, 11, 10, 3, 19]
    assert (len(inputs), settings.chunk_views) == (5, 2)
    gaps = make_capture(missing=(1, 2))
    assert choose(config, gaps).inputs.tolist() == [10, 9, 8, 1, 17]  # positions, not numbers
    with pytest.raises(InputError, match="frames=1,2 are not in desk"):
        choose(EvalConfig(frames="1-3"), gaps)


def test_chunk_sizes():
    short = EvalConfig(plan="causal", frames="1,2,3")
    assert choose(short).chunk_views == 3  # the default of 4 fits itself to the stream
    with pytest.raises(InputError, match="larger than the stream of 3 views"):
        choose(dataclasses.replace(short, chunk_views=4))
    trained = RunConfig(name="x", train=TrainConfig(plan="sequential", chunk_views=2))
    assert choose(short, run=trained).chunk_views == 2


def test_a_saved_stream_goes_on_with_what_it_has_not_seen():
    seen = [("desk", f"{number}.png") for number in (1, 2, 3, 4, 5, 6)]
    saved = make_record([*seen, ("other", "7.png")])
    config = EvalConfig(load_state="state", views=3)
    settings = choose(config, saved=saved)
    inputs, targets = settings.inputs, settings.targets
    assert settings.plan == "causal"
    assert (settings.accumulate, settings.keep_ratio, settings.chunk_views) == ("all", 0.5, 4)
    assert settings.background == (0.0, 0.0, 0.0)
    assert inputs.tolist() == sorted(inputs.tolist())
    assert not set(inputs) & {0, 1, 2, 3, 4, 5, 6, 8, 16}
    everything = choose(dataclasses.replace(config, views=11), saved=saved).inputs
    assert everything.tolist() == [7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19]
    with pytest.raises(InputError, match="views=12 exceeds the 11 frames"):
        choose(dataclasses.replace(config, views=12), saved=saved)
    assert len(targets) == 3


def test_options_take_the_place_of_what_was_trained():
    run = RunConfig(name="x")
    assert as_wished(run, EvalConfig()) == run
    wishes = EvalConfig(
        fit="resize", pose_normalisation="first_cam", normalise_over="all", max_alpha=0.999,
        near=0.2, compute_dtype="bfloat16",
    )  # fmt: skip
    other = as_wished(run, wishes)
    assert (other.data.capture_resize, other.data.pose_normalisation) == ("tttlrm", "first_cam")
    assert other.data.normalise_over == "all"
    assert (other.raster.max_alpha, other.raster.near) == (0.999, 0.2)
    assert other.model == dataclasses.replace(run.model, compute_dtype="bfloat16")
    assert as_wished(other, EvalConfig(fit="crop")).data.capture_resize == "lact"


def test_squeezed_pictures_have_the_size_of_training():
    run = RunConfig(name="x")
    wide = sized(100, 200)
    assert choose(EvalConfig(), wide, run=run).resolution == (48, 88)
    squeezing = as_wished(run, EvalConfig(fit="resize"))
    assert choose(EvalConfig(), wide, run=squeezing).resolution == run.data.image_size == (64, 64)
    assert choose(EvalConfig(resolution=(8, 16)), wide, run=squeezing).resolution == (8, 16)


def test_a_stream_has_its_own_frame():
    with pytest.raises(InputError, match=r"normalise_over=all is not read by a stream"):
        choose(EvalConfig(plan="causal", normalise_over="all"))
    wishes = EvalConfig(pose_normalisation="first_cam", load_state="state")
    with pytest.raises(InputError, match=r"pose_normalisation=first_cam cannot change"):
        choose(wishes, saved=make_record())


def test_plans_in_chunks_take_listed_inputs_in_the_order_of_the_capture():
    """As published; the plan `full` keeps the order of the list, and --frames its own."""
    listed = dataclasses.replace(make_capture(), folds={4: (11, 3, 17, 5)})
    order = {"full": [11, 3, 17, 5], "sequential": [3, 5, 11, 17], "causal": [3, 5, 11, 17]}
    for plan, expected in order.items():
        assert choose(EvalConfig(views=4, plan=plan), listed).inputs.tolist() == expected
    named = choose(EvalConfig(frames="7,2", plan="sequential"), listed)
    assert named.inputs.tolist() == [7, 2]
