"""Downloaded data, from a small fake upstream on this computer: each loader, and each way that a download goes wrong."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import wave
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from course_utils import datasets

GOOD = b"emma\nolivia\nava\nisabella\nsophia\ncharlotte\nmia\namelia\nharper\nevelyn\n"


class Upstream(ThreadingHTTPServer):
    """A web server of the bodies in `files` (path -> body, or a status code), which notes what it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes | int] = {}
        self.asked: list[str] = []
        self.cut = set()  # paths whose body ends halfway, the connection with it
        self.stall = set()  # paths whose body stops halfway until `go` is set
        self.go = threading.Event()
        self.together = None  # a barrier that each answer waits at
        self.address = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, server = self.path.removeprefix("/"), self.server
        server.asked.append(path)
        body = server.files.get(path, 404)
        if isinstance(body, int):
            self.send_error(body)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.together:
            server.together.wait(timeout=60)
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        if path in server.cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if path in server.stall:
            server.go.wait(timeout=60)
        self.wfile.write(body[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start any number of upstream servers; they stop after the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    servers = []

    def start():
        servers.append(Upstream())
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.go.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def upstream(serve, cache, monkeypatch, tmp_path):
    """A server of a data set `names` of one file, in the place of the real one."""
    server = serve()
    server.files["names.txt"] = GOOD
    register(monkeypatch, tmp_path, "names", {"names.txt": GOOD}, [server.address])
    return server


def register(monkeypatch, folder, name, files, addresses):
    """Make `files` the registered content of data set `name`, at `addresses`."""
    lines = ["# test\n", *(f"{name}/{file} {hashlib.sha256(body).hexdigest()}\n" for file, body in files.items())]
    (folder / "registry.txt").write_text("".join(lines))
    monkeypatch.setattr(datasets, "REGISTRY", folder / "registry.txt")
    monkeypatch.setitem(datasets.ADDRESSES, name, addresses)


def stored(cache):
    """Return the content of all files below the cache folder."""
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- good days


def test_second_load_asks_nobody(upstream, cache):
    first = datasets.load("names")
    assert sorted("".join(first.values()).split()) == sorted(GOOD.decode().split())
    assert [len(text.split()) for text in first.values()] == [8, 1, 1]
    assert datasets.load("names") == first
    assert upstream.asked == ["names.txt"]
    assert stored(cache) == {"names/names.txt": GOOD}
    assert (cache / "names" / "names.txt").stat().st_mode & 0o777 == 0o644  # others may share the cache


def test_file_put_there_by_hand_is_used(upstream, cache):
    (cache / "names").mkdir(parents=True)
    (cache / "names" / "names.txt").write_bytes(GOOD)
    datasets.load("names")
    assert upstream.asked == []


def test_home_folder_in_course_data(upstream, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", "~/mine")
    assert datasets.fetch("names")["names.txt"].read_bytes() == (tmp_path / "mine/names/names.txt").read_bytes() == GOOD


def test_without_course_data_the_users_cache_folder_is_used(upstream, tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_DATA")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "user" / name)
    assert datasets.fetch("names")["names.txt"].parent == tmp_path / "user" / "shannon-to-diffusion" / "names"


def test_read_only_cache_with_good_files_just_works(upstream, cache, monkeypatch):
    datasets.load("names")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "read-only")

    for module, function in ((os, "makedirs"), (os, "mkdir"), (os, "rename"), (tempfile, "NamedTemporaryFile")):
        monkeypatch.setattr(module, function, refuse)
    datasets.load("names")
    assert upstream.asked == ["names.txt"]


# ---------------------------------------------------------------- bad days


def test_no_network(upstream, cache, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/"
    monkeypatch.setitem(datasets.ADDRESSES, "names", [address])
    with pytest.raises(datasets.DownloadError) as caught:
        datasets.load("names")
    message = str(caught.value)
    assert "names.txt could not be downloaded" in message
    assert address + "names.txt" in message
    assert str(cache / "names" / "names.txt") in message
    assert "need no network: digits" in message
    assert stored(cache) == {}
    assert len(datasets.load("digits")["train"].images) == 1000


@pytest.mark.parametrize("status", [404, 500, 503])
def test_error_status_is_retried_and_reported(upstream, cache, status):
    upstream.files["names.txt"] = status
    with pytest.raises(datasets.DownloadError, match=str(status)):
        datasets.load("names")
    assert len(upstream.asked) == datasets.ROUNDS
    assert stored(cache) == {}


def test_cut_off_body_is_not_kept(upstream, cache):
    upstream.cut.add("names.txt")
    with pytest.raises(datasets.DownloadError, match=r"names\.txt could not be downloaded"):
        datasets.load("names")
    assert stored(cache) == {}
    upstream.cut.clear()
    datasets.load("names")
    assert stored(cache) == {"names/names.txt": GOOD}


def test_silent_server_times_out(upstream, cache, monkeypatch):
    monkeypatch.setattr(datasets, "TIMEOUT", 0.2)
    upstream.stall.add("names.txt")
    with pytest.raises(datasets.DownloadError, match="timed out"):
        datasets.load("names")
    assert stored(cache) == {}


def test_mirror_is_used_when_the_first_address_fails(upstream, cache, serve, monkeypatch):
    broken = serve()
    broken.files["names.txt"] = 500
    monkeypatch.setitem(datasets.ADDRESSES, "names", [broken.address, upstream.address])
    datasets.load("names")
    assert (broken.asked, upstream.asked) == (["names.txt"], ["names.txt"])


def test_mirror_is_used_when_the_first_address_has_another_file(upstream, serve, monkeypatch):
    wrong = serve()
    wrong.files["names.txt"] = b"not the names"
    monkeypatch.setitem(datasets.ADDRESSES, "names", [wrong.address, upstream.address])
    assert datasets.fetch("names")["names.txt"].read_bytes() == GOOD


def test_damaged_cache_file_is_replaced(upstream, cache):
    datasets.load("names")
    (cache / "names" / "names.txt").write_bytes(GOOD[:-9])
    datasets.load("names")
    assert upstream.asked == ["names.txt"] * 2
    assert stored(cache) == {"names/names.txt": GOOD}


def test_wrong_checksum_upstream_is_an_error_and_never_becomes_good(upstream, cache):
    upstream.files["names.txt"] = b"changed"
    for _ in range(2):
        with pytest.raises(datasets.DownloadError, match="hash"):
            datasets.load("names")
        assert stored(cache) == {}
    (cache / "names" / "names.txt").write_bytes(b"damaged")
    with pytest.raises(datasets.DownloadError, match="hash"):
        datasets.load("names")
    assert stored(cache) == {"names/names.txt": b"damaged"}


def test_cache_folder_that_cannot_be_written(upstream, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "file" / "cache"))
    with pytest.raises(datasets.DownloadError, match=r"names\.txt(.|\n)*COURSE_DATA"):
        datasets.load("names")


def test_full_disk(upstream, cache, monkeypatch):
    class FullDisk(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.downloaders.open", FullDisk, raising=False)
    with pytest.raises(datasets.DownloadError, match=r"No space left(.|\n)*COURSE_DATA"):
        datasets.load("names")
    assert stored(cache) == {}


PROCESS = """
import sys
from pathlib import Path
from course_utils import datasets
datasets.REGISTRY = Path(sys.argv[1])
datasets.ADDRESSES["names"] = [sys.argv[2]]
print(*datasets.load("names"))
"""


def start_process(upstream):
    command = [sys.executable, "-c", PROCESS, str(datasets.REGISTRY), upstream.address]
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once(upstream, cache):
    upstream.together = threading.Barrier(2)  # no answer before both have asked
    processes = [start_process(upstream) for _ in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output) == (0, "train valid test\n"), errors
    assert upstream.asked == ["names.txt"] * 2
    assert stored(cache) == {"names/names.txt": GOOD}


def test_killed_process_leaves_nothing_that_is_taken_for_good(upstream, cache):
    upstream.files["names.txt"] = GOOD * 50_000  # the first half of it is in the cache folder before the kill
    half_written = upstream.files["names.txt"][: len(GOOD) * 25_000]
    upstream.stall.add("names.txt")
    process = start_process(upstream)
    while not any(len(body) > len(half_written) // 2 for body in stored(cache).values()):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "names/names.txt" not in stored(cache)
    upstream.files["names.txt"] = GOOD
    upstream.stall.clear()
    datasets.load("names")
    assert stored(cache)["names/names.txt"] == GOOD


# ---------------------------------------------------------------- each loader


@pytest.fixture
def publish(serve, cache, monkeypatch, tmp_path):
    """Serve `files` as the upstream of data set `name`."""

    def start(name, files):
        server = serve()
        server.files = dict(files)
        register(monkeypatch, tmp_path, name, files, [server.address])
        return server

    return start


def idx(values):
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist(publish, name):
    rng = np.random.default_rng(0)
    pixels = {
        "train": rng.integers(0, 256, (12, 28, 28), np.uint8),
        "t10k": rng.integers(0, 256, (3, 28, 28), np.uint8),
    }
    labels = {part: rng.integers(0, 10, len(values), np.uint8) for part, values in pixels.items()}
    files = {f"{part}-images-idx3-ubyte.gz": idx(values) for part, values in pixels.items()}
    publish(name, files | {f"{part}-labels-idx1-ubyte.gz": idx(values) for part, values in labels.items()})
    data = datasets.load(name)
    assert [tuple(part.images.shape) for part in data.values()] == [(10, 1, 28, 28), (2, 1, 28, 28), (3, 1, 28, 28)]
    np.testing.assert_array_equal((data["valid"].images[:, 0] * 255).round(), pixels["train"][10:])
    np.testing.assert_array_equal(data["test"].labels, labels["t10k"])
    assert data.levels == 256


def test_mnist_with_labels_of_another_length(publish):
    files = {f"{part}-images-idx3-ubyte.gz": idx(np.zeros((6, 28, 28), np.uint8)) for part in ("train", "t10k")}
    publish("mnist", files | {f"{p}-labels-idx1-ubyte.gz": idx(np.zeros(5, np.uint8)) for p in ("train", "t10k")})
    with pytest.raises(AssertionError):
        datasets.load("mnist")


def test_binarized_mnist(publish):
    pixels = np.random.default_rng(0).integers(0, 2, (6, 784))
    parts = {"train": pixels[:3], "valid": pixels[3:5], "test": pixels[5:]}
    text = {part: "".join(" ".join(map(str, row)) + "\n" for row in rows) for part, rows in parts.items()}
    publish("binarized_mnist", {f"binarized_mnist_{part}.amat": lines.encode() for part, lines in text.items()})
    data = datasets.load("binarized_mnist")
    assert list(data) == ["train", "valid", "test"]
    for part, rows in parts.items():
        np.testing.assert_array_equal(data[part].images.flatten(1), rows)
        assert data[part].labels is None


def test_alphadigits(publish):
    from scipy.io import savemat

    samples = np.empty((36, 39), dtype=object)
    for c in range(36):
        for s in range(39):
            samples[c, s] = np.zeros((20, 16), np.uint8)
            samples[c, s].flat[[c, 100 + s]] = 1  # an image that says whose it is
    file = io.BytesIO()
    savemat(file, {"dat": samples})
    publish("alphadigits", {"binaryalphadigs.mat": file.getvalue()})
    data = datasets.load("alphadigits")
    assert data.levels == 2
    for part, numbers in (("train", range(30)), ("valid", range(30, 34)), ("test", range(34, 39))):
        images, labels = data[part]
        assert images.flatten(1)[:, :36].argmax(dim=1).equal(labels)
        assert images.flatten(1)[:, 100:139].argmax(dim=1).tolist() == 36 * list(numbers)


def test_tinyshakespeare(publish):
    publish("tinyshakespeare", {"input.txt": b"0123456789abcdefghi"})
    assert datasets.load("tinyshakespeare") == {"train": "0123456789abcdefg", "valid": "hi"}


def test_tatoeba_has_no_sentence_of_either_language_in_two_splits(publish):
    others = [f"{k} rain." for k in range(1, 40)]
    lines = {
        "val.en": ["Go!", *others, "Tom.", "GO", "Walk!"],
        "val.tr": ["Yürü!", *others, "Tom.", "Git!", "Yürü."],
        "test.en": ["go.", "It rained.", "Walk on.", "Run.", "Tom?"],
        "test.tr": ["Gidin.", "Yağmur yağdı.", "yürü", "Koş.", "Tom mu?"],
    }
    publish("tatoeba_eng_tur", {file: "".join(f"{s}\r\n" for s in text).encode() for file, text in lines.items()})
    data = datasets.load("tatoeba_eng_tur")
    assert list(data) == ["train", "valid", "test"]
    assert data["valid"] == (["Go!", "Tom."], ["Yürü!", "Tom."])
    assert data["train"] == (others, others)  # "GO" and "Yürü." are in "valid"
    assert data["test"] == (["It rained.", "Run."], ["Yağmur yağdı.", "Koş."])


def movielens():
    files = {
        "ml-latest-small/movies.csv": b'movieId,title,genres\n7,"Loop, The (2001)",Drama\n90,Heat (1995),Crime\n',
        "ml-latest-small/ratings.csv": b"userId,movieId,rating,timestamp\n1,90,4.5,1\n1,7,0.5,2\n5,90,3.0,3\n",
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for file, body in (files | {"ml-latest-small/README.txt": b"read me"}).items():
            opened.writestr(file, body)
    return files, archive.getvalue()


def test_movielens_takes_two_members_of_the_archive(publish, cache, monkeypatch):
    files, archive = movielens()
    server = publish("movielens", files)
    server.files = {"ml.zip": archive}
    monkeypatch.setitem(datasets.ADDRESSES, "movielens", [f"{server.address}ml.zip#"])
    ratings = datasets.load("movielens")
    assert ratings.users.tolist() == [0, 0, 1]
    assert ratings.films.tolist() == [1, 0, 1]
    assert ratings.stars.tolist() == [4.5, 0.5, 3.0]
    assert ratings.titles == ["Loop, The (2001)", "Heat (1995)"]
    assert stored(cache) == {f"movielens/{file}": body for file, body in files.items()}


@pytest.mark.parametrize("archive", [b"not an archive", movielens()[1].replace(b"movies.csv", b"movies.txt")])
def test_movielens_with_a_damaged_archive(publish, cache, monkeypatch, archive):
    server = publish("movielens", movielens()[0])
    server.files = {"ml.zip": archive}
    monkeypatch.setitem(datasets.ADDRESSES, "movielens", [f"{server.address}ml.zip#"])
    with pytest.raises(datasets.DownloadError, match=r"movies\.csv could not be downloaded"):
        datasets.load("movielens")
    assert stored(cache) == {}


def test_fsdd(publish):
    def recording(samples):
        file = io.BytesIO()
        with wave.open(file, "wb") as opened:
            opened.setparams((1, 2, datasets.FSDD_RATE, 0, "NONE", ""))
            opened.writeframes(np.array(samples, "<i2").tobytes())
        return file.getvalue()

    takes = {"0_jackson_4.wav": [0, 16384], "0_jackson_5.wav": [-32768, 32767, 1], "7_jackson_40.wav": [8192]}
    publish("fsdd", {file: recording(samples) for file, samples in takes.items()})
    data = datasets.load("fsdd")
    waveforms, labels = data["train"]
    assert labels.tolist() == [0, 7]
    assert waveforms[0].tolist() == [-1, 32767 / 32768, 1 / 32768]
    assert data["test"][0][0].tolist() == [0, 0.5]
    with pytest.raises(KeyError, match="it has train, test"):
        data["valid"]
