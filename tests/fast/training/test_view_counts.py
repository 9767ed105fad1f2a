"""Fewer input views in a step: frame, scale and depth are those of the views that are left."""

import dataclasses
from types import SimpleNamespace
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.captures.view_selection import select_virtual
from tttlrm_jax.config import DataConfig, MeshConfig, ModelConfig, RunConfig, TrainConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.datasets.pipeline import draw_item
from tttlrm_jax.training.objectives.batches import Batch
from tttlrm_jax.training.objectives.gaussians import pruned_for_rendering
from tttlrm_jax.training.tasks.view_counts import view_count_at, with_fewer_inputs

CONFIG = RunConfig(
    name="views",
    data=DataConfig(num_input_views=6, num_target_views=2, pose_normalisation="focus"),
    train=TrainConfig(view_counts=(2, 3, 6), seed=3),
)


class Scene:
    """Cameras on a ring that look at its middle; pixels hold the number of their view."""

    name, held_out = "ring", None

    def __init__(self, radius: float):
        angle = np.linspace(0, 2 * np.pi, 9)[:8] + 0.1
        back = np.stack([np.cos(angle), np.sin(angle), 0.3 * np.sin(3 * angle)], axis=1)
        self.world_from_camera = np.tile(np.eye(4), (8, 1, 1))
        forward = -back / np.linalg.norm(back, axis=1, keepdims=True)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right, axis=1, keepdims=True)
        rotation = np.stack([right, np.cross(forward, right), forward], axis=2)
        self.world_from_camera[:, :3, :3] = rotation
        self.world_from_camera[:, :3, 3] = radius * back

    def read(self, view_indices):
        number = view_indices.astype(np.float32)[:, None, None]
        image = np.broadcast_to(number[..., None] / 8, (len(number), 4, 6, 3))
        depth = np.broadcast_to(1 + number, (len(number), 4, 6)).astype(np.float32)
        lens = np.tile([6.0, 6.0, 3.0, 2.0], (len(number), 1))
        return SceneViews(image=image, intrinsics=lens, depth=depth)


def batch() -> tuple[dict[str, np.ndarray], list[Scene]]:
    scenes = [Scene(2.0), Scene(5.0)]
    items = [draw_item(s, np.random.default_rng(i), CONFIG.data) for i, s in enumerate(scenes)]
    return {name: np.stack([item[name] for item in items]) for name in items[0]}, scenes


def test_numbers_are_drawn_by_step_alone():
    drawn = [view_count_at(CONFIG, step) for step in range(30)]
    assert set(drawn) == {2, 3, 6}
    assert drawn == [view_count_at(CONFIG, step) for step in range(30)]
    plain = dataclasses.replace(CONFIG, train=TrainConfig())
    assert view_count_at(plain, 0) == 6


def test_what_is_left_is_as_if_only_it_had_been_drawn():
    arrays, scenes = batch()
    fewer = with_fewer_inputs(arrays, 3, CONFIG, step=5)
    for index, scene in enumerate(scenes):

        def numbers(prefix, index=index):
            return np.round(fewer[f"{prefix}_image"][index, :, 0, 0, 0] * 8).astype(int)

        inputs, targets = numbers("input"), numbers("target")
        assert len(set(inputs)) == 3
        chosen = np.concatenate([inputs, targets])
        from tttlrm_jax.core.geometry.poses import normalise_poses

        raw = scene.world_from_camera
        poses, similarity = normalise_poses(raw[chosen], "focus", raw[inputs])
        ours = np.concatenate([fewer[f"{p}_world_from_camera"][index] for p in ("input", "target")])
        np.testing.assert_allclose(ours, poses, atol=2e-6)
        np.testing.assert_allclose(fewer["scene_scale"][index], similarity.scale, rtol=1e-5)
        depth = (1 + inputs) * similarity.scale
        np.testing.assert_allclose(fewer["input_depth"][index, :, 0, 0], depth, rtol=1e-5)
    np.testing.assert_array_equal(
        with_fewer_inputs(arrays, 3, CONFIG, step=5)["input_image"], fewer["input_image"]
    )
    others = [with_fewer_inputs(arrays, 3, CONFIG, step)["input_image"] for step in range(6)]
    assert any((other != fewer["input_image"]).any() for other in others)
    assert with_fewer_inputs(arrays, 6, CONFIG, step=5) is arrays


