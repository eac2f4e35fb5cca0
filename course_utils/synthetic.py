"""Generated data with a known truth: 2-D densities, a small grammar of English, and distorted characters."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# --------------------------------------------------------------------------------------------- 2-D densities


@dataclass(frozen=True)
class Density:
    """A distribution on the plane whose density is known exactly."""

    name: str
    _sample: Callable[[int, torch.Generator], torch.Tensor]
    _log_prob: Callable[[torch.Tensor], torch.Tensor]
    bounds: tuple[float, float, float, float] = (-4.0, 4.0, -4.0, 4.0)  # left, right, bottom, top: all but 1e-6 of the mass

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """Draw n points, float32 [n, 2]; the same seed gives the same points."""
        import torch

        return self._sample(n, torch.Generator().manual_seed(seed))

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        """Return the exact log density in nats, [...], at the points x, [..., 2]: differentiable, in the dtype of x."""
        return self._log_prob(x)


def _mixture(name: str, means: np.ndarray, scales: np.ndarray, twist: float = 0.0) -> Density:
    """Mix Gaussians with equal weights, component k being means[k] + scales[k] @ standard normal, then twist the plane.

    The twist turns a point at distance r from the origin by the angle twist · r. In polar coordinates this is a shear, so
    areas do not change: the density at x is that of the mixture at x turned back, with no Jacobian factor.

    Args:
        means: [k, 2].
        scales: [k, 2, 2], invertible.
        twist: radians per unit of distance.
    """
    import torch

    centers, spreads = torch.from_numpy(means), torch.from_numpy(scales)
    whiten = torch.linalg.inv(spreads)
    log_weights = -math.log(len(means)) - math.log(2 * math.pi) - torch.linalg.det(spreads).abs().log()  # [k]

    def turn(x: torch.Tensor, rate: float) -> torch.Tensor:
        angle = rate * torch.linalg.vector_norm(x, dim=-1)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], dim=-1)

    def sample(n: int, generator: torch.Generator) -> torch.Tensor:
        k = torch.randint(len(means), (n,), generator=generator)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return turn(centers[k] + torch.einsum("nij,nj->ni", spreads[k], noise), twist).float()

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        offset = turn(x, -twist).unsqueeze(-2) - centers.to(x)  # [..., k, 2]
        squares = torch.einsum("kij,...kj->...ki", whiten.to(x), offset).square().sum(-1)
        return torch.logsumexp(log_weights.to(x) - squares / 2, dim=-1)

    return Density(name, sample, log_prob)


def _along(name: str, points: np.ndarray, std: float) -> Density:
    """Mix round Gaussians of one standard deviation around the points [k, 2]."""
    return _mixture(name, points, np.tile(std * np.eye(2), (len(points), 1, 1)))


def _rays(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` directions [count, 2] around the circle, and the rotations [count, 2, 2] that turn the x axis to them."""
    angle = 2 * np.pi * np.arange(count) / count
    cos, sin = np.cos(angle), np.sin(angle)
    rotations = np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
    return rotations[:, :, 0], rotations


def _eight_gaussians(name: str) -> Density:
    return _along(name, 2.5 * _rays(8)[0], std=0.25)


def _moons(name: str) -> Density:
    t = np.linspace(0, np.pi, 40)
    arcs = [np.stack([np.cos(t), np.sin(t)], axis=1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], axis=1)]
    return _along(name, 2 * (np.concatenate(arcs) - [0.5, 0.25]), std=0.15)


def _spiral(name: str) -> Density:
    r = np.sqrt(np.linspace(0.1**2, 3.2**2, 100))  # the square root spreads the points evenly along the arm
    arm = np.stack([r * np.cos(3 * r), r * np.sin(3 * r)], axis=1)
    return _along(name, np.concatenate([arm, -arm]), std=0.12)


def _pinwheel(name: str) -> Density:
    directions, rotations = _rays(5)
    return _mixture(name, 2.0 * directions, rotations @ np.diag([0.38, 0.13]), twist=0.8)


