"""What lecture 05 teaches, imported from its notebook, against closed forms, scikit-learn, SciPy and enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from course_utils.reuse import lecture

taught = lecture("05")


def random_score(m: int, seed: int = 0):
    """Return a random function of m switches, as a score and as the table [2^m] of its values."""
    values = np.random.default_rng(seed).standard_normal(2**m)
    return (lambda s: values[s @ 2 ** np.arange(m)]), values


# ---------------------------------------------------------------- LIME


def test_all_switches_are_all_binary_vectors_and_number_themselves():
    switches = taught.all_switches(4)
    assert {tuple(s) for s in switches} == set(itertools.product((0, 1), repeat=4))
    np.testing.assert_array_equal(switches @ 2 ** np.arange(4), np.arange(16))


def test_the_kernel_is_one_at_the_input_and_falls_with_every_switch_that_goes_off():
    k = taught.closeness(np.tril(np.ones((6, 6))), 0.3)  # one to six switches on
    assert k[-1] == 1
    assert (np.diff(k) > 0).all()
    cosine = 1 - 2 / (math.sqrt(2) * math.sqrt(6))  # between (1, 1, 0, 0, 0, 0) and (1, …, 1)
    assert k[1] == pytest.approx(math.exp(-((cosine / 0.3) ** 2)))
    assert (taught.closeness(np.eye(3), math.inf) == 1).all()


@pytest.mark.parametrize("width", [0.2, 0.7, math.inf])
def test_least_squares_is_that_of_scikit_learn(width: float):
    score, _ = random_score(7)
    switches = np.random.default_rng(1).integers(0, 2, size=(300, 7))
    ours = taught.lime(score, 7, width=width, switches=switches)
    theirs = LinearRegression().fit(switches, score(switches), taught.closeness(switches, width))
    np.testing.assert_allclose(ours.weights, theirs.coef_, atol=1e-9)
    assert ours.intercept == pytest.approx(theirs.intercept_, abs=1e-9)
    assert ours.r2 == pytest.approx(theirs.score(switches, score(switches), taught.closeness(switches, width)))


@pytest.mark.parametrize("penalty", [0.01, 0.1, 10.0])
def test_coordinate_descent_is_the_lasso_of_scikit_learn(penalty: float):
    score, _ = random_score(9)
    switches = np.random.default_rng(2).integers(0, 2, size=(200, 9))
    ours = taught.lime(score, 9, width=0.5, penalty=penalty, switches=switches)
    theirs = Lasso(penalty, tol=1e-13, max_iter=100_000)
    theirs.fit(switches, score(switches), taught.closeness(switches, 0.5))
    np.testing.assert_allclose(ours.weights, theirs.coef_, atol=1e-7)
    assert np.isnan(ours.covariance).all()


@pytest.mark.parametrize("width", [0.15, 1.0, math.inf])
@pytest.mark.parametrize("m", [2, 5, 9])
def test_enumeration_has_the_closed_form(m: int, width: float):
    score, values = random_score(m, seed=m)
    exact = taught.lime(score, m, n=None, width=width)
    np.testing.assert_allclose(exact.weights, taught.closed_form(values, m, width), atol=1e-9)
    assert (exact.errors == 0).all()


def test_a_linear_model_returns_coefficient_times_distance_from_the_reference():
    rng = np.random.default_rng(3)
    beta, x, reference = rng.standard_normal((3, 6))
    x[2] = reference[2]  # whatever its coefficient, it does not differ from the reference
    for width, n in ((0.2, 40), (math.inf, 12)):
        found = taught.lime(taught.table_score(lambda x: 2 + x @ beta, x, reference), 6, n=n, width=width)
        np.testing.assert_allclose(found.weights, beta * (x - reference), atol=1e-9)
        assert found.intercept == pytest.approx(2 + reference @ beta)
        assert found.errors.max() < 1e-9
        assert found.weights[2] == pytest.approx(0, abs=1e-9)


def test_the_sandwich_is_the_covariance_over_draws():
    """T of independent explanations against the exact one is chi-squared; a covariance off by 20 % fails."""
    score, _ = random_score(6, seed=4)
    exact = taught.lime(score, 6, n=None, width=0.25).weights
    T = []
    for seed in range(300):
        drawn = taught.lime(score, 6, n=4000, width=0.25, seed=seed)
        T.append((drawn.weights - exact) @ np.linalg.solve(drawn.covariance, drawn.weights - exact))
    assert abs(np.mean(T) - 6) < 4 * math.sqrt(12 / 300)
    assert np.max(T) < chi2.ppf(1 - 1e-4 / 300, 6)


def test_the_sandwich_is_that_of_the_normal_equations_with_an_intercept():
    score, _ = random_score(5, seed=8)
    switches = np.random.default_rng(8).integers(0, 2, size=(300, 5))
    fit = taught.lime(score, 5, width=0.2, switches=switches)
    k, design = taught.closeness(switches, 0.2), np.column_stack([np.ones(300), switches])
    residual = score(switches) - fit.intercept - switches @ fit.weights
    bread = np.linalg.inv(design.T @ (k[:, None] * design))
    meat = design.T @ ((k * residual)[:, None] ** 2 * design)
    np.testing.assert_allclose(fit.covariance, (bread @ meat @ bread)[1:, 1:] * 300 / (300 - 6), rtol=1e-8)


def test_errors_fall_like_one_over_root_n():
    score, _ = random_score(5, seed=5)
    few, many = (taught.lime(score, 5, n=n, width=0.5).errors for n in (2_000, 200_000))
    np.testing.assert_allclose(few / many, 10, rtol=0.15)


def test_bad_input_is_named():
    score, _ = random_score(3)
    with pytest.raises(ValueError, match=r"2\^25"):
        taught.lime(score, 25, n=None)
    with pytest.raises(ValueError, match="4 switch vectors for 3 parts"):
        taught.lime(score, 3, n=4)
    twins = np.random.default_rng(0).integers(0, 2, size=(50, 3))
    twins[:, 1] = twins[:, 0]
    for penalty in (0, 0.1):
        with pytest.raises(ValueError, match="always on or off together"):
            taught.lime(score, 3, penalty=penalty, switches=twins)


def test_parts_are_switched_off_in_tables_texts_and_images():
    switches = np.array([[1, 0, 1]])
    table = taught.table_score(lambda x: x, np.array([1.0, 2, 3]), np.array([7.0, 8, 9]))
    np.testing.assert_array_equal(table(switches), [[1, 8, 3]])
    assert taught.text_score(lambda texts: texts, ["a", "b", "c"])(switches) == ["a c"]
    segments = np.array([[0, 1], [1, 2]])
    image = taught.image_score(lambda x: x, np.ones((2, 2)), segments, 0.5)
    np.testing.assert_array_equal(image(switches), [[[1, 0.5], [0.5, 1]]])


def test_captum_agrees_on_a_random_function_and_disagrees_with_a_wrong_kernel():
    score, _ = random_score(6, seed=6)
    switches = np.random.default_rng(7).integers(0, 2, size=(500, 6))
    inputs, parts = torch.ones(1, 6), torch.arange(6)[None]

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(score(x.numpy().astype(int)))

    theirs = taught.captum_lime(f, inputs, 0.0, parts, 500, 0.3, switches=switches)
    ours = taught.lime(score, 6, width=0.3, switches=switches)
    np.testing.assert_allclose(ours.weights, theirs, atol=1e-5)
    wrong = taught.lime(score, 6, width=0.3 * math.sqrt(2), switches=switches)  # another convention for the width
    assert np.abs(wrong.weights - theirs).max() > 0.01


def test_increasing_functions_of_a_sum_keep_the_order_of_the_coefficients():
    beta = np.array([1.5, -0.3, 0.0, 0.0, 0.7, -2.0])
    for width in (0.2, 1.0, math.inf):
        weights = taught.lime(lambda s: np.tanh(0.4 + s @ beta), 6, None, width).weights
        assert (np.diff(weights[beta.argsort()]) > -1e-12).all()


# ---------------------------------------------------------------- trees, gradients, permutation


def test_reasons_hold_and_lead_to_the_prediction():
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((300, 4)), rng.integers(0, 2, 300)
    tree = DecisionTreeClassifier(max_depth=5, random_state=0).fit(x, y)
    for row in x[:50]:
        answers, leaf = taught.reasons(tree, row)
        assert leaf == tree.predict(row[None])[0]
        assert all((row[j] <= threshold) == (sign == "≤") for j, sign, threshold in answers)


def test_expected_accuracy_is_the_mean_over_all_permutations():
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((5, 3)), rng.integers(0, 2, 5)

    def score(x: np.ndarray) -> np.ndarray:
        return x[:, 0] * x[:, 1] + x[:, 2]

    every = []
    for order in itertools.permutations(range(5)):
        shuffled = x.copy()
        shuffled[:, [0, 2]] = x[list(order)][:, [0, 2]]
        every.append(np.mean((score(shuffled) > 0) == y))
    assert taught.expected_accuracy(score, x, y, [0, 2]) == pytest.approx(np.mean(every))
    seen = []
    taught.shuffled_accuracy(lambda x: seen.append(x) or x[:, 0], x, y, [0, 2], rng)
    assert {tuple(row) for row in seen[0][:, [0, 2]]} == {tuple(row) for row in x[:, [0, 2]]}  # each row once, together
    np.testing.assert_array_equal(seen[0][:, 1], x[:, 1])
    before = x.copy()
    drawn = [taught.shuffled_accuracy(score, x, y, [0, 2], rng) for _ in range(2000)]
    assert abs(np.mean(drawn) - np.mean(every)) < 4 * np.std(every) / math.sqrt(2000)
    np.testing.assert_array_equal(x, before)  # the data are left as they were


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_importances_of_twins_are_those_of_a_large_sample(rho: float):
    rng = np.random.default_rng(10)
    measured = np.array([taught.measured_importances(rho, 0.2, rng) for _ in range(60)])
    error = measured.std(0, ddof=1) / math.sqrt(60)
    known = list(taught.known_importances(rho, 0.2).values())
    assert (np.abs(measured.mean(0) - known) < 4.3 * error + 1e-3).all()  # 1e-3: terms of order 1/n


# ---------------------------------------------------------------- counterfactuals


def test_the_nearest_flip_of_a_sphere_is_on_its_radius():
    class Sphere(nn.Module):
        """f = ‖x‖² - 4: the nearest point of the boundary is 2 x/‖x‖."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x**2).sum(1, keepdim=True) - 4

    x = np.array([3.0, 4.0, 0.0])
    flip = taught.nearest_flip(Sphere(), x, other=np.array([0.1, -0.2, 0.3]))
    np.testing.assert_allclose(flip, [1.2, 1.6, 0], atol=1e-8)
    with pytest.raises(ValueError, match="same class"):
        taught.nearest_flip(Sphere(), x, other=2 * x)


