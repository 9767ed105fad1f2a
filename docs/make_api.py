"""Writes docs/api.md, the Python API, from signatures and docstrings.

`python docs/make_api.py`; a test holds the page in the repository equal to what this makes.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Definition = ast.ClassDef | ast.FunctionDef
PAGE = Path(__file__).resolve().parent / "api.md"
SECTIONS = (
    ("tttlrm_jax", "The front door", "`import tttlrm_jax as tj`. Names are imported when used."),
    ("tttlrm_jax.models", "Models", "Networks and pure functions of their parameters."),
    ("tttlrm_jax.ttt", "Fast weights", "The layer's mathematics and its update rules."),
    ("tttlrm_jax.rasterize", "Rasterizer", "Gaussians to images, differentiable in everything."),
    (
        "tttlrm_jax.per_scene",
        "One scene",
        "Gaussians refined on, or fitted to, photographs.",
    ),
)
INSIDE = {  # methods that the commands use, not for users
    "SceneModel": ("gaussians_of",),
    "ViewSynthesisModel": ("compiled",),
    "SceneStream": ("of", "resumed", "begun", "live", "advance", "write"),
}
HEADER = """# Python API

Made from the docstrings by `python docs/make_api.py`; do not edit. The guide
[From models to pure functions](guides/functions.md) shows how the parts are used together.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEADER, *(section(*entry) for entry in SECTIONS)])


def section(module_name: str, title: str, text: str) -> str:
    """The public names of one module."""
    module = importlib.import_module(module_name)
    entries = [entry(name, getattr(module, name)) for name in sorted(module.__all__)]
    return "\n".join([f"## {title}: `{module_name}`\n", f"{text}\n", *entries])


def entry(name: str, value: Any) -> str:
    """One name: heading, signature, docstring and, of a class, its public methods."""
    lines = [f"### `{name}`\n"]
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return "\n".join([*lines, f"{_kind(value)}\n"])
    nodes = definitions(value)
    lines += [f"```python\n{signature(nodes)}\n```\n", f"{docstring(nodes[0])}\n"]
    return "\n".join([*lines, *(f"{line}\n" for line in methods(nodes))])


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "A table with the keys " + ", ".join(f"`{key}`" for key in sorted(value)) + "."
    return f"A `{type(value).__name__}`."


def definitions(value: Any) -> list[Definition]:
    """A function, or a class and its bases of this package, as they stand in the source.

    Hence the same with any version of Python and JAX.
    """
    value = inspect.unwrap(value)
    kinds = inspect.getmro(value) if inspect.isclass(value) else (value,)
    return [_definition(kind) for kind in kinds if kind.__module__.startswith("tttlrm_jax.")]


def _definition(value: Any) -> Definition:
    tree = ast.parse(Path(inspect.getfile(value)).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == value.__name__:
            return node
    raise LookupError(f"{value} is not defined at the top of its module")


def docstring(node: Definition) -> str:
    """A docstring without the indentation of the code around it."""
    text = ast.get_docstring(node, clean=False) or ""
    margin = " " * node.body[0].col_offset
    return "\n".join(line.removeprefix(margin).rstrip() for line in text.splitlines()).strip()


def signature(nodes: list[Definition]) -> str:
    """`def` with its annotations, or `class` with its public fields and those of its bases."""
    node = nodes[0]
    if isinstance(node, ast.ClassDef):
        lines = [f"    {field}" for kind in reversed(nodes) for field in fields(kind)]
        return "\n".join([f"class {node.name}:", *(lines or ["    ..."])])
    arguments, result = ast.unparse(node.args), node.returns and ast.unparse(node.returns)
    one_line = f"def {node.name}({arguments})" + (f" -> {result}" if result else "")
    if len(one_line) <= 96:
        return one_line
    inner = "".join(f"    {argument},\n" for argument in split_arguments(node.args))
    return f"def {node.name}(\n{inner})" + (f" -> {result}" if result else "")


def split_arguments(arguments: ast.arguments) -> Iterator[str]:
    """The arguments of a long signature, one each."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    yield from map(_argument, plain, defaults)
    if arguments.vararg:
        yield "*" + ast.unparse(arguments.vararg)
    elif arguments.kwonlyargs:
        yield "*"
    yield from map(_argument, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        yield "**" + ast.unparse(arguments.kwarg)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")


def fields(node: Definition) -> Iterator[str]:
    """Annotated public fields of a class."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            yield ast.unparse(item)


def methods(nodes: list[Definition]) -> Iterator[str]:
    """Public methods and properties as a list, each with its docstring, own ones first."""
    seen: set[str] = set()
    for node in nodes:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef) and item.name not in seen:
                if item.name in INSIDE.get(node.name, ()):
                    continue
                seen.add(item.name)
                if not item.name.startswith("_") or item.name == "__call__":
                    yield _method(item)


def _method(item: ast.FunctionDef) -> str:
    decorators = {ast.unparse(d).rpartition(".")[2] for d in item.decorator_list}
    is_property = decorators & {"property", "cached_property"}
    name = "" if item.name == "__call__" else f".{item.name}"
    call = name if is_property else f"{name}({names_of(item.args)})"
    return textwrap.indent(f"**`{call}`** {docstring(item)}".rstrip(), "  ").replace("  ", "- ", 1)


def names_of(arguments: ast.arguments) -> str:
    """Arguments and defaults of a method, without annotations and without `self`."""
    every = [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    for argument in every:
        if argument is not None:
            argument.annotation = None
    return re.sub(r"^(self|cls)(, )?", "", ast.unparse(arguments))


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))  # the package beside this page
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
