"""What a first model leaves out is mapped again by itself, and poor models are tried again."""

import dataclasses

from tttlrm_jax.structure_from_motion.shots import MOST_MODELS, TRIES, find_models, names_in

SHORT, LONG = [f"a{n}" for n in range(4)], [f"b{n}" for n in range(8)]


@dataclasses.dataclass
class Model:
    names: list[str]

    def num_reg_images(self):
        return len(self.names)

    def reg_image_ids(self):
        return range(len(self.names))

    def image(self, number):
        return Image(self.names[number])


@dataclasses.dataclass
class Image:
    name: str


def models_of(names, mapper, fit=lambda model: False):
    return [names_in(model) for model in find_models(names, mapper, fit)]


def test_a_second_shot_that_never_began():
    """As COLMAP does it: with both shots, only the short one; alone, the long one at times."""
    calls = []

    def mapper(names, seed):
        calls.append((len(names), seed))
        if "a0" in names:
            return [Model(SHORT)]
        return [Model(LONG)] if seed == 1 else [Model(LONG[:2]), Model(LONG[1:4])]

    assert models_of(SHORT + LONG, mapper) == [LONG, SHORT]
    assert calls == [(12, 0), (12, 1), (12, 2), (8, 0), (8, 1)]


def test_one_scene_is_mapped_once():
    calls = []

    def mapper(names, seed):
        calls.append(seed)
        return [Model(LONG[:2]), Model(list(LONG[:7]))]

    assert models_of(LONG, mapper) == [LONG[:7]]
    assert calls == [0]


def test_no_model_at_all_ends():
    calls = []
    assert models_of(LONG, lambda names, seed: calls.append(seed) or []) == []
    assert calls == list(range(TRIES))


def test_scattered_pictures_end():
    names = [f"{n:03d}" for n in range(100)]
    assert len(models_of(names, lambda names, seed: [Model(list(names[:3]))])) == MOST_MODELS


def test_simpler_lenses_get_another_try():
    """And of models of one size the later one, which has them, is taken."""
    lenses, made = ["OPENCV"], []

    def mapper(names, seed):
        made.append(Model(list(names)))
        return [made[-1]]

    def fit(model):
        return bool(lenses) and lenses.pop() == "OPENCV"

    assert find_models(LONG, mapper, fit) == [made[1]]
    assert find_models(LONG, mapper, fit)[0] is made[2]
    assert len(made) == 3
