"""What lecture 10 teaches, imported from its notebook, against closed forms, enumeration, SciPy, POT and scikit-learn."""

import itertools
import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import KernelDensity

from course_utils import metrics
from course_utils.datasets import load
from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("10")
probabilities = st.lists(st.integers(0, 9), min_size=4, max_size=4).filter(any).map(lambda w: np.array(w) / sum(w))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# --- likelihood and divergences ---


@pytest.mark.parametrize("d", [1, 3])
def test_kernel_density_is_that_of_scikit_learn(rng, d: int):
    x, centers = rng.normal(size=(20, d)), rng.normal(size=(30, d))
    for h in (0.1, 2.0):
        expected = KernelDensity(bandwidth=h).fit(centers).score_samples(x)
        np.testing.assert_allclose(taught.kde_log_prob(x, centers, h), expected, atol=1e-9)


def test_kernel_density_integrates_to_one(rng):
    centers = rng.normal(size=(5, 1))
    total, _ = quad(lambda u: math.exp(taught.kde_log_prob(np.array([[u]]), centers, 0.3)[0]), -10, 10, limit=200)
    assert math.isclose(total, 1, abs_tol=1e-6)


def test_a_tiny_kernel_still_sees_its_own_center(rng):
    x = 100 + rng.normal(size=(10, 2))  # distances by the binomial formula would be off by rounding
    expected = -math.log(10) - 2 * math.log(1e-7 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(taught.kde_log_prob(x, x, 1e-7), expected, rtol=1e-12)


@given(p=probabilities, q=probabilities)
def test_divergences_keep_their_laws(p: np.ndarray, q: np.ndarray):
    forward, js, tv = taught.kl(p, q), taught.js(p, q), taught.tv(p, q)
    assert forward == pytest.approx(stats.entropy(p, q), abs=1e-12)
    assert js == pytest.approx(taught.js(q, p), abs=1e-12)
    assert -1e-12 <= js <= math.log(2) + 1e-12
    assert tv == pytest.approx(max(sum(d) for k in range(5) for d in itertools.combinations(p - q, k)), abs=1e-12)
    assert tv <= math.sqrt(forward / 2) + 1e-9  # Pinsker
    assert tv**2 / 2 <= js + 1e-12  # Pinsker, twice, for the halves
    assert js <= tv * math.log(2) + 1e-12


def test_disjoint_distributions():
    p, q = np.array([1.0, 0, 0]), np.array([0, 0.5, 0.5])
    assert taught.kl(p, q) == math.inf
    assert taught.tv(p, q) == 1
    assert math.isclose(taught.js(p, q), math.log(2))


# --- transport ---


def test_quantiles_are_the_best_assignment(rng):
    x, y = rng.normal(size=30), rng.exponential(size=30)
    cost = np.abs(x[:, None] - y)
    assert math.isclose(taught.wasserstein_by_quantiles(x, y), cost[linear_sum_assignment(cost)].mean())
    with pytest.raises(ValueError, match="shapes"):
        taught.wasserstein_by_quantiles(x, y[:5])


@pytest.mark.parametrize(("n", "m"), [(12, 12), (9, 14), (1, 4)])
def test_the_plan_is_feasible_and_as_cheap_as_that_of_pot(rng, n: int, m: int):
    cost = cdist(rng.normal(size=(n, 2)), rng.normal(1, 2, (m, 2)))
    plan = taught.transport_plan(cost)
    np.testing.assert_allclose(plan.sum(1), 1 / n, atol=1e-9)
    np.testing.assert_allclose(plan.sum(0), 1 / m, atol=1e-9)
    assert plan.min() >= 0
    expected = ot.emd2(np.full(n, 1 / n), np.full(m, 1 / m), cost)
    assert math.isclose((plan * cost).sum(), expected, rel_tol=1e-7)


@pytest.mark.parametrize("d", [1, 2, 7])
def test_a_critic_is_never_steeper_than_one(d: int):
    torch.manual_seed(0)
    critic = taught.lipschitz_critic(d)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.mul_(30).add_(torch.randn_like(parameter))  # whatever its parameters
        x, y = 3 * torch.randn(2, 2000, d)
        slopes = (critic(x) - critic(y))[:, 0].abs() / (x - y).norm(dim=1)
    assert slopes.max() < 1 + 1e-4


def test_between_layers_a_critic_loses_no_slope():
    torch.manual_seed(0)
    x = torch.randn(50, 32, requires_grad=True)  # as wide as its layers: all matrices but the last are square
    (slope,) = torch.autograd.grad(taught.lipschitz_critic(32)(x).sum(), x)
    torch.testing.assert_close(slope.norm(dim=1), torch.ones(50), atol=1e-4, rtol=0)


def test_pairs_are_sorted_and_kept():
    h = torch.tensor([[3.0, 1.0, -2.0, 5.0, 0.0, -1.0]])
    assert taught.PairSort()(h).tolist() == [[1.0, 3.0, -2.0, 5.0, -1.0, 0.0]]


def test_a_trained_critic_bounds_from_below_and_comes_close(rng):
    x, y = rng.normal(size=(40, 1)), rng.normal(2, 1, (40, 1))
    exact = taught.wasserstein_by_quantiles(x[:, 0], y[:, 0])
    _, dual = taught.train_critic(torch.tensor(x).float(), torch.tensor(y).float(), steps=150)
    assert 0.97 * exact < dual < exact * (1 + 1e-5)


@pytest.mark.parametrize(("n", "m"), [(15, 15), (8, 20)])
def test_sinkhorn_is_that_of_pot(rng, n: int, m: int):
    cost = cdist(rng.normal(size=(n, 2)), rng.normal(1, 1, (m, 2)))
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    expected = ot.sinkhorn(a, b, cost, 0.2, method="sinkhorn_log", stopThr=1e-12, numItermax=10_000)
    np.testing.assert_allclose(taught.sinkhorn_plan(cost, 0.2), expected, atol=1e-8)


def test_sinkhorn_survives_small_and_large_regularization(rng):
    cost = 50 * cdist(rng.normal(size=(10, 2)), rng.normal(size=(10, 2)))
    small, large = taught.sinkhorn_plan(cost, 0.05, 1e-6), taught.sinkhorn_plan(cost, 1e6)
    exact = ot.emd2(np.full(10, 0.1), np.full(10, 0.1), cost)
    assert np.isfinite(small).all()
    assert -1e-3 <= (small * cost).sum() - exact <= 0.05 * math.log(10)
    np.testing.assert_allclose(large, 0.01, rtol=1e-3)  # independence
    with pytest.raises(ValueError, match="eps=0"):
        taught.sinkhorn_plan(cost, 0)


# --- tests from samples ---


def test_mmd_is_the_reference_and_unbiased(rng):
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    assert math.isclose(taught.mmd_squared(x, y, 1.7), metrics.mmd(x, y, 1.7), rel_tol=1e-12)
    draws = [taught.mmd_squared(*rng.normal(size=(2, 5, 2)), 1.0) for _ in range(2000)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / math.sqrt(2000)


@pytest.mark.parametrize(("shift", "d", "h"), [(0.0, 2, 1.0), (1.5, 1, 0.7), (2.0, 5, 3.0)])
def test_mmd_of_gaussians_is_its_integral(shift: float, d: int, h: float):
    def mean_kernel(delta: float) -> float:  # of one coordinate, whose difference is N(delta, 2)
        density = stats.norm(delta, math.sqrt(2)).pdf
        return quad(lambda u: density(u) * math.exp(-(u**2) / (2 * h**2)), -30, 30, limit=200)[0]

    same, other = mean_kernel(0), mean_kernel(shift)
    assert math.isclose(taught.mmd_of_gaussians(shift, d, h), 2 * same ** (d - 1) * (same - other), abs_tol=1e-9)


def test_p_values_of_the_classifier_are_those_of_fisher(rng):
    x, y = rng.normal(size=(60, 2)), rng.normal(0.7, 1, (60, 2))
    accuracy, p_value, smooth = taught.classifier_test(x, y, np.random.default_rng(3))
    assert smooth <= p_value
    tables = [(h, a) for h in range(31) for a in range(31) if math.isclose((h + 30 - a) / 60, accuracy)]
    expected = [stats.fisher_exact([[h, 30 - h], [a, 30 - a]], "greater").pvalue for h, a in tables]
    assert any(math.isclose(p_value, p, rel_tol=1e-9) for p in expected)


def test_smooth_p_values_are_uniform(rng):
    p_values = [taught.classifier_test(*rng.exponential(size=(2, 40, 3)), rng)[2] for _ in range(300)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_frechet_is_the_reference(rng):
    x, y = rng.normal(size=(40, 6)), rng.normal(1, 2, (50, 6))
    assert math.isclose(taught.frechet(x, y), metrics.frechet_distance(x, y), rel_tol=1e-12)


def test_extrapolation_reads_a_line_at_infinity():
    sizes = (100, 250, 800)
    assert math.isclose(taught.extrapolate(sizes, np.array([3 + 70 / n for n in sizes])), 3)


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 3), (20, 40, 5)])
def test_manifold_measures_are_the_reference(rng, n: int, m: int, k: int):
    x, y = rng.normal(size=(n, 3)), rng.normal(0.5, 1, (m, 3))
    assert taught.precision_recall(x, y, k) == metrics.precision_recall(x, y, k)
    with pytest.raises(ValueError, match="k=0"):
        taught.precision_recall(x, y, 0)


