"""The course's data sets: `load(name)` returns any of them, with no other setting.

Built in, real: `digits`, `photo_patches`, `python_docs`. Generated, with a known truth: `glyphs`, `toy_english` and five
2-D densities (see `course_utils.synthetic`). The others are downloaded once into a cache folder and checked against the
SHA-256 of `data/registry.txt`. `data/README.md` has one card each: origin, license, shape, split, quirks.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import numpy as np

from course_utils import synthetic
from course_utils.synthetic import Density, Grammar

if TYPE_CHECKING:
    import torch

REGISTRY = Path(__file__).resolve().parents[1] / "data" / "registry.txt"

# Where each data set comes from: address + file name is the whole address, mirrors in the order they are tried.
# What follows a "#" is the member to extract from the zip archive before it.
ADDRESSES = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    "binarized_mnist": ("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",),
    "alphadigits": ("https://cs.nyu.edu/~roweis/data/",),
    "tinyshakespeare": ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
    "names": ("https://raw.githubusercontent.com/karpathy/makemore/master/",),
    "tatoeba_eng_tur": (
        "https://raw.githubusercontent.com/ErtugrulKaplanoglu/English-Turkish-Translation-Project/"
        "2d4efedc303201e2b7282f5e362258e9302e18c1/Data_set/prepared_datas/",
    ),
    "movielens": ("https://files.grouplens.org/datasets/movielens/ml-latest-small.zip#",),
    "fsdd": ("https://raw.githubusercontent.com/Jakobovski/free-spoken-digit-dataset/v1.0.10/recordings/",),
}
ROUNDS = 2  # how often the whole list of mirrors is tried
TIMEOUT = 30  # seconds without an answer before an address counts as failed

# --------------------------------------------------------------------------------------------- what is returned

T = TypeVar("T")


class Splits(dict[str, T]):
    """The splits of a data set by name, in the order train, valid, test. An unknown one raises a KeyError that names the valid ones."""

    def __missing__(self, split: str) -> T:
        raise KeyError(f"no split {split!r} in this data set; it has {', '.join(self)}")


class Split(NamedTuple):
    """One split of images."""

    images: torch.Tensor  # float32 [n, 1, height, width] in [0, 1]
    labels: torch.Tensor | None  # int64 [n]


class Images(Splits[Split]):
    """Split name -> (images, labels). `levels` is the number of gray levels that a pixel can take."""

    def __init__(self, splits: dict[str, Split], levels: int) -> None:
        super().__init__(splits)
        self.levels = levels


class Text(Splits[str]):
    """Split name -> text."""


class Sentences(NamedTuple):
    """Translated sentences: `english[i]` and `turkish[i]` say the same."""

    english: list[str]
    turkish: list[str]


class Pairs(Splits[Sentences]):
    """Split name -> (english, turkish)."""


class Recordings(NamedTuple):
    """Spoken digits."""

    waveforms: list[torch.Tensor]  # float32 [samples] in [-1, 1], of different lengths
    labels: torch.Tensor  # int64 [n], the digit


class Sounds(Splits[Recordings]):
    """Split name -> (waveforms, labels). `rate` is the number of samples per second."""

    def __init__(self, splits: dict[str, Recordings], rate: int) -> None:
        super().__init__(splits)
        self.rate = rate


class Ratings(NamedTuple):
    """Who gave which film how many stars: `users[i]` gave `films[i]` a rating of `stars[i]`."""

    users: np.ndarray  # int64 [n], 0 … number of users - 1
    films: np.ndarray  # int64 [n], an index into titles
    stars: np.ndarray  # float32 [n], 0.5 … 5 in steps of 0.5
    titles: list[str]


Dataset = Images | Text | Pairs | Sounds | Ratings | Density | Grammar


def load(name: str) -> Dataset:
    """Return the data set called `name`, the same on every run. NAMES lists the names, `data/README.md` describes the data.

    Args:
        name: one of NAMES. Those in ADDRESSES are downloaded on first use.

    Returns:
        `Images`, `Text`, `Pairs`, `Sounds` or `Ratings`; a `Density` for the 2-D densities; a `Grammar` for toy_english.

    Raises:
        ValueError: there is no such data set; the message names the valid ones.
        DownloadError: a file is neither in the cache nor to be had, or the cache cannot be written.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; the valid names are {', '.join(NAMES)}")
    return _LOADERS[name]()


# --------------------------------------------------------------------------------------------- downloads


