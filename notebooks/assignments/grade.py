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
from traitlets.config import Config

from course_utils import ROOT

SOURCES = ROOT / "notebooks" / "assignments"
STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
FIGURE = re.compile(
    r'<img src="data:image/webp;base64,(?P<bytes>[A-Za-z0-9+/=]+)" alt="(?P<alt>[^"<>]*)"[^<>"]*("\d+"[^<>"]*)*>'
)
LARGEST = 20 * sandbox.MB  # a submitted notebook
SETTINGS = """\
# Settings of this class. Times have an offset, or a zone: "2027-01-31 23:59 +0100".
due: {}            # 1_shannon: "2027-01-31 23:59 +0100"
late_percent: 10   # of the points reached, taken off for each day begun after that
limits: {}         # of a submission; cell_seconds: 60, total_seconds: 240, memory: 4294967296
"""


FORMGRADER = """\
# Written by grade.py, for grading by hand in JupyterLab started here: menu nbgrader, Formgrader.
c = get_config()
# nbgrader's own autograde has no sandbox, and would run students' code as yours: it fails at this name.
c.Autograde.sanitize_preprocessors = ["no_sandbox_here.use_make_grade"]
"""


class LatePerDay(BasePlugin):
    """Take off a share of the points for each day begun."""

    percent = Float(10.0, help="of the points reached, for each day begun").tag(config=True)

    def late_submission_penalty(
        self, student_id: str, score: float, total_seconds_late: float
    ) -> float:
        days = -(-total_seconds_late // 86_400)
        return min(score, score * days * self.percent / 100)


class TakeRun(NbGraderPreprocessor):
    """Put the notebook that ran in the sandbox in the place of nbgrader's own execution."""

    runs: dict[tuple[str, str], NotebookNode] = {}  # noqa: RUF012 — nbgrader makes the instance

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        about = resources["nbgrader"]
        return self.runs[about["student"], about["assignment"]], resources


class ForStudents(NbGraderPreprocessor):
    """Remove hidden tests from the feedback, and save the figures from its cleaning, which removes all of HTML.

    nbgrader's own way to remove tests stops at a marker that a student wrote.
    """

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        if sandbox.is_test(cell):
            cell.source = sandbox.HIDDEN.sub("", cell.source).rstrip()
        for output in cell.get("outputs", []):
            figure = FIGURE.fullmatch("".join(output.get("data", {}).get("text/html", "")))
            if figure:  # as `show` makes it; a browser looks at the bytes, not at the label
                output.data = {
                    "image/png": figure["bytes"],
                    "text/plain": html.unescape(figure["alt"]),
                }
                output.metadata = {"image/png": {"alt": html.unescape(figure["alt"])}}
        return cell, resources


@dataclass
class Submission:
    """One student's work on one assignment, as it was found."""

    student: str
    name: str
    notebook: NotebookNode | None  # sanitized, ready to run; None: there is nothing to run
    remarks: list[str]
    digest: str


class Class_:
    """The folder of a class, and nbgrader's view of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        programs = f"{sys.prefix}/bin"  # where nbgrader finds alembic, which makes its book of grades
        if programs not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] = programs + os.pathsep + os.environ["PATH"]
        if not (self.folder / "course.yml").exists():
            (self.folder / "course.yml").write_text(SETTINGS, encoding="utf-8")
        (self.folder / "nbgrader_config.py").write_text(FORMGRADER, encoding="utf-8")
        settings = yaml.safe_load((self.folder / "course.yml").read_text(encoding="utf-8"))
        unknown = settings.keys() - {"due", "late_percent", "limits"}
        wrong = (settings.get("limits") or {}).keys() - {
            field.name for field in fields(sandbox.Limits)
        }
        if unknown or wrong:
            raise ValueError(
                f"course.yml has unknown settings: {', '.join(sorted(unknown | wrong))}"
            )
        self.limits = sandbox.Limits(**(settings.get("limits") or {}))
        self.due = settings.get("due") or {}
        self.database = f"sqlite:///{self.folder}/gradebook.db"
        config = Config()
        config.CourseDirectory.root = str(self.folder)
        config.CourseDirectory.db_url = self.database
        config.CourseDirectory.submitted_directory = "inbox"
        config.ClearSolutions.code_stub = {
            "python": 'raise NotImplementedError("this task is not solved yet")'
        }
        config.OverwriteCells.add_missing_cells = True
        config.Autograde.autograde_preprocessors = [
            TakeRun, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata,
        ]  # fmt: skip
        config.AssignLatePenalties.plugin_class = LatePerDay
        config.LatePerDay.percent = float(settings.get("late_percent", 10))
        config.GenerateFeedback.preprocessors = [
            GetGrades,
            ForStudents,
            CSSHTMLHeaderPreprocessor,
        ]
        config.HTMLExporter.sanitize_html = True  # a student's output may hold scripts
        self.api = NbGraderAPI(config=config)
        self.late = LatePerDay(config=config)
        logging.getLogger("traitlets").setLevel(
            logging.CRITICAL + 1
        )  # its log comes with its results
        warnings.filterwarnings(
            "ignore", category=SAWarning
        )  # nbgrader adds to lists as SQLAlchemy 1 did

    def gradebook(self) -> Gradebook:
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
        with self.gradebook() as book:
            book.update_or_create_assignment(name, duedate=instant(self.due.get(name)))
        released = self.folder / "release" / name / path.name
        left = leaks(read(path), read(released))
        if left:
            raise RuntimeError(
                f"the release of {name} still holds what students must not see: {left[0]!r}"
            )
        with zipfile.ZipFile(
            self.folder / "release" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED
        ) as archive:
            archive.writestr(zipfile.ZipInfo(path.name), released.read_bytes())
        return self.folder / "release" / f"{name}.zip"

    # --- collect ---

    def submissions(self, names: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
        """Yield (student, name, folder) of all that was handed in; name nothing that is a link."""
        for student in sorted(
            os.scandir(self.folder / "submitted"), key=lambda entry: entry.name
        ):
            if not STUDENT.fullmatch(student.name) or not student.is_dir(
                follow_symlinks=False
            ):
                print(
                    f"left out: submitted/{student.name!r} is not a student's folder (letters, digits, . _ @ -)"
                )
                continue
            for entry in sorted(os.scandir(student.path), key=lambda entry: entry.name):
                if entry.name in names and entry.is_dir(follow_symlinks=False):
                    yield student.name, entry.name, Path(entry.path)
                elif entry.name not in assignment_names():
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
            text, remark = choose(folder, name, self._source(name))
            digest.update(text.encode("utf-8", "surrogatepass"))
            remarks += remark
            notebook = self._sanitized(text, student, name)
            nbformat.write(notebook, inbox / f"{name}.ipynb")
        except (
            Exception
        ) as error:  # whatever a strange file does to the libraries that read it
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

    def _source(self, name: str) -> NotebookNode:
        return read(SOURCES / f"{name}.ipynb")

    def _sanitized(self, text: str, student: str, name: str) -> NotebookNode:
        """Return a submitted notebook with every graded and locked cell as it was released, and hidden tests added."""
        notebook = nbformat.reads(text, as_version=4)
        source = {
            identity(cell): cell for cell in self._source(name).cells if identity(cell)
        }
        for k, cell in enumerate(notebook.cells):
            cell.metadata = (
                {"nbgrader": dict(source[identity(cell)].metadata.nbgrader)}
                if identity(cell) in source
                else {}
            )
            cell.metadata = nbformat.from_dict(cell.metadata)
            cell["id"] = f"cell-{k}"
            cell.pop("attachments", None)
        self._put_back(notebook, source)
        notebook.metadata, notebook.nbformat_minor = nbformat.from_dict({}), 5
        resources = {
            "nbgrader": {
                "student": student,
                "assignment": name,
                "notebook": name,
                "db_url": self.database,
            },
            "metadata": {},
        }
        for kind in (
            ClearOutput,
            DeduplicateIds,
            OverwriteKernelspec,
            OverwriteCells,
            CheckCellMetadata,
        ):
            notebook, resources = kind(parent=self.api).preprocess(notebook, resources)
        restored = {identity(cell): cell for cell in notebook.cells if identity(cell)}
        for key, cell in source.items():
            about = cell.metadata.nbgrader
            same = key in restored and restored[key].source == cell.source
            if (about.grade and key not in restored) or (
                about.grade and not about.solution and not same
            ):
                raise ValueError(f"the graded cell {key} cannot be restored")
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
        """Grade what is new in `submitted/`; return the number of submissions that could not be graded."""
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
                print(
                    f"{key[0]}  {key[1]}  NOT GRADED: {type(error).__name__}: {error}",
                    flush=True,
                )
        for path in sorted((self.folder / "autograded").glob("*/*/run.json")):
            if (path.parent.parent.name, path.parent.name) not in todo:
                self._refresh(path.parent.parent.name, path.parent.name)
        self.write_grades()
        return failures

    def _nothing(self, submission: Submission) -> sandbox.Run:
        """Return what stands for a submission that cannot be run: the blank assignment, with all tests failed."""
        blank = (
            self.folder
            / "inbox"
            / submission.student
            / submission.name
            / f"{submission.name}.ipynb"
        ).read_text("utf-8")
        notebook = self._sanitized(blank, submission.student, submission.name)
        for cell in filter(sandbox.is_test, notebook.cells):
            cell.outputs = [sandbox.error_output("NotRun", "there is no notebook to run")]
        return sandbox.Run(notebook, flagged=True)

    def _record(self, student: str, name: str) -> dict:
        path = self.folder / "autograded" / student / name / "run.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def _enter(self, submission: Submission, run: sandbox.Run) -> None:
        """Enter a run into the book of grades, write its feedback, and remember it."""
        student, name = submission.student, submission.name
        remarks = [*submission.remarks, *run.remarks]
        if remarks:
            report = nbformat.v4.new_markdown_cell(
                "**The grader's remarks**\n\n" + "\n".join(f"- {r}" for r in remarks)
            )
            run.notebook.cells.insert(0, report)
        TakeRun.runs[student, name] = run.notebook
        for step in (self.api.autograde, self.api.generate_feedback):
            result = step(name, student, force=True)
            if not result["success"]:
                raise RuntimeError(
                    f"nbgrader fails on {student}, {name}:\n{result.get('log')}\n{result.get('error', '')}"
                )
        del TakeRun.runs[student, name]
        passed = {
            task: points * good for task, points, good in sandbox.tests_of(run.notebook)
        }
        with self.gradebook() as book:
            entered = {
                grade.cell.name: grade.auto_score
                for notebook in book.find_submission(name, student).notebooks
                for grade in notebook.grades
                if grade.cell.name in passed
            }
        if entered != passed:
            raise RuntimeError(f"the book of grades has {entered}, the run {passed}")
        record = {
            "digest": submission.digest,
            "remarks": remarks,
            "seconds": round(run.seconds, 1),
        }
        record |= {"memory_MB": run.memory // sandbox.MB, "look": run.flagged}
        path = self.folder / "autograded" / student / name / "run.json"
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")
        row = self._row(student, name)
        print(
            f"{student}  {name}  {row['score']}/{row['max_score']}  {run.seconds:.1f} s  {row['remarks']}",
            flush=True,
        )

    def _refresh(self, student: str, name: str) -> None:
        """Follow points given by hand since the run: the penalty for late work, and the feedback."""
        with self.gradebook() as book:
            late = book.find_submission(name, student).total_seconds_late
            notebook = book.find_submission_notebook(name, name, student)
            penalty = self.late.late_submission_penalty(student, notebook.score, late)
            changed = notebook.late_submission_penalty or 0.0
            notebook.late_submission_penalty = penalty
            book.db.commit()
        record = self._record(student, name)
        row = self._row(student, name)
        if changed != penalty or record.get("score") != row["score"]:
            self.api.generate_feedback(name, student, force=True)
            path = self.folder / "autograded" / student / name / "run.json"
            path.write_text(
                json.dumps(record | {"score": row["score"]}, indent=1), encoding="utf-8"
            )

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
            for notebook in submission.notebooks:
                row |= {f"task:{grade.cell.name}": grade.score for grade in notebook.grades}
        return row | {
            "look": record.get("look", False),
            "remarks": "; ".join(record.get("remarks", [])),
        }

    def write_grades(self) -> Path:
        """Write `grades.csv`, with all that has been graded until now, and by hand too."""
        rows = []
        for path in sorted((self.folder / "autograded").glob("*/*/run.json")):
            rows.append(self._row(path.parent.parent.name, path.parent.name))
        names = list(dict.fromkeys(key for row in rows for key in row))
        last = [key for key in ("look", "remarks") if key in names]
        with (self.folder / "grades.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file, [*(key for key in names if key not in last), *last]
            )
            writer.writeheader()
            writer.writerows(rows)
        return self.folder / "grades.csv"


# --- reading ---


def assignment_names() -> list[str]:
    return sorted(path.stem for path in SOURCES.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def instant(text: str | datetime | None) -> datetime | None:
    """Return a time in UTC, as nbgrader stores it; one without a zone is in UTC already."""
    time = dates.parse(text) if isinstance(text, str) else text
    return (
        time.astimezone(UTC).replace(tzinfo=None)
        if time is not None and time.tzinfo
        else time
    )


def identity(cell: NotebookNode) -> str | None:
    """Return the name that nbgrader gave a cell, if it is one."""
    name = (cell.get("metadata") or {}).get("nbgrader") or {}
    name = name.get("grade_id") if isinstance(name, dict) else None
    return name if isinstance(name, str) else None


def bounded_text(path: Path, largest: int) -> str:
    """Return the text of a plain file, not of a link, a pipe or a giant."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is not a plain file")
        if about.st_size > largest:
            raise ValueError(
                f"{path.name} has {about.st_size / sandbox.MB:.0f} MB; at most {largest // sandbox.MB} are read"
            )
        return file.read(largest).decode("utf-8")


