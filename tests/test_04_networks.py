"""What lecture 04 teaches, imported from its notebook, against autograd, torch.optim, SciPy and closed forms."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from torch import nn

from course_utils.reuse import lecture

taught = lecture("04")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple),
    hidden=st.sampled_from(["sigmoid", "relu"]),
    seed=st.integers(0, 1000),
)
def test_backpropagation_equals_autograd_for_any_architecture(sizes: tuple[int, ...], hidden: str, seed: int):
    network, rng = taught.NumpyNetwork(sizes, hidden, seed=seed), np.random.default_rng(seed)
    x, y = rng.normal(size=(4, sizes[0])), rng.normal(size=(4, sizes[-1]))
    assert taught.worst_difference(network, x, y) < 1e-10


def test_backpropagation_equals_difference_quotients():
    """Without torch: the slope of the loss along a random direction of all parameters."""
    network, rng, h = taught.NumpyNetwork((3, 5, 4, 2), "sigmoid", "sigmoid"), np.random.default_rng(0), 1e-6
    x, weights = rng.normal(size=(6, 3)), rng.normal(size=(6, 2))
    network.forward(x)
    gradients = network.backward(weights)
    directions = [(rng.normal(size=M.shape), rng.normal(size=b.shape)) for M, b in gradients]

    def loss(step: float) -> float:
        moved = taught.NumpyNetwork((3, 5, 4, 2), "sigmoid", "sigmoid")
        for d, (M, b) in enumerate(directions):
            moved.M[d], moved.b[d] = network.M[d] + step * M, network.b[d] + step * b
        return float((weights * moved.forward(x)).sum())

    pairs = zip(gradients, directions, strict=True)
    slope = sum((g * e).sum() for gradient, direction in pairs for g, e in zip(gradient, direction, strict=True))
    assert slope == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=1e-7)


def test_planted_bug_in_backpropagation_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(taught.ACTIVATIONS, "sigmoid", (taught.sigmoid, taught.sigmoid))  # a wrong slope
    x, y = np.ones((2, 3)), np.ones((2, 1))
    assert taught.worst_difference(taught.NumpyNetwork((3, 4, 1)), x, y) > 1e-3


def test_activations_and_their_slopes():
    u = np.array([-800.0, -3, -0.1, 0.2, 4, 800])
    np.testing.assert_allclose(taught.sigmoid(u), expit(u), rtol=1e-12)
    np.testing.assert_allclose(taught.sigmoid_slope(u), expit(u) * expit(-u), rtol=1e-12)
    assert taught.sigmoid_slope(np.zeros(1)) == 0.25
    np.testing.assert_array_equal(taught.relu_slope(np.array([-1.0, 0, 2])), [0, 0, 1])


@pytest.mark.parametrize("sizes", [(64, 128, 64, 10), (1, 1), (3, 7, 2)])
def test_dimension_is_the_number_of_parameters_of_torch(sizes: tuple[int, ...]):
    assert taught.dimension(sizes) == sum(parameter.numel() for parameter in taught.MLP(sizes).parameters())


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 1)])
def test_sizes_that_make_no_network_are_refused(sizes: tuple[int, ...]):
    for make in (taught.dimension, taught.MLP, taught.NumpyNetwork):
        with pytest.raises(ValueError, match="p_0"):
            make(sizes)


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="choose one of sigmoid"):
        taught.NumpyNetwork((2, 2), "swish")


def test_mlp_is_a_plain_sequence_of_layers():
    model = taught.MLP((5, 4, 3, 2), nn.Tanh)
    a, b, c = model.linears()
    x = torch.randn(2, 7, 5)
    features = b(a(x).tanh()).tanh()
    torch.testing.assert_close(model.features(x), features)
    torch.testing.assert_close(model(x), c(features))


@pytest.mark.parametrize("q", [1, 3, 10])
def test_interpolating_network_is_linear_interpolation(q: int):
    x = np.linspace(0, 1, 301)
    model = taught.interpolating_network(np.exp, q)
    knots = np.linspace(0, 1, q + 1)
    with torch.no_grad():
        found = model(torch.from_numpy(x)[:, None])[:, 0].numpy()
    np.testing.assert_allclose(found, np.interp(x, knots, np.exp(knots)), atol=1e-12)
    assert np.abs(found - np.exp(x)).max() <= math.e / (8 * q**2)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_sawtooth_is_the_iterated_tent(k: int):
    x = torch.arange(2**12 + 1, dtype=torch.float64) / 2**12
    expected = x
    for _ in range(k):
        expected = torch.minimum(2 * expected, 2 - 2 * expected)
    with torch.no_grad():
        assert (taught.sawtooth_network(k)(x[:, None])[:, 0] == expected).all()
    assert taught.count_pieces(taught.sawtooth_network(k), 2**10) == 2**k


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
def test_gradient_law_of_relu_networks(scale: float):
    values = taught.gradient_norms(scale, torch.relu, 300)
    c = torch.arange(taught.N_LAYERS + 1)
    standard_error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - (scale / 2) ** (taught.N_LAYERS - c)).abs() < 4.5 * standard_error).all()


@pytest.mark.parametrize(
    ("method", "make"),
    [
        (taught.descend, lambda p: torch.optim.SGD(p, lr=0.01)),
        (taught.momentum, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9)),
        (taught.adam, lambda p: torch.optim.Adam(p, lr=0.01)),
        (partial(taught.adam, eps=0.3), lambda p: torch.optim.Adam(p, lr=0.01, eps=0.3)),  # ε outside the root
    ],
)
def test_optimizers_take_the_steps_of_torch_on_a_curved_function(method, make):
    """Not a quadratic: Rosenbrock's function."""

    def value(theta):
        return (1 - theta[0]) ** 2 + 10 * (theta[1] - theta[0] ** 2) ** 2

    def gradient(theta: np.ndarray) -> np.ndarray:
        a, b = theta
        return np.array([-2 * (1 - a) - 40 * a * (b - a**2), 20 * (b - a**2)])

    path = method(gradient, np.array([-1.0, 1.5]), 50, 0.01)
    theta = torch.tensor([-1.0, 1.5], dtype=torch.float64, requires_grad=True)
    optimizer = make([theta])
    for step in range(50):
        np.testing.assert_allclose(path[step], theta.detach().numpy(), atol=1e-10)
        optimizer.zero_grad()
        value(theta).backward()
        optimizer.step()


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_momentum_converges_as_fast_as_its_matrix_says(rho: float):
    """The rate is the spectral radius of the map (θ_t, θ_{t-1}) -> (θ_{t+1}, θ_t)."""
    eta, curvature = 0.03, 40.0
    matrix = np.array([[1 + rho - eta * curvature, -rho], [1, 0]])
    start, n = np.array([1.0]), 60
    path = taught.momentum(lambda theta: curvature * theta, start, n, eta, rho)
    state = np.array([1.0, 1.0])  # at rest: θ_{-1} = θ_0
    for t in range(n):
        np.testing.assert_allclose(path[t, 0], state[0], atol=1e-12)
        state = matrix @ state


