"""Generated data with a known truth: densities, a grammar, characters, rock, ratings, the cosmic web, bars and
stripes, plucked strings, English and Turkish, described scenes."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch


DENSITIES = ("eight_gaussians", "moons", "spiral", "checkerboard", "pinwheel")


@dataclass(frozen=True)
class Density:
    """A distribution on the plane whose density is known exactly."""

    _sample: Callable[[int, torch.Generator], torch.Tensor]
    _log_prob: Callable[[torch.Tensor], torch.Tensor]
    bounds: tuple[float, float, float, float] = (
        -4.0,
        4.0,
        -4.0,
        4.0,
    )  # left, right, bottom, top: holds the mass but 1e-6

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Draw n points, float32 [n, 2]; the same seed gives the same points."""
        import torch

        return self._sample(n, torch.Generator().manual_seed(seed)).float()

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Return the exact log density in nats, [...], at the points x, [..., 2]: differentiable, in the dtype of x."""
        return self._log_prob(x)


def _mixture(centers: np.ndarray, radial: float, tangential: float, twist: float = 0.0) -> Density:
    """Mix Gaussians with equal weights, then turn each point by the angle `twist` times its distance from the origin.

    In polar coordinates the twist is a shear, so it preserves area: the density needs no Jacobian factor.

    Args:
        centers: complex [k], the means as x + iy.
        radial: standard deviation of a component along the ray from the origin to its center.
        tangential: standard deviation across that ray.
        twist: radians per unit of distance.
    """
    import torch

    means = torch.from_numpy(np.stack([centers.real, centers.imag], axis=1))  # [k, 2]
    angles = torch.from_numpy(np.angle(centers))  # [k]
    log_normalizer = math.log(len(centers) * 2 * math.pi * radial * tangential)

    def rotate(x: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], dim=-1)

    def sample(n: int, generator: torch.Generator) -> torch.Tensor:
        k = torch.randint(len(centers), (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64) * torch.tensor([radial, tangential])
        x = means[k] + rotate(noise, angles[k])
        return rotate(x, twist * torch.linalg.vector_norm(x, dim=-1))

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        x = rotate(x, -twist * torch.linalg.vector_norm(x, dim=-1))
        dx, dy = (x[..., i, None] - means[:, i].to(x) for i in (0, 1))  # [..., k]
        cos, sin = angles.cos().to(x), angles.sin().to(x)
        squares = ((cos * dx + sin * dy) / radial).square() + ((cos * dy - sin * dx) / tangential).square()
        return torch.logsumexp(-squares / 2, dim=-1) - log_normalizer

    return Density(sample, log_prob)


def _checkerboard() -> Density:
    """Eight of the sixteen squares of side 1.5 of [-3, 3]², all their points equally likely."""
    import torch

    def sample(n: int, generator: torch.Generator) -> torch.Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        within = torch.randint(2**20, (n, 2), generator=generator) / 2**20  # all sums and products are exact in float32
        return 1.5 * (torch.stack([column, row], dim=1) - 2 + within)

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        on_board = ((x >= -3) & (x < 3)).all(-1)
        on_square = (x / 1.5).floor().sum(-1) % 2 == 0
        return (0 * x.sum(-1) - math.log(8 * 1.5**2)).masked_fill(~(on_board & on_square), -math.inf)

    return Density(sample, log_prob)


def density(name: str) -> Density:
    """Return one of the five DENSITIES, as `load` does."""
    if name == "checkerboard":
        return _checkerboard()
    arc = np.exp(1j * np.linspace(0, np.pi, 40))
    r = np.sqrt(np.linspace(0.1**2, 3.2**2, 70))  # the square root spreads the centers evenly along the arm
    arm = r * np.exp(3j * r)
    parameters = {
        "eight_gaussians": (2.5 * np.exp(2j * np.pi * np.arange(8) / 8), 0.25, 0.25),
        "moons": (2 * np.concatenate([arc, 1 + 0.5j - arc]) - 1 - 0.5j, 0.15, 0.15),
        "spiral": (np.concatenate([arm, -arm]), 0.12, 0.12),
        "pinwheel": (2 * np.exp(2j * np.pi * np.arange(5) / 5), 0.38, 0.13, 0.8),
    }
    return _mixture(*parameters[name])


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar in which a sentence has one derivation at most, starting from "S"."""

    # Nonterminal -> its rules: (probability, symbols). A symbol without rules is a word.
    rules: dict[str, list[tuple[float, tuple[str, ...]]]]

    def sample(self, n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
        """Draw n sentences, words separated by one space, and their exact log probabilities, float64 [n], in nats."""
        rng = random.Random(seed)
        cumulative = {left: list(itertools.accumulate(p for p, _ in options)) for left, options in self.rules.items()}
        sentences, log_probs = [], np.zeros(n)
        for i in range(n):
            stack, words = ["S"], []
            while stack:
                symbol = stack.pop()
                if symbol in self.rules:
                    [(p, symbols)] = rng.choices(self.rules[symbol], cum_weights=cumulative[symbol])
                    log_probs[i] += math.log(p)
                    stack.extend(reversed(symbols))
                else:
                    words.append(symbol)
            sentences.append(" ".join(words))
        return sentences, log_probs

    @property
    def entropy(self) -> float:
        """The exact entropy of a sentence, in nats: the expected sum of -log p over the rules of its derivation."""
        return self._expected(lambda p, _: -math.log(p))

    @property
    def mean_length(self) -> float:
        """The exact expected number of characters of a sentence: its words, each with the space or newline after it."""
        return self._expected(lambda _, symbols: sum(len(s) + 1 for s in symbols if s not in self.rules))

    def _expected(self, cost: Callable[[float, tuple[str, ...]], float]) -> float:
        """Return the expected total cost of the rules of a derivation.

        The expected costs e of the nonterminals satisfy e = c + M e: c[A] is the mean cost of a rule of A, and M[A, B] the
        mean number of B in it. Source: Booth & Thompson (1973), IEEE Transactions on Computers C-22.
        """
        index = {left: i for i, left in enumerate(self.rules)}
        c, M = np.zeros(len(index)), np.zeros((len(index), len(index)))
        for left, options in self.rules.items():
            for p, symbols in options:
                c[index[left]] += p * cost(p, symbols)
                for symbol in filter(index.__contains__, symbols):
                    M[index[left], index[symbol]] += p
        return float(np.linalg.solve(np.eye(len(c)) - M, c)[index["S"]])


def toy_english() -> Grammar:
    """Return a grammar of English whose relative clauses nest in the center: "the dog that the cats see runs".

    Each verb agrees in number with its own subject, any number of words before it. Read from left to right, the words
    decide every rule (the noun gives the number, the next word the phrase), so no sentence has two derivations. A noun
    phrase holds 0.4 noun phrases on average, fewer than one, so a derivation ends with probability 1.
    """
    nouns = {"dog": 0.3, "cat": 0.25, "bird": 0.2, "girl": 0.15, "teacher": 0.1}
    transitive = {"see": 0.4, "like": 0.3, "follow": 0.2, "need": 0.1}
    intransitive = {"run": 0.4, "sleep": 0.3, "sing": 0.2, "laugh": 0.1}
    rules = {"S": [(0.6, ("NP_ONE", "VP_ONE")), (0.4, ("NP_MANY", "VP_MANY"))]}
    for number, noun_ending, verb_ending in (("ONE", "", "s"), ("MANY", "s", "")):
        noun, verb, alone = f"N_{number}", f"V_{number}", f"I_{number}"
        rules[f"NP_{number}"] = [
            (0.6, ("the", noun)),
            (0.2, ("the", noun, "that", "NP_ONE", "V_ONE")),
            (0.2, ("the", noun, "that", "NP_MANY", "V_MANY")),
        ]
        rules[f"VP_{number}"] = [(0.6, (alone,)), (0.2, (verb, "NP_ONE")), (0.2, (verb, "NP_MANY"))]
        rules[noun] = [(p, (stem + noun_ending,)) for stem, p in nouns.items()]
        rules[verb] = [(p, (stem + verb_ending,)) for stem, p in transitive.items()]
        rules[alone] = [(p, (stem + verb_ending,)) for stem, p in intransitive.items()]
    return Grammar(rules)


CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FONTS = "DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSansMono DejaVuSansMono-Bold DejaVuSerif DejaVuSerif-Bold"
_FONTS += " DejaVuSerif-Italic STIXGeneralBol STIXGeneralBolIta cmb10 cmss10 cmtt10"


def glyphs(samples: int = 39, height: int = 20, width: int = 16) -> np.ndarray:
    """Draw each of the 36 CHARACTERS `samples` times in matplotlib's own fonts, stretched, sheared, turned and bent.

    Returns:
        uint8 [36, samples, height, width]; 1 is ink.
    """
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    rng = np.random.default_rng(0)
    fonts = [FontProperties(fname=f"{get_data_path()}/fonts/ttf/{font}.ttf") for font in _FONTS.split()]
    rows, columns = np.mgrid[0 : 3 * height, 0 : 3 * width] + 0.5  # centers of the ninths of the pixels
    points = np.stack([2 * columns.ravel() / (3 * width) - 1, 1 - 2 * rows.ravel() / (3 * height)], axis=1)
    ink = np.zeros((len(CHARACTERS), samples, height, width), dtype=np.uint8)
    for c, character in enumerate(CHARACTERS):
        outlines = [TextPath((0, 0), character, 1, font).to_polygons() for font in fonts]
        outlines = [[Path(polygon).interpolated(4).vertices for polygon in outline] for outline in outlines]
        for s, font in enumerate(rng.permutation(samples) % len(fonts)):
            inside = np.zeros(len(points), dtype=bool)
            for polygon in _distort(outlines[font], rng):
                inside ^= Path(polygon).contains_points(points)  # even-odd rule: a hole is inside two polygons
            ink[c, s] = inside.reshape(height, 3, width, 3).mean(axis=(1, 3)) > 0.4
    return ink


def _distort(polygons: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Fit the polygons [points, 2] into [-1, 1]², then apply a random affine map and a random smooth elastic one."""
    corners = np.concatenate(polygons)
    middle, half = (corners.max(0) + corners.min(0)) / 2, np.ptp(corners, axis=0) / 2
    half[0] = max(half[0], 0.6 * half[1])  # a narrow character stays narrow
    angle, shear, (sx, sy) = rng.normal(0, 0.08), rng.normal(0, 0.15), rng.uniform(0.78, 0.96, size=2)
    affine = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ [[sx, shear * sy], [0, sy]]
    shift, bend, phase = rng.normal(0, 0.04, 2), rng.normal(0, 0.06, (2, 2)), rng.uniform(0, 2 * np.pi, 2)
    moved = [(polygon - middle) / half @ affine.T + shift for polygon in polygons]
    return [points + np.sin(2.5 * points + phase) @ bend for points in moved]


STYLES = ("meanders", "lenses", "dikes")  # patterns of rock in a vertical section; the last is for surprises


def channels(style: str, n: int, seed: int, height: int = 32, width: int = 24) -> np.ndarray:
    """Draw n vertical sections of two kinds of rock, in one of the STYLES.

    Meanders are two wavy bands that cross the section from left to right, lenses are four flat ellipses, dikes are two
    straight bands that cut down through the section. Positions, sizes and bends are random.

    Returns:
        uint8 [n, height, width]; 1 is the rock of the bands or ellipses, 0 the rock around them.

    Raises:
        ValueError: if `style` is another one.
    """
    if style not in STYLES:
        raise ValueError(f"style={style!r}; expected one of {', '.join(STYLES)}")
    rng = np.random.default_rng([seed, STYLES.index(style)])
    row, column = np.mgrid[0:height, 0:width] + 0.5
    sections = np.zeros((n, height, width), dtype=bool)
    for section in sections:
        if style == "meanders":
            wave = 2 * np.pi * (column / rng.uniform(18, 36) + rng.random())
            line = rng.normal(0, 0.08) * (column - width / 2) + rng.uniform(1, 4) * np.sin(wave)
            for center in rng.uniform(3, 9) + np.array([0, rng.uniform(9, 16)]):
                section |= abs(row - center - line) < rng.uniform(1.5, 2.5)
        elif style == "lenses":
            for center in height * np.array([0.16, 0.38, 0.62, 0.84]) + rng.uniform(-3, 3, 4):
                across = (column - rng.uniform(0, width)) / rng.uniform(4, 9)
                section |= across**2 + ((row - center) / rng.uniform(1.5, 3)) ** 2 < 1
        else:
            for center in rng.uniform(2, width - 2, 2):
                tilt = rng.choice([-1, 1]) * rng.uniform(0.4, 1.0)
                section |= abs(column - center - tilt * (row - height / 2)) < rng.uniform(1.5, 2.5)
    return sections.astype(np.uint8)


@dataclass(frozen=True)
class KnownImages:
    """A distribution of images that lists all that can occur, with the exact probability of each."""

    images: torch.Tensor  # float32 [k, 1, height, width]; all other images have probability 0
    probabilities: torch.Tensor  # float64 [k]

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Draw n images, [n, 1, height, width]; the same seed gives the same images."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        return self.images[torch.multinomial(self.probabilities, n, replacement=True, generator=generator)]

    @property
    def entropy(self) -> float:
        """The exact entropy of an image, in nats."""
        return -(self.probabilities * self.probabilities.log()).sum().item()


def bars_and_stripes(size: int = 4) -> KnownImages:
    """List the binary images of bars (whole columns) or stripes (whole rows): a coin says which of the two, and a coin for
    each column or row whether it is on. The empty and the full image arise both ways, so they are twice as likely.

    Source: MacKay, Information Theory, Inference, and Learning Algorithms (2003), section 43.3.

    Raises:
        ValueError: if `size` is below 2, where bars and stripes are the same.
    """
    import torch

    if size < 2:
        raise ValueError(f"size={size}; expected at least 2, as a single pixel is both bar and stripe")
    on = (torch.arange(2**size)[:, None] >> torch.arange(size)) % 2  # [2**size, size]
    bars = on[:, None, None, :].expand(-1, 1, size, size)
    images, counts = torch.cat([bars, bars.mT]).unique(dim=0, return_counts=True)
    return KnownImages(images.float(), counts.double() / 2 ** (size + 1))


GENRES = ("comedy", "crime", "romance", "science fiction", "war", "western")


class KnownRatings(NamedTuple):
    """User `users[i]` gave the film `titles[films[i]]` `stars[i]`; and why: who likes what, who would see what."""

    users: np.ndarray  # int64 [n], from 0
    films: np.ndarray  # int64 [n], from 0
    stars: np.ndarray  # float32 [n], 0.5 … 5 in steps of 0.5
    titles: list[str]
    genres: np.ndarray  # int64 [n_films]: GENRES[genres[film]]
    likes: np.ndarray  # bool [n_users, n_genres]
    p_seen: np.ndarray  # float64 [n_users, n_films]: the probability that the user has seen, and so rated, the film


def ratings(n_users: int = 800, films_per_genre: int = 20) -> KnownRatings:
    """Draw users who like some genres, films of unequal fame, and who has seen what.

    A user likes each genre with probability 0.35. Given these tastes, the user has seen each film independently of the
    others, with log-odds fame + 3 if its genre is liked; fame is Gaussian, mean -3, standard deviation 1. Stars are
    rounded Gaussians, of mean 4 if the genre is liked and 2.5 if not.
    """
    rng = np.random.default_rng(0)
    likes = rng.random((n_users, len(GENRES))) < 0.35
    genres = rng.permutation(np.repeat(np.arange(len(GENRES)), films_per_genre))
    fame = rng.normal(-3, 1, size=len(genres))
    liked = likes[:, genres]  # [users, films]
    p_seen = 1 / (1 + np.exp(-fame - 3 * liked))
    users, films = np.nonzero(rng.random(p_seen.shape) < p_seen)
    stars = np.where(liked[users, films], 4, 2.5) + rng.normal(0, 0.7, size=len(users))
    stars = (np.rint(2 * stars) / 2).clip(0.5, 5).astype(np.float32)
    titles = [f"{GENRES[genre]} {film + 1}" for film, genre in enumerate(genres)]
    return KnownRatings(users, films, stars, titles, genres, likes, p_seen)


class Web(NamedTuple):
    """Periodic square boxes before and after gravity has moved their matter: `initial, density = cosmic_web(…)`."""

    initial: np.ndarray  # float32 [n, size, size]: the Gaussian field δ₀, of expected variance 1
    density: np.ndarray  # float32 [n, size, size]: mass in each cell, in units of the mean: 1 + δ


def cosmic_web(
    n: int, seed: int, size: int = 32, index: float = -1.5, growth: float = 1.2, oversample: int = 3
) -> Web:  # fmt: skip
    """Move a regular grid of particles from q to q + growth · ψ(q) by Zel'dovich's approximation, and weigh each cell.

    The Gaussian field δ₀ has the power spectrum P(k) ∝ kⁱⁿᵈᵉˣ at wave numbers 0 < k < size / 2, in units of 2π over the side
    of the box, and none beyond. Its displacement ψ, periodic and without curl, has divergence -δ₀. Mass is deposited by
    cloud-in-cell. The first fields of a seed do not depend on n.

    Args:
        size: cells along a side, even.
        growth: the growth factor D: standard deviation of the density contrast in linear theory.
        oversample: particles per cell along a side.

    Source: Zel'dovich (1970), A&A 5, 84; Hockney & Eastwood (1988) for the mass of cells.

    Raises:
        ValueError: if `size` is odd or less than 4, or n or `oversample` less than 1.
    """
    if n < 1 or size < 4 or size % 2 or oversample < 1:
        raise ValueError(f"{n=}, {size=}, {oversample=}; expected n ≥ 1, an even size ≥ 4, oversample ≥ 1")
    from scipy.fft import irfft2, rfft2

    rng, m = np.random.default_rng(seed), oversample * size
    k = [np.fft.fftfreq(m, 1 / m)[:, None], np.fft.rfftfreq(m, 1 / m)]
    length = np.maximum(np.hypot(*k), 1)
    amplitude = length ** (index / 2) * ((np.hypot(*k) > 0) & (np.hypot(*k) < size / 2))
    amplitude *= m / np.sqrt((amplitude**2 * np.where(k[1] == 0, 1, 2)).sum())  # columns of k_x > 0 stand for -k_x too
    to_psi = [(1j * growth * size / (2 * np.pi) * k_axis / length**2).astype(np.complex64) for k_axis in k]  # in cells
    q = (np.arange(m, dtype=np.float32) + 0.5) / oversample  # centers of cells are integers; no particle starts on one
    to_center = np.exp(-1j * np.pi / m * (k[0] + k[1])).astype(np.complex64)  # first particle to first cell
    initial, density = np.empty((2, n, size, size), np.float32)
    for some in np.split(np.arange(n), range(16, n, 16)):  # few at a time: they stay in the processor's cache
        modes = rfft2(rng.standard_normal((len(some), m, m), np.float32)) * amplitude.astype(np.float32)
        initial[some] = irfft2(to_center * modes)[:, ::oversample, ::oversample]
        x = [irfft2(to * modes) + axis for to, axis in zip(to_psi, (q[:, None], q), strict=True)]
        low = [np.floor(x_axis).astype(np.int64) for x_axis in x]
        mass, box = np.zeros(len(some) * size**2), size**2 * np.arange(len(some))[:, None, None]
        for i, j in np.ndindex(2, 2):  # the four cells around a particle
            cell = box + (low[0] + i) % size * size + (low[1] + j) % size
            share = abs(1 - i - (x[0] - low[0])) * abs(1 - j - (x[1] - low[1]))
            mass += np.bincount(cell.ravel(), share.ravel(), len(mass))
        density[some] = mass.reshape(-1, size, size) / oversample**2
    return Web(initial, density)


SOUND_RATE = 8000  # samples per second
PITCHES = (220.0, 261.63, 293.66, 329.63, 392.0, 440.0)  # Hz: the notes A3 C4 D4 E4 G4 A4
STRING_LOSS, NOTE_SAMPLES = 0.99, 2000


class Melodies(NamedTuple):
    """Sounds, and the delay of the string behind each of their notes: `waveforms, delays = …`."""

    waveforms: torch.Tensor  # float32 [n, samples] in [-1, 1], SOUND_RATE samples a second
    delays: torch.Tensor  # int64 [n, notes], in samples; the pitch is SOUND_RATE / (delay + ½) Hz


def plucked_strings(n: int, seed: int, notes: int = 8) -> Melodies:
    """Draw n melodies on one string that is plucked every quarter of a second, at random pitch and loudness.

    A pluck fills a delay line with N random numbers of mean zero; then each sample is the mean of the two that left the
    line one round ago, times a loss: x[t] = loss (x[t - N] + x[t - N - 1]) / 2. The mean delays by half a sample, so the
    pitch is rate / (N + ½); a partial of frequency f shrinks by loss · cos(π f / rate) a period, so high ones die first.
    Source: Karplus & Strong (1983), Computer Music Journal 7 (2).

    Raises:
        ValueError: if `n` or `notes` is below 1.
    """
    import torch
    from scipy.signal import lfilter

    if min(n, notes) < 1:
        raise ValueError(f"n={n}, notes={notes}; expected at least one melody of at least one note")
    rng = np.random.default_rng(seed)
    delays = rng.choice(np.rint(SOUND_RATE / np.array(PITCHES) - 0.5).astype(np.int64), size=(n, notes))
    loudness = rng.choice([0.25, 0.5, 1.0], size=(n, notes))
    waveforms = np.zeros((n, notes, NOTE_SAMPLES))
    for delay in np.unique(delays):
        plucks = rng.uniform(-0.5, 0.5, ((delays == delay).sum(), delay))  # minus their mean: at most 1
        bursts = np.zeros((len(plucks), NOTE_SAMPLES))
        bursts[:, :delay] = plucks - plucks.mean(1, keepdims=True)
        feedback = np.r_[1, np.zeros(delay - 1), -STRING_LOSS / 2, -STRING_LOSS / 2]
        waveforms[delays == delay] = lfilter([1.0], feedback, bursts)
    waveforms *= loudness[..., None]
    return Melodies(torch.from_numpy(waveforms.reshape(n, -1).astype(np.float32)), torch.from_numpy(delays))


@dataclass(frozen=True)
class Noun:
    """An English noun and its Turkish stem; `soft` is the stem before a vowel: kitap, kitab-ı."""

    turkish: str
    soft: str = ""
    plural: str = ""  # English, if it is not the singular + s


# Animate: can be the subject. Things: only objects. Substances: no article, no plural. Places: "in the …".
ANIMATE = {
    "cat": Noun("kedi"), "dog": Noun("köpek", "köpeğ"), "girl": Noun("kız"), "bird": Noun("kuş"),
    "child": Noun("çocuk", "çocuğ", "children"), "teacher": Noun("öğretmen"), "doctor": Noun("doktor"),
    "neighbor": Noun("komşu"),
}  # fmt: skip
THINGS = {
    "book": Noun("kitap", "kitab"), "tree": Noun("ağaç", "ağac"), "flower": Noun("çiçek", "çiçeğ"), "rose": Noun("gül"),
    "door": Noun("kapı"), "car": Noun("araba"), "box": Noun("kutu", plural="boxes"), "apple": Noun("elma"),
    "bicycle": Noun("bisiklet"), "letter": Noun("mektup", "mektub"),
}  # fmt: skip
SUBSTANCES = {"ice cream": Noun("dondurma"), "milk": Noun("süt"), "bread": Noun("ekmek", "ekmeğ"), "water": Noun("su")}
PLACES = {
    "house": Noun("ev"), "school": Noun("okul"), "garden": Noun("bahçe"), "street": Noun("sokak", "sokağ"),
    "village": Noun("köy"), "park": Noun("park"),
}  # fmt: skip
ADJECTIVES = {"red": "kırmızı", "big": "büyük", "small": "küçük", "new": "yeni"}


@dataclass(frozen=True)
class Verb:
    """A transitive verb: its English forms, its Turkish stem, the vowel of its aorist, and the case that it asks for."""

    third: str  # English, as after "the girl"
    past: str
    turkish: str
    aorist: str = ""  # "A" or "I" if the stem ends in a consonant
    case: str = "accusative"
    bare: str = "no"  # a substance as object: "generic" takes the case, "some" stays bare, "no" does not occur


VERBS = {
    "like": Verb("likes", "liked", "sev", "A", bare="generic"),
    "miss": Verb("misses", "missed", "özle", bare="generic"),
    "buy": Verb("buys", "bought", "al", "I", bare="some"),
    "sell": Verb("sells", "sold", "sat", "A", bare="some"),
    "want": Verb("wants", "wanted", "iste", bare="some"),
    "find": Verb("finds", "found", "bul", "I", bare="some"),
    "carry": Verb("carries", "carried", "taşı", bare="some"),
    "see": Verb("sees", "saw", "gör", "I"),
    "forget": Verb("forgets", "forgot", "unut", "I"),
    "wait for": Verb("waits for", "waited for", "bekle"),
    "look at": Verb("looks at", "looked at", "bak", "A", "dative"),
    "approach": Verb("approaches", "approached", "yaklaş", "I", "dative"),
    "flee from": Verb("flees from", "fled from", "kaç", "A", "ablative"),
    "fear": Verb("fears", "feared", "kork", "A", "ablative", bare="generic"),
}
TRADE = {"buy", "sell", "want"}  # of things and substances only
SUBJECTS = {"I": "1sg", "you": "2sg", "we": "1pl", "he": "o", "she": "o", "who": "kim"}
VOWELS = {"a": "aı", "ı": "aı", "o": "au", "u": "au", "e": "ei", "i": "ei", "ö": "eü", "ü": "eü"}  # A and I after each
CASES = {"nominative": "", "accusative": "(y)I", "dative": "(y)A", "locative": "DA", "ablative": "DAn"}
PERSONS = {"aorist": {"1sg": "(y)Im", "2sg": "sIn", "1pl": "(y)Iz"}, "past": {"1sg": "m", "2sg": "n", "1pl": "k"}}


def attach(stem: str, *suffixes: str) -> str:
    """Return the Turkish word of a stem and suffixes in archiphonemes: attach("kitap", "DA") is "kitapta".

    A is e or a, I is i, ı, ü or u, as the last vowel before it asks (vowel harmony); D is t after a voiceless consonant,
    else d; a letter in parentheses keeps two vowels apart.
    """
    word = stem
    for suffix in suffixes:
        buffer, _, rest = suffix[1:].partition(")") if suffix.startswith("(") else ("", "", suffix)
        for letter in (buffer if word[-1] in VOWELS else "") + rest:
            harmony = VOWELS[next(c for c in reversed(word) if c in VOWELS)]
            voiceless = word[-1] in "fstkçşhp"
            word += {"A": harmony[0], "I": harmony[1], "D": "t" if voiceless else "d"}.get(letter, letter)
    return word


def inflect(noun: Noun, case: str, plural: bool = False) -> str:
    """Return a Turkish noun in one of the CASES: a suffix that starts with a vowel softens the stem."""
    if plural:
        return attach(noun.turkish, "lAr", CASES[case])
    vowel = CASES[case].startswith("(y)") and noun.turkish[-1] not in VOWELS
    return attach(noun.soft if vowel and noun.soft else noun.turkish, CASES[case])


def conjugate(verb: Verb, tense: str, negative: bool, person: str = "", question: bool = False) -> str:
    """Return a Turkish verb: tense "aorist" or "past", person a key of PERSONS[tense] or "" for the third.

    The particle of a question is a word of its own. It comes before the person in the aorist, and after it in the past.
    """
    ending = PERSONS[tense].get(person, "")
    if tense == "past":
        return attach(verb.turkish, *["mA"] * negative, "DI", ending, *[" mI"] * question)
    stem = attach(verb.turkish, "mAz" if negative else verb.aorist + "r")
    if question:
        return attach(stem, " mI", ending)  # harmony reaches across the space
    if negative and person in ("1sg", "1pl"):
        return attach(verb.turkish, "mA", {"1sg": "m", "1pl": "(y)Iz"}[person])  # without z: sevmem, sevmeyiz
    return attach(stem, ending)


class Sentence(NamedTuple):
    """What is said, and how it is said in two languages."""

    subject: str  # a key of SUBJECTS or ANIMATE; "who" asks for it
    verb: str
    object: str  # a key of ANIMATE, THINGS or SUBSTANCES
    tense: str = "aorist"
    negative: bool = False
    question: bool = False
    article: str = "the"  # or "a", or "" before a substance
    subject_plural: bool = False
    object_plural: bool = False
    adjective: str = ""  # of the object
    place: str = ""

    def english(self) -> str:
        """Return the English words, one space between two."""
        verb, subject = VERBS[self.verb], self.subject
        if subject in ANIMATE:
            subject = f"the {_plural(subject) if self.subject_plural else subject}"
        third = self.subject not in ("I", "you", "we") and not self.subject_plural
        auxiliary = "did" if self.tense == "past" else "does" if third else "do"
        alone = verb.past if self.tense == "past" else verb.third if third else self.verb
        if self.question:
            words = [auxiliary, subject, "not" if self.negative else "", self.verb]
        else:
            words = [subject, *([auxiliary, "not", self.verb] if self.negative else [alone])]
        words += [self.article, self.adjective, _plural(self.object) if self.object_plural else self.object]
        text = " ".join(filter(None, [*words, self.place and f"in the {self.place}"]))
        return text.replace(" a apple", " an apple")

    def turkish(self) -> str:
        """Return the Turkish words: verb last, the case that the verb asks for, a pronoun only if the verb is no help.

        An accusative marks what is known ("the") or meant as a kind ("likes milk"); such an object stands before "kim", any
        other directly before the verb. Source: Göksel & Kerslake, Turkish: A Comprehensive Grammar (2005).
        """
        verb, noun = VERBS[self.verb], (ANIMATE | THINGS | SUBSTANCES)[self.object]
        specific = self.article == "the" or (not self.article and verb.bare == "generic")
        case = verb.case if specific or verb.case != "accusative" else "nominative"
        thing = [ADJECTIVES.get(self.adjective, ""), "bir" if self.article == "a" else ""]
        thing.append(inflect(noun, case, self.object_plural))
        place = inflect(PLACES[self.place], "locative") if self.place else ""
        person = SUBJECTS.get(self.subject, "") if self.subject in ("I", "you", "we") else ""
        subject = "" if person else SUBJECTS.get(self.subject, "")
        if self.subject in ANIMATE:
            subject = inflect(ANIMATE[self.subject], "nominative", self.subject_plural)
        words = [place, *thing, subject] if self.subject == "who" and specific else [subject, place, *thing]
        if self.subject == "who" and not specific:
            words = [place, subject, *thing]
        return " ".join(filter(None, [*words, conjugate(verb, self.tense, self.negative, person, self.question)]))


def _plural(word: str) -> str:
    return (ANIMATE | THINGS)[word].plural or f"{word}s"


# Words that only the split "forms" holds: each stem is known in other forms, and each suffix on other stems.
UNSEEN_FORMS = {
    "kediyi", "kapıyı", "kutuyu", "gülü", "çiçeği", "ağacı", "mektubu", "öğretmene", "arabaya", "kuştan", "köpeklere",
    "elmalardan",
}  # fmt: skip


def toy_translation() -> dict[str, tuple[list[str], list[str]]]:
    """Draw pairs of English and Turkish sentences; return split -> both lists. No English sentence is there twice.

    Of the pairs of a verb and an object, about one in four is not in "train": one of these for each object is in "valid",
    two are in "test". "Like ice cream" is one, and "who does not like ice cream" comes first in "test". The split "forms"
    holds sentences with one of the UNSEEN_FORMS, of pairs that "train" has.
    """
    rng = random.Random(1)
    held_out = {("like", "ice cream"): "test"}
    for thing in sorted(ANIMATE | THINGS | SUBSTANCES):  # each case of each object remains with some verb
        fits = [verb for verb in sorted(VERBS) if thing not in ANIMATE or verb not in TRADE]
        if thing in SUBSTANCES:
            fits = [verb for verb in fits if VERBS[verb].bare != "generic"]
        usual = [verb for verb in fits if VERBS[verb].case == "accusative"]
        oblique = [verb for verb in fits if verb not in usual]
        verbs = rng.sample([*rng.sample(usual, 2), rng.choice(oblique)], 3)
        held_out |= {(verb, thing): split for verb, split in zip(verbs, ("valid", "test", "test"), strict=True)}
    sizes = {"train": 12000, "valid": 500, "test": 1000, "forms": 500}
    splits: dict[str, dict[str, str]] = {split: {} for split in sizes}
    first = Sentence("who", "like", "ice cream", negative=True, article="")
    splits["test"][first.english()] = first.turkish()
    while any(len(splits[split]) < size for split, size in sizes.items()):
        sentence = _draw_sentence(rng)
        english, turkish = sentence.english(), sentence.turkish()
        split = held_out.get((sentence.verb, sentence.object), "train")
        if UNSEEN_FORMS & set(turkish.split()):
            if split != "train":
                continue
            split = "forms"
        if len(splits[split]) < sizes[split]:
            splits[split][english] = turkish
    return {split: ([*pairs], [*pairs.values()]) for split, pairs in splits.items()}


def _draw_sentence(rng: random.Random) -> Sentence:
    """Draw a sentence that both languages can say."""
    verb = rng.choice(sorted(VERBS))
    thing = rng.choice([*(THINGS if verb in TRADE else ANIMATE | THINGS), *SUBSTANCES, *SUBSTANCES])
    subject = rng.choice([*SUBJECTS, "I", "you", "we", "who", *["noun"] * 4])
    subject_plural = subject == "noun" and rng.random() < 0.3
    subject = rng.choice(sorted(ANIMATE)) if subject == "noun" else subject
    negative, article, adjective = rng.random() < 0.4, "the", ""
    if thing in SUBSTANCES:
        article = "" if VERBS[verb].bare != "no" and rng.random() < 0.7 else "the"
    else:
        kinds = [kind for kind in ADJECTIVES if kind != "red" or thing in THINGS]
        adjective = rng.choice(kinds) if rng.random() < 0.3 else ""
        if not negative and VERBS[verb].bare != "generic" and rng.random() < 0.4:
            article = "a"
    return Sentence(
        subject, verb, thing, rng.choice(["aorist", "past"]), negative, subject != "who" and rng.random() < 0.25, article,
        subject_plural, article == "the" and thing not in SUBSTANCES and rng.random() < 0.3, adjective,
        rng.choice(sorted(PLACES)) if rng.random() < 0.3 else "",
    )  # fmt: skip


SIZES = {"small": (0.7, 0.8), "large": (1.1, 1.25)}  # the side of a solid, in the units of the ground
RELATIONS = {"left of": (1, 0), "right of": (-1, 0), "in front of": (0, 1), "behind": (0, -1)}  # (x, y) of the second
UNSEEN_SOLIDS = (
    ("large", "yellow", "cylinder"), ("small", "red", "cube"), ("large", "blue", "cube"), ("small", "cyan", "cylinder"),
)  # fmt: skip


class Caption(NamedTuple):
    """Two solids, each (size, color, shape), and where the first stands; as str: "a large red cube left of a small …"."""

    first: tuple[str, str, str]
    relation: str  # a key of RELATIONS
    second: tuple[str, str, str]  # of another color

    def __str__(self) -> str:
        return f"a {' '.join(self.first)} {self.relation} a {' '.join(self.second)}"


class Described(NamedTuple):
    """Pictures, and what each shows, in words and exactly: `images, captions, scenes = load("scenes")["train"]`."""

    images: torch.Tensor  # float32 [n, 3, 32, 32] in [0, 1]
    captions: list[Caption]
    scenes: list  # of lecture 01's Scene


def scene_captions() -> dict[str, list[Caption]]:
    """Return all captions by what is known of them: "known" pairs of solids, "pairs" that are new, new "solids".

    Training shows the known pairs only. In a new pair, training shows each solid, but never both; a new solid is one of
    UNSEEN_SOLIDS: its size, color and shape are known, but not together.
    """
    from course_utils.reuse import lecture

    solids = list(itertools.product(SIZES, lecture("01").COLORS, lecture("01").SHAPES))
    pairs = [(a, b) for i, a in enumerate(solids) for b in solids[:i] if a[1] != b[1]]
    seen = [pair for pair in pairs if not set(pair) & set(UNSEEN_SOLIDS)]
    held_out = set(random.Random(0).sample(seen, len(seen) // 6))
    groups: dict[str, list[Caption]] = {"known": [], "pairs": [], "solids": []}
    for pair in pairs:
        group = groups["pairs" if pair in held_out else "known" if pair in seen else "solids"]
        group += [Caption(*order) for r in RELATIONS for order in ((pair[0], r, pair[1]), (pair[1], r, pair[0]))]
    return groups


def draw_described(caption: Caption, rng: random.Random) -> object:
    """Draw a scene (lecture 01) that a caption describes: sizes, distance, direction and place are random.

    Both solids stand on the ground 1.8 to 2.3 apart, in the caption's direction to within 0.4 radians.
    """
    from course_utils.reuse import lecture

    (right, away), apart, turn = RELATIONS[caption.relation], rng.uniform(1.8, 2.3), rng.uniform(-0.4, 0.4)
    along, across = apart * math.cos(turn), apart * math.sin(turn)
    dx, dy = right * along - away * across, right * across + away * along
    x, y = (rng.uniform(-1, 1) * (1.25 - abs(d) / 2) for d in (dx, dy))  # the middle between both
    ends = ((caption.first, -0.5), (caption.second, 0.5))
    sides = [rng.uniform(*SIZES[size]) for (size, _, _), _ in ends]
    return lecture("01").Scene(
        tuple(
            lecture("01").Solid(shape, color, side, x + end * dx, y + end * dy)
            for ((_, color, shape), end), side in zip(ends, sides, strict=True)
        )
    )


def scenes(captions: list[Caption], seed: int, size: int = 32) -> Described:
    """Draw a scene for each caption and render it with four rays a pixel.

    Raises:
        ValueError: if there is no caption.
    """
    import torch

    from course_utils.reuse import lecture

    if not captions:
        raise ValueError("no captions; give at least one Caption")
    rng = random.Random(seed)
    drawn = [draw_described(caption, rng) for caption in captions]
    parts = [lecture("01").render(drawn[i : i + 500], 2 * size) for i in range(0, len(drawn), 500)]
    return Described(torch.cat([torch.nn.functional.avg_pool2d(part, 2) for part in parts]), captions, drawn)
