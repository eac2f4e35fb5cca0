"""The metrics against SciPy, POT's own one-dimensional solver, closed forms and laws that every distance keeps."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from course_utils.metrics import c2st, frechet_distance, mmd, precision_recall, wasserstein

METRICS = (wasserstein, frechet_distance, mmd, c2st, lambda x, y: precision_recall(x, y, k=2))
samples = hnp.arrays(float, st.tuples(st.integers(1, 8)), elements=st.floats(-100, 100, width=32))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), rng.normal(0.5, 1.5, (45, 3))


# --- wasserstein ---


@given(x=samples, y=samples)
def test_on_the_line_it_is_that_of_scipy(x: np.ndarray, y: np.ndarray):
    assert math.isclose(wasserstein(x, y), stats.wasserstein_distance(x, y), rel_tol=1e-9, abs_tol=1e-9)


@given(x=samples, y=samples)
def test_on_the_line_its_square_is_that_of_pot(x: np.ndarray, y: np.ndarray):
    assert math.isclose(wasserstein(x, y, p=2) ** 2, ot.emd2_1d(x, y, metric="sqeuclidean"), rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_of_equal_sizes_it_is_the_best_assignment(pair, p: int):
    x, y = pair[0][:45], pair[1]
    cost = cdist(x, y) ** p
    assert math.isclose(wasserstein(x, y, p), cost[linear_sum_assignment(cost)].mean() ** (1 / p), rel_tol=1e-9)


def test_a_shift_costs_its_length_for_every_order(pair):
    shift = np.array([3.0, 0.0, 4.0])
    for p in (1, 2, 3):
        assert math.isclose(wasserstein(pair[0], pair[0] + shift, p), 5, rel_tol=1e-9)


def test_one_column_is_the_line_and_repeating_the_points_changes_nothing(pair):
    x, y = pair[0][:, :1], pair[1][:, :1]
    line = wasserstein(x, y, 2)
    plane = wasserstein(np.hstack([x, 0 * x]), np.hstack([y, 0 * y]), 2)
    assert math.isclose(line, plane, rel_tol=1e-9)
    assert math.isclose(wasserstein(np.repeat(x, 3, axis=0), y, 2), line, rel_tol=1e-9)


def test_an_order_below_one_is_refused(pair):
    with pytest.raises(ValueError, match=r"p=0\.5"):
        wasserstein(*pair, p=0.5)


# --- Fréchet ---


def test_frechet_is_that_of_a_matrix_square_root(pair):
    x, y = pair
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    trace = np.trace(first + second - 2 * sqrtm(first @ second).real)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + trace
    assert math.isclose(frechet_distance(x, y), expected, rel_tol=1e-9)


def test_frechet_in_one_dimension(pair):
    x, y = pair[0][:, :1], pair[1][:, :1]
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert math.isclose(frechet_distance(x, y), expected, rel_tol=1e-9)


def test_frechet_of_flat_features_is_finite_and_zero_on_itself():
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 30))  # rank 2 in 30 dimensions
    assert abs(frechet_distance(flat, flat)) < 1e-5
    assert math.isclose(frechet_distance(flat, flat + 1), 30, rel_tol=1e-5)


# --- MMD ---


def test_mmd_is_its_definition_without_self_pairs(pair):
    x, y, h = *pair, 1.3

    def kernel(u: np.ndarray, v: np.ndarray) -> float:
        return math.exp(-((u - v) ** 2).sum() / (2 * h**2))

    within = [np.mean([kernel(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]) for a in (x, y)]
    across = np.mean([kernel(u, v) for u in x for v in y])
    assert math.isclose(mmd(x, y, h), sum(within) - 2 * across, rel_tol=1e-9)


def test_the_default_bandwidth_is_the_median_distance(pair):
    pooled = np.concatenate(pair)
    distances = cdist(pooled, pooled)[np.triu_indices(len(pooled), k=1)]
    assert mmd(*pair) == mmd(*pair, float(np.median(distances)))


@pytest.mark.parametrize("bandwidth", [0, -1.0])
def test_a_bandwidth_is_positive(pair, bandwidth: float):
    with pytest.raises(ValueError, match="positive"):
        mmd(*pair, bandwidth)
    with pytest.raises(ValueError, match="differ"):
        mmd(np.ones((5, 2)), np.ones((5, 2)))


# --- classifier test ---


def test_the_classifier_test_does_not_cry_wolf():
    rng = np.random.default_rng(0)
    p_values = np.array([c2st(*rng.normal(size=(2, 80, 2)), seed=k)[1] for k in range(200)])
    alarms = int((p_values <= 0.05).sum())
    assert stats.binomtest(alarms, 200, 0.05, "greater").pvalue > 0.01
    assert 0.4 < np.mean(p_values) < 0.7  # a little conservative, since counts are whole, but no more


def test_the_classifier_test_finds_what_no_line_separates():
    rng = np.random.default_rng(0)
    accuracy, p_value = c2st(rng.normal(size=(200, 2)), 3 * rng.normal(size=(300, 2)))
    assert accuracy > 0.7
    assert p_value < 1e-6


def test_the_classifier_is_tested_on_points_that_it_has_not_seen():
    x, y = np.random.default_rng(0).normal(size=(2, 200, 50))  # many dimensions: it fits what it has seen
    assert abs(c2st(x, y)[0] - 0.5) < 0.15


def test_its_seed_decides_the_split(pair):
    assert c2st(*pair, seed=1) == c2st(*pair, seed=1)
    assert len({c2st(*pair, seed=k) for k in range(5)}) > 1


# --- precision, recall, density, coverage ---


def test_by_hand_on_a_line():
    real, generated = np.array([0.0, 1.0, 3.0, 10.0]), np.array([0.5, 20.0, 21.0])
    found = precision_recall(real, generated, k=1)  # real radii 1, 1, 2, 7; generated 19.5, 1, 1
    assert found == {"precision": 1 / 3, "recall": 1.0, "density": 2 / 3, "coverage": 0.5}


def test_they_are_not_symmetric_and_count_like_loops(pair):
    real, generated = pair
    radius = [sorted(np.linalg.norm(real - p, axis=1))[3] for p in real]
    reach = [sorted(np.linalg.norm(generated - p, axis=1))[3] for p in generated]
    inside = np.array([[np.linalg.norm(r - g) <= radius[i] for g in generated] for i, r in enumerate(real)])
    near = np.array([[np.linalg.norm(r - g) <= reach[j] for j, g in enumerate(generated)] for r in real])
    found = precision_recall(real, generated, k=3)
    assert found["precision"] == inside.any(0).mean()
    assert found["coverage"] == inside.any(1).mean()
    assert found["recall"] == near.any(1).mean()
    assert math.isclose(found["density"], inside.sum() / (3 * len(generated)))


def test_a_lost_mode_costs_recall_and_coverage_only():
    rng = np.random.default_rng(0)
    modes = np.repeat([[-9.0, 0.0], [9.0, 0.0]], 200, axis=0)
    real = modes + rng.normal(size=(400, 2))
    found = precision_recall(real, modes[:200] + rng.normal(size=(200, 2)))
    assert found["precision"] > 0.9
    assert 0.4 < found["recall"] <= 0.5
    assert 0.4 < found["coverage"] <= 0.5


@pytest.mark.parametrize("k", [0, 45])
def test_the_number_of_neighbors_is_possible(pair, k: int):
    with pytest.raises(ValueError, match=f"k={k}"):
        precision_recall(*pair, k=k)


# --- all of them ---


@pytest.mark.parametrize("metric", METRICS)
def test_images_and_tensors_are_flattened(metric, pair):
    x, y = (torch.tensor(a[:, :2], requires_grad=True) for a in pair)
    assert metric(x.reshape(-1, 1, 2, 1), y.reshape(-1, 1, 2, 1)) == metric(pair[0][:, :2], pair[1][:, :2])


@pytest.mark.parametrize("metric", METRICS)
def test_bad_samples_are_refused_with_a_reason(metric, pair):
    x, y = pair
    broken = x.copy()
    broken[3, 1] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        metric(broken, y)
    with pytest.raises(ValueError, match="different width: 3 and 2"):
        metric(x, y[:, :2])
    with pytest.raises(ValueError, match="second sample has shape"):
        metric(x, y[:0])