class DownloadError(RuntimeError):
    """A file of a data set could not be fetched, or not be stored. The message says what to do."""


def cache_folder() -> Path:
    """Return the folder of downloaded files: the environment variable COURSE_DATA, or else the user's cache folder."""
    import pooch

    return Path(os.environ.get("COURSE_DATA") or pooch.os_cache("shannon-to-diffusion")).expanduser().absolute()


def registered(name: str) -> dict[str, str]:
    """Return {file name: SHA-256} of all files of data set `name`, from `data/registry.txt`."""
    lines = (line.split() for line in REGISTRY.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {path.removeprefix(f"{name}/"): sha256 for path, sha256 in lines if path.startswith(f"{name}/")}


def fetch(name: str) -> dict[str, Path]:
    """Make sure that all files of data set `name` are in the cache, whole and unchanged.

    A good file is used as it is, so a read-only cache works. A missing or changed one is downloaded beside its place,
    checked, and only then moved there: nothing half-written is ever taken for good, and two processes do not collide.

    Args:
        name: a key of ADDRESSES.

    Returns:
        {file name: path of the checked file}.

    Raises:
        DownloadError: no address gave the right file, or the cache cannot be written.
    """
    import pooch
    from tqdm.auto import tqdm

    folder, files = cache_folder() / name, registered(name)
    missing = [file for file, sha256 in files.items() if not _is_good(folder / file, sha256)]
    many = len(missing) > 10  # then one bar that counts files, otherwise one bar per file that counts bytes
    pooch.get_logger().setLevel("WARNING")
    for file in tqdm(missing, desc=f"Downloading {name}", unit="file", disable=not many):
        _download(file, files[file], ADDRESSES[name], folder, show_bytes=not many)
    return {file: folder / file for file in files}


def _is_good(path: Path, sha256: str) -> bool:
    """Say whether `path` is a readable file with this SHA-256."""
    import pooch

    try:
        return pooch.file_hash(str(path)) == sha256
    except OSError:
        return False


def _download(file: str, sha256: str, addresses: Iterable[str], folder: Path, show_bytes: bool) -> None:
    """Download one file from the first address that has it, trying each ROUNDS times."""
    from zipfile import BadZipFile

    import pooch
    from requests import RequestException
    from tqdm.auto import tqdm

    target, failures = folder / file, []
    for url in [address + file for address in addresses] * ROUNDS:

        def download(url: str, output: str | BinaryIO, _: object) -> None:
            bar = tqdm(desc=f"Downloading {file}", unit="B", unit_scale=True) if show_bytes else None
            _get(url, output, pooch.HTTPDownloader(progressbar=bar or False, chunk_size=1 << 16, timeout=TIMEOUT))

        try:
            pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent, downloader=download)
            return
        except (RequestException, ValueError, BadZipFile, KeyError) as error:  # no answer, wrong checksum, damaged archive
            failures.append(f"  {url}\n    {error}")
        except OSError as error:
            raise DownloadError(
                f"{file} was not stored: cannot write to {target.parent} ({error}).\n"
                "Free some space there, or choose another folder by the environment variable COURSE_DATA."
            ) from error
    raise DownloadError(
        f"{file} could not be downloaded. Tried, in this order:\n" + "\n".join(failures) + "\n"
        f"Is there a network? You can also fetch the file elsewhere and save it as\n  {target}\n"
        f"The built-in data sets need no network: {', '.join(n for n in NAMES if n not in ADDRESSES)}."
    )


def _get(url: str, output: str | BinaryIO, http: Callable[..., object]) -> None:
    """Write what is at `url` to `output`; for `archive.zip#member` only that member."""
    import shutil
    import tempfile
    import zipfile

    archive, _, member = url.partition("#")
    if not member:
        http(url, output, None)
        return
    with tempfile.TemporaryFile() as whole:
        http(archive, whole, None)
        with zipfile.ZipFile(whole) as opened, opened.open(member) as source, open(output, "wb") as sink:
            shutil.copyfileobj(source, sink)


# --------------------------------------------------------------------------------------------- built in, real


def _images(pixels: np.ndarray, levels: int, labels: np.ndarray | None = None) -> Split:
    """Turn integer gray values [n, height, width] in 0 … levels - 1 into a split."""
    import torch

    images = torch.from_numpy(np.array(pixels, dtype=np.float32)).unsqueeze(1).div_(levels - 1)
    return Split(images, None if labels is None else torch.from_numpy(labels.astype(np.int64)))


