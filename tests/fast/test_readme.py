"""What the README shows runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = "assert rendering.rgb.shape == (2, 32, 48, 3) and gaussians.mean.shape == (1, 3072, 3)"
    result = subprocess.run(
        [sys.executable, "-c", example + check], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_named_file_exists():
    named = set(re.findall(r"`?((?:configs|docs|tttlrm_jax)/[\w/]+\.\w+)`?", README))
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_commands_between_markers_are_complete():
    for marker, last in (("main", "eval.py"), ("tests", "pytest")):
        pattern = rf"<!-- {marker} -->\n```bash\n(.*?)\n```\n<!-- end -->"
        (block,) = re.findall(pattern, README, re.DOTALL)
        assert block.startswith("python3 -m venv")
        assert block.endswith(last)
