"""Every assignment, proven both ways: what is right gets all points, each mistake loses its task and nothing else.

Mistakes run here as plain Python, a second for all; the sandbox and the book of grades are run once for each
assignment, at the end, and `test_sandbox.py` tries what a hostile submission may do.
"""

import contextlib
import copy
import csv
import importlib.util
import io
import re
import symtable
import sys
from pathlib import Path

import matplotlib.pyplot
import nbformat
import pytest
from nbformat import NotebookNode

from course_utils import ROOT

sys.path.insert(0, str(ROOT / "notebooks" / "assignments"))

import itertools

import grade
import sandbox

NAMES = grade.assignment_names()


def answers(name: str):
    spec = importlib.util.spec_from_file_location("answers", ROOT / "tests" / "answers" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MISTAKES = [(name, *key) for name in NAMES for key in answers(name).MISTAKES]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookNode]:
    """The students' copies, as nbgrader makes them."""
    folder = tmp_path_factory.mktemp("class")
    course = grade.Course(folder)
    for name in NAMES:
        course.release(name)
    return {name: grade.read(folder / "release" / name / f"{name}.ipynb") for name in NAMES}


def source(name: str) -> NotebookNode:
    return grade.read(grade.SOURCES / f"{name}.ipynb")


def with_answers(notebook: NotebookNode, given: dict[str, str]) -> NotebookNode:
    """Return a notebook with other code in the cells of these names."""
    notebook = copy.deepcopy(notebook)
    cells = {grade.identity(cell): cell for cell in notebook.cells}
    for name, code in given.items():
        cells[name].source = code
    return notebook


def needs(table: symtable.SymbolTable) -> set[str]:
    """Return the names that a piece of code, and the functions in it, read at its top level."""
    top = table.get_type() == "module"
    own = {name.get_name() for name in table.get_symbols() if name.is_referenced() and (top or name.is_global())}
    return own.union(*map(needs, table.get_children()))


