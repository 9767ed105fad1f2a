"""The scripts in examples/ run as they stand, at sizes that take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
MAX_LINES = 40


def run(name: str, directory: Path, *arguments: str) -> str:
    said = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments], cwd=directory, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_every_script_is_short_and_run_here():
    here = Path(__file__).read_text()
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 5
    assert [path.name for path in scripts if f'run("{path.stem}"' not in here] == []
    assert [path.name for path in scripts if path.read_text().count("\n") > MAX_LINES] == []


@pytest.mark.extended
def test_reconstruct(tmp_path):
    assert "PSNR 19.55 dB" in run("reconstruct", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scene.ply", "scene.splat", "view.png"}


@pytest.mark.extended
def test_stream(tmp_path):
    said = run("stream", tmp_path)
    assert "10 views, of which 8 before it was saved" in said
    assert (tmp_path / "state" / "state.json").is_file()
    assert (tmp_path / "streamed.ply").stat().st_size > 10_000


@pytest.mark.extended
def test_fit_scene_learns_the_sample(tmp_path):
    """The mean colour of the inputs has 11 dB."""
    said = run("fit_scene", tmp_path, "--side", "16", "--steps", "70", "--seconds", "1000")
    assert float(said.split("held-out PSNR ")[1].split()[0]) > 17
    assert {path.name for path in tmp_path.iterdir()} == {"fitted.ply", "fitted.splat"}


@pytest.mark.extended
def test_update_rule(tmp_path):
    muon, own = run("update_rule", tmp_path).splitlines()
    assert muon.startswith("muon: PSNR 19.55 dB")
    assert own.startswith("unit_ascent(length=0.5): PSNR ")


@pytest.mark.extended
def test_train_on_captures(tmp_path, tiny_capture_source):
    small = ("--steps", "2", "--side", "16", "--width", "32")
    said = run("train_on_captures", tmp_path, str(tiny_capture_source), *small)
    assert "held-out PSNR" in said
    assert (tmp_path / "runs" / "mine" / "config.json").is_file()