@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 7), (4, 3, 5, 6)])
def test_norms_are_those_of_torch(shape: tuple[int, ...]):
    x = 3 * torch.randn(shape, dtype=torch.float64) - 1
    by_torch = F.batch_norm(x, None, None, training=True, eps=1e-3)
    torch.testing.assert_close(taught.batch_norm(x, 1e-3), by_torch, rtol=0, atol=1e-12)
    torch.testing.assert_close(taught.layer_norm(x, 1e-3), F.layer_norm(x, shape[1:], eps=1e-3), rtol=0, atol=1e-12)
    assert (taught.layer_norm(torch.ones(2, 3)) == 0).all()


def test_heads_are_the_distributions_of_torch():
    y, mu, log_sigma = torch.randn(3, 20, dtype=torch.float64)
    expected = -torch.distributions.Normal(mu, log_sigma.exp()).log_prob(y)
    torch.testing.assert_close(taught.gaussian_nll(y, mu, log_sigma), expected)
    logits, labels = 5 * torch.randn(20, 4, dtype=torch.float64), torch.randint(4, (20,))
    expected = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(taught.categorical_nll(labels, logits), expected)
    np.testing.assert_allclose((-taught.categorical_nll(labels, logits)).exp(), softmax(logits, 1)[range(20), labels])


def test_logistic_model_has_its_minus_sign():
    f = torch.tensor([3.0, -0.5], dtype=torch.float64)
    plus, minus = (torch.exp(-taught.logistic_nll(torch.tensor(y), f)) for y in (1.0, -1.0))
    torch.testing.assert_close(plus, torch.from_numpy(expit(f.numpy())))
    torch.testing.assert_close(plus + minus, torch.ones(2, dtype=torch.float64))


