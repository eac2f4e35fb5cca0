"""The course's data sets: `load(name)` returns any of them. `data/README.md` describes each: origin, license, quirks.

Built in or generated, with no network: digits, photo_patches, breast_cancer, python_docs, doc_topics, glyphs, channels,
ratings, cosmic_web, plucked_strings, scenes, bars_and_stripes, toy_english, toy_translation and five 2-D densities.
The others are downloaded once into a cache folder and checked against the SHA-256 in `data/registry.txt`.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import re
import wave
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from course_utils import synthetic

if TYPE_CHECKING:
    import torch

REGISTRY = Path(__file__).resolve().parents[1] / "data" / "registry.txt"
GITHUB = "https://raw.githubusercontent.com"
# Address + file name is where a file is; more than one address: mirrors. After a "#": the member of a zip archive.
ADDRESSES = {
    "mnist": ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"],
    "fashion_mnist": [
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        f"{GITHUB}/zalandoresearch/fashion-mnist/master/data/fashion/",
    ],
    "binarized_mnist": ["http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"],
    "alphadigits": ["https://cs.nyu.edu/~roweis/data/"],
    "tinyshakespeare": [f"{GITHUB}/karpathy/char-rnn/master/data/tinyshakespeare/"],
    "names": [f"{GITHUB}/karpathy/makemore/master/"],
    "tatoeba_eng_tur": [
        f"{GITHUB}/ErtugrulKaplanoglu/English-Turkish-Translation-Project/"
        "2d4efedc303201e2b7282f5e362258e9302e18c1/Data_set/prepared_datas/"
    ],
    "movielens": ["https://files.grouplens.org/datasets/movielens/ml-latest-small.zip#"],
    "fsdd": [f"{GITHUB}/Jakobovski/free-spoken-digit-dataset/v1.0.10/recordings/"],
}
SPLITS = ("train", "valid", "test")
CELL_UNITS = {"radius": "length", "perimeter": "length", "area": "length²", "texture": "gray levels"}  # others: pure
DOC_TOPICS = {  # class: topics of Python's help
    "statements": ("assignment", "compound", "import", "raise", "del", "yield", "return", "global", "nonlocal"),
    "strings": ("strings", "string-methods", "formatstrings"),
}
FSDD_RATE = 8000  # samples per second of the recordings
ROUNDS, TIMEOUT = 2, 30  # how often all addresses are tried; seconds without an answer after which one counts as failed


class DownloadError(RuntimeError):
    """A file of a data set could not be fetched, or not be stored. The message says what to do."""


class Splits(dict[str, Any]):
    """Split name -> data, in the order train, valid, test. An unknown name raises a KeyError that lists the valid ones."""

    def __missing__(self, split: str) -> Any:
        raise KeyError(f"no split {split!r} in this data set; it has {', '.join(self)}")


class Split(NamedTuple):
    """Images and what they show, in a form that unpacks: `x, y = load("digits")["train"]`."""

    images: torch.Tensor  # float32 [n, 1, height, width] in [0, 1]
    labels: torch.Tensor | None  # int64 [n]


class Images(Splits):
    """Split name -> Split. `levels` is the number of gray levels that a pixel can take."""

    def __init__(self, pixels: dict[str, np.ndarray], levels: int, labels: dict[str, np.ndarray] | None = None) -> None:
        """Take integer gray values [n, height, width] in 0 … levels - 1, and integer labels [n], by split."""
        import torch

        self.levels = levels
        for split, values in pixels.items():
            images = torch.from_numpy(np.array(values, dtype=np.float32)).unsqueeze(1).div_(levels - 1)
            self[split] = Split(images, labels and torch.from_numpy(np.array(labels[split], dtype=np.int64)))


class Ratings(NamedTuple):
    """User `users[i]` gave the film `titles[films[i]]` a rating of `stars[i]`."""

    users: np.ndarray  # int64 [n], from 0
    films: np.ndarray  # int64 [n], from 0
    stars: np.ndarray  # float32 [n], 0.5 … 5 in steps of 0.5
    titles: list[str]


class Table(NamedTuple):
    """Rows of measurements and the class of each, in a form that starts like `Split`: `x, y, *names = …`."""

    x: np.ndarray  # float64 [n, features], in `units`
    y: np.ndarray  # int64 [n], from 0
    features: list[str]
    units: list[str]  # of each feature
    classes: list[str]


class Texts(NamedTuple):
    """Short texts, and the class of each."""

    texts: list[str]
    y: np.ndarray  # int64 [n], from 0
    classes: list[str]


Dataset = (
    Splits | Images | Ratings | synthetic.KnownRatings | synthetic.KnownImages | synthetic.Density | synthetic.Grammar
)


def load(name: str) -> Dataset:
    """Return the data set called `name`, the same on every run.

    Args:
        name: one of NAMES; those in ADDRESSES are downloaded on first use.

    Returns:
        Split name -> `Split` for images (an `Images`); str for text; two lists of str, English and Turkish, for
        toy_translation and tatoeba_eng_tur; a `Table` for breast_cancer; `Texts` for doc_topics; a list of waveforms,
        float32 [samples] in [-1, 1], and labels, int64 [n], for fsdd.
        `synthetic.Melodies` by split for plucked_strings, waveforms [n, samples] and the delays of their strings;
        `synthetic.Described` by split for scenes, pictures with captions.
        `Ratings` for movielens, `synthetic.KnownRatings` for ratings, `synthetic.Grammar` for toy_english,
        `synthetic.Density` for a 2-D density, `synthetic.KnownImages` for bars_and_stripes.

    Raises:
        ValueError: there is no such data set; the message lists the valid names.
        DownloadError: a file is neither in the cache nor to be had, or the cache folder cannot be written.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown data set {name!r}; the valid names are {', '.join(NAMES)}")
    return _LOADERS[name]()