def _digits() -> Images:
    """scikit-learn's handwritten digits in file order, split as in Tomczak, Deep Generative Modeling (2022)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    cuts = {"train": slice(0, 1000), "valid": slice(1000, 1350), "test": slice(1350, 1797)}
    return Images({s: _images(data.images[cut], 17, data.target[cut]) for s, cut in cuts.items()}, levels=17)


def _photo_patches(size: int = 16) -> Images:
    """Gray patches of scikit-learn's two photographs: the left of each trains, then a strip to validate, the right tests."""
    from sklearn.datasets import load_sample_images

    gray = [np.rint(photo @ [0.299, 0.587, 0.114]) for photo in load_sample_images().images]  # ITU-R BT.601 luma
    strips = {"train": slice(0, 480), "valid": slice(480, 560), "test": slice(560, 640)}  # pixel columns
    return Images({s: _images(np.concatenate([_patches(photo[:, strip], size) for photo in gray]), 256) for s, strip in strips.items()}, levels=256)


def _patches(image: np.ndarray, size: int) -> np.ndarray:
    """Cut all size × size patches [n, size, size] from a gray image, in steps of half a patch."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))[:: size // 2, :: size // 2]
    return windows.reshape(-1, size, size)


def _python_docs() -> Text:
    """The reference texts that come with Python, each paragraph once (they quote one another), by topic in a fixed random order."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    random.Random(0).shuffle(names)
    paragraphs = dict.fromkeys(p.rstrip() for name in names for p in topics[name].split("\n\n") if p.strip())
    return Text(_cut(list(paragraphs), "\n\n"))


def _cut(parts: list[str], joint: str) -> dict[str, str]:
    """Join the first 80 % of the parts, the next 10 %, and the last 10 %."""
    a, b = len(parts) * 8 // 10, len(parts) * 9 // 10
    return {s: joint.join(part) + "\n" for s, part in {"train": parts[:a], "valid": parts[a:b], "test": parts[b:]}.items()}


# --------------------------------------------------------------------------------------------- generated


def _by_class(pixels: np.ndarray) -> Images:
    """Split binary images [class, sample, height, width] 30 / 4 / 5 per class (for 39 samples each)."""
    cuts = {"train": slice(0, 30), "valid": slice(30, 34), "test": slice(34, 39)}
    splits = {}
    for split, cut in cuts.items():
        part = pixels[:, cut]
        splits[split] = _images(part.reshape(-1, *part.shape[2:]), 2, np.repeat(np.arange(len(part)), part.shape[1]))
    return Images(splits, levels=2)


# --------------------------------------------------------------------------------------------- downloaded


def _mnist(name: str) -> Images:
    """MNIST or Fashion-MNIST: of the 60,000 training images the last 10,000 validate."""
    files = fetch(name)
    parts = {}
    for part in ("train", "t10k"):
        pixels, labels = (_idx(files[f"{part}-{kind}-ubyte.gz"]) for kind in ("images-idx3", "labels-idx1"))
        _expect(name, len(pixels), len(labels))
        parts[part] = pixels, labels
    pixels, labels = parts["train"]
    valid = len(labels) // 6
    return Images(
        {
            "train": _images(pixels[:-valid], 256, labels[:-valid]),
            "valid": _images(pixels[-valid:], 256, labels[-valid:]),
            "test": _images(parts["t10k"][0], 256, parts["t10k"][1]),
        },
        levels=256,
    )


def _idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes: two zeros, type 8, number of axes, each length as a big-endian int32, then the values."""
    with gzip.open(path) as file:
        content = file.read()
    _expect(path.name, content[:3], b"\0\0\x08")
    axes = content[3]
    shape = tuple(int(n) for n in np.frombuffer(content, ">i4", count=axes, offset=4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _binarized_mnist() -> Images:
    """The fixed binarization of Larochelle & Murray (2011), without labels."""
    files = fetch("binarized_mnist")
    return Images({s: _images(_amat(files[f"binarized_mnist_{s}.amat"], (28, 28)), 2) for s in ("train", "valid", "test")}, levels=2)


def _amat(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read rows of single digits 0 or 1, separated by one space, into bytes [rows, *shape]."""
    table = np.fromfile(path, np.uint8).reshape(-1, shape[0] * shape[1], 2)
    _expect(path.name, (table[0, :, 1].tobytes(), table[:, :, 0].max()), (b" " * (table.shape[1] - 1) + b"\n", ord("1")))
    return (table[:, :, 0] - ord("0")).reshape(-1, *shape)


