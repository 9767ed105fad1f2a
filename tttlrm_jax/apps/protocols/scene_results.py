"""What a protocol has measured so far, on disk: whole at every moment, and gone on with later.

`protocol.json` says what is measured, `scenes/NAME-Nviews.json` holds one scene with one number of
input views, `scenes.csv` a line for each of their rows, `table.json` and `table.md` the means.
"""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.output_directory import creation_errors, disk_errors
from tttlrm_jax.core.files.whole_files import draft_of, write_whole

SETTINGS_FILE, CSV_FILE, SCENE_FOLDER = "protocol.json", "scenes.csv", "scenes"
TABLE_FILE, TEXT_FILE = "table.json", "table.md"
COLUMNS = (
    "scene", "views", "method", "steps", "psnr", "ssim", "lpips", "seconds",
    "render_seconds_per_view", "num_gaussians", "targets",
)  # fmt: skip


class Results:
    """Records of scenes by name and number of input views, and the directory they are in."""

    def __init__(self, directory: Path, records: dict[tuple[str, int], dict[str, Any]]):
        self.directory, self.records = directory, records

    def has(self, scene: str, views: int, rows: Collection[tuple[str, int]]) -> bool:
        """Whether a scene was measured with so many views, with all rows (method, steps)."""
        record = self.records.get((scene, views), {"rows": ()})
        return set(rows) <= {_kind(row) for row in record["rows"]}

    def add(self, record: dict[str, Any]) -> None:
        """Keeps a record, with those rows of an earlier one that it has not, and writes it.

        Raises InputError where the disk does not take it.
        """
        key = record["scene"], record["views"]
        new = {_kind(row) for row in record["rows"]}
        earlier = self.records.get(key, {"rows": []})["rows"]
        kept = [row for row in earlier if _kind(row) not in new]
        self.records[key] = record = record | {"rows": [*record["rows"], *kept]}
        with disk_errors(self.directory, self.directory):
            folder = self.directory / SCENE_FOLDER
            folder.mkdir(exist_ok=True)
            write_whole(folder / f"{key[0]}-{key[1]}views.json", _json(record))

    def write_table(self, table: dict[str, Any], text: str) -> None:
        """Writes the lines of all records, and their means as numbers and as text."""
        with disk_errors(self.directory, self.directory):
            write_whole(self.directory / CSV_FILE, self.lines())
            write_whole(self.directory / TABLE_FILE, _json(table))
            write_whole(self.directory / TEXT_FILE, text + "\n")

    def ordered(self) -> list[dict[str, Any]]:
        """Records by number of views, then in natural order of their scenes."""
        by_name = natural_order(self.records.values(), lambda record: record["scene"])
        return sorted(by_name, key=lambda record: record["views"])

    def lines(self) -> str:
        """The text of the CSV file: a line for each row of `ordered`."""
        stream = io.StringIO()
        writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for record in self.ordered():
            known = {"scene": record["scene"], "views": record["views"]}
            for row in record["rows"]:
                writer.writerow(known | row | {"targets": len(record["targets"])})
        return stream.getvalue()


def _kind(row: dict[str, Any]) -> tuple[str, int]:
    return row["method"], row["steps"]


@contextlib.contextmanager
def open_results(output: Path, settings: dict[str, Any], resume: bool) -> Iterator[Results]:
    """An empty output directory, or with `resume` one that a run of these settings has begun.

    It is taken back where no record came of it. Raises InputError for a directory of something
    else, one that was begun with other settings, and where it cannot be written.
    """
    new = [path for path in (output, *output.parents) if not path.exists()]
    results = _opened(output, settings, resume)
    try:
        yield results
    finally:
        if not results.records:
            for name in (SETTINGS_FILE, CSV_FILE, TABLE_FILE, TEXT_FILE):
                (output / name).unlink(missing_ok=True)
            shutil.rmtree(output / SCENE_FOLDER, ignore_errors=True)
            with contextlib.suppress(OSError):  # where others have put files
                for path in new:
                    path.rmdir()


def _opened(output: Path, settings: dict[str, Any], resume: bool) -> Results:
    """The results, in a directory that is begun by one file; nothing of them is older than it."""
    begun = output / SETTINGS_FILE
    if begun.is_file():
        if not resume:
            raise InputError.of(
                "output", output, "holds results of an earlier run",
                "add --resume to go on, or choose another directory (--output)",
            )  # fmt: skip
        _check_same(output, _read(begun), settings)
        return Results(output, _records(output / SCENE_FOLDER))
    files = [output] if output.is_file() else output.glob("*")
    if any(path.name != draft_of(begun).name for path in files):
        raise InputError.of(
            "output", output, "holds files of another program", "choose a new directory"
        )
    with creation_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        write_whole(begun, _json(settings))
    return Results(output, {})


def _records(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    records = [_read(path) for path in sorted(folder.glob("[!.]*.json"))]
    return {(record["scene"], record["views"]): record for record in records}


def _check_same(output: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raises InputError that names the first setting which differs."""
    before, now = _flat(old), _flat(json.loads(_json(new)))
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            raise InputError.of(
                name, now.get(name), f"is not the {before.get(name)} that {output} was begun with",
                "go on with that, or choose another directory (--output)",
            )  # fmt: skip


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return flat


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError.of(
            "output", path, f"cannot be read ({error})", "remove it, to measure it again"
        ) from None


def _json(values: Any) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"