def test_divergence_from_truth_is_zero_for_the_truth_and_that_of_torch():
    x = torch.linspace(-2, 2, 50)[:, None]

    def shifted(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([taught.true_mean(x) + 0.2, taught.true_log_sigma(x) - 0.3], 1)

    def normal(parameters: torch.Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(parameters[:, 0], parameters[:, 1].exp())

    truth = torch.cat([taught.true_mean(x), taught.true_log_sigma(x)], 1)
    assert taught.divergence_from_truth(lambda x: truth, x) == pytest.approx(0, abs=1e-6)
    expected = torch.distributions.kl_divergence(normal(truth), normal(shifted(x))).mean().item()
    assert taught.divergence_from_truth(shifted, x) == pytest.approx(expected, rel=1e-5)


def test_fit_on_known_features_is_the_maximum_of_the_likelihood_and_near_the_truth():
    torch.manual_seed(3)
    c = taught.fit_known_features(4000)
    assert (c - torch.tensor([0, 1, -1.2, 0.8], dtype=torch.float64)).abs().max() < 0.1
    torch.manual_seed(3)  # the same data
    x = 4 * torch.rand(4000, 1, dtype=torch.float64) - 2
    y = taught.true_mean(x) + taught.true_log_sigma(x).exp() * torch.randn_like(x)

    def loss(c: torch.Tensor) -> float:
        mu, log_sigma = taught.known_features(c)(x).chunk(2, 1)
        return -torch.distributions.Normal(mu, log_sigma.exp()).log_prob(y).sum().item()

    for direction in (*torch.eye(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)):
        for sign in (-1, 1):
            assert loss(c + sign * 1e-3 * direction) > loss(c)


def test_calibration_error_by_hand():
    confidence, right = np.array([0.95, 0.91, 0.55, 1.0]), np.array([1.0, 0, 1, 1])
    expected = (abs(2 - 2.86) + abs(1 - 0.55)) / 4  # the bin [0.9, 1] and the bin [0.5, 0.6)
    assert taught.expected_calibration_error(confidence, right) == pytest.approx(expected)


def test_calibration_error_of_a_calibrated_model():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 3000)
    draws = [
        taught.expected_calibration_error(confidence, (rng.random(3000) < confidence).astype(float)) for _ in range(300)
    ]
    mean, deviation = taught.error_if_calibrated(confidence)
    assert np.mean(draws) == pytest.approx(mean, abs=4 * deviation / math.sqrt(300) + 0.01 * mean)
    assert np.std(draws) == pytest.approx(deviation, rel=4 / math.sqrt(600))


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_temperature_is_recovered_within_its_standard_error(truth: float):
    logits = 2 * torch.randn(5000, 3, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
    tau, error = taught.fit_temperature(truth * logits, labels)
    assert abs(tau - truth) < 4 * error
    assert error < 0.1 * truth


def test_edge_histograms_see_direction():
    """A vertical edge changes to the right: direction 0. A diagonal one is halfway to direction 2 of 4."""
    image = torch.zeros(1, 8, 8)
    image[:, :, 4:] = 1
    histogram = taught.edge_histograms(image.flatten(1), 8).view(8, 4, 4)
    assert histogram[0].sum() > 0
    assert histogram[1:].abs().max() < 1e-6
    ramp = torch.arange(8.0)[:, None] + torch.arange(8.0)
    histogram = taught.edge_histograms(ramp.reshape(1, 64), 4).view(4, 4, 4)
    torch.testing.assert_close(histogram[1], torch.full((4, 4), math.sqrt(2)))


def test_edge_histograms_pixel_by_pixel():
    """The same votes by a loop: a half-turn is n directions, and what is lost by one neighbor goes to the other."""
    x, n = torch.rand(2, 8, 8), 6
    down, right = np.gradient(x.numpy(), axis=(1, 2))
    expected = np.zeros((2, n, 4, 4))
    for k, i, j in np.ndindex(2, 8, 8):
        place = math.atan2(down[k, i, j], right[k, i, j]) % math.pi / math.pi * n
        lower, share = int(place), place - int(place)
        for direction, weight in ((lower % n, 1 - share), ((lower + 1) % n, share)):
            expected[k, direction, i // 2, j // 2] += weight * math.hypot(down[k, i, j], right[k, i, j]) / 4
    np.testing.assert_allclose(taught.edge_histograms(x.flatten(1), n).view(2, n, 4, 4), expected, atol=1e-5)


def test_ink_is_appended():
    x = torch.zeros(1, 8, 8)
    x[0, 2, 5] = 3
    features = taught.with_ink(torch.ones(1, 4), x.flatten(1))[0]
    assert features.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4 + 2, 12 + 5]


def test_convnet_gives_its_features_to_its_last_layer():
    model, x = taught.ConvNet(channels=4).eval(), torch.rand(3, 64)
    assert model.features(x).shape == (3, 128)
    torch.testing.assert_close(model(x), model.last(model.features(x)))
    assert (model.features(x) >= 0).all()


def test_choices_see_validation_images_only(monkeypatch: pytest.MonkeyPatch):
    """With no test split there at all, the choice falls on the features that help on validation."""
    x, y = 0.1 * torch.rand(200, 64), torch.arange(200) % 2
    x[:, 0] += y
    monkeypatch.setattr(taught, "images", {"train": x[:100], "valid": x[100:]}, raising=False)
    monkeypatch.setattr(taught, "labels", {"train": y[:100], "valid": y[100:]}, raising=False)
    monkeypatch.setattr(taught, "seed", 0, raising=False)

    def noise(chosen: torch.Tensor, seed: int):
        return lambda x: x[:, 1:5]

    make, _ = taught.choose([noise, taught.pixels], torch.arange(100))
    assert make is taught.pixels
    assert taught.linear_hits(lambda x: x[:, :2], torch.arange(100), 1.0, "valid").mean() == 1
    assert taught.linear_hits(lambda x: x[:, 1:5], torch.arange(100), 1.0, "valid").mean() < 0.8
    model = taught.train_classifier(lambda: nn.Linear(64, 2), torch.arange(100), 0)
    assert (model(x[100:]).argmax(1) == y[100:]).double().mean() > 0.95
    assert not model.training