def _alphadigits() -> Images:
    """Binary AlphaDigits: the samples of each class in file order."""
    from scipy.io import loadmat

    samples = loadmat(fetch("alphadigits")["binaryalphadigs.mat"], variable_names=["dat"])["dat"]
    _expect("binaryalphadigs.mat", samples.shape, (36, 39))
    return _by_class(np.stack([np.stack(list(row)) for row in samples]))


def _tinyshakespeare() -> Text:
    """Tiny Shakespeare, cut as in nanoGPT: the first 90 % trains, the rest validates."""
    text = fetch("tinyshakespeare")["input.txt"].read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    return Text(train=text[:cut], valid=text[cut:])


def _names() -> Text:
    """First names, one a line, in a fixed random order."""
    names = fetch("names")["names.txt"].read_text(encoding="utf-8").split()
    random.Random(0).shuffle(names)
    return Text(_cut(names, "\n"))


def _tatoeba() -> Pairs:
    """English-Turkish sentences; the measuring half without the English sentences that are also in the training half."""
    files = fetch("tatoeba_eng_tur")

    def pairs(part: str) -> list[tuple[str, str]]:
        english, turkish = (files[f"{part}.{code}"].read_text(encoding="utf-8").rstrip("\n").split("\n") for code in ("en", "tr"))
        return list(zip(english, turkish, strict=True))

    train = pairs("val")  # the published training part is larger; this course trains on the validation part
    seen = {english for english, _ in train}
    test = [pair for pair in pairs("test") if pair[0] not in seen]
    return Pairs({s: Sentences(*map(list, zip(*part, strict=True))) for s, part in {"train": train, "test": test}.items()})


def _movielens() -> Ratings:
    """MovieLens (small): users and films renumbered from 0."""
    files = fetch("movielens")

    def rows(file: str) -> list[dict[str, str]]:
        with open(files[f"ml-latest-small/{file}"], encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    movies, ratings = rows("movies.csv"), rows("ratings.csv")
    index = {movie["movieId"]: i for i, movie in enumerate(movies)}
    return Ratings(
        users=np.unique([int(r["userId"]) for r in ratings], return_inverse=True)[1].astype(np.int64),
        films=np.array([index[r["movieId"]] for r in ratings], dtype=np.int64),
        stars=np.array([r["rating"] for r in ratings], dtype=np.float32),
        titles=[movie["title"] for movie in movies],
    )


def _fsdd() -> Sounds:
    """Free Spoken Digit Dataset, one speaker: takes 0-4 of each digit test, the others train."""
    import torch

    parts: dict[str, list[tuple[torch.Tensor, int]]] = {"train": [], "test": []}
    for file, path in fetch("fsdd").items():
        digit, _, take = Path(file).stem.split("_")
        parts["test" if int(take) < 5 else "train"].append((_wave(path), int(digit)))
    return Sounds({s: Recordings([w for w, _ in part], torch.tensor([d for _, d in part])) for s, part in parts.items()}, rate=8000)


def _wave(path: Path) -> torch.Tensor:
    """Read a mono, 16-bit, 8 kHz WAV file as float32 [samples] in [-1, 1]."""
    import wave

    import torch

    with wave.open(str(path)) as file:
        _expect(path.name, (file.getnchannels(), file.getsampwidth(), file.getframerate()), (1, 2, 8000))
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return torch.from_numpy(samples.astype(np.float32) / 2**15)


def _expect(what: str, found: object, wanted: object) -> None:
    """Raise a ValueError if a file is not laid out as its loader takes for granted."""
    if found != wanted:
        raise ValueError(f"{what}: found {found!r} where {wanted!r} was expected")


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "photo_patches": _photo_patches,
    "python_docs": _python_docs,
    "glyphs": lambda: _by_class(synthetic.glyphs()),
    "toy_english": synthetic.toy_english,
    **{name: (lambda name=name: synthetic.DENSITIES[name](name)) for name in synthetic.DENSITIES},
    "mnist": lambda: _mnist("mnist"),
    "fashion_mnist": lambda: _mnist("fashion_mnist"),
    "binarized_mnist": _binarized_mnist,
    "alphadigits": _alphadigits,
    "tinyshakespeare": _tinyshakespeare,
    "names": _names,
    "tatoeba_eng_tur": _tatoeba,
    "movielens": _movielens,
    "fsdd": _fsdd,
}
NAMES = tuple(_LOADERS)
