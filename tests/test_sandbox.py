"""What a hostile or broken submission may try: the batch goes on, the report is clear, nothing else is touched."""

import base64
import binascii
import copy
import csv
import os
import re
import shutil
import socketserver
import sys
import threading
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_utils import ROOT

sys.path.insert(0, str(ROOT / "notebooks" / "assignments"))

import grade
import sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
LIMITS = sandbox.Limits(cell_seconds=2, total_seconds=30, memory=600 * sandbox.MB, processes=60, disk=30 * sandbox.MB)
KEY = "the hidden number is 271828"


def about(name: str, **more) -> dict:
    return {"nbgrader": {"grade_id": name, "schema_version": 3, "task": False, "locked": False, **more}}


def assignment() -> NotebookNode:
    """Return a small assignment: two tasks and an answer in words."""
    cells = [new_markdown_cell("# Doubling", metadata=about("title", locked=True, grade=False, solution=False))]
    for name, right in {"double": "2 * x", "triple": "3 * x"}.items():
        solution = f"def {name}(x):\n    ### BEGIN SOLUTION\n    return {right}\n    ### END SOLUTION"
        test = f"assert {name}(1) == {name}(1.0), 'not the same'\n### BEGIN HIDDEN TESTS\n# hint: wrong for some x\n"
        test += f"secret = '{KEY}'\nassert {name}(5) == {right.replace('x', '5')}\n### END HIDDEN TESTS"
        cells.append(new_code_cell(solution, metadata=about(name, solution=True, grade=False)))
        cells.append(
            new_code_cell(test, metadata=about(f"{name}_test", grade=True, solution=False, locked=True, points=2))
        )
    cells.append(new_markdown_cell("Because.", metadata=about("why", grade=True, solution=True, points=1)))
    notebook = new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def after_double(code: str) -> NotebookNode:
    """Return the solved assignment with a cell of the student's after the first task."""
    notebook = assignment()
    notebook.cells.insert(3, new_code_cell(code))
    return notebook


def execute(code: str, limits: sandbox.Limits = LIMITS) -> tuple[sandbox.Run, dict[str, bool], str]:
    """Run the assignment with a hostile cell; return the run, who passed, and all outputs."""
    run = sandbox.execute(after_double(code), limits)
    passed = {name: good for name, _, good in sandbox.tests_of(run.notebook)}
    return run, passed, outputs(run)


def outputs(run: sandbox.Run) -> str:
    return "\n".join(str(cell.get("outputs", "")) for cell in run.notebook.cells)


ALL = {"double_test": True, "triple_test": True}


@pytest.mark.parametrize(
    ("code", "remark"),
    {
        "endless loop": ("while True:\n    pass", "took longer than 2 s"),
        "a loop that catches interrupts": (
            "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
            "could not be interrupted",
        ),
        "memory hog": ("x = []\nwhile True:\n    x.append(bytearray(50_000_000))", "of memory"),
        "memory hog in children": (
            "import os, time\nfor _ in range(6):\n    if not os.fork():\n        x = bytearray(b'1') * 300_000_000\n"
            "        time.sleep(99)\ntime.sleep(99)",
            "of memory",
        ),
        "a gigabyte, line by line": ("while True:\n    print('x' * 10_000)", ""),
        "an error that never arrives": (
            "get_ipython()._showtraceback = lambda *_: None\nbytearray(10**12)",
            "of memory",
        ),
        "crash": ("import os\nos._exit(1)", "crashed the kernel"),
        "segmentation fault": ("import ctypes\nctypes.string_at(0)", "crashed the kernel"),
    }.values(),
    ids=[
        "loop",
        "stubborn loop",
        "memory",
        "memory of children",
        "gigabyte",
        "lost error",
        "crash",
        "segmentation fault",
    ],
)
def test_a_cell_that_runs_wild_costs_only_itself(code: str, remark: str):
    run, passed, _ = execute(code)
    assert passed == ALL
    assert run.remarks
    assert remark in " ".join(run.remarks)
    assert len(nbformat.writes(run.notebook)) < 200_000


def test_a_gigabyte_is_reported_even_where_the_kernel_first_runs_out_of_memory():
    run, passed, _ = execute("while True:\n    print('x' * 10_000)", replace(LIMITS, memory=350 * sandbox.MB))
    assert passed == ALL
    assert "of memory" in run.remarks[0] or "output is larger" in run.remarks[0]


