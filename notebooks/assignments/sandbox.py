"""Run a submitted notebook where it can do no harm.

Only the kernel, which runs the student's code, is inside; the program that sends it cells and collects outputs is
outside. Hidden tests reach the kernel last, when everything that the student will see has been recorded.

| danger | what stops it | needs |
|:--|:--|:--|
| reading hidden tests, other submissions, the book of grades; writing anywhere | a file system with Python, the helper, lectures 01–24 and the data, all read-only, and an empty `/tmp` that is thrown away | bubblewrap |
| network, signals to other processes | namespaces of its own for network, processes, IPC | bubblewrap |
| endless loop, endless sleep | seconds of computing, and of the clock, are counted for a cell and for the notebook: interrupt, then kill | psutil |
| memory | `prlimit --data` for each process, a watch over all together; calls that get memory which belongs to no process are refused | util-linux, psutil, x86-64 or ARM |
| fork bomb | `prlimit --nproc` for a user id (as root) or a user namespace of its own | util-linux, Linux 5.14 |
| a gigabyte of output, a full disk | messages are counted and bounded; `/tmp` has a size | bubblewrap 0.7 |
| a crash of the kernel, forged messages from it | the notebook runs again without what caused them | — |
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
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

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
# user ids in turn, so that two sandboxes do not share their count of processes
_SLOT = itertools.count(64 * os.getpid())


class SandboxError(RuntimeError):
    """The machine lacks something that the sandbox needs; no submission runs."""


# Calls that get memory which no limit counts, or namespaces that escape the counts, on x86-64 and on ARM.
FORBIDDEN = {
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "mq_open": (240, 180),
    "io_uring_setup": (425, 425), "userfaultfd": (323, 282), "add_key": (248, 217), "keyctl": (250, 219),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "bpf": (321, 280),
    "perf_event_open": (298, 241), "ptrace": (101, 117),
}  # fmt: skip
CLONE, CLONE3, NEW_USER = (56, 220), (435, 435), 0x10000000
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def _filter() -> bytes:
    """Return the system calls that are forbidden, as a program for seccomp (`man 2 seccomp`).

    Raises:
        SandboxError: on another kind of machine, whose calls have other numbers.
    """
    if os.uname().machine not in MACHINES:
        raise SandboxError(
            f"the sandbox knows {' and '.join(MACHINES)}, and not {os.uname().machine}"
        )
    column, machine = MACHINES[os.uname().machine]
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown, kill = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
    code = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, kill), (load, 0, 0, 0)]
    code += [(at_least, 0, 1, 0x40000000), (give, 0, 0, refuse)]  # numbers of x32
    for numbers in FORBIDDEN.values():
        code += [(equal, 0, 1, numbers[column]), (give, 0, 0, refuse)]
    code += [(equal, 0, 1, CLONE3[column]), (give, 0, 0, unknown)]  # so that clone is used
    code += [(equal, 0, 3, CLONE[column]), (load, 0, 0, 16), (any_bit, 0, 1, NEW_USER)]
    code += [(give, 0, 0, refuse), (give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *line) for line in code)


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
    shown = ["/usr", *(f"/etc/{name}" for name in ("ld.so.cache", "fonts", "localtime"))]
    shown += ["/etc/alternatives", sys.base_prefix, sys.prefix]
    shown += [str(ROOT / "course_utils"), str(ROOT / "data")]
    shown += [str(path) for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))]
    if os.environ.get("COURSE_DATA"):
        shown.append(os.path.abspath(os.environ["COURSE_DATA"]))
    shown = [path for path in dict.fromkeys(shown) if os.path.exists(path)]
    parents = {str(up) for path in [*shown, "/run/kernel"] for up in Path(path).parents}
    # bwrap would make these folders for root's eyes only
    for parent in sorted(parents - {"/", "/tmp"}):
        arguments += ["--perms", "0755", "--dir", parent]
    for path in shown:
        arguments += ["--ro-bind", path, path]
    return arguments


def _command(folder: str, limits: Limits, calls: int, program: Sequence[str]) -> list[str]:
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
    command += ["--seccomp", str(calls)]
    command += [
        part for name, value in environment.items() for part in ("--setenv", name, value)
    ]
    # no /proc: nothing needs it, and many containers do not let anybody mount one
    command += ["--dir", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/dev/shm"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp"]
    command += _mounts()  # after /tmp: the course itself may be in there
    command += ["--bind", folder, "/run/kernel", "--remount-ro", "/", "--chdir", "/tmp"]
    if os.geteuid() == 0:  # root's own processes are never counted: become somebody
        user = str(61_200 + next(_SLOT) % 4_000)
        command += ["--cap-drop", "ALL"]
        for kept in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):  # until setpriv is done
            command += ["--cap-add", kept]
        command += ["--", "setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        command += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += ["--", "prlimit", f"--nproc={limits.processes}", f"--data={limits.memory}"]
    command += [f"--fsize={limits.disk}", "--nofile=1024", "--core=0"]
    return [*command, "--", *program]


def _start(
    folder: str, limits: Limits, program: Sequence[str], **streams: int
) -> subprocess.Popen:
    """Start a program inside."""
    calls, end = os.pipe()
    with contextlib.closing(os.fdopen(end, "wb")) as file:
        file.write(_filter())
    try:
        command = _command(folder, limits, calls, program)
        return subprocess.Popen(command, pass_fds=[calls], **streams)
    finally:
        os.close(calls)


@functools.cache
def require() -> None:
    """Check, by using it, that this machine has what the sandbox needs.

    Raises:
        SandboxError: saying what is missing and how to get it.
    """
    packages = {"bwrap": "bubblewrap", "prlimit": "util-linux", "setpriv": "util-linux"}
    for program, package in packages.items():
        if not shutil.which(program):
            advice = f"install it: apt-get install {package}"
            raise SandboxError(
                f"submissions run in a sandbox that needs {program}, which is not here; "
                + (advice if sys.platform == "linux" else "grade on a Linux machine")
            )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        tried = _start(folder, Limits(), ["true"], stderr=subprocess.PIPE)
        complaint = tried.communicate()[1].decode(errors="replace").strip()
    if tried.returncode:
        raise SandboxError(
            f"submissions run in a sandbox, and this machine does not let bubblewrap make one: {complaint}\n"
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
        nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self.process = _start(str(self.folder), limits, program, **nowhere)
        self.context = zmq.Context()
        self.context.setsockopt(zmq.MAXMSGSIZE, limits.output)
        self.context.setsockopt(zmq.RCVHWM, 10)
        self.client = BlockingKernelClient(context=self.context)
        self.client.load_connection_info(info | {"ip": str(self.folder / "k")})
        self.client.start_channels(hb=False, stdin=False)
        self.poller = zmq.Poller()
        for channel in (self.client.shell_channel, self.client.iopub_channel):
            self.poller.register(channel.socket, zmq.POLLIN)
        # a message above MAXMSGSIZE ends the connection, and would be missed for ever
        self.lost = self.client.iopub_channel.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED
        )
        self.poller.register(self.lost, zmq.POLLIN)

    def start(self, seconds: float = 60 * PATIENCE) -> None:
        """Wait until the kernel answers; nothing of the student's has run before."""
        end, asked, heard = time.monotonic() + seconds, 0.0, set()
        while len(heard) < 2:  # a message on either channel
            if self.process.poll() is not None or time.monotonic() > end:
                raise SandboxError(
                    "the kernel does not start in the sandbox; can every user of this machine "
                    f"read {sys.prefix}, {sys.base_prefix} and {ROOT / 'course_utils'}?"
                )
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
        self.client.iopub_channel.socket.disable_monitor()
        self.lost.close()
        self.client.stop_channels()
        self.context.destroy(linger=0)
        shutil.rmtree(self.outer.name, ignore_errors=True)
        self.outer.cleanup()

    def _watch(self) -> None:
        """Add up what the processes inside use; kill the kernel if that is too much."""
        if self.process.poll() is not None:
            raise _Dead("it crashed the kernel")
        used, computed, written = 0, 0.0, 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    used += process.memory_info().rss
                    computed += sum(process.cpu_times()[:4])  # with children that ended
        self.memory, self.computed = max(self.memory, used), max(self.computed, computed)
        # only a user's own sandbox can write here, where the sockets are; folders are never needed
        for entry in os.scandir(self.folder):
            about = entry.stat(follow_symlinks=False)
            written += self.limits.disk if entry.is_dir() else about.st_size + 4096
        if used > self.limits.memory:
            self._stop(f"it used more than {self.limits.memory // MB} MB of memory")
        if written > self.limits.disk:
            self._stop(f"it wrote more than {self.limits.disk // MB} MB")

    def _stop(self, reason: str) -> NoReturn:
        self.kill()
        raise _Dead(reason)

    def _messages(self, request: str) -> Iterator[tuple[str, dict]]:
        """Wait a moment; yield the kind and the content of what the kernel says about a request.

        Student's code may send messages as the kernel does, so nothing about them is certain.
        """
        ready = dict(self.poller.poll(100))
        if self.lost in ready:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)  # a kernel that ends hangs up, too
                raise _Dead("it crashed the kernel")
            self._stop(self._too_much())
        for channel in (self.client.shell_channel, self.client.iopub_channel):
            if channel.socket not in ready:
                continue
            try:
                message = channel.get_msg(timeout=1)
                kind, content = message["header"]["msg_type"], dict(message["content"])
                about = message["parent_header"].get("msg_id")
                self.received += len(json.dumps(content, default=str))
            except Exception:
                self._stop("it sends what no kernel sends")
            if self.received > self.limits.output:
                self._stop(self._too_much())
            if about == request:
                yield kind, content

    def _too_much(self) -> str:
        return f"the notebook's output is larger than {self.limits.output // MB} MB"

    def execute(self, source: str, seconds: float) -> tuple[bool, list[NotebookNode], str]:
        """Run a cell; return whether it succeeded, its outputs, and a remark if it had to be interrupted.

        Raises:
            _Dead: if the kernel died or was killed.
        """
        request = self.client.execute(source, allow_stdin=False, stop_on_error=False)
        outputs = _Outputs(self.limits.kept)
        status, idle, looked, remark, reply = "", False, 0.0, "", {}
        clock, computed, allowed = time.monotonic(), self.computed, seconds
        while not (status and idle):
            now = time.monotonic()
            if now - looked > 0.3:
                self._watch()
                looked = now
            if self.computed - computed > allowed or now - clock > PATIENCE * allowed:
                if remark:
                    self._stop("it could not be interrupted")
                if status:
                    self._stop(self._too_much())
                remark = f"it took longer than {seconds:.0f} s"
                clock, computed, allowed = now, self.computed, min(seconds, 5)
                control = self.client.control_channel.socket
                self.client.session.send(control, "interrupt_request", {})
            for kind, content in self._messages(request):
                if kind == "execute_reply":
                    status, reply = str(content.get("status")), content
                    clock, computed = time.monotonic(), self.computed
                    allowed = min(allowed, 3)
                elif kind == "status":
                    idle = idle or content.get("execution_state") == "idle"
                elif kind in {"stream", "error", "display_data", "execute_result"}:
                    try:
                        outputs.add(kind, content)
                    except Exception:
                        self._stop("it sends what no kernel sends")
        errors = [found.ename for found in outputs.kept if found.output_type == "error"]
        if status == "error" and not errors:  # a kernel short of memory loses messages
            errors = [str(reply.get("ename"))]
            outputs.add("error", error_output(errors[0], str(reply.get("evalue"))))
        if "MemoryError" in errors:  # what it holds, it keeps
            self._stop(f"it used more than {self.limits.memory // MB} MB of memory")
        return not (remark or errors or status != "ok"), outputs.kept, remark


