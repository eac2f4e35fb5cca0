"""`lecture("08")` gives what a notebook teaches, and runs nothing else."""

import inspect
import traceback

import nbformat
import pytest

from course_utils import reuse

CELLS = [
    "from dataclasses import dataclass\nimport math",
    "WIDTH, DEPTH = 3, 2\nAREA = WIDTH * DEPTH\nCOSTLY = sum(range(10))\nepochs = 30",
    "raise RuntimeError('a cell that computes was run')",
    "@dataclass\nclass Box:\n    side: float = WIDTH\n\n    def volume(self):\n        return self.side**3\nbox = Box(1)",
    "def area():\n    return AREA * math.pi\nprint(area())\n\ndef broken():\n    return 1 / 0",
]


@pytest.fixture
def course(tmp_path, monkeypatch):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    notebook.cells.append(nbformat.v4.new_code_cell("def area():\n    return 0", metadata={"tags": ["solution"]}))
    nbformat.write(notebook, tmp_path / "08_boxes.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "09_empty.ipynb")
    monkeypatch.setattr(reuse, "NOTEBOOKS", tmp_path)
    reuse.lecture.cache_clear()
    yield tmp_path
    reuse.lecture.cache_clear()


def test_definitions_are_there_and_computation_is_not(course):
    boxes = reuse.lecture("08")
    assert boxes.Box().volume() == 27
    assert boxes.area() == pytest.approx(6 * 3.14159265, rel=1e-6)
    assert not hasattr(boxes, "box")
    assert not hasattr(boxes, "epochs")
    assert not hasattr(boxes, "COSTLY")


def test_a_lecture_is_loaded_once(course):
    assert reuse.lecture("08") is reuse.lecture("08")


def test_source_and_tracebacks_lead_to_the_notebook(course):
    boxes = reuse.lecture("08")
    assert "return self.side**3" in inspect.getsource(boxes.Box)
    try:
        boxes.broken()
    except ZeroDivisionError as error:
        text = "".join(traceback.format_exception(error))
    assert "08_boxes.ipynb" in text
    assert "return 1 / 0" in text


@pytest.mark.parametrize("number", ["07", "0", ""])
def test_an_unknown_or_ambiguous_number_names_those_that_exist(course, number):
    with pytest.raises(ValueError, match="choose one of: 08_boxes, 09_empty"):
        reuse.lecture(number)