def test_a_gigabyte_at_once_stays_small():
    run, passed, _ = execute("print('x' * 10**8)", replace(LIMITS, memory=1500 * sandbox.MB))
    assert "the notebook's output is larger than 20 MB" in run.remarks[0]
    assert passed == ALL
    assert len(nbformat.writes(run.notebook)) < 200_000


FORGED = """
kernel, parent = get_ipython().kernel, get_ipython().kernel.get_parent()
def send(kind, content):
    kernel.session.send(kernel.iopub_socket, kind, content, parent=parent)
"""


@pytest.mark.parametrize("content", ["[1, 2]", "{'name': 3, 'text': [{}]}"])
def test_messages_that_no_kernel_sends_cost_only_their_cell(content: str):
    run, passed, _ = execute(f"{FORGED}send('stream', {content})\nsend('display_data', {content})")
    assert passed == ALL
    nbformat.validate(run.notebook)


def test_memory_that_belongs_to_no_process_is_refused():
    code = "import ctypes, os\nlibc = ctypes.CDLL(None)\nprint('NEW ROOM', libc.unshare(0x10000000))\n"
    code += "print('SHARED', libc.shmget(0, 1 << 30, 0o1600))\nos.memfd_create('hog')"
    _, passed, text = execute(code)
    assert "NEW ROOM -1" in text
    assert "SHARED -1" in text
    assert "PermissionError" in text
    assert passed == ALL


def test_a_hidden_test_that_crashes_costs_its_own_task():
    code = "def double(x):\n    import os\n    return 2 * x if x == 1 else os._exit(1)"
    run = sandbox.execute(assignment_with("double", code), LIMITS)
    assert {name: good for name, _, good in sandbox.tests_of(run.notebook)} == ALL | {"double_test": False}
    assert "double_test, a hidden test: it crashed the kernel; it is left out" in run.remarks


def test_memory_that_is_only_asked_for_is_refused():
    run, passed, _ = execute("import numpy\nx = numpy.zeros(250_000_000)")
    assert "cell 4: it used more than 600 MB of memory; it is left out" in run.remarks
    assert passed == ALL


def test_processes_are_counted():
    code = "import os, time\nfor n in range(200):\n    try:\n        if not os.fork():\n            time.sleep(9)\n"
    code += "            os._exit(0)\n    except OSError:\n        print('STARTED', n)\n        break"
    _, passed, text = execute(code, replace(LIMITS, memory=2**40))  # here, shared memory counts for each
    assert 0 < int(text.partition("STARTED ")[2].partition("\\n")[0]) < LIMITS.processes
    assert passed == ALL


def test_a_fork_bomb_goes_out():
    before = len(os.listdir("/proc"))
    _, passed, _ = execute("import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass")
    assert passed == ALL
    assert len(os.listdir("/proc")) < before + 40, "processes are left over"


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/run/kernel"])
def test_the_disk_is_small(folder: str):
    code = (
        f"for n in range(100):\n    with open(f'{folder}/{{n}}', 'wb') as file:\n        file.write(bytes(2_000_000))"
    )
    code += "\n    import time; time.sleep(0.02)"
    run, passed, text = execute(code)
    if folder == "/run/kernel":  # where the sockets are; root's sandbox may not write there, a user's may
        assert "PermissionError" in text or "it wrote more than 30 MB" in " ".join(run.remarks)
    else:
        assert "No space left on device" in text
    assert passed == ALL


def test_the_network_is_not_there():
    code = "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        _, passed, text = execute(code.format(port=server.server_address[1]))
    assert "ConnectionRefusedError" in text
    assert passed == ALL


def test_nothing_outside_can_be_read_or_written(tmp_path: Path):
    (tmp_path / "gradebook.db").write_text("secret of another")
    tmp_path.chmod(0o777)
    (tmp_path / "gradebook.db").chmod(0o666)
    places = [tmp_path / "gradebook.db", grade.__file__, ROOT / "README.md", "/etc/passwd", "/proc/1/root/etc"]
    files = [
        *places,
        ROOT / "data" / "x",
        ROOT / "course_utils" / "x",
        "/usr/x",
        "/x",
        "/dev/x",
        Path(sys.prefix) / "x",
    ]
    code = f"import os\nfor path in {[str(path) for path in places]!r}:\n    print(path, os.access(path, os.R_OK))\n"
    code += f"for path in {[str(path) for path in files]!r}:\n    try:\n        open(path, 'w')\n        print('WROTE', path)\n"
    code += "    except OSError:\n        pass\nprint(len(os.listdir('/proc')), 'END')"
    _, passed, text = execute(code)
    assert "0 END" in text
    assert "WROTE" not in text
    assert " True" not in text
    assert passed == ALL
    assert (tmp_path / "gradebook.db").read_text() == "secret of another"
    assert not (ROOT / "data" / "x").exists()