# --- features ---


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 24), (5, 7)])
def test_features_of_any_size(size: tuple[int, int]):
    features = taught.image_features(torch.rand(3, 1, *size))
    assert features.shape == (3, 64)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist"])
def test_shipped_networks_are_small_and_good(name: str):
    card = load_weights(taught.FeatureNet(), f"10_features_{name}")
    assert card["accuracy"] > {"digits": 0.95, "mnist": 0.98, "fashion_mnist": 0.88}[name]
    assert 4 * card["parameters"] < 150_000


def test_the_card_of_the_digits_is_true():
    x, y = load("digits")["test"]
    found = taught.accuracy(taught.feature_net("digits"), x, y)
    assert abs(found - load_weights(taught.FeatureNet(), "10_features_digits")["accuracy"]) < 0.5 / len(y)


def test_features_do_not_depend_on_the_batch():
    x = load("digits")["valid"].images[:50]
    both = np.concatenate([taught.digits_features(x[:1]), taught.digits_features(x[1:])])
    np.testing.assert_allclose(taught.digits_features(x), both, atol=1e-4)


@pytest.mark.parametrize("height", [8, 28])
def test_a_feature_net_learns_and_shifts_only_in_training(height: int):
    torch.manual_seed(0)
    y = torch.arange(60) % 2
    x = torch.rand(60, 1, height, height) * 0.2
    x[y == 1, :, : height // 2] += 0.7
    net, history = taught.train_features((x, y), (x, y), epochs=3)
    assert taught.accuracy(net, x, y) == 1
    assert len(history.train) == 3
    losses = [taught.shifted_cross_entropy(net, (x, y), reach=2) for _ in range(2)]
    assert losses[0] == losses[1] == torch.nn.functional.cross_entropy(net(x), y)
    net.train()
    assert len({taught.shifted_cross_entropy(net, (x, y), reach=2).item() for _ in range(8)}) > 1


@pytest.mark.parametrize(
    ("images", "dataset", "message"),
    [
        (torch.rand(2, 1, 8, 8), "cifar", "digits, mnist, fashion_mnist"),
        (torch.rand(2, 8, 8), "digits", "expected"),
        (torch.rand(2, 3, 8, 8), "digits", "expected"),
        (torch.rand(0, 1, 8, 8), "digits", "expected"),
        (2 * torch.ones(2, 1, 8, 8), "digits", "outside"),
        (torch.full((2, 1, 8, 8), math.nan), "digits", "NaN"),
    ],
)
def test_bad_images_are_refused(images: torch.Tensor, dataset: str, message: str):
    with pytest.raises(ValueError, match=message):
        taught.image_features(images, dataset)


# --- people and copies ---


@given(n=st.integers(1, 60), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95]))
def test_the_exact_interval_is_that_of_scipy(n: int, share: float, level: float):
    right = round(share * n)
    expected = stats.binomtest(right, n).proportion_ci(level, "exact")
    np.testing.assert_allclose(taught.exact_interval(right, n, level), expected, atol=1e-9)