def without_story(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook without the code that only tells: what no task and no test uses, as runs of models and figures."""
    kept, needed = [], set()
    for cell in reversed(notebook.cells):
        if cell.cell_type != "code":
            continue
        table = symtable.symtable(cell.source, "cell", "exec")
        made = {name.get_name() for name in table.get_symbols() if name.is_assigned() or name.is_imported()}
        if cell.metadata.get("nbgrader", {}).get("grade_id") in tasks(notebook) or made & needed:
            kept.append(cell)
            needed |= needs(table) - made
    return nbformat.v4.new_notebook(cells=kept[::-1])


def tasks(notebook: NotebookNode) -> set[str]:
    """Return the names of all cells that are solved or test."""
    about = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
    return {cell["grade_id"] for cell in about if cell.get("grade") or cell.get("solution")}


def outcome(notebook: NotebookNode) -> dict[str, str]:
    """Run a trusted notebook as plain Python; return what each test says, "" if it passes."""
    matplotlib.use("agg")
    names, said = {"__name__": "__main__"}, {}

    def run(code: str, name: str) -> str:
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                exec(compile(code, f"<{name}>", "exec"), names)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return ""

    for k, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            message = run(sandbox.HIDDEN.sub("", cell.source), sandbox.label(cell, k))
            if sandbox.is_test(cell):
                said[sandbox.label(cell, k)] = message
    for k, cell in enumerate(notebook.cells):  # hidden tests come last, as in the sandbox
        for hidden in sandbox.hidden_tests(cell):
            name = sandbox.label(cell, k)
            said[name] = said[name] or run(hidden, name)
    matplotlib.pyplot.close("all")
    return said


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes_every_test(name: str):
    assert set(outcome(source(name)).values()) == {""}


@pytest.mark.parametrize("name", NAMES)
def test_a_correct_solution_that_is_written_differently_passes_every_test(name: str):
    otherwise = with_answers(source(name), answers(name).OTHERWISE)
    assert set(outcome(without_story(otherwise)).values()) == {""}


@pytest.mark.parametrize(("name", "task", "mistake"), MISTAKES, ids=[" — ".join(key) for key in MISTAKES])
def test_a_mistake_loses_the_points_of_its_task_and_no_other(name: str, task: str, mistake: str):
    wrong = with_answers(source(name), {task: answers(name).MISTAKES[task, mistake]})
    said = {test: message for test, message in outcome(without_story(wrong)).items() if message}
    assert list(said) == [f"{task}_test"]


@pytest.mark.parametrize("name", NAMES)
def test_three_mistakes_or_more_are_planted(name: str):
    assert len(answers(name).MISTAKES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_blank_release_fails_every_test_and_says_why(name: str, released: dict[str, NotebookNode]):
    for test, message in outcome(released[name]).items():
        assert message == "NotImplementedError: this task is not solved yet", test


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_is_left_in_the_release(name: str, released: dict[str, NotebookNode]):
    text = nbformat.writes(released[name])
    assert "BEGIN SOLUTION" not in text
    assert "HIDDEN" not in text
    assert "# hint:" not in text
    assert grade.leaks(source(name), released[name]) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_leak_is_seen(name: str):
    assert len(grade.leaks(source(name), source(name))) > 10


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_an_assignment(name: str):
    notebook = source(name)
    about = [cell.metadata.get("nbgrader", {}) for cell in notebook.cells]
    points = sum(cell.get("points", 0) for cell in about)
    assert f"{points} points" in notebook.cells[0].source
    tests = [cell for cell in notebook.cells if sandbox.is_test(cell)]
    assert 5 <= len(tests) <= 8
    assert all(sandbox.hint(hidden) for cell in tests for hidden in sandbox.hidden_tests(cell))
    assert all(sandbox.hidden_tests(cell) for cell in tests)
    assert any(cell.get("grade") and cell.get("solution") for cell in about), "a task is graded by hand"
    names = [cell["grade_id"] for cell in about if cell]
    assert len(set(names)) == len(names)
    for cell, following in itertools.pairwise(about):
        if cell.get("solution") and not cell.get("grade"):
            assert following.get("grade_id") == f"{cell['grade_id']}_test"
    heads = re.findall(r"## (?:Task|Question) \d+ — .*", "\n".join(cell.source for cell in notebook.cells))
    found = [re.search(r"\((\d+) points?(, graded by hand)?\)$", head) for head in heads]
    assert all(found), [head for head, match in zip(heads, found, strict=True) if not match]
    assert sum(int(match[1]) for match in found) == points, "the points in the headings are those of the cells"


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str):
    prose = "\n".join(cell.source for cell in source(name).cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\$[^$]+\$", "", prose))
    assert targets
    assert [target for target in targets if not (grade.SOURCES / target).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_displayed_formulas_stand_between_blank_lines(name: str):
    for cell in source(name).cells:
        if cell.cell_type == "markdown":
            for formula in re.finditer(r"\$\$.+?\$\$", cell.source, re.DOTALL):
                before, after = cell.source[: formula.start()], cell.source[formula.end() :]
                assert re.search(r"(^|\n\n) *$", before), formula[0]
                assert re.match(r"$|\n\n|\n$", after), formula[0]


def test_an_assignment_is_no_lecture():
    lectures = {path.parent for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert grade.SOURCES not in lectures


# --- through the sandbox and the book of grades ---


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_gets_all_points_and_the_blank_none(name: str, released: dict, tmp_path: Path):
    handed_in = {"ada": source(name), "blank": released[name]}
    for student, notebook in handed_in.items():
        folder = tmp_path / "submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{name}.ipynb")
    assert grade.main(["grade", name, "--folder", str(tmp_path)]) == 0
    with (tmp_path / "grades.csv").open() as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    by_hand = sum(cell.metadata.nbgrader.points for cell in source(name).cells if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("grade"))  # fmt: skip
    assert float(rows["ada"]["score"]) == float(rows["ada"]["max_score"]) - by_hand
    assert rows["ada"]["needs_manual_grade"] == "True"
    assert float(rows["blank"]["score"]) == 0
    feedback = (tmp_path / "feedback" / "blank" / name / f"{name}.html").read_text("utf-8")
    assert "this task is not solved yet" in feedback
    assert not any(line.strip() in feedback for cell in source(name).cells for hidden in sandbox.hidden_tests(cell) for line in hidden.splitlines() if len(line.strip()) > 20)  # fmt: skip


def test_an_unknown_assignment_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert grade.main(["release", "9_nothing", "--folder", str(tmp_path)]) == 2
    assert "no assignment is called '9_nothing'; choose one of: 1_shannon" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("limits: {cell_second: 3}", "cell_second"),
        ("due: {1_shannon: 2027-01-31}", "1_shannon"),
        ("due: {3_twelve_instruments: someday}", "someday"),
        ("due: [", "cannot be read"),
        ("- due", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(settings: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "course.yml").write_text(settings)
    assert grade.main(["release", "3_twelve_instruments", "--folder", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
