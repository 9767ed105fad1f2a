"""Writes docs/api.md, the Python API, from signatures and docstrings.

`python docs/make_api.py`; a test holds the page in the repository equal to what this makes.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "api.md"
SECTIONS = (
    ("tttlrm_jax", "The front door", "`import tttlrm_jax as tj`. Names are imported when used."),
    ("tttlrm_jax.models", "Models", "Networks and pure functions of their parameters."),
    ("tttlrm_jax.ttt", "Fast weights", "The layer's mathematics and its update rules."),
    ("tttlrm_jax.rasterize", "Rasterizer", "Gaussians to images, differentiable in everything."),
)
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
    node = definition(value)
    lines += [f"```python\n{signature(node)}\n```\n", f"{inspect.getdoc(value) or ''}\n"]
    if isinstance(node, ast.ClassDef):
        lines += [f"{line}\n" for line in methods(node)]
    return "\n".join(lines)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "A table with the keys " + ", ".join(f"`{key}`" for key in sorted(value)) + "."
    return (
        f"`{value!r}`" if isinstance(value, str | int | tuple) else f"A `{type(value).__name__}`."
    )


def definition(value: Any) -> ast.ClassDef | ast.FunctionDef:
    """The definition as it stands in the source, hence the same with any version of JAX."""
    value = inspect.unwrap(value)
    tree = ast.parse(Path(inspect.getfile(value)).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == value.__name__:
            return node
    raise LookupError(f"{value} is not defined at the top of its module")


def signature(node: ast.ClassDef | ast.FunctionDef) -> str:
    """`def` with its annotations, or `class` with its public fields."""
    if isinstance(node, ast.ClassDef):
        return "\n".join([f"class {node.name}:", *(f"    {field}" for field in fields(node))])
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


def fields(node: ast.ClassDef) -> Iterator[str]:
    """Annotated public fields of a class."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_"):
            yield ast.unparse(item)


def methods(node: ast.ClassDef) -> Iterator[str]:
    """Public methods and properties as a list, each with its docstring."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            names = {ast.unparse(decorator) for decorator in item.decorator_list}
            call = item.name if "property" in names else f"{item.name}({_without_self(item)})"
            text = ast.get_docstring(item) or ""
            yield f"- **`.{call}`** " + text.replace("\n\n", "\n\n  ").replace("\n", "\n  ")


def _without_self(item: ast.FunctionDef) -> str:
    return re.sub(r"^(self|cls)(, )?", "", ast.unparse(item.args))


if __name__ == "__main__":
    sys.path.insert(0, str(PAGE.parents[1]))  # the package beside this page
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