@pytest.mark.parametrize(("right", "n"), [(5, 4), (-1, 4), (0, 0)])
def test_impossible_counts_are_refused(right: int, n: int):
    with pytest.raises(ValueError, match="right"):
        taught.exact_interval(right, n)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40))
def test_kappa_is_that_of_scikit_learn(answers: list[tuple[int, int]]):
    first, second = np.array(answers).T
    if len(set(first) | set(second)) == 1:
        assert math.isnan(taught.cohen_kappa(first, second))
    else:
        assert taught.cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)


@pytest.mark.parametrize("size", [8, 28])
def test_the_game_shows_both_and_knows_which_is_real(size: int):
    real, fake = torch.ones(30, 1, size, size), torch.zeros(25, 1, size, size)
    game = taught.RealOrFake(real, fake, seed=1)
    assert game.pairs.shape == (25, 2, 1, size, size)
    assert (game.pairs.flatten(1).mean(1) == 0.5).all()  # one of each
    assert 5 < game.real_is_left.sum() < 20
    shown = game.pairs[:, 0, 0, 0, 0] == 1
    assert [game.answer(not left) for left in shown] == [False] * 25
    assert game.right() == 0
    with pytest.raises(ValueError, match="all 25"):
        game.answer(True)


def test_the_widget_plays_the_game():
    digits = load("digits")["valid"].images
    game = taught.RealOrFake(digits[:3], digits[3:6], seed=0)
    board, buttons, score = taught.play(game).children
    assert "Pair 1 of 3" in board.value
    assert [b.description for b in buttons.children] == ["the left one is real", "the right one is real"]
    for left in (True, False, True, True):  # the last click comes too late
        buttons.children[0 if left else 1].click()
    assert game.said_left == [True, False, True]
    assert f"{game.right()} of 3 right" in score.value
    low, high = taught.exact_interval(game.right(), 3)
    assert f"{low:.2f} to {high:.2f}" in score.value
    assert "answered" in board.value


