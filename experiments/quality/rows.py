"""Rows of `experiments.quality` from one call to the next."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tttlrm_jax.core.errors import InputError


class GrowingTable:
    """Rows by group, number of views and method; groups stay in the order they came in."""

    def __init__(self, earlier: Sequence[dict]):
        self._rows: dict[tuple[str, int, str], dict] = {}
        self.add(earlier)

    def add(self, rows: Sequence[dict]) -> None:
        """Takes rows in, in place of those of the same group, views and method."""
        self._rows |= {(row["group"], row["views"], row["method"]): row for row in rows}

    def measured(self, group: str, views: int, wanted: Mapping[str, int]) -> set[str]:
        """Which of the wanted methods have a row of as many scenes as wanted."""
        rows = {name: self._rows.get((group, views, name)) for name in wanted}
        return {name for name, row in rows.items() if row and row["scenes"] == wanted[name]}

    def rows(self, methods: Sequence[str]) -> list[dict]:
        """All rows: group by group, by number of views, by the order of `methods` (others last)."""
        groups = list(dict.fromkeys(group for group, _, _ in self._rows))
        places = {name: place for place, name in enumerate(methods)}

        def order(row: dict) -> tuple[int, int, int]:
            last = len(places)
            return groups.index(row["group"]), row["views"], places.get(row["method"], last)

        return sorted(self._rows.values(), key=order)


def rows_of(output: str | None, settings: dict) -> tuple[list[dict], dict]:
    """Rows of an earlier call in its `output` file, none where there is no such file, and the
    settings with digests of weights that only that file knows.

    Raises InputError for a file that is not one, or was measured with other `settings`.
    """
    if output is None or not Path(output).exists():
        return [], settings
    settings = json.loads(json.dumps(settings))  # as a file has them: tuples are lists
    try:
        found = json.loads(Path(output).read_text(encoding="utf-8"))
        rows, before = found["rows"], {name: found[name] for name in settings}
        _fill(settings["weights"], before["weights"])
        _fill(before["weights"], settings["weights"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError.of(
            "--output", output, f"is there and is no table of this command ({error!r})",
            "name another file",
        ) from error  # fmt: skip
    for name, value in settings.items():
        if before[name] != value:
            raise InputError.of(
                "--output", output, f"was measured with {name}={before[name]!r}, now {value!r}",
                "name another file, or measure as before to go on with it",
            )  # fmt: skip
    print(f"{output}: going on with its {len(rows)} rows", file=sys.stderr)
    return rows, settings


def _fill(weights: dict, others: Mapping) -> None:
    """Takes digests over where there is none, of directories that were not there."""
    for name, digest in others.items():
        weights[name] = weights.get(name) or digest