def test_single_feature_flips_of_a_plane():
    w = np.array([2.0, -1.0, 0.1])
    flips = taught.single_feature_flips(lambda x: x @ w - 1, np.zeros(3))
    assert flips == {0: pytest.approx(0.5), 1: pytest.approx(-1.0)}  # the third would need 10, beyond the reach


def test_single_feature_flips_are_the_first_crossings_on_either_side():
    def score(x: np.ndarray) -> np.ndarray:
        return (x[:, 0] - 1.02) * (x[:, 0] - 3) * (x[:, 0] + 0.7) + x[:, 1] ** 2

    flips = taught.single_feature_flips(score, np.zeros(2))
    assert flips == {0: pytest.approx(-0.7)}  # then 1.02, then 3; the second feature never flips a positive score


# ---------------------------------------------------------------- the snow


def test_pictures_have_snow_where_they_should():
    bare, y = taught.pictures("test", (0.0, 0.0), seed=3)
    moved, same = taught.pictures("test", (1.0, 0.0), seed=3)
    assert torch.equal(y, same)
    snowy = moved[:, 0, taught.GROUND :].mean(dim=(1, 2)) > 0.7
    assert torch.equal(snowy, y == 0)
    assert torch.equal(moved[:, :, : taught.GROUND], bare[:, :, : taught.GROUND])
    assert bare.min() >= 0
    assert moved.max() <= 1


def test_snow_share_counts_pixels():
    segments = np.zeros((12, 12), dtype=int)
    segments[:, 6:] = 1
    segments[taught.GROUND :, 6:] = 2  # all on the ground; segments 0 and 1: a quarter, none
    assert taught.snow_share(segments, np.array([4.0, -3.0, -1.0])) == pytest.approx((4 * 0.25 + 1) / 8)