def fetch(name: str) -> dict[str, Path]:
    """Return {file name: path} of the files of a downloaded data set, whole and unchanged.

    They lie in `<cache>/<name>/`; the cache is the folder COURSE_DATA (an environment variable) or else the user's cache
    folder. A good file is only read. A missing or changed one is downloaded beside its place, checked, and then moved
    there in one step: nothing half-written is taken for good, and two processes do not collide.

    Raises:
        DownloadError: no address gave the right file, or the cache folder cannot be written.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar says the rest
    folder = Path(os.environ.get("COURSE_DATA") or pooch.os_cache("shannon-to-diffusion")).expanduser() / name
    lines = (line.partition("/") for line in REGISTRY.read_text(encoding="utf-8").splitlines())
    files = dict(entry.split() for owner, _, entry in lines if owner == name)
    for i, (file, sha256) in enumerate(files.items(), start=1):
        _fetch(folder / file, sha256, [a + file for a in ADDRESSES[name]], f"{name} {i}/{len(files)}")
    return {file: folder / file for file in files}


def _fetch(target: Path, sha256: str, urls: list[str], progress: str) -> None:
    """Make sure that `target` has this SHA-256; otherwise download it from the first address that has it."""
    import pooch
    from requests import RequestException

    def download(url: str, output: str, _: object) -> None:
        _download(url, output, progress)

    failures = []
    for url in urls * ROUNDS:
        try:
            pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent, downloader=download)
            return
        except (RequestException, ValueError, zipfile.BadZipFile, KeyError) as error:  # ValueError: wrong checksum
            failures.append(f"  {url}\n    {error}")
        except OSError as error:
            raise DownloadError(
                f"cannot read or write {target} ({error}).\n"
                "Make room there, or choose another folder with the environment variable COURSE_DATA."
            ) from error
    raise DownloadError(
        f"{target.name} could not be downloaded. Tried:\n" + "\n".join(failures) + "\nCheck the network; or fetch the "
        f"file by other means and save it as\n  {target}\n"
        f"These data sets need no network: {', '.join(n for n in NAMES if n not in ADDRESSES)}."
    )


def _download(url: str, output: str, progress: str) -> None:
    """Write what is at `url` to the file `output`, with a progress bar; of `archive.zip#member` only the member."""
    import pooch
    from tqdm.auto import tqdm

    url, _, member = url.partition("#")
    archive = io.BytesIO()
    with tqdm(desc=progress, total=1, unit="B", unit_scale=True, leave=False) as bar:  # pooch sets the total
        pooch.HTTPDownloader(bar, chunk_size=1 << 16, timeout=TIMEOUT)(url, archive if member else output, None)
    if member:
        Path(output).write_bytes(zipfile.ZipFile(archive).read(member))
    Path(output).chmod(0o644)  # pooch's temporary file is its owner's alone; a class may share the cache


def _digits() -> Images:
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels, labels = (dict(zip(SPLITS, np.split(a, [1000, 1350]), strict=True)) for a in (data.images, data.target))
    return Images(pixels, 17, labels)


def _photo_patches() -> Images:
    """Gray 16 × 16 patches of two photographs, in steps of 8: of each photograph, one range of columns for each split."""
    from sklearn.datasets import load_sample_images

    photos = [np.rint(photo @ [0.299, 0.587, 0.114]) for photo in load_sample_images().images]  # luma of ITU-R BT.601
    pixels = {}
    for split, strips in zip(SPLITS, np.split(np.stack(photos), [480, 560], axis=2), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(strips, (16, 16), axis=(1, 2))
        pixels[split] = windows[:, ::8, ::8].reshape(-1, 16, 16)
    return Images(pixels, 256)


def _text(parts: list[str], end: str) -> Splits:
    """Join the first 80 % of the parts, the next 10 % and the last 10 %."""
    a, b = len(parts) * 8 // 10, len(parts) * 9 // 10
    return Splits(zip(SPLITS, (end.join(cut) + "\n" for cut in (parts[:a], parts[a:b], parts[b:])), strict=True))


def _python_docs() -> Splits:
    """Python's own help texts by topic, in a fixed random order; each paragraph once, as they quote one another."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    random.Random(0).shuffle(names)
    return _text(list(dict.fromkeys(p.rstrip() for n in names for p in topics[n].split("\n\n") if p.strip())), "\n\n")


