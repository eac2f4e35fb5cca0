"""The book's build script: contents and notebooks agree, outputs are never stale, the map shows what there is."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book"))

import build  # noqa: E402
import course_map  # noqa: E402
import make_slides  # noqa: E402


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A small course: lecture 02 stands alone, lecture 08 imports from it."""
    for folder in ("notebooks", "course_utils", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "course_utils" / "training.py").write_text("x = 1\n")
    (tmp_path / "data" / "results.csv").write_text("a\n")
    (tmp_path / "data" / "README.md").write_text("# Data\n")
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    write(tmp_path / "notebooks" / "02_shannon_language_models.ipynb", "y = 1")
    write(tmp_path / "notebooks" / "08_variational_autoencoders.ipynb", 'from_02 = lecture("02").y')
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "BOOK", tmp_path / "jupyter_book")
    shutil.copytree(ROOT / "jupyter_book", tmp_path / "jupyter_book")
    (tmp_path / "jupyter_book" / "_toc.yml").write_text(
        "parts:\n  - chapters:\n      - file: notebooks/02_shannon_language_models\n"
        "      - file: notebooks/08_variational_autoencoders\n"
    )
    return tmp_path


def write(path: Path, source: str) -> None:
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)


def test_written_lectures_are_those_with_a_notebook(root):
    course = build.read_course()
    written = [lecture["slug"] for part in course["parts"] for lecture in part["lectures"] if lecture["written"]]
    assert written == ["02_shannon_language_models", "08_variational_autoencoders"]


def test_a_notebook_outside_the_contents_is_an_error(root):
    write(root / "notebooks" / "03_sampling.ipynb", "z = 1")
    with pytest.raises(ValueError, match=r"not in jupyter_book/_toc.yml: 03_sampling"):
        build.read_course()


def test_an_assignment_outside_the_contents_is_an_error(root):
    (root / "notebooks" / "assignments").mkdir()
    write(root / "notebooks" / "assignments" / "9_new.ipynb", "z = 1")
    with pytest.raises(ValueError, match=r"in notebooks/assignments/ but not in jupyter_book/_toc.yml: 9_new"):
        build.read_course()


def test_every_lecture_and_assignment_of_this_course_is_in_the_contents():
    build.read_course()


def test_contents_without_a_notebook_are_an_error(root):
    (root / "notebooks" / "02_shannon_language_models.ipynb").unlink()
    with pytest.raises(ValueError, match=r"not in notebooks/: 02_shannon_language_models"):
        build.read_course()


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("course_utils/training.py", {"02", "08"}),
        ("data/results.csv", {"02", "08"}),
        ("requirements.txt", {"02", "08"}),
        ("data/README.md", set()),
    ],
)
def test_notebooks_run_again_when_what_they_use_changes(root, changed, again):
    paths = {path.name[:2]: path for path in (root / "notebooks").glob("*.ipynb")}
    before = {number: build.fingerprint(path) for number, path in paths.items()}
    (root / changed).write_text((root / changed).read_text() + "\n# changed\n")
    assert {number for number, path in paths.items() if build.fingerprint(path) != before[number]} == again


def test_a_lecture_runs_again_when_the_one_it_imports_from_changes(root):
    paths = {path.name[:2]: path for path in (root / "notebooks").glob("*.ipynb")}
    before = build.fingerprint(paths["08"])
    write(paths["02"], "y = 2")
    assert build.fingerprint(paths["08"]) != before


def test_the_map_draws_every_lecture_and_links_the_written_ones(root):
    drawing = course_map.draw_map(build.read_course())
    for columns in (4, 2):
        svg = re.search(rf'<svg class="map-{columns}".*?</svg>', drawing, re.DOTALL)[0]
        numbers = re.findall(r'class="map-number"[^>]*>(\d\d)', svg)
        assert numbers == [f"{number:02d}" for number in range(1, 25)]
        assert re.findall(r'href="notebooks/(\d\d)', svg) == ["02", "08"]
    assert course_map.draw_map(build.read_course()) == drawing  # the same hand every time


def test_the_table_of_lectures_has_one_line_each(root):
    table = course_map.lecture_table(build.read_course())
    assert len(re.findall(r"^- \d\d · ", table, re.MULTILINE)) == 24
    assert table.count("*(planned)*") == 22


def slide_cell(source: str, kind: str = "-", outputs: list | None = None) -> nbformat.NotebookNode:
    return new_code_cell(source, metadata={"slideshow": {"slide_type": kind}}, outputs=outputs or [])


def test_long_code_goes_on_over_several_slides_and_nothing_is_lost():
    source = "\n\n".join(f"def f{i}(x):\n    y = x + {i}\n    return y" for i in range(20))
    printed = new_output("stream", text="done\n")
    notebook = new_notebook(cells=[slide_cell(source, "slide", [printed])])
    make_slides.paginate(notebook)
    *code, last = notebook.cells
    assert len(code) > 1
    assert [line for cell in code for line in cell.source.splitlines() if line] == [
        line for line in source.splitlines() if line
    ]
    assert last.outputs == [printed]
    assert not any(cell.outputs for cell in code)
    kinds = [cell.metadata.slideshow.slide_type for cell in notebook.cells]
    assert kinds[0] == "slide"
    assert set(kinds[1:-1]) == {"subslide"}
    assert all(make_slides._height(cell) <= make_slides.ROOM for cell in notebook.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_what_fits_stays_on_one_slide():
    notebook = new_notebook(
        cells=[new_markdown_cell("## Title", metadata={"slideshow": {"slide_type": "slide"}}), slide_cell("1 + 1")]
    )
    make_slides.paginate(notebook)
    assert [cell.metadata.slideshow.slide_type for cell in notebook.cells] == ["slide", "-"]


def test_slides_write_citations_out_link_to_the_site_and_keep_no_notes_to_the_formatter(tmp_path):
    bibliography = tmp_path / "references.bib"
    bibliography.write_text(
        "@misc{a1, author={Ada {B}yron}, year={1843}}\n@misc{b2, author={A, B. and C, D. and E, F.}, year={1999}}\n"
        "@misc{c3, author={S{\\o}ng, Name and others}, year={2020}}\n"
    )
    text = "See {cite:t}`a1`, {cite:p}`b2,c3`, [02](02_x.ipynb#Y), [notation](../notation.md)."
    cells = [new_markdown_cell(text), new_code_cell("f(\n    1, 2,\n)  # fmt: skip\nx = 1  # kept")]
    notebook = make_slides._prepare(new_notebook(cells=cells), bibliography)
    assert notebook.cells[0].source == (
        "See Byron (1843), (A et al., 1999; Søng et al., 2020), [02](../notebooks/02_x.html#Y), [notation](../notation.html)."
    )
    assert notebook.cells[1].source == "f(\n    1, 2,\n)\nx = 1  # kept"
