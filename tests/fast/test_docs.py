"""What the pages say is there: links, files, modules, fields of configurations; examples run."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import SequenceRunConfig

ROOT = Path(__file__).resolve().parents[2]
NOT_TODAY = ("CHANGELOG.md",)  # says what things were called
PAGES = [
    page
    for page in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
    if page.name not in NOT_TODAY
]
FOLDERS = "benchmarks|configs|docs|examples|experiments|launch|tests|tttlrm_jax"
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED_PATH = re.compile(rf"(?<![\w/.(\[-])((?:{FOLDERS})/[\w/.*-]*[\w*/])")
NAMED_FILE = re.compile(r"`([\w/]+/\w+\.py)`")  # in the repository, or short for one in the package
NAMED_MODULE = re.compile(r"python3? -m ([\w.]+)")
NAMED_OBJECT = re.compile(r"\btttlrm_jax(?:\.\w+)+")
OPTION = re.compile(r"--(?:\d\.)?(data|loss|mesh|model|optimizer|raster|train)\.([\w.-]+)")
FIELD = re.compile(r"`(data|loss|mesh|optimizer|raster|train)\.(?!py`)([\w.]+)[`=]")
CHECKS = {  # of what a page's examples leave behind
    "functions": "assert images.shape == (1, 2, 32, 48, 3) and 0 < error < 1\n"
    "assert gaussians.mean.shape == shown.mean.shape == (1, 3072, 3)\n"
    "assert jax.tree.structure(gradient) == jax.tree.structure(params)\n"
    "assert state.num_views.tolist() == [2]\n",
}
OFTEN = ("README",)  # its examples run by default, those of other pages are extended
OUTSIDE = ("pip", "venv", "pytest", "http.server")  # modules that are not ours
RUNS = re.compile(r"<!-- runs -->\n```python\n(.*?)```", re.DOTALL)
WRITTEN_BY_COMMANDS = re.compile(r"(NAME|DIR|FOLDER|CURRICULUM)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The names GitHub gives to the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{page.relative_to(ROOT)}: {link}"


def missing_paths(page: Path) -> Iterator[str]:
    for name in NAMED_PATH.findall(text_of(page)):
        if not WRITTEN_BY_COMMANDS.search(name) and not any(ROOT.glob(name.rstrip("/"))):
            yield f"{page.relative_to(ROOT)}: {name}"
    for name in NAMED_FILE.findall(text_of(page)):
        if not any((folder / name).is_file() for folder in (ROOT, ROOT / "tttlrm_jax")):
            yield f"{page.relative_to(ROOT)}: {name}"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def missing_modules(page: Path) -> Iterator[str]:
    for name in NAMED_MODULE.findall(text_of(page)):
        if name not in OUTSIDE and not is_module(name):
            yield f"{page.relative_to(ROOT)}: python -m {name}"


def exists_in_package(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: typing.Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def missing_objects(page: Path) -> Iterator[str]:
    for name in sorted(set(NAMED_OBJECT.findall(text_of(page)))):
        if not exists_in_package(name):
            yield f"{page.relative_to(ROOT)}: {name}"


def is_field(section: str, name: str) -> bool:
    """Whether a run's configuration has `section.name`, perhaps deeper."""
    kinds = (typing.get_type_hints(run).get(section) for run in (RunConfig, SequenceRunConfig))
    return any(has_field(kind, name) for kind in kinds)


def has_field(kind: typing.Any, name: str) -> bool:
    for part in name.replace("-", "_").split("."):
        if not dataclasses.is_dataclass(kind):
            return False
        hints = typing.get_type_hints(kind)
        if part not in hints:
            return False
        kind = hints[part]
    return True


def missing_fields(page: Path) -> Iterator[str]:
    text = text_of(page)
    for section, name in (*OPTION.findall(text), *FIELD.findall(text)):
        if not is_field(section, name):
            yield f"{page.relative_to(ROOT)}: {section}.{name}"


@pytest.mark.parametrize(
    "problems", [broken_links, missing_paths, missing_modules, missing_objects, missing_fields]
)
def test_pages_name_what_is_there(problems):
    assert [line for page in PAGES for line in problems(page)] == []


def test_checks_find_what_is_not_there(monkeypatch):
    """Each of them, on a page that names things of its kind that do not exist."""
    text = (
        "[a](nowhere.md) [b](#no-such-heading) configs/none.py `rasterize/none.py`\n"
        "python -m benchmarks.none `tttlrm_jax.none.thing` `tttlrm_jax.core.types.Nothing`\n"
        "--data.none `loss.none`\n"
    )
    monkeypatch.setitem(globals(), "text_of", lambda page: text)
    page = ROOT / "docs" / "index.md"
    assert len(list(broken_links(page))) == 2
    assert len(list(missing_paths(page))) == 2
    assert len(list(missing_modules(page))) == 1
    assert len(list(missing_objects(page))) == 2
    assert len(list(missing_fields(page))) == 2


def test_readme_commands_between_markers_are_complete():
    """CI runs them word for word."""
    for marker, last in (("main", "eval.py"), ("tests", "pytest")):
        pattern = rf"<!-- {marker} -->\n```bash\n(.*?)\n```\n<!-- end -->"
        (block,) = re.findall(pattern, text_of(ROOT / "README.md"), re.DOTALL)
        assert block.startswith("python3 -m venv")
        assert block.endswith(last)


def test_api_page_is_what_the_docstrings_make():
    path = ROOT / "docs" / "make_api.py"
    spec = importlib.util.spec_from_file_location("make_api", path)
    assert spec is not None
    assert spec.loader is not None
    make_api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_api)
    assert text_of(make_api.PAGE) == make_api.page(), "run python docs/make_api.py"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page.stem in OFTEN else pytest.mark.extended)
        for page in PAGES if RUNS.search(text_of(page))
    ],
    ids=lambda page: page.stem,
)  # fmt: skip
def test_examples_run(page, tmp_path):
    """A page's examples marked `runs`, one after the other, in a process without our settings."""
    code = "\n".join(RUNS.findall(text_of(page))) + CHECKS.get(page.stem, "")
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
