"""Release and grade the assignments.

    python notebooks/assignments/grade.py release [NAME …]     the students' copies
    python notebooks/assignments/grade.py grade [NAME …]       all that is in submitted/ and new
    python notebooks/assignments/grade.py bench                what a hundred submissions cost
        --again              also what has been graded before
        --scheduler ADDRESS  on a Dask cluster instead of this machine's cores
        --folder FOLDER      the class's folder, `grading` by default

nbgrader removes solutions and hidden tests, restores edited cells, keeps the book of grades and writes the feedback.
This program adds what nbgrader lacks: submissions are taken in with suspicion, run in a sandbox (`sandbox.py`), several
at a time, and the record of a run is kept, so that a second call grades only what is new.

The class's folder:

    submitted/STUDENT/NAME/*.ipynb   you put these there (timestamp.txt beside it: when it was handed in)
    course.yml                       due dates, penalty for late work, limits; made at the first release
    release/NAME.zip                 for the students
    grades.csv                       a row for each submission, with remarks
    feedback/STUDENT/NAME/*.html     for the students
    autograded/, gradebook.db        nbgrader's; for grading by hand in `nbgrader formgrader`
    source/, inbox/                  nbgrader's input, written by this program
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import html
import itertools
import json
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import sandbox
import yaml
from dateutil import parser as dates
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.plugins import BasePlugin
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    GetGrades,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from sqlalchemy.exc import SAWarning
from traitlets import Float
from traitlets.config import Config, PyFileConfigLoader

from course_utils import ROOT

SOURCES = ROOT / "notebooks" / "assignments"
STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
FIGURE = re.compile(
    r'<img src="data:image/webp;base64,(?P<bytes>[A-Za-z0-9+/=]+)" alt="(?P<alt>[^"<>]*)"[^<>"]*("\d+"[^<>"]*)*>'
)
LARGEST = 20 * sandbox.MB  # a submitted notebook
SETTINGS = """\
# Settings of this class. Times have an offset, or a zone: "2027-01-31 23:59 +0100".
due: {}            # {1_shannon_to_kneser_ney: "2027-01-31 23:59 +0100"}
late_percent: 10   # of the points reached, taken off for each day begun after that
limits: {}         # of a submission; cell_seconds: 60, total_seconds: 240, memory: 4294967296
"""
FORMGRADER = """\
# Written by grade.py, for grading by hand in JupyterLab started here: menu nbgrader, Formgrader.
import bleach
from nbconvert.filters import markdown2html

TAGS = "br dd del details div dl dt h1 h2 h3 h4 h5 h6 hr p pre span sub summary sup table tbody td th thead tr"


def cleaned(text):
    return bleach.clean(markdown2html(text), tags={*bleach.ALLOWED_TAGS, *TAGS.split()})


c = get_config()
# a student's outputs and texts may hold scripts: they would run in your browser, and in your name
c.HTMLExporter.sanitize_html = True
c.HTMLExporter.filters = {"markdown2html": cleaned}
# nbgrader's own autograde has no sandbox, and would run students' code as yours; its feedback may show hidden
# tests. Both stop at this name.
c.Autograde.sanitize_preprocessors = c.GenerateFeedback.preprocessors = ["use_make_grade.instead"]
"""
MATHJAX = re.compile(
    r"<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.DOTALL
)


class LatePerDay(BasePlugin):
    """Take off a share of the points for each day begun."""

    percent = Float(10.0, help="of the points reached, for each day begun").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float:
        """Return the points to take off, at most all."""
        days = -(-total_seconds_late // 86_400)
        return min(score, score * days * self.percent / 100)


class TakeRun(NbGraderPreprocessor):
    """Put the notebook that ran in the sandbox in the place of nbgrader's own execution."""

    runs: dict[tuple[str, str], NotebookNode] = {}  # noqa: RUF012 — nbgrader makes the instance

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Return the notebook that was run for the submission at hand."""
        about = resources["nbgrader"]
        return self.runs[about["student"], about["assignment"]], resources


class ForStudents(NbGraderPreprocessor):
    """Remove hidden tests from the feedback; nbgrader's own way stops at a marker that a student wrote."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Return a cell as a student may see it."""
        if sandbox.is_test(cell):
            cell.source = sandbox.HIDDEN.sub("", cell.source).rstrip()
        return cell, resources