def test_a_course_that_lies_in_tmp_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copytree(ROOT / "course_utils", tmp_path / "course_utils")
    monkeypatch.setattr(sandbox, "ROOT", tmp_path)
    _, passed, text = execute("import course_utils; print(course_utils.__file__)")
    assert f"{tmp_path}/course_utils/__init__.py" in text
    assert passed == ALL


HOOK = """
import base64, sys
seen = []
def look(info):
    seen.append(info.raw_cell)
    for line in seen:
        print(base64.b64encode(line.encode()), file=sys.stderr)
get_ipython().events.register("pre_run_cell", look)
from IPython.display import display
handle = display("nothing yet", display_id=True)
def double(x):
    import inspect
    frame = inspect.currentframe().f_back
    text = repr(frame.f_globals.get("In", ""))[-400:] + repr(frame.f_globals.get("secret"))
    handle.update(text)
    raise ValueError(text)
"""


def test_what_a_hidden_test_says_never_reaches_the_student():
    notebook = assignment()
    notebook.cells.insert(2, new_code_cell(HOOK))
    notebook.cells.append(new_code_cell("print(1)"))
    run = sandbox.execute(notebook, LIMITS)
    shown = outputs(run)
    assert "271828" not in shown
    for line in shown.split("'"):
        try:
            assert b"271828" not in base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            continue


@pytest.mark.parametrize(
    "code",
    [
        "get_ipython().input_transformers_cleanup.append(lambda lines: ['pass\\n'])",
        "import ast\n"
        "class T(ast.NodeTransformer):\n    def visit_Assert(self, node):\n        return ast.Pass()\n"
        "get_ipython().ast_transformers.append(T())",
        "import numpy.testing\nnumpy.testing.assert_allclose = lambda *a, **k: None",
    ],
    ids=["source", "syntax tree", "numpy"],
)
def test_switching_tests_off_is_seen(code: str):
    run, passed, _ = execute(code)
    assert run.flagged or not all(passed.values())
    assert not any(passed.values())
    assert "switches tests off" in " ".join(run.remarks)


def test_numbers_and_warnings_in_a_test_change_nothing():
    code = "import warnings\ndef triple(x):\n    warnings.warn('careful')\n    print('0.0')\n    return 3 * x"
    run = sandbox.execute(assignment_with("triple", code), LIMITS)
    assert {name: good for name, _, good in sandbox.tests_of(run.notebook)} == ALL
    assert all(not cell.outputs for cell in run.notebook.cells if sandbox.is_test(cell))


def assignment_with(name: str, code: str) -> NotebookNode:
    notebook = assignment()
    next(cell for cell in notebook.cells if grade.identity(cell) == name).source = code
    return notebook


def test_a_machine_without_a_sandbox_runs_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(
        sandbox.SandboxError, match="needs bwrap, which is not here; install it: apt-get install bubblewrap"
    ):
        sandbox.require.__wrapped__()


def test_a_machine_that_forbids_namespaces_runs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(sandbox.SandboxError, match=r"Creating new namespace failed\n.*--privileged"):
        sandbox.require.__wrapped__()


# --- a batch ---


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> grade.Course:
    """A class whose only assignment is the small one."""
    (tmp_path / "sources").mkdir()
    nbformat.write(assignment(), tmp_path / "sources" / "0_doubling.ipynb")
    monkeypatch.setattr(grade, "SOURCES", tmp_path / "sources")
    return grade.Course(tmp_path / "class")


def hand_in(course: grade.Course, student: str, notebook: NotebookNode | str, file: str = "0_doubling.ipynb") -> Path:
    folder = course.folder / "submitted" / student / "0_doubling"
    folder.mkdir(parents=True, exist_ok=True)
    text = notebook if isinstance(notebook, str) else nbformat.writes(notebook)
    (folder / file).write_text(text, encoding="utf-8")
    return folder