def test_raters_find_noise_and_answer_by_the_side_they_see():
    digits = load("digits")
    real = digits["test"].images[:60]
    noisy = (real.flip(0) + 0.4 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    memory = taught.digits_features(digits["valid"].images)
    game = taught.rate(taught.Rater(memory, seed=0), taught.RealOrFake(real, noisy))
    assert len(game.said_left) == 60
    assert game.right() > 50


def test_each_image_has_its_own_noise_in_the_eyes_of_a_rater(rng):
    memory = rng.normal(size=(50, 3))
    left, right = np.repeat(memory, 8, axis=0), 9 + rng.normal(size=(400, 3))  # the left ones are remembered
    assert taught.Rater(memory, seed=0, noise=0).calls_left(left, right).all()
    blind = taught.Rater(memory, seed=0, noise=1e9).calls_left(left, right)
    assert abs(blind.mean() - 0.5) < 4 * 0.5 / math.sqrt(400)


def test_copies_are_found_and_honest_samples_are_not(rng):
    train, held_out, honest = rng.normal(size=(3, 80, 5))
    share, p_value = taught.copy_test(train, held_out, train)
    assert share == 1
    assert p_value < 1e-9
    share, p_value = taught.copy_test(honest, held_out, train)
    near = [cdist(a, train).min(1) for a in (honest, held_out)]
    assert share == pytest.approx(np.mean(near[0][:, None] < near[1]))
    assert p_value > 0.01
    assert taught.copy_test(honest + 9, held_out, train)[1] > 0.99  # far away is no copy


# --- planted failures ---


def test_blur_keeps_the_ink_and_a_constant():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 16
    expected = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1]))
    assert torch.equal(taught.blurred(image)[0, 0, 3:6, 3:6], expected)
    assert torch.allclose(taught.blurred(torch.full((2, 1, 28, 28), 0.7)), torch.tensor(0.7))


def test_planted_models_are_what_they_are_called():
    x = torch.rand(1000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(1000) % 10
    train, reference, models = taught.planted(x, labels, seed=1, n=200)
    place = {image.numpy().tobytes(): k for k, image in enumerate(x)}
    train_at, reference_at, faithful_at = (
        [place[i.numpy().tobytes()] for i in part] for part in (train, reference, models["faithful"])
    )
    assert len({*train_at, *reference_at, *faithful_at}) == 600  # nothing is used twice
    assert torch.equal(models["memorized"], train)
    kept_at = {place[i.numpy().tobytes()] for i in models["modes dropped"]}
    assert set(labels[[*kept_at]].tolist()) == {0, 1, 2, 3, 4}
    assert kept_at.isdisjoint({*train_at, *reference_at})
    assert {len(sample) for sample in models.values()} == {200}
    assert all(sample.min() >= 0 and sample.max() <= 1 for sample in models.values())
    assert torch.equal(models["blurred"], taught.blurred(models["faithful"]))


def test_dequantized_levels_go_back(rng):
    x = load("digits")["valid"].images[:20]
    v = taught.dequantize(x, rng)
    assert v.shape == (20, 64)
    assert torch.equal(taught.to_images(v), x)
