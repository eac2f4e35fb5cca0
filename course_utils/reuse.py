"""Import what another lecture teaches, from its notebook.

A class is written once, in the lecture that teaches it. `lecture("08").VAE` gives it to later lectures and to the
tests: the notebook is parsed, its imports, constants, functions and classes are kept, everything that computes is left
out, so no model is trained and no figure drawn.
"""

from __future__ import annotations

import ast
import functools
import json
import linecache
import sys
import types
from pathlib import Path

from course_utils import ROOT

NOTEBOOKS = ROOT / "notebooks"
_DEFINING = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
_PLAIN = (
    ast.Constant, ast.Name, ast.Load, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.UnaryOp, ast.BinOp, ast.unaryop,
    ast.operator, ast.JoinedStr, ast.FormattedValue, ast.Attribute, ast.Subscript, ast.Slice,
)  # fmt: skip


def _is_constant(node: ast.stmt) -> bool:
    """Whether a statement gives an UPPER_CASE name (or several) a value that takes no call to compute."""
    if not isinstance(node, ast.Assign):
        return False
    names = [name for target in node.targets for name in getattr(target, "elts", [target])]
    upper = all(isinstance(name, ast.Name) and name.id.isupper() for name in names)
    return upper and all(isinstance(part, _PLAIN) for part in ast.walk(node.value))


def definitions(path: Path) -> str:
    """Return the source of a notebook's imports, constants, functions and classes; other lines are blank.

    Cells tagged ``solution`` are left out: exercises are not what a lecture lends to others.

    Raises:
        SyntaxError: if a cell is not plain Python (say, a ``%magic``).
    """
    kept = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or "solution" in cell["metadata"].get("tags", []):
            continue
        source = "".join(cell["source"])
        for node in ast.parse(source, filename=str(path)).body:
            if isinstance(node, _DEFINING) or _is_constant(node):
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                kept.append("\n".join(source.splitlines()[first - 1 : node.end_lineno]))
    return "\n\n\n".join(kept) + "\n"


def find(number: str) -> Path:
    """Return the path of the notebook whose name starts with `number`, e.g. ``"08"`` or ``"08_variational"``.

    Raises:
        ValueError: if there is none, or more than one; the message names those that exist.
    """
    found = sorted(NOTEBOOKS.glob(f"{number}*.ipynb")) if str(number).strip() else []
    if len(found) != 1:
        names = ", ".join(path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb")))
        raise ValueError(f"lecture {number!r} names {len(found)} notebooks; choose one of: {names}")
    return found[0]


@functools.cache
def lecture(number: str) -> types.ModuleType:
    """Return what a lecture defines, as a module: ``lecture("08").VAE``.

    Args:
        number: the number of the lecture, as in the notebook's name: ``"02"``.

    Raises:
        ValueError: if no notebook has that number; the message names those that exist.
    """
    path = find(number)
    source, filename = definitions(path), f"<{path.name}>"
    module = types.ModuleType(f"lecture_{path.stem}", f"Definitions of {path.name}")
    module.__file__ = filename
    linecache.cache[filename] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        filename,
    )  # for inspect, tracebacks
    sys.modules[module.__name__] = module  # for dataclasses and inspect, which look there
    try:
        exec(compile(source, filename, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module
