"""Values for JSON files, which know neither NaN nor infinity."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same tree of dictionaries and lists with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