def choose(folder: Path, name: str, source: NotebookNode) -> tuple[str, list[str]]:
    """Return the text of the notebook that belongs to an assignment, whatever it is called, and remarks.

    Raises:
        ValueError: if there is none, or more than one.
    """
    texts = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)[:100]:
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
            (
                secret if inside or (by_hand and cell.cell_type == "markdown") else public
            ).add(line)
            if re.match(r"### END (SOLUTION|HIDDEN TESTS)", line):
                inside = False
    shown = {line.strip() for cell in released.cells for line in cell.source.splitlines()}
    return sorted(line for line in (secret - public) & shown if len(line) > 3)


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
    with ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # threads: each waits for a kernel, which is a process
        futures = {
            pool.submit(sandbox.work, text, limits): key for key, text in texts.items()
        }
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()


def _on_cluster(texts: dict, limits: sandbox.Limits, scheduler: str) -> Iterator[tuple]:
    """The scheduler gives what a lost worker had to the others; after three losses, the submission is blamed."""
    from dask.distributed import Client
    from dask.distributed import as_completed as completed

    with Client(scheduler) as client:
        client.upload_file(
            sandbox.__file__
        )  # a worker has the course, but not this folder on its path
        futures = {
            client.submit(sandbox.work, text, limits, pure=False): key
            for key, text in texts.items()
        }
        for future in completed(futures):
            yield futures[future], future.exception() or future.result()


def bench(count: int = 100) -> str:
    """Grade as many correct submissions of the first assignment; return what it costs, in words."""
    name = assignment_names()[0]
    with tempfile.TemporaryDirectory() as folder:
        course = Class_(Path(folder))
        for k in range(count):
            target = course.folder / "submitted" / f"student{k:03d}" / name
            target.mkdir(parents=True)
            shutil.copy(SOURCES / f"{name}.ipynb", target)
        start = time.perf_counter()
        failures = course.grade([name])
        minutes = (time.perf_counter() - start) / 60
        records = [
            json.loads(path.read_text("utf-8"))
            for path in course.folder.glob("autograded/*/*/run.json")
        ]
    memory = max(record["memory_MB"] for record in records)
    rate = f"{count / minutes:.0f} submissions a minute on {os.cpu_count()} cores"
    return f"{name}: {rate}, {failures} not graded; at most {memory} MB a submission"


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
        course = Class_(options.folder)
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
