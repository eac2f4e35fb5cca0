"""Run a submitted notebook where it can do no harm.

Only the kernel, which runs the student's code, is inside; the program that sends it cells and collects outputs is
outside. Hidden tests reach the kernel last, when everything that the student will see has been recorded.

| danger | what stops it | needs |
|:--|:--|:--|
| reading hidden tests, other submissions, the book of grades; writing anywhere | a file system with Python, the helper, lectures 01–24 and the data, all read-only, and an empty `/tmp` that is thrown away | bubblewrap |
| network, signals to other processes | namespaces of its own for network, processes, IPC | bubblewrap |
| endless loop, endless sleep | seconds of computing, and of the clock, are counted for a cell and for the notebook: interrupt, then kill | psutil |
| memory | `prlimit --data` for each process, a watch over all together | util-linux, psutil |
| fork bomb | `prlimit --nproc` for a user id (as root) or a user namespace of its own | util-linux, Linux 5.14 |
| a gigabyte of output, a full disk | messages are counted and bounded; `/tmp` has a size | bubblewrap 0.7 |
| a crash of the kernel | the notebook runs again without that cell | — |
| tests switched off by code (hooks, patched `assert_allclose`) | canaries: tests that must fail | — |

No part is optional: `require` says what is missing, and nothing runs without it.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import os
import queue
import random
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
import zmq
from jupyter_client import BlockingKernelClient
from nbformat import NotebookNode

from course_utils import ROOT

MB = 2**20
PATIENCE = 5  # seconds on the clock for a second of computing: a cell may also sleep, or wait for its core
HIDDEN = re.compile(
    r"^### BEGIN HIDDEN TESTS\n(.*?)^### END HIDDEN TESTS$", re.MULTILINE | re.DOTALL
)
_SLOT = (
    itertools.count()
)  # user ids in turn, so that two sandboxes never share their count of processes


class SandboxError(RuntimeError):
    """The machine lacks something that the sandbox needs; no submission runs."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell_seconds: float = 60  # of computing; the clock may show PATIENCE times as many
    total_seconds: float = 240
    memory: int = 4096 * MB  # of all processes together, and of the data of each
    processes: int = 128  # and threads
    disk: int = 256 * MB
    output: int = 20 * MB  # received; what is kept is far less
    kept: int = 20_000  # letters of text a cell
    crashes: int = 3  # cells that may crash before the run is given up


@dataclass
class Run:
    """An executed notebook, with what the grader has to say about the run."""

    notebook: NotebookNode
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0  # largest seen, bytes
    flagged: bool = False  # the instructor should look at it


class _Dead(Exception):
    """The kernel is gone, or has been killed; the message says why."""