def _breast_cancer() -> Splits:
    """569 tumors, 60 / 20 / 20 % in a fixed random order; class 1 is malignant (scikit-learn's file has it as 0)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    features = data.feature_names.tolist()
    units = [next((unit for word, unit in CELL_UNITS.items() if word in name), "1") for name in features]
    cuts = np.split(np.random.default_rng(0).permutation(len(data.target)), [341, 455])
    return Splits(
        (split, Table(data.data[i], 1 - data.target[i].astype(np.int64), features, units, ["benign", "malignant"]))
        for split, i in zip(SPLITS, cuts, strict=True)
    )


def _doc_topics() -> Splits:
    """Paragraphs of at least eight words from Python's help on statements or on strings, each once."""
    from pydoc_data.topics import topics

    owner: dict[str, set[int]] = {}
    for label, names in enumerate(DOC_TOPICS.values()):
        for paragraph in (p for name in names for p in topics[name].split("\n\n")):
            words = " ".join(paragraph.split())
            if words.count(" ") >= 7:
                owner.setdefault(words, set()).add(label)
    texts = sorted(words for words, labels in owner.items() if len(labels) == 1)
    random.Random(0).shuffle(texts)
    a, b = len(texts) * 6 // 10, len(texts) * 8 // 10
    parts = zip(SPLITS, (texts[:a], texts[a:b], texts[b:]), strict=True)
    return Splits(
        (s, Texts(part, np.array([label for t in part for label in owner[t]], dtype=np.int64), [*DOC_TOPICS]))
        for s, part in parts
    )


def _names() -> Splits:
    names = fetch("names")["names.txt"].read_text(encoding="utf-8").split()
    random.Random(0).shuffle(names)
    return _text(names, "\n")