def test_published_pruning_goes_by_the_number_of_views():
    """In the program of each number; the random key is the same, the count of Gaussians differs."""
    data = dataclasses.replace(
        CONFIG.data, num_input_views=64,
        synthetic=dataclasses.replace(CONFIG.data.synthetic, num_views=66),
    )  # fmt: skip
    train = TrainConfig(view_counts=(16, 63, 64), published_pruning=True)
    run = dataclasses.replace(CONFIG, data=data, train=train)
    shares = [run.with_input_views(n).pruning_ratios() for n in (16, 63, 64)]
    assert shares == [(0.4, 0.1), (0.4, 0.1), (0.3, 0.05)]
    fixed = dataclasses.replace(run, train=TrainConfig(keep_ratio=0.5, random_ratio=0.2))
    assert [fixed.with_input_views(n).pruning_ratios() for n in (16, 64)] == [(0.5, 0.2)] * 2
    gaussians = Gaussians(
        mean=jnp.zeros((1, 100, 3)), log_scale=jnp.zeros((1, 100, 3)),
        quaternion=jnp.zeros((1, 100, 4)), opacity_logit=jnp.arange(100.0)[None],
        sh=jnp.zeros((1, 100, 1, 3)),
    )  # fmt: skip
    key, batch = jax.random.key(0), cast(Batch, SimpleNamespace(input_number=None))
    kept = [
        pruned_for_rendering(gaussians, run.with_input_views(n), key, batch).mean.shape[1]
        for n in (16, 64)
    ]
    assert kept == [40 + 6, 30 + 3]  # 0.6 x 0.1 and 0.7 x 0.05 of 100 at random, rounded down


@pytest.mark.parametrize("beside", [{"keep_ratio": 0.4}, {"random_ratio": 0.1}])
def test_shares_beside_the_published_ones_are_refused(beside):
    with pytest.raises(ConfigError, match=r"is set beside train\.published_pruning"):
        TrainConfig(published_pruning=True, **beside)


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"train\.view_counts=9 is not in 1\.\.data\.num_input"):
        dataclasses.replace(CONFIG, train=TrainConfig(view_counts=(9,)))
    with pytest.raises(ConfigError, match=r"train\.chunk_views=4 exceeds data\.num_input_views=2"):
        dataclasses.replace(
            CONFIG, train=TrainConfig(plan="causal", chunk_views=4, view_counts=(2, 6))
        )


def test_virtual_views_are_chosen_among_those_that_are_left():
    data = dataclasses.replace(CONFIG.data, num_virtual_views=2)
    config = dataclasses.replace(CONFIG, data=data)
    items = [draw_item(Scene(2.0), np.random.default_rng(i), data) for i in range(2)]
    arrays = {name: np.stack([item[name] for item in items]) for name in items[0]}
    assert arrays["virtual_index"].dtype == np.int32
    for count in (6, 3):
        fewer = with_fewer_inputs(arrays, count, config, step=4)
        for poses, places in zip(
            fewer["input_world_from_camera"], fewer["virtual_index"], strict=True
        ):
            np.testing.assert_array_equal(places, select_virtual(poses, 2))
    with_two = with_fewer_inputs(arrays, 2, config, step=4)
    np.testing.assert_array_equal(with_two["virtual_index"], [[0, 1], [0, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": TrainConfig(view_counts=(1, 6))}, "exceeds the 1 input views of a step"),
        ({"train": TrainConfig(plan="causal", chunk_views=2)}, "is not read by train.plan=causal"),
        ({"mesh": MeshConfig(seq=2)}, "mesh.seq and mesh.fsdp part; use mesh.data alone"),
        ({"model": ModelConfig(kind="lvsm")}, "carry Gaussians, which an lvsm has not"),
    ],
)
def test_virtual_views_that_a_run_cannot_have_are_refused(changes, words):
    data = dataclasses.replace(CONFIG.data, num_virtual_views=2)
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(CONFIG, **{"data": data, **changes})