@dataclass
class Submission:
    """One student's work on one assignment, as it was found."""

    student: str
    name: str
    notebook: NotebookNode | None  # sanitized, ready to run; None: there is nothing to run
    remarks: list[str]
    digest: str


class Course:
    """The folder of a class, and nbgrader's view of it."""

    def __init__(self, folder: Path) -> None:
        """Open a folder, or make it.

        Raises:
            ValueError: if `course.yml` cannot be read, or names what does not exist.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        programs = f"{sys.prefix}/bin"  # where nbgrader finds alembic, which makes its book of grades
        if programs not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
        if not (self.folder / "course.yml").exists():
            (self.folder / "course.yml").write_text(SETTINGS, encoding="utf-8")
        (self.folder / "nbgrader_config.py").write_text(FORMGRADER, encoding="utf-8")
        try:
            settings = yaml.safe_load((self.folder / "course.yml").read_text("utf-8")) or {}
            self.due, limits = settings.get("due") or {}, settings.get("limits") or {}
            wrong = settings.keys() - {"due", "late_percent", "limits"}
            wrong |= self.due.keys() - set(assignment_names())
            wrong |= limits.keys() - {field.name for field in fields(sandbox.Limits)}
        except (yaml.YAMLError, AttributeError) as error:
            raise ValueError(f"course.yml cannot be read: {error}") from error
        if wrong:
            raise ValueError(
                f"course.yml names what is not there: {', '.join(sorted(wrong))}"
            )
        self.limits = sandbox.Limits(**limits)
        self.database = f"sqlite:///{self.folder}/gradebook.db"
        written = PyFileConfigLoader("nbgrader_config.py", str(self.folder)).load_config()
        config = Config(HTMLExporter=written.HTMLExporter)
        config.CourseDirectory.root = str(self.folder)
        config.CourseDirectory.db_url = self.database
        config.CourseDirectory.submitted_directory = "inbox"
        config.ClearSolutions.code_stub = {
            "python": 'raise NotImplementedError("this task is not solved yet")'
        }
        config.Autograde.autograde_preprocessors = [
            TakeRun, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata,
        ]  # fmt: skip
        config.AssignLatePenalties.plugin_class = LatePerDay
        config.LatePerDay.percent = float(settings.get("late_percent", 10))
        cleaning = [GetGrades, ForStudents, CSSHTMLHeaderPreprocessor]
        config.GenerateFeedback.preprocessors = cleaning
        self.api = NbGraderAPI(config=config)
        self.late = LatePerDay(config=config)
        # nbgrader's log comes with its results; it adds to lists as SQLAlchemy 1 did
        logging.getLogger("traitlets").setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", category=SAWarning)

    def gradebook(self) -> Gradebook:
        """Return nbgrader's book of grades, to be used in a `with` statement."""
        return Gradebook(self.database)

    # --- release ---

    def release(self, name: str) -> Path:
        """Write the students' copy of an assignment, and a zip of it; return the zip.

        Raises:
            ValueError: if there is no such assignment.
            RuntimeError: if nbgrader fails, or a line of a solution or hidden test is left in the copy.
        """
        path = SOURCES / f"{name}.ipynb"
        if not path.exists():
            names = ", ".join(assignment_names())
            raise ValueError(f"no assignment is called {name!r}; choose one of: {names}")
        source = self.folder / "source" / name
        source.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, source)
        result = self.api.generate_assignment(name)
        if not result["success"]:
            raise RuntimeError(
                f"nbgrader cannot release {name}:\n{result.get('log')}\n{result.get('error', '')}"
            )
        due = instant(str(self.due[name])) if name in self.due else None
        with self.gradebook() as book:
            book.update_or_create_assignment(name, duedate=due)
        released = self.folder / "release" / name / path.name
        left = leaks(read(path), read(released))
        if left:
            raise RuntimeError(
                f"the release of {name} still holds what students must not see: {left[0]!r}"
            )
        target = self.folder / "release" / f"{name}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(path.name), released.read_bytes())
        return target

    # --- collect ---

    def submissions(self, names: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
        """Yield (student, name, folder) of all that was handed in; name nothing that is a link."""
        for student in entries(self.folder / "submitted"):
            plain = student.is_dir(follow_symlinks=False)
            if not (plain and STUDENT.fullmatch(student.name)):
                print(
                    f"left out: submitted/{student.name!r} is not a student's folder (letters, digits, . _ @ -)"
                )
                continue
            for entry in entries(student.path):
                if entry.name in names and entry.is_dir(follow_symlinks=False):
                    yield student.name, entry.name, Path(entry.path)
                elif entry.name in names or entry.name not in assignment_names():
                    print(
                        f"left out: submitted/{student.name}/{entry.name!r} is not an assignment's folder"
                    )

    def collect(self, student: str, name: str, folder: Path) -> Submission:
        """Take one submission in: choose the notebook, restore what may not be edited, and put it in the inbox."""
        remarks: list[str] = []
        digest = hashlib.sha256((SOURCES / f"{name}.ipynb").read_bytes())
        inbox = self.folder / "inbox" / student / name
        shutil.rmtree(inbox, ignore_errors=True)
        inbox.mkdir(parents=True)
        notebook = None
        try:
            text, remark = choose(folder, name, read(SOURCES / f"{name}.ipynb"))
            digest.update(text.encode("utf-8", "surrogatepass"))
            remarks += remark
            notebook = self._sanitized(text, student, name)
            nbformat.write(notebook, inbox / f"{name}.ipynb")
        except Exception as error:  # a strange file may break any library
            reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
            remarks.append(f"nothing was run: {reason}")
            digest.update(reason.encode())
            notebook = None
            shutil.copy(self.folder / "release" / name / f"{name}.ipynb", inbox)
        try:
            when = instant(bounded_text(folder / "timestamp.txt", 100).strip())
            (inbox / "timestamp.txt").write_text(f"{when:%Y-%m-%d %H:%M:%S} UTC\n")
            digest.update(str(when).encode())
        except FileNotFoundError:
            if name in self.due:
                remarks.append("no timestamp.txt: counted as in time")
        except (OSError, ValueError, OverflowError, TypeError):
            remarks.append("timestamp.txt cannot be read: counted as in time")
        return Submission(student, name, notebook, remarks, digest.hexdigest())

    def _sanitized(self, text: str, student: str, name: str) -> NotebookNode:
        """Return a submitted notebook with every graded and locked cell as it was released, and hidden tests added."""
        notebook = nbformat.reads(text, as_version=4)
        cells = read(SOURCES / f"{name}.ipynb").cells
        source = {identity(cell): cell for cell in cells if identity(cell)}
        for k, cell in enumerate(notebook.cells):
            known = source.get(identity(cell))
            cell.metadata = {"nbgrader": dict(known.metadata.nbgrader)} if known else {}
            cell.metadata = nbformat.from_dict(cell.metadata)
            cell["id"] = f"cell-{k}"
            cell.pop("attachments", None)
        self._put_back(notebook, source)
        notebook.metadata, notebook.nbformat_minor = nbformat.from_dict({}), 5
        about = {"student": student, "assignment": name, "notebook": name}
        resources = {"nbgrader": about | {"db_url": self.database}, "metadata": {}}
        steps = [ClearOutput, DeduplicateIds, OverwriteKernelspec]
        for kind in [*steps, OverwriteCells, CheckCellMetadata]:
            notebook, resources = kind(parent=self.api).preprocess(notebook, resources)
        final = {identity(cell): cell.source for cell in notebook.cells}
        for key, cell in source.items():
            about = cell.metadata.nbgrader
            if about.grade and final.get(key) is None:
                raise ValueError(f"the graded cell {key} cannot be restored")
            if about.grade and not about.solution and final[key] != cell.source:
                raise ValueError(f"the test {key} cannot be restored")
        nbformat.validate(notebook)
        return notebook

    @staticmethod
    def _put_back(notebook: NotebookNode, source: dict[str, NotebookNode]) -> None:
        """Insert the graded cells that a student deleted, each after the cell that it followed."""
        position = 0
        for key, cell in source.items():
            found = [k for k, other in enumerate(notebook.cells) if identity(other) == key]
            if not found and cell.metadata.nbgrader.grade:
                restored = copy.deepcopy(cell)
                if cell.metadata.nbgrader.solution:
                    restored.source = "YOUR ANSWER HERE"
                notebook.cells.insert(position, restored)
                found = [position]
            position = found[0] + 1 if found else position

    # --- grade ---

    def grade(
        self, names: Sequence[str], again: bool = False, scheduler: str | None = None
    ) -> int:
        """Grade what is new in `submitted/`; return the number of submissions that could not be graded.

        Raises:
            SandboxError: if this machine has no sandbox; nothing has been run then.
            ValueError: if a name is not an assignment's.
        """
        sandbox.require()
        for name in names:
            self.release(name)
        (self.folder / "submitted").mkdir(exist_ok=True)
        todo: dict[tuple[str, str], Submission] = {}
        for student, name, folder in self.submissions(names):
            submission = self.collect(student, name, folder)
            if again or self._record(student, name).get("digest") != submission.digest:
                todo[student, name] = submission
        jobs = {key: sub.notebook for key, sub in todo.items() if sub.notebook is not None}
        failures = 0
        nothing = ((key, None) for key in todo.keys() - jobs.keys())
        for key, result in itertools.chain(nothing, run_all(jobs, self.limits, scheduler)):
            try:
                if isinstance(result, Exception):
                    raise result
                self._enter(todo[key], result or self._nothing(todo[key]))
            except Exception as error:  # whatever it is, the others are graded
                failures += 1
                reason = f"{type(error).__name__}: {error}"
                print(f"{key[0]}  {key[1]}  NOT GRADED: {reason}", flush=True)
        for key in self._graded():
            if key not in todo:
                self._refresh(*key)
        self.write_grades()
        return failures

    def _nothing(self, submission: Submission) -> sandbox.Run:
        """Return what stands for a submission that cannot be run: the blank assignment, with all tests failed."""
        student, name = submission.student, submission.name
        path = self.folder / "inbox" / student / name / f"{name}.ipynb"
        notebook = self._sanitized(path.read_text("utf-8"), student, name)
        for cell in filter(sandbox.is_test, notebook.cells):
            cell.outputs = [sandbox.error_output("NotRun", "there is no notebook to run")]
        return sandbox.Run(notebook, flagged=True)

    def _run_file(self, student: str, name: str) -> Path:
        return self.folder / "autograded" / student / name / "run.json"

    def _record(self, student: str, name: str) -> dict:
        path = self._run_file(student, name)
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def _graded(self) -> list[tuple[str, str]]:
        paths = (self.folder / "autograded").glob("*/*/run.json")
        return sorted((path.parts[-3], path.parts[-2]) for path in paths)

    def _enter(self, submission: Submission, run: sandbox.Run) -> None:
        """Enter a run into the book of grades, write its feedback, and remember it."""
        student, name = submission.student, submission.name
        remarks = [*submission.remarks, *run.remarks]
        if remarks:
            lines = ["**The grader's remarks**\n", *(f"- {remark}" for remark in remarks)]
            run.notebook.cells.insert(0, nbformat.v4.new_markdown_cell("\n".join(lines)))
        plain_figures(run.notebook)
        TakeRun.runs[student, name] = run.notebook
        result = self.api.autograde(name, student, force=True)
        del TakeRun.runs[student, name]
        if not result["success"]:
            raise RuntimeError(f"nbgrader: {result.get('log')}\n{result.get('error', '')}")
        passed = {
            task: points * good for task, points, good in sandbox.tests_of(run.notebook)
        }
        with self.gradebook() as book:
            grades = book.find_submission_notebook(name, name, student).grades
            entered = {grade.cell.name: grade.auto_score for grade in grades}
        if passed != {task: entered[task] for task in passed}:
            raise RuntimeError(f"the book of grades has {entered}, the run {passed}")
        record = {"digest": submission.digest, "remarks": remarks, "look": run.flagged}
        record |= {"seconds": round(run.seconds, 1), "memory_MB": run.memory // sandbox.MB}
        self._feedback(student, name, record)
        row = self._row(student, name)
        print(
            f"{student}  {name}  {row['score']}/{row['max_score']}  {run.seconds:.1f} s  {row['remarks']}",
            flush=True,
        )

    def _feedback(self, student: str, name: str, record: dict) -> None:
        """Write the page that a student reads, and after it the record that says that all is done."""
        result = self.api.generate_feedback(name, student, force=True)
        if not result["success"]:
            raise RuntimeError(f"nbgrader: {result.get('log')}\n{result.get('error', '')}")
        page = self.folder / "feedback" / student / name / f"{name}.html"
        # formulas stay as they are written: a page that loads nothing from anywhere can be read in ten years
        page.write_text(MATHJAX.sub("", page.read_text("utf-8"), count=1), "utf-8")
        record = record | {"page": self._on_page(student, name)}
        self._run_file(student, name).write_text(json.dumps(record, indent=1), "utf-8")

    def _on_page(self, student: str, name: str) -> list:
        """Return the points and comments that stand in a student's feedback."""
        with self.gradebook() as book:
            notebook = book.find_submission_notebook(name, name, student)
            comments = sorted(
                [comment.name, comment.comment] for comment in notebook.comments
            )
            points = sorted([grade.cell.name, grade.score] for grade in notebook.grades)
            return [points, comments, notebook.late_submission_penalty or 0.0]

    def _refresh(self, student: str, name: str) -> None:
        """Follow what was graded by hand since the run: the penalty for late work, and the feedback."""
        with self.gradebook() as book:
            late = book.find_submission(name, student).total_seconds_late
            notebook = book.find_submission_notebook(name, name, student)
            notebook.late_submission_penalty = self.late.late_submission_penalty(
                student, notebook.score, late
            )
            book.db.commit()
        record = self._record(student, name)
        if record["page"] != self._on_page(student, name):
            self._feedback(student, name, record)

    def _row(self, student: str, name: str) -> dict:
        record = self._record(student, name)
        with self.gradebook() as book:
            submission = book.find_submission(name, student)
            penalty = submission.late_submission_penalty or 0.0
            row = {
                "student": student, "assignment": name, "score": max(0.0, submission.score - penalty),
                "max_score": submission.max_score, "late_penalty": penalty, "seconds_late": submission.total_seconds_late,
                "needs_manual_grade": submission.needs_manual_grade,
            }  # fmt: skip
            for grade in submission.notebooks[0].grades:
                row[f"task:{grade.cell.name}"] = grade.score
        return row | {"look": record["look"], "remarks": "; ".join(record["remarks"])}

    def write_grades(self) -> Path:
        """Write `grades.csv`, with all that has been graded until now, and by hand too."""
        rows = [self._row(*key) for key in self._graded()]
        last = ["look", "remarks"]
        names = [
            key
            for key in dict.fromkeys(key for row in rows for key in row)
            if key not in last
        ]
        path = self.folder / "grades.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names + last)
            writer.writeheader()
            writer.writerows(rows)
        return path


# --- reading ---


def assignment_names() -> list[str]:
    """Return the names of all assignments, in order."""
    return sorted(path.stem for path in SOURCES.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """Return a trusted notebook."""
    return nbformat.read(path, as_version=4)


def entries(folder: Path | str) -> list[os.DirEntry]:
    """Return what is in a folder, by name."""
    return sorted(os.scandir(folder), key=lambda entry: entry.name)


def instant(text: str) -> datetime:
    """Return a time in UTC, as nbgrader stores it; one without a zone is in UTC already.

    Raises:
        ValueError: if the text is not a time.
    """
    time = dates.parse(text)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def identity(cell: NotebookNode) -> str | None:
    """Return the name that nbgrader gave a cell, if it is one."""
    name = (cell.get("metadata") or {}).get("nbgrader") or {}
    name = name.get("grade_id") if isinstance(name, dict) else None
    return name if isinstance(name, str) else None


def bounded_text(path: Path, largest: int) -> str:
    """Return the text of a plain file.

    Raises:
        OSError: if it is a link, or not there.
        ValueError: if it is a pipe or a folder, too large, or not UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is not a plain file")
        if about.st_size > largest:
            raise ValueError(
                f"{path.name} has {about.st_size:,} bytes; at most {largest:,} are read"
            )
        return file.read(largest).decode("utf-8")


def choose(folder: Path, name: str, source: NotebookNode) -> tuple[str, list[str]]:
    """Return the text of the notebook that belongs to an assignment, whatever it is called, and remarks.

    Raises:
        ValueError: if there is none, or more than one.
    """
    texts = {}
    for entry in entries(folder)[:100]:
        if entry.name.endswith(".ipynb") and entry.is_file(follow_symlinks=False):
            texts[entry.name] = Path(entry.path)
    if f"{name}.ipynb" in texts:
        return bounded_text(texts[f"{name}.ipynb"], LARGEST), []
    wanted = {identity(cell) for cell in source.cells} - {None}
    fitting = {}
    for file, path in texts.items():
        try:
            text = bounded_text(path, LARGEST)
            cells = nbformat.reads(text, as_version=4).cells
            if 2 * len(wanted & {identity(cell) for cell in cells}) > len(wanted):
                fitting[file] = text
        except Exception:  # not a notebook: not the one
            continue
    if len(fitting) != 1:
        found = ", ".join(repr(file) for file in texts) or "no notebook"
        raise ValueError(
            f"{name}.ipynb is missing, and {len(fitting)} other notebooks have its cells; found: {found}"
        )
    [(file, text)] = fitting.items()
    return text, [f"the notebook was called {file!r}"]


def leaks(source: NotebookNode, released: NotebookNode) -> list[str]:
    """Return the lines of solutions and hidden tests that stand in a released notebook."""
    secret, public = set(), set()
    for cell in source.cells:
        inside = False
        about = cell.metadata.get("nbgrader", {})
        by_hand = about.get("grade") and about.get("solution")
        for line in map(str.strip, cell.source.splitlines()):
            if re.match(r"### BEGIN (SOLUTION|HIDDEN TESTS)", line):
                inside = True
            answer = by_hand and cell.cell_type == "markdown"
            (secret if inside or answer else public).add(line)
            if re.match(r"### END (SOLUTION|HIDDEN TESTS)", line):
                inside = False
    shown = {line.strip() for cell in released.cells for line in cell.source.splitlines()}
    return sorted(line for line in (secret - public) & shown if len(line) > 3)


def plain_figures(notebook: NotebookNode) -> None:
    """Turn figures, as `show` makes them, into pictures: of HTML, nothing is left in what people look at."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            figure = FIGURE.fullmatch("".join(output.get("data", {}).get("text/html", "")))
            if figure:  # a browser looks at the bytes, not at the label
                alt = html.unescape(figure["alt"])
                output.data = {"image/png": figure["bytes"], "text/plain": alt}
                output.metadata = {"image/png": {"alt": alt}}


# --- running ---


def run_all(
    jobs: dict[tuple[str, str], NotebookNode],
    limits: sandbox.Limits,
    scheduler: str | None = None,
) -> Iterator[tuple[tuple[str, str], sandbox.Run | Exception]]:
    """Run notebooks, on all cores of this machine or on a Dask cluster; yield each once, when it is ready."""
    texts = {key: nbformat.writes(notebook) for key, notebook in jobs.items()}
    outcomes = (
        _on_cluster(texts, limits, scheduler) if scheduler else _on_cores(texts, limits)
    )
    for key, outcome in outcomes:
        if isinstance(outcome, Exception):
            yield key, outcome
        else:
            text, *rest = outcome
            yield key, sandbox.Run(nbformat.reads(text, as_version=4), *rest)


def _on_cores(texts: dict, limits: sandbox.Limits) -> Iterator[tuple]:
    pool = ThreadPoolExecutor(os.cpu_count())  # a thread waits for a kernel: that computes
    try:
        futures = {
            pool.submit(sandbox.work, text, limits): key for key, text in texts.items()
        }
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # those that run come to their end


def _on_cluster(texts: dict, limits: sandbox.Limits, scheduler: str) -> Iterator[tuple]:
    """The scheduler gives what a lost worker had to the others; after three losses, the submission is blamed."""
    from dask.distributed import Client
    from dask.distributed import as_completed as completed

    with Client(scheduler) as client:
        client.upload_file(sandbox.__file__)  # workers have the course, but not this folder
        futures = {
            client.submit(sandbox.work, text, limits, pure=False): key
            for key, text in texts.items()
        }
        for future in completed(futures):
            yield futures[future], future.exception() or future.result()


def bench(count: int = 100) -> str:
    """Grade as many correct submissions of the first assignment; return what it costs, in words."""
    import resource  # not on Windows, where the rest of this program can still release

    name = assignment_names()[0]
    with tempfile.TemporaryDirectory() as folder:
        course = Course(Path(folder))
        for k in range(count):
            target = course.folder / "submitted" / f"student{k:03d}" / name
            target.mkdir(parents=True)
            shutil.copy(SOURCES / f"{name}.ipynb", target)
        start = time.time()
        failures = course.grade([name])
        minutes = (time.time() - start) / 60
        paths = list(course.folder.glob("autograded/*/*/run.json"))
        done = sorted((path.stat().st_mtime - start) / 60 for path in paths)
        memory = max(json.loads(path.read_text("utf-8"))["memory_MB"] for path in paths)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    line = ", ".join(
        f"{k} after {done[k - 1]:.1f}" for k in (count // 4, count // 2, count)
    )
    return (
        f"{name}: {count / minutes:.1f} submissions a minute on {os.cpu_count()} cores ({line} minutes), "
        f"{failures} not graded; at most {memory} MB a submission, {own} MB for the program"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["release", "grade", "bench"])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="assignments; all of them by default"
    )
    parser.add_argument(
        "--again", action="store_true", help="grade also what has been graded before"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "grading", help="of the class"
    )
    options = parser.parse_args(arguments)
    names = options.names or assignment_names()
    try:
        if options.step == "bench":
            print(bench())
            return 0
        course = Course(options.folder)
        if options.step == "release":
            for name in names:
                print(course.release(name))
            return 0
        failures = course.grade(names, options.again, options.scheduler)
        print(
            f"grades: {course.folder / 'grades.csv'}; feedback: {course.folder / 'feedback'}"
        )
        return int(failures > 0)
    except (RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
