"""`make full` and `make bench`, on tiny notebooks of their own."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from course_utils import reuse, run

PARAMETERS = """\
epochs = 3  # full: 7 — passes over the training set
budget = "quick"  # full: "full" — "full" says that the real budget was spent, # and — included
limit = (1, 2)  # full: None — what to keep
temperature = 1.0  # — the same in both budgets"""


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that adds a notebook to a small course and returns the course's folder."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(reuse, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(run, "BUILD", tmp_path / "_build")

    def add(name: str, parameters: str, code: str) -> Path:
        tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=[tagged, nbformat.v4.new_code_cell(code)], metadata=kernel)
        nbformat.write(notebook, tmp_path / "notebooks" / name)
        return tmp_path

    return add


def test_knobs_are_read_with_their_quick_and_full_values():
    epochs, budget, limit, temperature = run.parse_knobs(PARAMETERS)
    assert epochs == ("epochs", 3, 7, "passes over the training set")
    assert (budget.quick, budget.full) == ("quick", "full")
    assert (limit.quick, limit.full) == ((1, 2), None)
    assert (temperature.quick, temperature.full) == (1.0, 1.0)


@pytest.mark.parametrize(
    "line",
    [
        "epochs = 3",  # says nothing
        "epochs = 3  # full: 7",  # no meaning
        "epochs = 3  # full: many — passes",  # not a literal
        "epochs = 3  # passes",  # no dash
        "epochs = range(3)  # — passes",  # not a literal
        "epochs = rounds = 3  # — passes",  # two names
        "epochs += 3  # — passes",  # no assignment
        "print(3)  # — passes",
        "epochs = (  # — passes",
    ],
)
def test_a_line_that_sets_no_knob_is_named(line: str):
    with pytest.raises(ValueError, match=re.escape(repr(line))):
        run.parse_knobs("seed = 0  # — seed\n\n" + line)


def test_settings_replace_full_values():
    knobs = run.parse_knobs(PARAMETERS)
    assert run.full_values(knobs) == {"epochs": 7, "budget": "full", "limit": None, "temperature": 1.0}
    changed = run.full_values(knobs, ["epochs=50", "budget=trial", "limit=[3]"])
    assert changed == {"epochs": 50, "budget": "trial", "limit": [3], "temperature": 1.0}


@pytest.mark.parametrize("setting", ["epoch=50", "epochs", "=3", "epochs=many", "epochs="])
def test_a_wrong_setting_is_named(setting: str):
    with pytest.raises(ValueError, match=re.escape(repr(setting))):
        run.full_values(run.parse_knobs(PARAMETERS), [setting])


def test_full_runs_with_the_full_values_in_the_folder_of_the_notebooks(course, capsys):
    code = "import json, os; json.dump([epochs, budget, limit, os.path.basename(os.getcwd())], open('made.json', 'w'))"
    root = course("03_tiny.ipynb", PARAMETERS, code)
    run.main(["full", "3", "epochs=5"])
    assert json.loads((root / "notebooks" / "made.json").read_text()) == [5, "full", None, "notebooks"]
    assert (root / "_build" / "full" / "03_tiny.ipynb").is_file()
    printed = capsys.readouterr().out
    assert "epochs = 5  # quick: 3 — passes over the training set" in printed
    assert "defaults" not in printed


def test_full_says_that_a_lecture_has_no_full_values(course, capsys):
    course("04_tiny.ipynb", "seed = 0  # — seed", "assert seed == 0")
    run.main(["full", "04"])
    assert "04_tiny.ipynb has no full-budget values: it runs with its defaults." in capsys.readouterr().out


def test_full_names_the_lectures_that_there_are(course):
    course("03_tiny.ipynb", PARAMETERS, "pass")
    course("04_tiny.ipynb", PARAMETERS, "pass")
    with pytest.raises(SystemExit, match=r"error: lecture '99' .* choose one of: 03_tiny, 04_tiny"):
        run.main(["full", "99"])


@pytest.mark.parametrize("arguments", [[], ["full"], ["fill", "03"], ["bench", "03"]])
def test_a_wrong_command_shows_the_right_ones(arguments: list[str]):
    with pytest.raises(SystemExit, match=r"course_utils\.run full 08"):
        run.main(arguments)


def test_full_wants_one_parameters_cell(course):
    root = course("03_tiny.ipynb", PARAMETERS, "pass")
    path = root / "notebooks" / "03_tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[0]
    nbformat.write(notebook, path)
    with pytest.raises(SystemExit, match=r"03_tiny\.ipynb has 0 cells tagged parameters"):
        run.main(["full", "03"])


def test_a_failing_cell_fails_the_run_and_keeps_the_notebook(course):
    root = course("03_tiny.ipynb", PARAMETERS, "1 / 0")
    kept = root / "_build" / "full" / "03_tiny.ipynb"
    with pytest.raises(SystemExit, match=r"ZeroDivisionError(.|\n)*" + re.escape(str(kept))):
        run.main(["full", "03"])
    assert "ZeroDivisionError" in kept.read_text()
    with pytest.raises(SystemExit, match=r"03_tiny\.ipynb fails"):
        run.main(["bench"])


def test_bench_measures_each_notebook_in_its_own_process(course, capsys):
    course("03_large.ipynb", PARAMETERS, "block = bytearray(b'1') * 600_000_000")
    root = course("04_slow.ipynb", PARAMETERS, "import time; time.sleep(2)")
    run.main(["bench"])
    table = (root / "_build" / "bench.md").read_text()
    assert table in capsys.readouterr().out
    row = re.compile(r"\| (\S+) \| ([\d.]+) \| (\d+) \| (\d+) \|")
    (large, _, memory, cells), (slow, seconds, _, _) = row.findall(table)
    assert (large, slow, cells) == ("03_large", "04_slow", "2")
    assert float(seconds) > 2  # the cell sleeps that long
    assert int(memory) > 600  # the cell holds 600 MB
