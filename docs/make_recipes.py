"""Writes docs/recipes.md, the published training beside ours, from configs/paper.py.

`python docs/make_recipes.py`; a test holds the page in the repository equal to what this makes.
"""

import dataclasses
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.config.user_file import run_user_file

PAGE = Path(__file__).resolve().parent / "recipes.md"
CONFIGS = PAGE.parents[1] / "configs"
PAPER: Any = run_user_file(CONFIGS / "paper.py", "file", "stating the paper", "restore it")
VIEWS = "input views"
HEADER = """# The paper's training beside ours

Made from `configs/paper.py` by `python docs/make_recipes.py`; do not edit. That file states what
arXiv 2602.20160v2 says, with the section: B.1 and B.2 of the supplement (training of Gaussians and
of triplanes), A (more results), "text" (the main part), "code" (what only the published
configuration shows), "LaCT" (the recipe of the network it starts from).
`tests/fast/config/test_paper.py` holds every stage to it, and `train.py CONFIG --help` prints what
differs. None of these has been run: it takes a cluster.

Both curricula begin with one more stage, `view_synthesis`: an LVSM on the data of the next one,
whose trunk that takes, as the paper starts from a pre-trained one. No numbers of it were published;
rate and warm-up are LaCT's, length and batch those of the next stage.

A number in square brackets refers to the reasons below a table; a value in round ones is ours.
"""


def file_of(name: str) -> Path:
    """The configuration file of a name in `configs/paper.py`."""
    return next(CONFIGS.rglob(f"{name}.py"))


def stages_of(name: str) -> list[RunConfig]:
    """The stages that were published: a curriculum's without that of an LVSM, or the run."""
    config = load_config_file(file_of(name))
    stages = config.stages if isinstance(config, CurriculumConfig) else (config,)
    return [stage for stage in stages if stage.name != PAPER.PRETRAINING]  # type: ignore[misc]


def value_of(run: RunConfig, field: str) -> Any:
    """A field by its dotted name, or the fewest and the most input views of a step."""
    if field == VIEWS:
        counts = run.train.view_counts or (run.data.num_input_views,)
        return min(counts), max(counts)
    return operator.attrgetter(field)(run)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of fields, and their values."""
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value) and field.name != "rule":
            yield from leaves(value, f"{name}.")
        else:
            yield name, value


DEFAULTS = dict(leaves(RunConfig(name="default")))


def differences(name: str, stage: str) -> dict[str, Any]:
    """Those of a stage by field; what holds for all stages gives way to its own."""
    of_all = {d.field: d for d in PAPER.DIFFERENCES[name] if d.stage == "*"}
    return of_all | {d.field: d for d in PAPER.DIFFERENCES[name] if d.stage == stage}


def silent_fields(run: RunConfig, published: Any) -> list[str]:
    """Fields of a stage that are neither published nor at their defaults."""
    named = published.fields
    return [f for f, value in leaves(run) if f not in named and value != DEFAULTS[f]]


def page() -> str:
    """The text of the page."""
    tables = "\n".join(_table(name) for name in PAPER.STAGES)
    return f"{HEADER}\n{tables}\n{_triplanes()}"


def _table(name: str) -> str:
    stages, runs = PAPER.STAGES[name], stages_of(name)
    fields = list(dict.fromkeys(field for stage in stages for field in stage.fields))
    path = file_of(name).relative_to(CONFIGS.parent)
    lines = [f"## `{path}`", "", "| field | section | " + " | ".join(s.name for s in stages) + " |"]
    lines.append("|---" * (len(stages) + 2) + "|")
    for field in fields:
        sections = dict.fromkeys(s.fields[field].section for s in stages if field in s.fields)
        cells = [_cell(name, s, run, field) for s, run in zip(stages, runs, strict=True)]
        lines.append(f"| {_label(field)} | {', '.join(sections)} | " + " | ".join(cells) + " |")
    lines += ["", "On purpose:", ""]
    lines += [f"{number}. {entry}" for number, entry in enumerate(PAPER.DIFFERENCES[name], start=1)]
    silent = dict.fromkeys(
        field
        for stage, run in zip(stages, runs, strict=True)
        for field in silent_fields(run, stage)
    )
    lines += ["", "Ours, where the paper is silent:", ""]
    lines += [f"- `{field}`: {PAPER.OURS[field]}" for field in silent]
    return "\n".join([*lines, ""])


def _label(field: str) -> str:
    """Fields as code; what no field says alone in words."""
    return {VIEWS: VIEWS, "data.image_size": "height x width"}.get(field, f"`{field}`")


def _cell(name: str, stage: Any, run: RunConfig, field: str) -> str:
    ours = _shown(field, value_of(run, field))
    difference = differences(name, stage.name).get(field)
    if field not in stage.fields:
        return f"({ours})" if difference is None else f"{ours} [{_number(name, difference)}]"
    if difference is None:
        return ours
    published = _shown(field, stage.fields[field].value)
    text = ours if ours == published else f"{ours}, not {published}"
    return f"{text} [{_number(name, difference)}]"


def _number(name: str, difference: Any) -> int:
    return PAPER.DIFFERENCES[name].index(difference) + 1


def _shown(field: str, value: Any) -> str:
    if field == VIEWS:
        return " to ".join(map(str, dict.fromkeys(value)))
    if isinstance(value, tuple):
        return " x ".join(f"{part:g}" for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _triplanes() -> str:
    lines = ["## Triplanes (B.2)", "", "What was published of the second decoder:", ""]
    fields = list(PAPER.TRIPLANE_STAGES[0].fields)
    lines.append("| field | " + " | ".join(s.name for s in PAPER.TRIPLANE_STAGES) + " |")
    lines.append("|---" * (len(PAPER.TRIPLANE_STAGES) + 1) + "|")
    for field in fields:
        cells = [_shown(field, s.fields[field].value) for s in PAPER.TRIPLANE_STAGES]
        lines.append(f"| {_label(field)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