def _checkerboard(name: str) -> Density:
    """Eight of the sixteen squares of side 1.5 of [-3, 3]², each point of them equally likely."""
    import torch

    def sample(n: int, generator: torch.Generator) -> torch.Tensor:
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        return 1.5 * (torch.stack([column, row], dim=1) - 2 + torch.rand(n, 2, generator=generator))

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        inside = (x >= -3).all(-1) & (x < 3).all(-1)
        dark = (x / 1.5).floor().sum(-1) % 2 == 0
        return torch.zeros_like(x[..., 0]).masked_fill(~(inside & dark), -math.inf) - math.log(8 * 1.5**2)

    return Density(name, sample, log_prob)


DENSITIES = {
    "eight_gaussians": _eight_gaussians,
    "moons": _moons,
    "spiral": _spiral,
    "checkerboard": _checkerboard,
    "pinwheel": _pinwheel,
}

# --------------------------------------------------------------------------------------------- a small grammar of English

Rules = dict[str, list[tuple[float, tuple[str, ...]]]]


@dataclass(frozen=True)
class Grammar:
    """A probabilistic context-free grammar in which every sentence has exactly one derivation.

    `rules` maps a nonterminal to its (probability, symbols); symbols without a rule are words. Sentences start from "S".
    """

    rules: Rules

    def sample(self, n: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
        """Draw n sentences, words separated by one space, and their exact log probabilities, float64 [n], in nats."""
        uniform = random.Random(seed).random
        cumulative = {left: list(accumulate(p for p, _ in options)) for left, options in self.rules.items()}
        sentences, log_probs = [], np.zeros(n)
        for i in range(n):
            stack, words = ["S"], []
            while stack:
                symbol = stack.pop()
                if symbol not in self.rules:
                    words.append(symbol)
                    continue
                options = self.rules[symbol]
                p, symbols = options[min(bisect(cumulative[symbol], uniform()), len(options) - 1)]
                log_probs[i] += math.log(p)
                stack.extend(reversed(symbols))
            sentences.append(" ".join(words))
        return sentences, log_probs

    @property
    def entropy(self) -> float:
        """The exact entropy of a sentence in nats: the choice of a rule costs -Σ p log p wherever it is made."""
        return self._expected(lambda p, _: -math.log(p))

    @property
    def mean_length(self) -> float:
        """The exact expected number of characters of a sentence: each word, and the space or newline after it."""
        return self._expected(lambda _, symbols: sum(len(s) + 1 for s in symbols if s not in self.rules))

    def _expected(self, cost: Callable[[float, tuple[str, ...]], float]) -> float:
        """Return the expected total cost of the rules of a derivation from "S".

        The expected costs e of the nonterminals satisfy e = c + M e, where c[A] is the mean cost of a rule of A, and
        M[A, B] the mean number of B in a rule of A. (Booth & Thompson, 1973, IEEE Transactions on Computers.)
        """
        index = {left: i for i, left in enumerate(self.rules)}
        c, M = np.zeros(len(index)), np.zeros((len(index), len(index)))
        for left, options in self.rules.items():
            for p, symbols in options:
                c[index[left]] += p * cost(p, symbols)
                for symbol in symbols:
                    if symbol in index:
                        M[index[left], index[symbol]] += p
        return float(np.linalg.solve(np.eye(len(c)) - M, c)[index["S"]])


def toy_english() -> Grammar:
    """Return a grammar of English with relative clauses nested in the center: "the dog that the cats see runs".

    Each verb agrees in number with its own subject, which can be any number of words away. A noun phrase holds 0.4 others
    on average, fewer than one, so a derivation ends with probability 1. Each next word decides the next rule (after its
    number is known from the verb or noun), so that no sentence has two derivations.
    """
    nouns = {"dog": 0.3, "cat": 0.25, "bird": 0.2, "girl": 0.15, "teacher": 0.1}
    transitive = {"see": 0.4, "like": 0.3, "follow": 0.2, "need": 0.1}
    intransitive = {"run": 0.4, "sleep": 0.3, "sing": 0.2, "laugh": 0.1}

    def words(stems: dict[str, float], ending: str) -> list[tuple[float, tuple[str, ...]]]:
        return [(p, (stem + ending,)) for stem, p in stems.items()]

    rules: Rules = {"S": [(0.6, ("NP_ONE", "VP_ONE")), (0.4, ("NP_MANY", "VP_MANY"))]}
    for number, noun_ending, verb_ending in (("ONE", "", "s"), ("MANY", "s", "")):
        rules |= {
            f"NP_{number}": [
                (0.6, ("the", f"N_{number}")),
                (0.2, ("the", f"N_{number}", "that", "NP_ONE", "V_ONE")),
                (0.2, ("the", f"N_{number}", "that", "NP_MANY", "V_MANY")),
            ],
            f"VP_{number}": [
                (0.6, (f"I_{number}",)),
                (0.2, (f"V_{number}", "NP_ONE")),
                (0.2, (f"V_{number}", "NP_MANY")),
            ],
            f"N_{number}": words(nouns, noun_ending),
            f"V_{number}": words(transitive, verb_ending),
            f"I_{number}": words(intransitive, verb_ending),
        }
    return Grammar(rules)


# --------------------------------------------------------------------------------------------- distorted characters

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold")
_FACES += ("DejaVuSerif-Italic", "STIXGeneralBol", "STIXGeneralBolIta", "cmb10", "cmss10", "cmtt10")


def glyphs(samples: int = 39, height: int = 20, width: int = 16) -> np.ndarray:
    """Draw each of the 36 CHARACTERS `samples` times, in matplotlib's own fonts, stretched, sheared, turned and bent.

    Returns:
        uint8 [36, samples, height, width], 1 is ink.
    """
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    rng = np.random.default_rng(0)
    fonts = [FontProperties(fname=f"{get_data_path()}/fonts/ttf/{face}.ttf") for face in _FACES]
    ink = np.zeros((len(CHARACTERS), samples, height, width), dtype=np.uint8)
    for c, character in enumerate(CHARACTERS):
        outlines = [[Path(p).interpolated(4).vertices for p in TextPath((0, 0), character, 1, font).to_polygons()] for font in fonts]
        for s, font in enumerate(rng.permutation(samples) % len(fonts)):
            ink[c, s] = _fill(_distort(outlines[font], rng), height, width)
    return ink


def _distort(polygons: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Map the polygons to about [-1, 1]² and apply a random affine and a smooth random elastic map."""
    corners = np.concatenate(polygons)
    middle, half = (corners.max(0) + corners.min(0)) / 2, np.ptp(corners, axis=0) / 2
    half[0] = max(half[0], 0.6 * half[1])  # a narrow character stays narrow
    a, shear, (sx, sy) = rng.normal(0, 0.08), rng.normal(0, 0.15), rng.uniform(0.78, 0.96, size=2)
    affine = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) @ np.array([[sx, shear * sy], [0, sy]])
    shift, phases, bend = rng.normal(0, 0.04, size=2), rng.uniform(0, 2 * np.pi, size=(2, 2)), rng.normal(0, 0.06, size=(2, 2))

    def move(points: np.ndarray) -> np.ndarray:
        points = (points - middle) / half @ affine.T + shift
        return points + np.stack([(bend[i] * np.sin(2.5 * points + phases[i])).sum(1) for i in (0, 1)], axis=1)

    return [move(polygon) for polygon in polygons]


def _fill(polygons: list[np.ndarray], height: int, width: int, fine: int = 3) -> np.ndarray:
    """Ink the pixels [height, width] of [-1, 1]² of which at least four ninths lie inside the polygons (even-odd rule)."""
    from matplotlib.path import Path

    y, x = np.meshgrid(1 - (2 * np.arange(fine * height) + 1) / (fine * height), (2 * np.arange(fine * width) + 1) / (fine * width) - 1, indexing="ij")
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(points), dtype=bool)
    for polygon in polygons:
        inside ^= Path(polygon).contains_points(points)
    return inside.reshape(height, fine, width, fine).mean(axis=(1, 3)) >= 0.4
