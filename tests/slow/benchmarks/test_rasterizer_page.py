"""The examples of docs/guides/rasterizer.md run as they stand, and reach what they are for."""

import re
from pathlib import Path

import jax
import pytest

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "rasterizer.md").read_text()
EXAMPLES = re.findall(r"## (.*?)\n[^#]*?```python\n(.*?)```", PAGE, re.DOTALL)


def test_page_has_both_examples():
    assert [title for title, _ in EXAMPLES] == ["Fit an image", "Fit a scene"]


@pytest.mark.parametrize(("title", "code"), EXAMPLES[:2], ids=["image", "scene"])
def test_example_runs(title, code):
    names: dict = {}
    with jax.numpy_rank_promotion("allow"):  # as users have it
        exec(compile(code, title, "exec"), names)
    if title == "Fit an image":
        assert names["mean_squared_error"] < 2e-3  # 27 dB
    else:
        assert names["losses"][-1] < 0.2 * names["losses"][0]
        assert not names["dropped"].any()
