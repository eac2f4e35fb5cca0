"""Run a lecture at full budget, and measure what every lecture costs.

    python -m course_utils.run full 08              lecture 08 with its full-budget values
    python -m course_utils.run full 08 epochs=50    the same, with one knob changed
    python -m course_utils.run bench                run time and peak memory of every lecture

Each line of a notebook's `parameters` cell sets one knob, and its comment holds the full-budget value:

    epochs = 30  # full: 200 — passes over the training set
    seed = 0  # — no full-budget value: the same in both budgets
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from course_utils import ROOT, reuse

BUILD = ROOT / "_build"
_COMMENT = re.compile(r"#\s*(?:full:\s*(?P<full>.+?)\s+)?—\s+(?P<meaning>\S.*)")


class Knob(NamedTuple):
    """One line of a `parameters` cell; `full` equals `quick` where the line gives no full-budget value."""

    name: str
    quick: Any
    full: Any
    meaning: str


def parse_knobs(source: str) -> list[Knob]:
    """Return the knobs that the source of a `parameters` cell sets, in order.

    Raises:
        ValueError: naming the line that is not `name = literal  # full: literal — meaning`.
    """
    knobs = []
    for line in filter(str.strip, source.splitlines()):
        try:
            [statement] = ast.parse(line).body
            [target] = statement.targets
            comment = _COMMENT.fullmatch(line.encode()[statement.end_col_offset :].decode().strip())
            quick = ast.literal_eval(statement.value)
            full = quick if comment["full"] is None else ast.literal_eval(comment["full"])
            knobs.append(Knob(target.id, quick, full, comment["meaning"]))
        except (AttributeError, SyntaxError, TypeError, ValueError) as error:
            example = "epochs = 30  # full: 200 — meaning"
            raise ValueError(f"cannot read {line!r} in the parameters cell; write it as: {example}") from error
    return knobs


def full_values(knobs: Sequence[Knob], settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return the full-budget value of every knob, some of them changed by settings such as ``epochs=50``.

    Raises:
        ValueError: for a setting of no knob, or one whose value is not a Python literal.
    """
    values = {knob.name: knob.full for knob in knobs}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in values:
            raise ValueError(f"cannot set {setting!r}; write name=value with one of the knobs: {', '.join(values)}")
        try:
            # a shell takes the quotes of a string away
            values[name] = text.strip("\"'") if isinstance(values[name], str) else ast.literal_eval(text)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"cannot read the value in {setting!r}; write it like {values[name]!r}") from error
    return values


def full(lecture: str, settings: Sequence[str] = ()) -> Path:
    """Run a lecture, such as "08", with its full-budget values; return the executed notebook, in `_build/full/`.

    Raises:
        ValueError: for an unknown lecture, a wrong setting, or a notebook without one cell tagged `parameters`.
        RuntimeError: if a cell fails; the notebook up to there is kept.
    """
    import nbformat
    import papermill

    notebook = reuse.find(lecture.zfill(2))
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{notebook.name} has {len(tagged)} cells tagged parameters; it needs exactly one")
    knobs = parse_knobs(tagged[0])
    values = full_values(knobs, settings)
    if all(knob.full == knob.quick for knob in knobs):
        print(f"{notebook.name} has no full-budget values: it runs with its defaults.")
    for knob in knobs:
        print(f"{knob.name} = {values[knob.name]!r}  # quick: {knob.quick!r} — {knob.meaning}")
    output = BUILD / "full" / notebook.name
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(notebook, output, values, cwd=notebook.parent)
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"{error}\nthe notebook up to there: {output}") from None
    print(f"Done: {output}")
    return output


def bench() -> str:
    """Run every notebook in a fresh process; return a Markdown table, also written to `_build/bench.md`.

    The wall time includes the start of the kernel; the memory is the largest resident size that the kernel reached.

    Raises:
        RuntimeError: naming the notebook that fails.
    """
    (BUILD / "bench").mkdir(parents=True, exist_ok=True)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    rows = ["| notebook | wall time (s) | peak memory (MB) | code cells |", "|:--|--:|--:|--:|"]
    for notebook in sorted(reuse.NOTEBOOKS.glob("*.ipynb")):
        output = BUILD / "bench" / notebook.name
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(notebook.parent)]
        start = time.perf_counter()
        process = subprocess.Popen([*command, str(notebook), str(output)])
        _, status, usage = os.wait4(process.pid, 0)  # usage: the larger of papermill and the kernel that it started
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{notebook.name} fails; the notebook up to there: {output}")
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        count = sum(cell["cell_type"] == "code" for cell in cells)
        rows.append(f"| {notebook.stem} | {seconds:.1f} | {usage.ru_maxrss * unit / 1e6:.0f} | {count} |")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    rows += ["", f"Python {platform.python_version()}, torch {version('torch')}, {machine}", ""]
    (BUILD / "bench.md").write_text("\n".join(rows), encoding="utf-8")
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> None:
    """Run the command line: ``full LECTURE [name=value …]`` or ``bench``."""
    try:
        match arguments:
            case ["full", lecture, *settings]:
                full(lecture, settings)
            case ["bench"]:
                print(bench())
            case _:
                sys.exit(__doc__)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