def _tinyshakespeare() -> Splits:
    text = fetch("tinyshakespeare")["input.txt"].read_text(encoding="utf-8")
    return Splits(train=text[: len(text) * 9 // 10], valid=text[len(text) * 9 // 10 :])


def _by_class(pixels: np.ndarray) -> Images:
    """Split binary images [36, 39, height, width] by class: 30 train, 4 validate, 5 test."""
    assert pixels.shape[:2] == (36, 39)
    parts = dict(zip(SPLITS, np.split(pixels, [30, 34], axis=1), strict=True))
    labels = {split: np.repeat(np.arange(36), part.shape[1]) for split, part in parts.items()}
    return Images({split: part.reshape(-1, *part.shape[2:]) for split, part in parts.items()}, 2, labels)


def _channels() -> Images:
    """Sections in two styles that take turns, and an extra split in a third style that the others do not hold."""
    pixels, labels = {}, {}
    for seed, (split, n) in enumerate(zip(SPLITS, (2000, 300, 100), strict=True)):
        both = np.stack([synthetic.channels(style, n, seed) for style in synthetic.STYLES[:2]], axis=1)
        pixels[split], labels[split] = both.reshape(2 * n, *both.shape[2:]), np.tile([0, 1], n)
    pixels["outside"], labels["outside"] = synthetic.channels(synthetic.STYLES[2], 100, 3), np.full(100, 2)
    return Images(pixels, 2, labels)


def _cosmic_web() -> Splits:
    """Boxes of simulated matter as images: log₂(1 + 8 density) / 9, which is 1 at 64 times the mean density."""
    import torch

    sizes = zip(SPLITS, (4000, 1000, 1000), strict=True)
    parts = {split: synthetic.cosmic_web(n, seed).density for seed, (split, n) in enumerate(sizes)}
    return Splits((s, Split(torch.from_numpy(np.log2(1 + 8 * rho) / 9).unsqueeze(1), None)) for s, rho in parts.items())


def _plucked_strings() -> Splits:
    sizes = zip(SPLITS, (200, 20, 20), strict=True)
    return Splits({split: synthetic.plucked_strings(n, seed) for seed, (split, n) in enumerate(sizes)})


def _scenes() -> Splits:
    """Pictures of two solids; "test" joins solids that training shows apart only, "solids" shows solids that it lacks."""
    groups = synthetic.scene_captions()
    sizes = {"train": ("known", 1000), "valid": ("known", 300), "test": ("pairs", 500), "solids": ("solids", 500)}
    return Splits(
        (split, synthetic.scenes(random.Random(seed).choices(groups[group], k=n), seed))
        for seed, (split, (group, n)) in enumerate(sizes.items())
    )


def _alphadigits() -> Images:
    from scipy.io import loadmat

    samples = loadmat(fetch("alphadigits")["binaryalphadigs.mat"], variable_names=["dat"])["dat"]
    return _by_class(np.array(samples.tolist()))


def _mnist(name: str) -> Images:
    """MNIST or Fashion-MNIST; the last sixth of the training images validates."""
    files = fetch(name)
    pixels = {part: _idx(files[f"{part}-images-idx3-ubyte.gz"]) for part in ("train", "t10k")}
    labels = {part: _idx(files[f"{part}-labels-idx1-ubyte.gz"]) for part in ("train", "t10k")}
    assert all(len(pixels[part]) == len(labels[part]) for part in pixels)
    cut = len(labels["train"]) * 5 // 6
    pixels, labels = (
        dict(zip(SPLITS, (*np.split(p["train"], [cut]), p["t10k"]), strict=True)) for p in (pixels, labels)
    )
    return Images(pixels, 256, labels)


def _idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes: 0, 0, 8, the number of axes, their lengths as big-endian int32, then the values."""
    content = gzip.decompress(path.read_bytes())
    assert content[:3] == b"\0\0\x08"
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _binarized_mnist() -> Images:
    """The fixed binarization of Larochelle & Murray (2011): rows of 0 or 1, separated by spaces."""
    pixels = {}
    for file, path in fetch("binarized_mnist").items():
        table = np.fromfile(path, np.uint8).reshape(-1, 784, 2)  # [image, pixel, (digit, space or newline)]
        digits = table[:, :, 0] - ord("0")
        assert digits.max() == 1
        assert (table[:, -1, 1] == ord("\n")).all()
        pixels[Path(file).stem.split("_")[-1]] = digits.reshape(-1, 28, 28)
    return Images({split: pixels[split] for split in SPLITS}, 2)


def _tatoeba() -> Splits:
    """English and Turkish. Every 40th pair of the training half is in "valid"; no sentence of either language is in two splits.

    Sentences are the same if they differ in capitals and punctuation only.
    """
    text = {file: path.read_text(encoding="utf-8").splitlines() for file, path in fetch("tatoeba_eng_tur").items()}
    half, test = ([*zip(text[f"{part}.en"], text[f"{part}.tr"], strict=True)] for part in ("val", "test"))
    valid = half[::40]
    splits = {"train": _without(valid, half), "valid": valid, "test": _without(half, test)}
    return Splits({split: tuple(map(list, zip(*pairs, strict=True))) for split, pairs in splits.items()})


def _without(seen: list[tuple[str, str]], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs that have no sentence, of either language, in common with those that were seen."""

    def plain(sentence: str) -> str:
        return " ".join(re.findall(r"\w+", sentence.casefold()))

    known = [{plain(sentence) for sentence in side} for side in zip(*seen, strict=True)]
    return [pair for pair in pairs if not any(plain(one) in side for one, side in zip(pair, known, strict=True))]


def _movielens() -> Ratings:
    import pandas as pd

    files = fetch("movielens")
    movies, ratings = (pd.read_csv(files[f"ml-latest-small/{table}.csv"]) for table in ("movies", "ratings"))
    users, films = pd.factorize(ratings["userId"])[0], pd.Index(movies["movieId"]).get_indexer(ratings["movieId"])
    assert (films >= 0).all()
    return Ratings(users, films, ratings["rating"].to_numpy(np.float32), movies["title"].tolist())


def _fsdd() -> Splits:
    """Spoken digits, one speaker: takes 0-4 of each digit test, the others train."""
    import torch

    parts: dict[str, list[tuple[torch.Tensor, int]]] = {"train": [], "test": []}
    for file, path in fetch("fsdd").items():
        digit, _, take = Path(file).stem.split("_")
        with wave.open(str(path)) as recording:
            assert (recording.getnchannels(), recording.getsampwidth(), recording.getframerate()) == (1, 2, FSDD_RATE)
            samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32)
        parts["test" if int(take) < 5 else "train"].append((torch.from_numpy(samples / 2**15), int(digit)))
    return Splits({s: ([w for w, _ in part], torch.tensor([d for _, d in part])) for s, part in parts.items()})


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "photo_patches": _photo_patches,
    "breast_cancer": _breast_cancer,
    "python_docs": _python_docs,
    "doc_topics": _doc_topics,
    "glyphs": lambda: _by_class(synthetic.glyphs()),
    "channels": _channels,
    "cosmic_web": _cosmic_web,
    "toy_english": synthetic.toy_english,
    "toy_translation": lambda: Splits(synthetic.toy_translation()),
    "ratings": synthetic.ratings,
    "bars_and_stripes": synthetic.bars_and_stripes,
    "plucked_strings": _plucked_strings,
    "scenes": _scenes,
    **{name: partial(synthetic.density, name) for name in synthetic.DENSITIES},
    "mnist": partial(_mnist, "mnist"),
    "fashion_mnist": partial(_mnist, "fashion_mnist"),
    "binarized_mnist": _binarized_mnist,
    "alphadigits": _alphadigits,
    "tinyshakespeare": _tinyshakespeare,
    "names": _names,
    "tatoeba_eng_tur": _tatoeba,
    "movielens": _movielens,
    "fsdd": _fsdd,
}
NAMES = tuple(_LOADERS)
