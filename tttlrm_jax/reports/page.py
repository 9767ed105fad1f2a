"""What the HTML reports share: assets, settings, data that scripts read."""

import html
import json
from importlib import resources
from typing import Any


def asset(name: str) -> str:
    """Text of a file that the package ships for its reports."""
    folder = resources.files("tttlrm_jax") / "assets" / "report"
    return (folder / name).read_text(encoding="utf-8")


def grouped(number: int) -> str:
    """Thousands apart by a narrow space: 16 384."""
    return f"{number:,}".replace(",", "\u202f")


def script_json(value: dict[str, Any]) -> str:
    """JSON that cannot end its script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def settings_table(settings: dict[str, str]) -> str:
    """Names and values, escaped, as an HTML table."""
    rows = (
        f'<tr><th>{html.escape(name)}</th><td class="wide">{html.escape(value)}</td></tr>'
        for name, value in settings.items()
    )
    return f"<table>{''.join(rows)}</table>"
