import numpy as np
import pytest
from sklearn.cluster import KMeans

from tttlrm_jax.captures.view_selection import (
    camera_features,
    evaluation_split,
    frame_window,
    kmeans,
    nearest_members,
    select_kmeans,
    select_virtual,
    split_every,
)
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at


def poses_on_sphere(count, seed=0):
    rng = np.random.default_rng(seed)
    position = rng.normal(size=(count, 3))
    return look_at(2 * position / np.linalg.norm(position, axis=1, keepdims=True), np.zeros(3),
                   np.array([0.0, 0.0, 1.0]))  # fmt: skip


def published_choice(poses, num_views):
    """Cluster members by scikit-learn, as the specification says; how many clusters there are."""
    features = np.array([[*pose[:3, 3], *pose[:3, 2]] for pose in poses])
    fitted = KMeans(
        n_clusters=num_views, init="k-means++", n_init=1, random_state=0
    ).fit(features)  # fmt: skip
    chosen = [
        int(np.argmin(np.linalg.norm(features - centre, axis=1)))
        for centre in fitted.cluster_centers_
    ]
    return chosen, len(set(fitted.labels_))


def pose_set(seed):
    """8 to 400 cameras: spheres, rings, walks, tight groups, pairs; some rounded, some float32."""
    rng = np.random.default_rng(seed)
    count, kind = int(rng.integers(8, 401)), seed % 5
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centre = {
        0: lambda: rng.normal(size=(count, 3)),
        1: lambda: np.stack([np.cos(angle), np.sin(angle), 0.3 + 0 * angle], axis=1),
        2: lambda: np.cumsum(rng.normal(size=(count, 3)), axis=0) + 40,
        3: lambda: (
            rng.normal(size=(9, 3))[rng.integers(9, size=count)]
            + 1e-3 * rng.normal(size=(count, 3))
        ),
        4: lambda: (
            rng.normal(size=(count, 3))[np.arange(count) // 2] + 1e-8 * rng.normal(size=(count, 3))
        ),
    }[kind]()
    poses = look_at(centre, 0.2 * rng.normal(size=(count, 3)), np.array([0.0, 0.0, 1.0]))
    poses = np.round(poses, 6) if seed % 3 == 0 else poses
    poses = poses.astype(np.float32) if seed % 7 == 0 else poses
    return poses, int(rng.integers(2, min(count, 64) + 1))


def check_published_choice(seeds):
    """Members and their order, where no camera stands for two places; returns how many sets."""
    compared = 0
    for seed in seeds:
        poses, num_views = pose_set(seed)
        expected, num_clusters = published_choice(poses, num_views)
        if num_clusters == num_views:  # else cameras coincide
            np.testing.assert_array_equal(select_virtual(poses, num_views), expected)
            if compared < 100:  # the same in another order
                np.testing.assert_array_equal(select_kmeans(poses, num_views), np.sort(expected))
            compared += 1
    return compared


def test_choice_is_that_of_scikit_learn():
    assert check_published_choice(range(10)) == 10


@pytest.mark.extended
def test_choice_is_that_of_scikit_learn_for_a_thousand_sets_of_poses():
    assert check_published_choice(range(1000)) >= 990


def test_of_two_cameras_as_far_from_a_centre_as_rounding_tells_the_first_is_taken():
    """Squares differ where their roots do not."""
    points = np.array([[1.0, 2.0**-26], [1.0, 0.0]])
    assert np.sum(points[0] ** 2) > np.sum(points[1] ** 2)
    np.testing.assert_array_equal(nearest_members(points, np.zeros((1, 2))), [0])


@pytest.mark.parametrize("num_views", [1, 3, 6])
def test_coincident_cameras_give_distinct_views(num_views):
    poses = np.tile(np.eye(4), (6, 1, 1))
    np.testing.assert_array_equal(select_kmeans(poses, num_views), np.arange(num_views))


def test_a_view_near_two_centres_is_taken_once():
    """Two places: their frames fill up the other clusters, the nearest first."""
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[6:, 0, 3] = [5.0, 5.0, 9.0]
    for num_views in range(1, 10):
        chosen = select_virtual(poses, num_views)
        assert len(set(chosen)) == num_views
        features = camera_features(poses)
        picked = nearest_members(features, kmeans(features, num_views).cluster_centers_)
        first = np.unique(picked, return_index=True)[1]
        np.testing.assert_array_equal(chosen[first], picked[first])


def test_a_camera_nearest_to_two_centres_is_chosen_twice_as_published():
    poses = np.tile(np.eye(4), (7, 1, 1))
    poses[:, :2, 3] = [[5, 5], [2, 5], [8, 2], [0, 0], [5, 9], [9, 9], [4, 4]]
    np.testing.assert_array_equal(select_virtual(poses, 3), [3, 0, 0])
    np.testing.assert_array_equal(select_kmeans(poses, 3), [0, 0, 3])


def test_distinct_choices_stay_the_nearest_members():
    poses = poses_on_sphere(60)
    for num_views in (1, 4, 8):
        features = camera_features(poses)
        nearest = nearest_members(features, kmeans(features, num_views).cluster_centers_)
        assert len(set(nearest)) == num_views
        np.testing.assert_array_equal(select_virtual(poses, num_views), nearest)


def test_separate_groups_give_one_member_each():
    poses = np.concatenate([poses_on_sphere(1, seed).repeat(7, axis=0) for seed in range(4)])
    poses[:, :3, 3] += 1e-3 * np.random.default_rng(0).normal(size=(28, 3))
    assert sorted(select_kmeans(poses, 4) // 7) == [0, 1, 2, 3]


def test_nearest_members_and_virtual_order():
    points = np.array([[0.0, 0], [5, 0], [9, 0]])
    np.testing.assert_array_equal(nearest_members(points, np.array([[8.0, 0], [1, 0]])), [2, 0])
    poses = poses_on_sphere(20)
    assert sorted(select_virtual(poses, 6)) == list(select_kmeans(poses, 6))


@pytest.mark.parametrize("clusters", [0, 7])
def test_too_many_or_no_clusters(clusters):
    with pytest.raises(InputError, match="num_clusters"):
        kmeans(np.zeros((6, 2)), clusters)


def test_every_eighth_frame_is_a_target():
    candidates, targets = split_every(19)
    np.testing.assert_array_equal(targets, [0, 8, 16])
    assert not set(candidates) & set(targets)
    assert len(candidates) + len(targets) == 19


def test_evaluation_split_prefers_the_prescribed_list():
    poses = poses_on_sphere(30)
    inputs, targets = evaluation_split(poses, 5)
    assert len(inputs) == 5
    assert (inputs % 8 != 0).all()
    np.testing.assert_array_equal(inputs, np.sort(inputs))
    prescribed, same_targets = evaluation_split(poses, 5, {5: (1, 2, 3, 4, 5), 6: (0,) * 6})
    np.testing.assert_array_equal(prescribed, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(targets, same_targets)
    with pytest.raises(InputError, match="26 frames left of 30"):
        evaluation_split(poses, 27)


def test_prescribed_lists_that_score_inputs_are_refused():
    poses, folds = poses_on_sphere(30), {3: (1, 8, 16)}
    with pytest.raises(InputError, match=r"fold_8_kmeans_3_input=.*\[8, 16\], which are targets"):
        evaluation_split(poses, 3, folds)
    evaluation_split(poses, 4, folds)


def test_prescribed_lists_may_repeat_a_frame_as_k_means_does():
    inputs, _ = evaluation_split(poses_on_sphere(30), 3, {3: (1, 2, 2)})
    np.testing.assert_array_equal(inputs, [1, 2, 2])


def test_frames_left_out_do_not_move_the_targets():
    numbers = np.setdiff1d(np.arange(30), [3, 16])
    poses = poses_on_sphere(30)[numbers]
    inputs, targets = evaluation_split(poses, 5, frame_numbers=numbers)
    np.testing.assert_array_equal(numbers[targets], [0, 8, 24])
    assert not (numbers[inputs] % 8 == 0).any()
    prescribed, _ = evaluation_split(poses, 2, {2: (3, 8)}, numbers)  # frames 4 and 9
    np.testing.assert_array_equal(prescribed, [3, 8])
    with pytest.raises(InputError, match=r"_input=\[4, 8\] lists the frames \[8\]"):
        evaluation_split(poses, 2, {2: (3, 7)}, numbers)
    with pytest.raises(InputError, match="none of its frames 0, 8"):
        evaluation_split(poses[:3], 2, frame_numbers=np.array([1, 2, 3]))


def test_frame_windows_reach_all_widths_and_places():
    rng = np.random.default_rng(0)
    windows = [frame_window(rng, 20, 3, 6) for _ in range(300)]
    assert {len(window) for window in windows} == {3, 4, 5, 6}
    assert {window[0] for window in windows} >= set(range(15))
    assert max(window[-1] for window in windows) == 19
    assert all((np.diff(window) == 1).all() for window in windows)
    np.testing.assert_array_equal(frame_window(rng, 5, 128, 512), np.arange(5))
