"""A configuration file is the user's program: whatever it does wrong is one sentence."""

import os

import pytest

from tttlrm_jax.apps.train import load_config_file, main
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import ConfigError

GOOD = "from tttlrm_jax.config import RunConfig, TrainConfig\n"


def write(directory, text):
    (directory / "broken.py").write_text(text)
    return directory / "broken.py"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import sys\nsys.exit(3)\n", r"line 2 calls sys\.exit\(3\) instead of defining CONFIG"),
        ("raise SystemExit\n", r"line 1 calls sys\.exit\(None\)"),
        ("\n\nX = 1 / 0\n", r"line 3 fails \(ZeroDivisionError: division by zero\)"),
        ("def f():\n    return {}['a']\n\n\nf()\n", r"line 2 fails \(KeyError: 'a'\)"),
        ("import json\njson.loads('{')\n", r"line 2 fails \(JSONDecodeError: .*\)"),
        ("CONFIG = (\n", r"line 1 fails \(SyntaxError: .*\)"),
        ("raise ValueError('two\\nlines')\n", r"line 1 fails \(ValueError: two lines\)"),
        ("import tttlrm_jax.no_such_part\n", r"line 1 fails \(ModuleNotFoundError"),
        (GOOD + "CONFIG = RunConfig(name='a/b')\n", r"line 2: name='a/b' is not the name"),
        (GOOD + "CONFIG = RunConfig(nme='x')\n", r"line 2 fails \(TypeError: .*nme"),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_mistake_is_named_with_its_line(tmp_path, monkeypatch, capsys, text, words, relative):
    path = write(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    path = path.relative_to(tmp_path) if relative else path
    with pytest.raises(ConfigError, match=rf"configuration file {path}, {words}") as error:
        load_config_file(path)
    assert "\n" not in str(error.value)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err == f"error: {error.value}\n"


def test_an_interrupt_is_not_a_mistake(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        load_config_file(write(tmp_path, "raise KeyboardInterrupt\n"))


def test_a_config_file_that_cannot_be_read(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"configuration file .*broken\.py.* fails \(SyntaxError"):
        load_config_file(path)


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a/b", "/tmp/x", "a\\b", "a\0b"])
def test_a_run_name_is_one_directory(tmp_path, monkeypatch, capsys, name):
    """Nothing is written outside of train.directory, nor into it itself."""
    path = write(tmp_path, GOOD + "CONFIG = RunConfig(name='good')\n")
    monkeypatch.chdir(tmp_path)
    assert main([str(path), "--name", name]) == 2
    error = capsys.readouterr().err
    assert f"name={name!r} is not the name of a directory" in error
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == ["broken.py"]


@pytest.mark.parametrize("name", ["quickstart", "run 2", "v1.2", ".hidden", "größe", "..a"])
def test_other_run_names_are_free(name):
    assert RunConfig(name=name).name == name
