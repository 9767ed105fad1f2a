"""Checkpoints are read without PyTorch, and without running what they name."""

import argparse
import collections
import dataclasses
import os
import pickle
import sys
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.convert.files import pytorch
from tttlrm_jax.convert.files.pytorch import read_checkpoint
from tttlrm_jax.convert.files.pytorch_pickle import TABLE, Storage
from tttlrm_jax.core.errors import InputError

STATE = collections.OrderedDict(
    a=np.arange(6, dtype=np.float32).reshape(2, 3),
    b=np.arange(4, dtype=np.float16),
    c=np.asarray([1.5, -2], dtype=jnp.bfloat16),
    scalar=np.asarray(3.0),
)


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_reads_tensors_whole_or_under_a_key(tmp_path, write_checkpoint, key):
    extras = {"args": argparse.Namespace(rate=1.0), "epoch": 3}
    content = STATE if key is None else {key: STATE, **extras}
    tensors, others = read_checkpoint(write_checkpoint(tmp_path / "x.pth", content))
    assert others == ([] if key is None else ["args", "epoch"])
    assert tensors.keys() == STATE.keys()
    for name, expected in STATE.items():
        assert tensors[name].shape == expected.shape
        assert tensors[name].dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(tensors[name]), expected)


class Settings(dict):
    """As Lightning keeps what a model was made with."""


Settings.__module__, Settings.__qualname__ = "lightning_fabric.utilities.data", "AttributeDict"


def test_settings_of_lightning_are_not_looked_at(tmp_path, write_checkpoint, monkeypatch):
    for end in (1, 2, 3):
        name = ".".join(Settings.__module__.split(".")[:end])
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules[Settings.__module__].AttributeDict = Settings
    content = {"state_dict": STATE, "hyper_parameters": Settings(rate=0.1), "loops": {"a": 1}}
    tensors, others = read_checkpoint(write_checkpoint(tmp_path / "x.ckpt", content))
    assert tensors.keys() == STATE.keys()
    assert others == ["hyper_parameters", "loops"]


STEP = np.asarray(5, np.int64)


@pytest.mark.parametrize(
    ("content", "others"),
    [
        ({"model": STATE, "step": STEP}, ["step"]),
        ({"step": STEP, "ema": {"a": STEP}, "state_dict": STATE}, ["ema", "step"]),
        ({"model": {"state_dict": STATE, "step": STEP}, "loss": STEP}, ["loss", "step"]),
        ({"module": {}, "model": {"name": "x"}, **STATE}, ["model", "module"]),  # of settings
        ({"model": {"name": "x"}, "module": STATE, "step": STEP}, ["model", "step"]),
    ],
)
def test_tensors_beside_the_weights_are_no_weights(tmp_path, write_checkpoint, content, others):
    tensors, found = read_checkpoint(write_checkpoint(tmp_path / "x.pth", content))
    assert tensors.keys() == STATE.keys()
    assert found == others


@pytest.mark.parametrize(
    ("content", "others"),
    [
        ({"generator": STATE, "epoch": 3}, ["epoch"]),
        ({"net": STATE, "step": STEP, "scaler": {"scale": STEP}}, ["scaler", "step"]),
        ({"net": {"state_dict": STATE}, "optimizer": {"state": {0: STATE}}}, ["optimizer"]),
    ],
)
def test_weights_may_lie_under_any_one_key(tmp_path, write_checkpoint, content, others):
    tensors, found = read_checkpoint(write_checkpoint(tmp_path / "x.pth", content))
    assert tensors.keys() == STATE.keys()
    assert found == others


def test_of_two_sets_of_weights_one_is_named(tmp_path, write_checkpoint):
    other = {"a": np.ones(3, np.float32)}
    path = write_checkpoint(tmp_path / "x.pth", {"net": STATE, "average": {"of": other}})
    assert read_checkpoint(path)[0].keys() == STATE.keys()
    assert read_checkpoint(path, "average.of")[0]["a"].shape == (3,)
    with pytest.raises(InputError, match=r"key=generator is not in .*, which holds net, average"):
        read_checkpoint(path, "generator")
    path = write_checkpoint(tmp_path / "x.pth", {"net": STATE, "average": other})
    with pytest.raises(InputError, match=r"holds tensors under net, average; say which with --key"):
        read_checkpoint(path)
    assert read_checkpoint(path, "average")[0]["a"].shape == (3,)
    path = write_checkpoint(tmp_path / "x.pth", {"a": {"b": {"c": {"d": other, "e": STATE}}}})
    assert read_checkpoint(path, "a.b.c.e")[0].keys() == STATE.keys()


def test_a_second_set_of_weights_is_said(tmp_path, write_checkpoint):
    """The model is taken, and the moving average not left out in silence."""
    content = {"model": STATE, "ema": {"state_dict": STATE}, "few": {"a": STEP}, "step": STEP}
    path = write_checkpoint(tmp_path / "x.pth", {"all": content, "epoch": 3})
    found = read_checkpoint(write_checkpoint(tmp_path / "y.pth", content))[1]
    assert found == ["ema (weights as well: --key ema)", "few", "step"]
    assert read_checkpoint(path, "all.ema.state_dict")[0].keys() == STATE.keys()
    assert read_checkpoint(path)[1][1] == "ema (weights as well: --key all.ema)"
    assert read_checkpoint(path, "all.ema")[0].keys() == STATE.keys()  # as the sentence says
    deep = {"all": {"model": STATE}, "step": STEP}  # as many tensors beside as keys within
    assert read_checkpoint(write_checkpoint(path, deep))[0].keys() == STATE.keys()