class _Outputs:
    """The outputs of a cell, as much of them as a page can hold."""

    def __init__(self, letters: int) -> None:
        self.letters, self.kept = letters, []

    def add(self, kind: str, content: dict) -> None:
        """Keep an output, joined to the stream before it; raise an error if it is no output at all."""
        output = nbformat.v4.new_output(kind)
        output.update({key: content[key] for key in output if key in content})
        output.output_type = kind
        last = self.kept[-1] if self.kept else {}
        if kind == "stream":
            room = self.letters
            self.letters -= len(output.text)
            if room <= 0:
                return
            if len(output.text) > room:
                output.text = (
                    output.text[:room] + "\n… the rest of the output is left out\n"
                )
            if last.get("output_type") == "stream" and last.name == output.name:
                last.text += output.text
                return
        elif kind == "error":
            output.ename, output.evalue = output.ename[:200], output.evalue[:2_000]
            output.traceback = [line[:4_000] for line in output.traceback[-12:]]
        elif len(json.dumps(output.data)) > MB:
            output.data = {"text/plain": "an output too large to show"}
        output = nbformat.from_dict(output)
        nbformat.validate(output, ref="output", version=4)
        if len(self.kept) < (210 if kind == "error" else 200):
            self.kept.append(output)


def error_output(name: str, message: str) -> NotebookNode:
    """Return an output that looks like an exception."""
    text = [f"{name}: {message}"]
    return nbformat.v4.new_output("error", ename=name, evalue=message, traceback=text)