def _mounts() -> list[str]:
    """Return bwrap's arguments for the files that a notebook needs, read-only."""
    arguments = []
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            arguments += ["--ro-bind", str(path), str(path)]
    shown = [
        "/usr",
        "/etc/ld.so.cache",
        "/etc/fonts",
        "/etc/localtime",
        "/etc/alternatives",
    ]
    shown += [sys.base_prefix, sys.prefix, str(ROOT / "course_utils"), str(ROOT / "data")]
    shown += [str(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    if os.environ.get("COURSE_DATA"):
        shown.append(os.path.abspath(os.environ["COURSE_DATA"]))
    shown = [path for path in dict.fromkeys(shown) if os.path.exists(path)]
    parents = {
        str(parent) for path in [*shown, "/run/kernel"] for parent in Path(path).parents
    }
    for parent in sorted(
        parents - {"/"}
    ):  # bwrap itself would make them for root's eyes only
        arguments += ["--perms", "0755", "--dir", parent]
    for path in shown:
        arguments += ["--ro-bind", path, path]
    return arguments


def _command(folder: str, limits: Limits, program: Sequence[str]) -> list[str]:
    """Return the command that runs a program inside; `folder` holds the kernel's sockets."""
    environment = {
        "HOME": "/tmp", "PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/tmp/.matplotlib", "IPYTHONDIR": "/tmp/.ipython", "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1", "COURSE_STATIC": "1",
    }  # fmt: skip
    if os.environ.get("COURSE_DATA"):
        environment["COURSE_DATA"] = os.path.abspath(os.environ["COURSE_DATA"])
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try"]
    command += ["--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"]
    command += [
        part for name, value in environment.items() for part in ("--setenv", name, value)
    ]
    command += [*_mounts(), "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/dev/shm"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp"]
    command += ["--bind", folder, "/run/kernel", "--remount-ro", "/", "--chdir", "/tmp"]
    if os.geteuid() == 0:  # root's own processes are never counted: become somebody
        user = str(61_200 + next(_SLOT) % 4_000)
        kept = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")  # until setpriv has used them
        command += [
            "--cap-drop",
            "ALL",
            *(part for name in kept for part in ("--cap-add", name)),
        ]
        command += ["--", "setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        command += ["--bounding-set=-all"]
        command += ["--inh-caps=-all", "--no-new-privs"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += ["--", "prlimit", f"--nproc={limits.processes}", f"--data={limits.memory}"]
    command += ["--core=0"]
    return [*command, f"--fsize={limits.disk}", "--nofile=1024", "--", *program]


@functools.cache
def require() -> None:
    """Check, by using it, that this machine has what the sandbox needs.

    Raises:
        SandboxError: saying what is missing and how to get it.
    """
    for program, package in {
        "bwrap": "bubblewrap",
        "prlimit": "util-linux",
        "setpriv": "util-linux",
    }.items():
        if not shutil.which(program):
            advice = (
                f"install it: apt-get install {package}"
                if sys.platform == "linux"
                else "grade on a Linux machine"
            )
            raise SandboxError(
                f"submissions run in a sandbox that needs {program}, which is not here; {advice}"
            )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        tried = subprocess.run(
            _command(folder, Limits(), ["true"]),
            capture_output=True,
            text=True,
            check=False,
        )
    if tried.returncode:
        raise SandboxError(
            f"submissions run in a sandbox, and this machine does not let bubblewrap make one: {tried.stderr.strip()}\n"
            "In a container, allow namespaces (docker run --privileged, or --cap-add SYS_ADMIN with --security-opt "
            "seccomp=unconfined and apparmor=unconfined); else ask the administrator to allow user namespaces."
        )


class _Kernel:
    """A kernel inside the sandbox, and the messages to and from it."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.memory, self.computed, self.received = limits, 0, 0.0, 0
        # nobody else may enter it; in /tmp, because the path of a socket must be short
        self.outer = tempfile.TemporaryDirectory(prefix="grade-", dir="/tmp")
        self.folder = Path(self.outer.name) / "k"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        info = {
            f"{name}_port": k
            for k, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), start=1)
        }
        info |= {
            "transport": "ipc",
            "ip": "/run/kernel/k",
            "key": secrets.token_hex(),
            "signature_scheme": "hmac-sha256",
        }
        connection = self.folder / "connection.json"
        connection.write_text(json.dumps(info))
        connection.chmod(0o644)
        python = f"{sys.prefix}/bin/python"
        program = [python, "-m", "ipykernel_launcher", "-f", "/run/kernel/connection.json"]
        program += ["--log-level=CRITICAL", "--HistoryManager.enabled=False"]
        self.process = subprocess.Popen(
            _command(str(self.folder), limits, program),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAXMSGSIZE, limits.output)
        self.context.setsockopt(zmq.RCVHWM, 100)
        self.client = BlockingKernelClient(context=self.context)
        self.client.load_connection_info(info | {"ip": str(self.folder / "k")})
        self.client.start_channels(hb=False, stdin=False)
        self.poller = zmq.Poller()
        for channel in (self.client.shell_channel, self.client.iopub_channel):
            self.poller.register(channel.socket, zmq.POLLIN)

    def start(self, seconds: float = 60 * PATIENCE) -> None:
        """Wait until the kernel answers; nothing of the student's has run before."""
        end, asked, heard = time.monotonic() + seconds, 0.0, set()
        while len(heard) < 2:  # a message on either channel
            if self.process.poll() is not None or time.monotonic() > end:
                raise SandboxError("the kernel does not start inside the sandbox")
            if time.monotonic() - asked > 1:
                self.client.kernel_info()
                asked = time.monotonic()
            for channel in (self.client.shell_channel, self.client.iopub_channel):
                if dict(self.poller.poll(50)).get(channel.socket):
                    with contextlib.suppress(queue.Empty):
                        channel.get_msg(timeout=0)
                        heard.add(channel)
        self.folder.chmod(0o755)  # as root, nothing can be written there from now on

    def kill(self) -> None:
        self.process.kill()  # with bwrap go all the processes of its namespace
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.client.stop_channels()
        self.context.destroy(linger=0)
        shutil.rmtree(self.outer.name, ignore_errors=True)
        self.outer.cleanup()

    def _watch(self) -> None:
        """Add up what the processes inside use; kill the kernel if that is too much."""
        if self.process.poll() is not None:
            raise _Dead("it crashed the kernel")
        used, computed = 0, 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    used += process.memory_info().rss
                    computed += sum(
                        process.cpu_times()[:4]
                    )  # with children that have ended
        self.memory, self.computed = max(self.memory, used), max(self.computed, computed)
        written = sum(
            entry.stat(follow_symlinks=False).st_size for entry in os.scandir(self.folder)
        )
        if used > self.limits.memory:
            self._stop(f"it used more than {self.limits.memory // MB} MB of memory")
        if written > self.limits.disk:
            self._stop(f"it wrote more than {self.limits.disk // MB} MB")

    def _stop(self, reason: str) -> None:
        self.kill()
        raise _Dead(reason)

    def execute(self, source: str, seconds: float) -> tuple[bool, list[NotebookNode], str]:
        """Run a cell; return whether it succeeded, its outputs, and a remark if it had to be interrupted.

        Raises:
            _Dead: if the kernel died or was killed.
        """
        request = self.client.execute(source, allow_stdin=False, stop_on_error=False)
        outputs, remark, letters = [], "", 0
        replied, idle, looked = None, False, 0.0
        clock, computed, allowed = time.monotonic(), self.computed, seconds
        while not (replied and idle):
            now = time.monotonic()
            if now - looked > 0.2:
                self._watch()
                looked = now
            if self.computed - computed > allowed or now - clock > PATIENCE * allowed:
                if replied or remark:
                    self._stop(
                        "it could not be interrupted"
                        if remark
                        else "its output was too large to send"
                    )
                remark = f"it took longer than {seconds:.0f} s"
                clock, computed, allowed = now, self.computed, 5
                self.client.session.send(
                    self.client.control_channel.socket, "interrupt_request", {}
                )
            ready = dict(self.poller.poll(100))
            if self.client.shell_channel.socket in ready:
                message = self.client.get_shell_msg(timeout=1)
                if message["parent_header"].get("msg_id") == request:
                    replied = message["content"]["status"]
                    clock, computed, allowed = (
                        time.monotonic(),
                        self.computed,
                        min(allowed, 5),
                    )
            if self.client.iopub_channel.socket not in ready:
                continue
            message = self.client.get_iopub_msg(timeout=1)
            kind, content = message["header"]["msg_type"], message["content"]
            size = len(json.dumps(content, default=str))
            self.received += size
            if self.received > self.limits.output:
                self._stop(
                    f"the notebook's output is larger than {self.limits.output // MB} MB"
                )
            if message["parent_header"].get("msg_id") != request:
                continue
            if kind == "status":
                idle = idle or content["execution_state"] == "idle"
            elif kind in {"stream", "error", "display_data", "execute_result"}:
                room = self.limits.kept - letters if kind in {"stream", "error"} else MB
                letters += size if kind in {"stream", "error"} else 0
                if room > 0:
                    outputs.append(_clipped(nbformat.v4.output_from_msg(message), room))
        if any(
            output.get("ename") == "MemoryError" for output in outputs
        ):  # what it holds, it keeps
            self._stop(f"it used more than {self.limits.memory // MB} MB of memory")
        failed = (
            remark
            or replied != "ok"
            or any(output.output_type == "error" for output in outputs)
        )
        return not failed, _merged(outputs), remark


def _clipped(output: NotebookNode, room: int) -> NotebookNode:
    """Return an output cut to the letters that there is room for."""
    if output.output_type == "stream" and len(output.text) > room:
        output.text = output.text[:room] + "\n… the rest of the output is left out\n"
    elif output.output_type == "error":
        output.evalue = output.evalue[:2_000]
        output.traceback = [line[:4_000] for line in output.traceback[-12:]]
    elif (
        output.output_type != "stream" and len(json.dumps(output.data, default=str)) > room
    ):
        output.data = {"text/plain": "an output too large to show"}
    return output


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join successive pieces of one stream."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if (
            merged
            and output.output_type == "stream" == merged[-1].output_type
            and output.name == merged[-1].name
        ):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def error_output(name: str, message: str) -> NotebookNode:
    return nbformat.v4.new_output(
        "error", ename=name, evalue=message, traceback=[f"{name}: {message}"]
    )


def is_test(cell: NotebookNode) -> bool:
    about = cell.metadata.get("nbgrader", {})
    return (
        cell.cell_type == "code"
        and about.get("grade", False)
        and not about.get("solution", False)
    )


def label(cell: NotebookNode, k: int) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {k + 1}"


def hidden_tests(cell: NotebookNode) -> list[str]:
    return HIDDEN.findall(cell.source) if is_test(cell) else []


def hint(hidden: str) -> str:
    """Return what a student may read about a hidden test: its first line, if that is a comment `# hint: …`."""
    first = hidden.strip().partition("\n")[0]
    return first.removeprefix("# hint:").strip() if first.startswith("# hint:") else ""


CANARIES = (
    "assert not True",
    "import numpy.testing as _t\n_t.assert_allclose(0.0, 1.0)",
    "raise AssertionError('canary')",
)


def _attempt(
    notebook: NotebookNode, skipped: dict[int, str], limits: Limits, end: float, run: Run
) -> int | None:
    """Execute a notebook without the skipped cells; return the cell at which the kernel died, or None."""
    kernel, current = _Kernel(limits), -1
    try:
        kernel.start()
        codes = [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        for current in codes:
            left = limits.total_seconds - kernel.computed if time.monotonic() < end else 0
            cell = notebook.cells[current]
            cell.outputs, cell.execution_count = [], None
            if current in skipped:
                cell.outputs = [
                    error_output(
                        "Skipped", f"this cell was left out, because {skipped[current]}"
                    )
                ]
                continue
            if left <= 0:
                cell.outputs = [
                    error_output(
                        "OutOfTime",
                        f"the notebook took longer than {limits.total_seconds:.0f} s",
                    )
                ]
                continue
            good, outputs, remark = kernel.execute(
                HIDDEN.sub("", cell.source), min(limits.cell_seconds, left)
            )
            if remark:
                run.remarks.append(f"{label(cell, current)}: {remark}")
                outputs.append(error_output("Interrupted", remark))
            errors = [output for output in outputs if output.output_type == "error"]
            # of a test, keep errors alone: nbgrader reads a number as points, and stderr as a failure
            if is_test(cell):
                outputs = errors or (
                    []
                    if good
                    else [error_output("Failed", "this test did not run to its end")]
                )
            cell.outputs = outputs
        _hidden_phase(kernel, notebook, limits, end, run)
    except _Dead as death:
        if current >= 0:
            skipped[current] = str(death)
            run.remarks.append(
                f"{label(notebook.cells[current], current)}: {death}; it is left out"
            )
            return current
        raise SandboxError(f"the kernel does not start: {death}") from death
    finally:
        run.memory = max(run.memory, kernel.memory)
        kernel.close()
    return None


def _hidden_phase(
    kernel: _Kernel, notebook: NotebookNode, limits: Limits, end: float, run: Run
) -> None:
    """Run the hidden tests and the canaries; all that comes out is who passed."""
    tests = [(cell, source) for cell in notebook.cells for source in hidden_tests(cell)]
    jobs: list[tuple[NotebookNode | None, str]] = [*tests]
    sources = [source for _, source in tests] or [""]
    jobs += [(None, f"{random.choice(sources)}\n{canary}") for canary in CANARIES]
    random.shuffle(jobs)
    dead = None
    for cell, source in jobs:
        good = False
        if dead is None and end > time.monotonic():
            try:
                good, _, _ = kernel.execute(source, limits.cell_seconds)
            except _Dead as death:
                dead = str(death)
                run.remarks.append(f"hidden tests: {death}; those after it did not run")
        if cell is None and good:
            run.flagged = True
        if cell is not None and not good and not cell.outputs:
            cell.outputs = [
                error_output(
                    "HiddenTest", hint(source) or "a hidden test of this task fails"
                )
            ]
    if run.flagged:
        run.remarks.append(
            "a test that must fail passed: the submission switches tests off, so all are counted as failed"
        )
        for cell in filter(is_test, notebook.cells):
            cell.outputs = [
                error_output(
                    "Tampered", "the submission changes how tests run; ask your instructor"
                )
            ]


def execute(notebook: NotebookNode, limits: Limits | None = None) -> Run:
    """Run a notebook, cells and tests, in a sandbox; return it with outputs and remarks.

    Raises:
        SandboxError: if this machine has no sandbox.
    """
    require()
    limits, start = limits or Limits(), time.monotonic()
    skipped: dict[int, str] = {}
    remarks: list[str] = []
    memory = 0
    end = start + PATIENCE * limits.total_seconds
    while True:
        run = Run(copy.deepcopy(notebook), memory=memory)
        died = _attempt(run.notebook, skipped, limits, end, run)
        memory = run.memory
        remarks += [remark for remark in run.remarks if remark not in remarks]
        if died is None:
            break
        if len(skipped) > limits.crashes or time.monotonic() > end:
            remarks.append(
                "the run was given up: too many cells crash, or the time is over"
            )
            for k, cell in enumerate(run.notebook.cells):
                if is_test(cell) and (k >= died or hidden_tests(cell)):
                    cell.outputs = [
                        error_output(
                            "GivenUp",
                            "this test did not run: too many cells crash the kernel",
                        )
                    ]
            break
    run.remarks, run.seconds, run.memory = remarks, time.monotonic() - start, memory
    return run


def tests_of(notebook: NotebookNode) -> Iterator[tuple[str, float, bool]]:
    """Yield the name, the points and the success of each test of an executed notebook."""
    for k, cell in enumerate(notebook.cells):
        if is_test(cell):
            yield label(cell, k), float(cell.metadata.nbgrader["points"]), not cell.outputs


def work(text: str, limits: Limits) -> tuple[str, list[str], float, int, bool]:
    """Run one notebook; text in and text out, so that it can happen on another machine."""
    run = execute(nbformat.reads(text, as_version=4), limits)
    return nbformat.writes(run.notebook), run.remarks, run.seconds, run.memory, run.flagged