def test_repeated_numbers_take_no_space(tmp_path, write_checkpoint):
    zeros = np.broadcast_to(np.float32(0), (4096, 4096))
    path = write_checkpoint(tmp_path / "x.pth", {"zeros": zeros})
    assert path.stat().st_size < 2000
    assert read_checkpoint(path)[0]["zeros"].shape == (4096, 4096)


def rebuilt(**bits):
    """A tensor of two numbers as PyTorch calls for it where bits of it are set."""
    storage = Storage(None, "0", np.dtype(np.float32), 2, swapped=False)
    hooks = collections.OrderedDict()
    rebuild = TABLE["torch._utils", "_rebuild_tensor_v2"]
    return rebuild(storage, 0, (2,), (1,), False, hooks, *([bits] if bits else []))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v3"),
        ("torch._utils", "_rebuild_parameter_with_state"),
        ("torch._tensor", "_rebuild_from_type_v2"),
    ],
)
def test_tensors_of_other_makes_are_refused(tmp_path, module, name):
    """What they carry beside numbers would be dropped."""
    program = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")R."
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(InputError, match=f"names {module}.{name}"):
        read_checkpoint(tmp_path / "x.pth")


def test_the_negative_bit_of_a_tensor(monkeypatch):
    monkeypatch.setattr(Storage, "read", lambda _: np.array([1.5, -2], np.float32))
    np.testing.assert_array_equal(np.asarray(rebuilt()), [1.5, -2])
    np.testing.assert_array_equal(np.asarray(rebuilt(neg=False, conj=False)), [1.5, -2])
    np.testing.assert_array_equal(np.asarray(rebuilt(neg=True)), [-1.5, 2])
    assert (rebuilt(conj=True).unread, rebuilt(conj=False).unread) == (("conj",), ())


def test_a_tensor_that_carries_more_than_numbers_is_named(tmp_path, write_checkpoint, monkeypatch):
    path = write_checkpoint(tmp_path / "x.pth", {"model": STATE})
    whole = pytorch._unpickle(path)
    whole["model"]["b"] = dataclasses.replace(whole["model"]["b"], unread=("conj",))
    monkeypatch.setattr(pytorch, "_unpickle", lambda _: whole)
    with pytest.raises(InputError, match="has conj on b, beside its numbers; save it from PyTorch"):
        read_checkpoint(path)


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument", "named"),
    [
        (os.system, "touch {}", "system"),
        (eval, "open('{}', 'w')", "eval"),
        (exec, "open('{}', 'w')", "exec"),
        (getattr, "{}", "getattr"),
    ],
)
def test_nothing_a_pickle_names_is_run(tmp_path, function, argument, named):
    touched = tmp_path / "touched"
    attack = Attack(function, argument.format(touched))
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": attack}))
    with pytest.raises(InputError, match=named):
        read_checkpoint(tmp_path / "evil.pth")
    assert not touched.exists()


def test_memo_tricks_do_not_reach_builtins(tmp_path):
    """Protocol 4 takes dotted names: `collections` leads to no module of its own."""
    program = b"\x80\x04\x8c\x0bcollections\x8c\x0f_sys.modules.os\x93."
    with zipfile.ZipFile(tmp_path / "evil.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(InputError, match="nothing of it was run"):
        read_checkpoint(tmp_path / "evil.pth")


def test_reads_files_from_before_zip_archives(tmp_path, write_old_checkpoint):
    path = write_old_checkpoint(tmp_path / "x.pth", STATE)
    tensors, others = read_checkpoint(path)
    assert not others
    for name, expected in STATE.items():
        np.testing.assert_array_equal(np.asarray(tensors[name]), expected)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"checkpoint=.* is damaged \(storage 0 is too short"):
        np.asarray(read_checkpoint(path)[0]["a"])
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"checkpoint=.* is damaged"):
        read_checkpoint(path)


def test_nothing_an_old_file_names_is_run(tmp_path):
    touched = tmp_path / "touched"
    plain = [pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, {})]
    attack = pickle.dumps(Attack(os.system, f"touch {touched}"), protocol=2)
    (tmp_path / "evil.pth").write_bytes(b"".join([*plain, attack, pickle.dumps([], protocol=2)]))
    with pytest.raises(InputError, match="system"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not touched.exists()


@pytest.mark.parametrize(
    "damage", ["absent", "foreign", "cut", "no_pickle", "short", "half", "empty"]
)
def test_unusable_files_are_one_error(tmp_path, write_checkpoint, damage):
    path = tmp_path / "x.pth"
    if damage == "foreign":
        path.write_bytes(pickle.dumps(1) * 3)
    elif damage == "empty":
        write_checkpoint(path, {"model": {"epoch": 3}})
    elif damage != "absent":
        write_checkpoint(path, STATE)
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        if damage == "cut":
            content["archive/data.pkl"] = content["archive/data.pkl"][:-20]
        if damage == "no_pickle":
            del content["archive/data.pkl"]
        if damage == "short":
            content["archive/data/0"] = content["archive/data/0"][:-1]
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole = damage in ("absent", "foreign", "empty")
    with pytest.raises(InputError, match="checkpoint=" if whole else r"is damaged \("):
        np.asarray(read_checkpoint(path)[0]["a"])


def test_shapes_beyond_the_numbers_are_refused(tmp_path, write_checkpoint):
    path = write_checkpoint(tmp_path / "x.pth", {"a": np.zeros(3, np.float32)})
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    program = content["archive/data.pkl"]
    assert program.count(b"K\x03\x85") == 1  # the shape (3,)
    content["archive/data.pkl"] = program.replace(b"K\x03\x85", b"K\x63\x85")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match="beyond the end"):
        read_checkpoint(path)