def is_test(cell: NotebookNode) -> bool:
    """Say whether a cell is a test, which gives points if it runs without an error."""
    about = cell.metadata.get("nbgrader", {})
    code = cell.cell_type == "code"
    return code and about.get("grade", False) and not about.get("solution", False)


def label(cell: NotebookNode, k: int) -> str:
    """Return what the grader calls cell `k` of a notebook."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {k + 1}"


def hidden_tests(cell: NotebookNode) -> list[str]:
    """Return the hidden tests in a cell, without their markers."""
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


class _Step(NamedTuple):
    """A piece of code to run; `hidden` is how many hidden tests come before it in its cell, or None."""

    k: int
    hidden: int | None
    source: str
    canary: bool = False

    @property
    def key(self) -> tuple[int, int | None]:
        return self.k, self.hidden


def _steps(notebook: NotebookNode, skipped: Container[tuple]) -> list[_Step]:
    """Return what to run: all that a student may see, then hidden tests and canaries in random order."""
    shown, hidden = [], []
    for k, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            shown.append(_Step(k, None, HIDDEN.sub("", cell.source)))
            hidden += [_Step(k, j, test) for j, test in enumerate(hidden_tests(cell))]
    # a canary begins like a hidden test, so that code cannot tell them apart
    models = [step for step in hidden if step.key not in skipped] or [_Step(-1, 0, "")]
    for canary in CANARIES:
        step = random.choice(models)
        hidden.append(step._replace(source=f"{step.source}\n{canary}", canary=True))
    random.shuffle(hidden)
    return shown + hidden


def _attempt(
    run: Run, skipped: dict[tuple[int, int | None], str], limits: Limits, end: float
) -> tuple[int, int | None] | None:
    """Execute a notebook but for what is skipped; return the key of the step that killed the kernel, or None."""
    kernel, cells, key = _Kernel(limits), run.notebook.cells, None
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    try:
        kernel.start()
        for step in _steps(run.notebook, skipped):
            key, cell = step.key, cells[step.k]
            left = limits.total_seconds - kernel.computed if time.monotonic() < end else 0
            if step.key in skipped:
                what = "this cell" if step.hidden is None else "a hidden test"
                reason = f"{what} was left out, because {skipped[step.key]}"
                failure = error_output("Skipped", reason)
            elif left <= 0:
                reason = f"the notebook took longer than {limits.total_seconds:.0f} s"
                failure = error_output("OutOfTime", reason)
            else:
                seconds = min(limits.cell_seconds, left)
                good, outputs, remark = kernel.execute(step.source, seconds)
                if step.hidden is None:
                    _record(cell, step.k, good, outputs, remark, run)
                    continue
                run.flagged |= good and step.canary
                reason = remark or hint(step.source) or "a hidden test of this task fails"
                failure = None if good else error_output("HiddenTest", reason)
            # of what a hidden test prints, nothing comes out
            if failure and not step.canary and not cell.outputs:
                cell.outputs = [failure]
    except _Dead as death:
        if key is None:
            raise SandboxError(f"the kernel does not start: {death}") from death
        skipped[key] = str(death)
        where = label(cells[key[0]], key[0])
        where += "" if key[1] is None else ", a hidden test"
        run.remarks.append(f"{where}: {death}; it is left out")
        return key
    finally:
        run.memory = max(run.memory, kernel.memory)
        kernel.close()
    return None


def _record(
    cell: NotebookNode, k: int, good: bool, outputs: list, remark: str, run: Run
) -> None:
    """Put outputs into a cell."""
    if remark:
        run.remarks.append(f"{label(cell, k)}: {remark}")
        outputs.append(error_output("Interrupted", remark))
    if is_test(cell):  # nbgrader reads a number as points, and stderr as a failure
        outputs = [output for output in outputs if output.output_type == "error"]
        if not (good or outputs):
            outputs = [error_output("Failed", "this test did not run to its end")]
    cell.outputs = outputs


def execute(notebook: NotebookNode, limits: Limits | None = None) -> Run:
    """Run a notebook, cells and tests, in a sandbox; return it with outputs and remarks.

    What kills the kernel is left out when the notebook runs again, so that it costs its own task alone.

    Raises:
        SandboxError: if this machine has no sandbox.
    """
    require()
    limits, start = limits or Limits(), time.monotonic()
    run = Run(copy.deepcopy(notebook))
    end = start + PATIENCE * limits.total_seconds
    skipped: dict[tuple[int, int | None], str] = {}
    while _attempt(run, skipped, limits, end):
        if len(skipped) > limits.crashes or time.monotonic() > end:
            reason = "too many cells crash the kernel, or the time is over"
            run.remarks.append(f"the run was given up: {reason}")
            _fail_all(run.notebook, "GivenUp", f"this test did not run: {reason}")
            break
    if run.flagged:
        reason = "the submission switches tests off, so all are counted as failed"
        run.remarks.append(f"a test that must fail passed: {reason}")
        reason = "the submission changes how tests run; ask your instructor"
        _fail_all(run.notebook, "Tampered", reason)
    run.remarks = list(dict.fromkeys(run.remarks))
    run.seconds = time.monotonic() - start
    return run


def _fail_all(notebook: NotebookNode, name: str, message: str) -> None:
    for cell in filter(is_test, notebook.cells):
        cell.outputs = [error_output(name, message)]


def tests_of(notebook: NotebookNode) -> Iterator[tuple[str, float, bool]]:
    """Yield the name, the points and the success of each test of an executed notebook."""
    for k, cell in enumerate(notebook.cells):
        if is_test(cell):
            yield label(cell, k), float(cell.metadata.nbgrader["points"]), not cell.outputs


def work(text: str, limits: Limits) -> tuple[str, list[str], float, int, bool]:
    """Run one notebook; text in and text out, so that it can happen on another machine."""
    run = execute(nbformat.reads(text, as_version=4), limits)
    return nbformat.writes(run.notebook), run.remarks, run.seconds, run.memory, run.flagged