def rows(course: grade.Course) -> dict[str, dict]:
    with (course.folder / "grades.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len({row["student"] for row in found}) == len(found), "somebody is graded twice"
    return {row["student"]: row for row in found}


def programs(page: str) -> list[str]:
    """Return what in a page would run in a browser."""
    found = []

    class Look(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list) -> None:
            found.extend([tag] * (tag in {"script", "iframe", "object", "embed"}))
            found.extend(name for name, value in attributes if name.startswith("on") or "javascript:" in (value or ""))

    Look().feed(page)
    return found


def test_strange_submissions_do_not_stop_the_batch(course: grade.Course):
    hand_in(course, "good", assignment())
    hand_in(course, "renamed", assignment(), "my homework (final).ipynb")
    hand_in(course, "unreadable", "{ this is no notebook")
    hand_in(course, "deep", "[" * 100_000)
    deleted, edited, cheat = assignment(), assignment_with("double", "def double(x):\n    return 7"), assignment()
    deleted.cells = [cell for cell in deleted.cells if not sandbox.is_test(cell)]
    for cell in filter(sandbox.is_test, edited.cells):
        cell.source = "pass"
    for cell in filter(sandbox.is_test, cheat.cells):
        cell.metadata.nbgrader.update(points=1_000, solution=True, grade=False)
        cell.source = "1000"
    hand_in(course, "deleted", deleted)
    hand_in(course, "edited", edited)
    hand_in(course, "cheat", cheat)
    scripts = assignment()
    text = "<script>steal()</script> <img src=x onerror='steal()'> [here](javascript:steal())\n\n# A title"
    scripts.cells.append(new_markdown_cell(text))
    code = "from IPython.display import *\ndisplay(HTML('<script>' 'steal()</script>'), Javascript('steal()'), SVG("
    code += "'<svg onload=\"steal()\"></svg>'), Markdown('<script>' 'steal()</script>'))\n"
    code += "display({'image/png': '\" onerror=\"steal()'}, raw=True)"
    scripts.cells.append(new_code_cell(code))
    hand_in(course, "scripts", scripts)
    folder = hand_in(course, "thief", "", "empty.ipynb")
    (folder / "0_doubling.ipynb").symlink_to(course.folder / "submitted" / "good" / "0_doubling" / "0_doubling.ipynb")
    folder = hand_in(course, "pipe", "", "empty.ipynb")
    os.mkfifo(folder / "0_doubling.ipynb")
    (course.folder / "submitted" / "=cmd()").mkdir()
    before = {path: path.read_bytes() for path in (course.folder / "submitted").rglob("*.ipynb") if path.is_file()}
    assert course.grade(["0_doubling"]) == 0
    found = rows(course)
    scores = {student: float(row["score"]) for student, row in found.items()}
    assert scores == {
        "good": 4, "renamed": 4, "unreadable": 0, "deep": 0, "deleted": 4, "edited": 2, "cheat": 4, "scripts": 4, "thief": 0, "pipe": 0,
    }  # fmt: skip
    assert "my homework" in found["renamed"]["remarks"]
    for student in ("unreadable", "deep", "thief", "pipe"):
        assert found[student]["remarks"].startswith("nothing was run: ")
        assert found[student]["look"] == "True"
    assert {path: path.read_bytes() for path in before} == before
    for student in scores:
        page = course.folder / "feedback" / student / "0_doubling" / "0_doubling.html"
        text = page.read_text("utf-8")
        assert KEY not in text
        assert programs(text) == []
        assert re.findall(r"""(?:src|href|@import|url)[=(\s]*["']?(?:https?:)?//[^\s"')]+""", text) == []


def test_late_work_and_regrading(course: grade.Course, monkeypatch: pytest.MonkeyPatch):
    ran = []
    execute = sandbox.execute
    monkeypatch.setattr(sandbox, "execute", lambda *args: ran.append(1) or execute(*args))

    def page(student: str) -> tuple[int, str]:
        path = course.folder / "feedback" / student / "0_doubling" / "0_doubling.html"
        return path.stat().st_mtime_ns, path.read_text("utf-8")

    course.due = {"0_doubling": "2027-01-31 23:00 UTC"}
    (hand_in(course, "early", assignment()) / "timestamp.txt").write_text("2027-01-31 22:59:00 UTC")
    (hand_in(course, "late", assignment()) / "timestamp.txt").write_text("2027-02-02 00:00:00 +0000")
    course.grade(["0_doubling"])
    found = rows(course)
    assert float(found["early"]["score"]) == 4
    assert float(found["late"]["score"]) == pytest.approx(4 * 0.8)  # two days begun, ten percent each
    assert len(ran) == 2
    untouched = page("late")
    hand_in(course, "early", assignment_with("double", "def double(x):\n    return x"))
    course.grade(["0_doubling"])
    assert len(ran) == 3, "only what is new runs again"
    assert float(rows(course)["early"]["score"]) == 2
    assert page("late") == untouched, "what has not changed is not written again"
    with course.gradebook() as book:
        book.find_grade("why", "0_doubling", "0_doubling", "late").manual_score = 1
        book.find_comment("why", "0_doubling", "0_doubling", "late").manual_comment = "well argued"
        book.db.commit()
    course.grade(["0_doubling"])
    assert len(ran) == 3
    assert float(rows(course)["late"]["score"]) == pytest.approx(5 * 0.8)
    assert "well argued" in page("late")[1]
    course.grade(["0_doubling"], again=True)
    assert len(ran) == 5
    assert float(rows(course)["late"]["score"]) == pytest.approx(5 * 0.8), "points given by hand are kept"
    assert "well argued" in page("late")[1]


def test_the_formgrader_runs_nothing_and_shows_no_scripts(course: grade.Course):
    from nbconvert import HTMLExporter
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    course.release("0_doubling")
    code = assignment_with("double", "open('RAN', 'w')")
    hand_in(course, "ada", code)
    config = PyFileConfigLoader("nbgrader_config.py", str(course.folder)).load_config()
    config.CourseDirectory.root = str(course.folder)
    result = NbGraderAPI(config=config).autograde("0_doubling", "ada")
    assert not result["success"]
    assert "use_make_grade" in result["error"] + result["log"]
    assert not list(course.folder.rglob("RAN"))
    show = HTMLExporter(config=config).environment.filters["markdown2html"]
    assert "<script" not in show("<script>steal()</script>")
    script = nbformat.v4.new_output("display_data", {"text/html": "<script>steal()</script>"})
    code.cells[1].outputs = [script]
    page, _ = HTMLExporter(config=config).from_notebook_node(code)
    assert "steal()" not in page.replace("&lt;script&gt;steal()", "")


def test_a_cluster_that_loses_a_worker_grades_all_and_none_twice(course: grade.Course, monkeypatch: pytest.MonkeyPatch):
    from dask.distributed import Client, LocalCluster

    slow = assignment_with("double", "import time\ntime.sleep(4)\ndef double(x):\n    return 2 * x")
    students = ["ada", "ben", "cleo", "dan"]
    for student in students:
        hand_in(course, student, slow)
    entered = []
    enter = grade.Course._enter
    monkeypatch.setattr(
        grade.Course, "_enter", lambda self, sub, run: entered.append(sub.student) or enter(self, sub, run)
    )
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:

        def lose_one() -> None:
            with Client(cluster) as client:
                end = time.monotonic() + 300
                while time.monotonic() < end and not any(client.processing().values()):
                    time.sleep(0.2)
                [worker, *_] = [name for name, jobs in client.processing().items() if jobs]
                pid = client.run(os.getpid, workers=[worker])[worker]
                os.kill(pid, 9)

        thread = threading.Thread(target=lose_one)
        thread.start()
        assert course.grade(["0_doubling"], scheduler=cluster.scheduler_address) == 0
        thread.join()
    assert sorted(entered) == students
    assert {student: float(row["score"]) for student, row in rows(course).items()} == dict.fromkeys(students, 4.0)


def test_a_copy_is_not_changed():
    notebook = assignment()
    before = copy.deepcopy(notebook)
    sandbox.execute(notebook, LIMITS)
    assert notebook == before


def test_the_sandbox_leaves_nothing_behind():
    def rooms() -> set[Path]:
        return set(Path("/tmp").glob("grade-*"))

    def inside() -> set[int]:
        return {process.pid for process in psutil.process_iter() if "/run/kernel/connection.json" in line(process)}

    def line(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except psutil.Error:
            return []

    def asleep() -> set[int]:
        return {process.pid for process in psutil.process_iter() if line(process) == ["sleep", "4321"]}

    before = rooms(), inside(), asleep()
    execute("import subprocess\nsubprocess.Popen(['sleep', '4321'], start_new_session=True)")
    assert not rooms() - before[0]
    assert not inside() - before[1]
    assert not asleep() - before[2]
