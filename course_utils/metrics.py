"""Distances between two samples: the references that lecture 10 checks its own against, and later lectures import.

Samples are tensors or arrays [n, …]; what follows the first dimension is flattened. All raise a ValueError for samples
that are empty or too small, hold NaN or infinities, or differ in width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    Sample = torch.Tensor | np.ndarray


def _matrices(x: Sample, y: Sample, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return both samples as float64 [n, d] and [m, d], after a look at their shapes and values."""
    pair = []
    for name, values in (("first", x), ("second", y)):
        a = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
        if a.ndim == 0 or a.size == 0 or len(a) < least:
            raise ValueError(f"the {name} sample has shape {a.shape}; expected [n, …] with n ≥ {least}, nothing empty")
        if not np.isfinite(a).all():
            raise ValueError(f"the {name} sample holds {(~np.isfinite(a)).sum()} values that are NaN or infinite")
        pair.append(a.reshape(len(a), -1))
    if pair[0].shape[1] != pair[1].shape[1]:
        raise ValueError(f"samples of different width: {pair[0].shape[1]} and {pair[1].shape[1]} numbers an example")
    return pair[0], pair[1]


def wasserstein(x: Sample, y: Sample, p: float = 1) -> float:
    """Return the Wasserstein distance W_p of two samples of equally weighted points, exactly, in the unit of the points.

    One dimension: the quantile functions are compared. More: the linear program is solved (by POT), Euclidean ground
    distance; time grows like n³, memory like n².

    Raises:
        ValueError: also if p < 1, or if the solver stops short of the optimum.
    """
    x, y = _matrices(x, y)
    if not p >= 1:
        raise ValueError(f"p={p}; W_p is a distance for p ≥ 1")
    n, m = len(x), len(y)
    if x.shape[1] == 1:
        ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # where a quantile jumps, in units of 1/nm
        gaps = np.abs(np.sort(x[:, 0])[-(-ends // m) - 1] - np.sort(y[:, 0])[-(-ends // n) - 1])
        return float((np.diff(ends, prepend=0) / (n * m) @ gaps**p) ** (1 / p))
    import ot
    from scipy.spatial.distance import cdist

    uniform = np.full(n, 1 / n), np.full(m, 1 / m)
    cost, log = ot.emd2(*uniform, cdist(x, y) ** p, numItermax=10_000_000, log=True, center_dual=False)
    if log["warning"]:
        raise ValueError(f"the transport of {n} to {m} points was not solved: {log['warning']}")
    return float(max(cost, 0.0) ** (1 / p))


def frechet_distance(x: Sample, y: Sample) -> float:
    """Return ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), squared as in the FID (Heusel et al. 2017).

    μ and Σ are the mean and the covariance (divisor n − 1) of each sample of features [n, d], n ≥ 2.
    """
    x, y = _matrices(x, y, least=2)
    first, second = (np.atleast_2d(np.cov(a, rowvar=False)) for a in (x, y))
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T  # Σ₁Σ₂ has the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(first) + np.trace(second) - 2 * cross)


def mmd(x: Sample, y: Sample, bandwidth: float | None = None) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, their MMD²_u).

    The kernel is exp(−‖u − v‖² / (2 bandwidth²)). Without a bandwidth it is the median distance between two different
    points of the pooled sample. The estimate may be below zero; each sample has at least two points.

    Raises:
        ValueError: also if the bandwidth is not positive, or the median distance is zero.
    """
    from scipy.spatial.distance import cdist, pdist

    x, y = _matrices(x, y, least=2)
    if bandwidth is None:
        bandwidth = float(np.median(pdist(np.concatenate([x, y]))))
    if not bandwidth > 0:
        raise ValueError(f"bandwidth={bandwidth}; expected a positive number, or a sample whose points differ")
    within = [np.exp(-pdist(a, "sqeuclidean") / (2 * bandwidth**2)).mean() for a in (x, y)]
    return float(sum(within) - 2 * np.exp(-cdist(x, y, "sqeuclidean") / (2 * bandwidth**2)).mean())


def c2st(x: Sample, y: Sample, seed: int = 0) -> tuple[float, float]:
    """Return the held-out accuracy of a classifier that tells x from y, and the p-value of "same distribution".

    A support vector machine (Gaussian kernel, standardized features) learns from half of each sample and is tested on
    the other half (Lopez-Paz & Oquab 2017); of the larger sample, only as many points as the smaller has are used. If
    the distributions are equal, which of the tested points come from x is a random half: Fisher's exact test.
    Each sample has at least four points.
    """
    from scipy.stats import fisher_exact
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = _matrices(x, y, least=4)
    n = min(len(x), len(y))
    rng, half = np.random.default_rng(seed), n // 2
    x, y = (a[rng.permutation(len(a))[:n]] for a in (x, y))
    labels = np.repeat([1, 0], [half, half])
    classifier = make_pipeline(StandardScaler(), SVC()).fit(np.concatenate([x[:half], y[:half]]), labels)
    hits, alarms = (int(classifier.predict(a[half:]).sum()) for a in (x, y))
    rest = n - half
    p_value = fisher_exact([[hits, rest - hits], [alarms, rest - alarms]], alternative="greater").pvalue
    return (hits + rest - alarms) / (2 * rest), float(p_value)


def precision_recall(real: Sample, generated: Sample, k: int = 5) -> dict[str, float]:
    """Return precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    The ball of a point reaches to its k-th nearest neighbor among the others of its own sample. Precision: share of
    generated points in the ball of a real one; density: how many real balls hold a generated point, on average, over k;
    recall: share of real points in the ball of a generated one; coverage: share of real balls that hold a generated one.

    Raises:
        ValueError: also if k is not between 1 and the size of the smaller sample minus 1.
    """
    from scipy.spatial.distance import cdist

    real, generated = _matrices(real, generated)
    if not 1 <= k < min(len(real), len(generated)):
        raise ValueError(
            f"k={k} neighbors of {len(real)} real and {len(generated)} generated points; expected 1 ≤ k < n"
        )
    radius, reach = (np.partition(cdist(a, a), k, axis=1)[:, k] for a in (real, generated))  # each is its own nearest
    distance = cdist(real, generated)
    inside = distance <= radius[:, None]  # [real, generated]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((distance <= reach).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / k),
        "coverage": float(inside.any(axis=1).mean()),
    }
