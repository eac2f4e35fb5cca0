"""What lecture 07 teaches, imported from its notebook, against scikit-learn, SciPy, PyTorch and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import circulant
from scipy.signal import convolve2d
from scipy.stats import beta
from sklearn.decomposition import PCA
from torch import nn

from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("07")
KINDS = [taught.AutoEncoder, taught.DenseAutoEncoder, taught.ConvAutoEncoder]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def correlated(n: int, p: int) -> torch.Tensor:
    return torch.randn(n, p, dtype=torch.float64) @ torch.randn(p, p, dtype=torch.float64) + torch.randn(p) * 3


# --- PCA ---


@pytest.mark.parametrize(("n", "p", "d"), [(50, 6, 1), (50, 6, 6), (5, 20, 3), (200, 30, 10)])
def test_pca_is_that_of_scikit_learn_on_new_data_too(n: int, p: int, d: int):
    X, new = correlated(n, p), correlated(7, p)
    ours, theirs = taught.PrincipalComponents(X, d), PCA(d, svd_solver="full").fit(X.numpy())
    np.testing.assert_allclose(ours.eigenvalues[:d], theirs.explained_variance_ * (n - 1) / n, rtol=1e-8)
    np.testing.assert_allclose(
        ours.decode(ours.encode(new)), theirs.inverse_transform(theirs.transform(new.numpy())), atol=1e-8
    )
    assert ours.error(X) == pytest.approx(ours.eigenvalues[d:].sum().item(), abs=1e-8)


def test_no_affine_pair_of_the_same_rank_is_better():
    """Gradient descent from many starts, with free encoder and decoder, never gets below the discarded eigenvalues."""
    X = correlated(40, 5)
    bound = taught.PrincipalComponents(X, 2).eigenvalues[2:].sum().item()
    for _ in range(2):
        pair = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 5)).double()
        optimizer = torch.optim.LBFGS(pair.parameters(), max_iter=40, line_search_fn="strong_wolfe")

        def closure(pair=pair, optimizer=optimizer):
            optimizer.zero_grad()
            loss = ((X - pair(X)) ** 2).sum(1).mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        assert closure().item() >= bound * (1 - 1e-9)


@pytest.mark.parametrize("d", [0, 4, -1])
def test_pca_refuses_an_impossible_code_length(d: int):
    with pytest.raises(ValueError, match="n_latent"):
        taught.PrincipalComponents(torch.randn(10, 3), d)


# --- transposed convolution ---


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_transposed_convolution_is_that_of_torch(stride: int, padding: int, extra: int):
    y, kernel = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    if extra >= stride:
        with pytest.raises(ValueError, match="extra"):
            taught.transposed_convolution(y, kernel, stride, padding, extra)
        return
    expected = F.conv_transpose2d(y[None, None], kernel[None, None], None, stride, padding, extra)[0, 0]
    torch.testing.assert_close(taught.transposed_convolution(y, kernel, stride, padding, extra), expected)


def test_a_padding_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="cuts away"):
        taught.transposed_convolution(torch.ones(1, 1), torch.ones(2, 2), padding=1)


def test_with_stride_one_it_is_the_full_convolution_of_signal_processing():
    y, kernel = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    np.testing.assert_allclose(
        taught.transposed_convolution(y, kernel), convolve2d(y.numpy(), kernel.numpy(), mode="full"), atol=1e-12
    )


def test_the_matrix_has_the_kernel_in_each_row():
    """A 1-D convolution without padding is a band of a circulant matrix, built by SciPy."""
    kernel = torch.tensor([[1.0, 2.0, 3.0]])
    expected = circulant([1, 0, 0, 0, 3, 2])[:4]  # row i: the kernel, starting at column i
    np.testing.assert_allclose(taught.conv_matrix(kernel, (1, 6)), expected)
    np.testing.assert_allclose(taught.conv_matrix(kernel, (1, 6), stride=2), expected[::2])


# --- autoencoders ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (16, 16), (20, 16), (9, 7), (5, 6), (1, 3)])
def test_every_autoencoder_takes_every_size(kind: type, size: tuple[int, int]):
    model = kind(size, 3)
    x = torch.rand(4, 1, *size)
    assert model.encode(x).shape == (4, 3)
    assert model(x).shape == x.shape
    torch.testing.assert_close(model(x), model.decode(model.encode(x)))
    with pytest.raises(ValueError, match="expected"):
        model.encode(torch.rand(4, 1, size[0] + 1, size[1]))


@pytest.mark.parametrize(("size", "d"), [((8, 8), 0), ((0, 8), 2)])
def test_an_autoencoder_refuses_nothing(size: tuple[int, int], d: int):
    with pytest.raises(ValueError, match="at least 1"):
        taught.AutoEncoder(size, d)


def test_a_linear_autoencoder_with_the_principal_components_has_their_error():
    X = correlated(60, 12)
    pca, model = taught.PrincipalComponents(X, 4), taught.AutoEncoder((3, 4), 4).double()
    with torch.no_grad():
        model.encoder[1].weight.copy_(pca.V.T)
        model.encoder[1].bias.copy_(-pca.mean @ pca.V)
        model.decoder[0].weight.copy_(pca.V)
        model.decoder[0].bias.copy_(pca.mean)
        error = taught.squared_error(model, X.view(-1, 1, 3, 4))
    assert error.item() == pytest.approx(pca.error(X), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bent_pca_starts_as_pca_and_bends_when_trained(kind: type):
    """On a curved surface of two dimensions, a few steps take it below the best linear pair, which it was at first."""
    size, z = (5, 4), torch.rand(300, 2)
    X = torch.cat([z, z**2, z[:, :1] * z[:, 1:]], 1) @ torch.randn(5, math.prod(size)) / 5 + 1
    x, pca = X.view(-1, 1, *size), taught.PrincipalComponents(X.double(), 2)
    model = taught.BentPCA(kind(size, 2), pca)
    start = taught.squared_error(model, x).item()
    assert start == pytest.approx(pca.error(X.double()), rel=1e-4)
    torch.testing.assert_close(model.encode(x).double(), pca.encode(X.double()), rtol=1e-4, atol=1e-4)
    taught.train_autoencoder(model, x, x, 25, lr=4e-3)
    trained = taught.squared_error(model, x).item()
    assert trained == pytest.approx(start, rel=1e-3) if kind is taught.AutoEncoder else trained < 0.8 * start


def test_a_bent_pca_refuses_components_of_another_length_or_size():
    pca = taught.PrincipalComponents(correlated(50, 64), 3)
    with pytest.raises(ValueError, match="do not fit"):
        taught.BentPCA(taught.DenseAutoEncoder((8, 8), 4), pca)
    with pytest.raises(ValueError, match="do not fit"):
        taught.BentPCA(taught.DenseAutoEncoder((8, 4), 3), pca)


def test_the_errors_of_the_images_average_to_the_loss():
    model, x = taught.ConvAutoEncoder((9, 7), 2), torch.rand(11, 1, 9, 7)
    errors = taught.image_errors(model, x)
    assert errors.shape == (11,)
    assert errors.mean() == pytest.approx(taught.squared_error(model, x).item(), rel=1e-5)


def test_the_comparison_is_at_equal_length_and_on_test_images(monkeypatch: pytest.MonkeyPatch):
    """PCA's column against scikit-learn; with no training, the networks' columns are those of PCA."""
    seen = []
    monkeypatch.setattr(taught, "train_autoencoder", lambda model, train, valid, *_, **__: seen.append((train, valid)))
    parts = {name: taught.load("digits")[name] for name in ("train", "valid", "test")}
    found = taught.compare(parts, (2, 5), epochs=0, n_seeds=1)
    assert len(seen) == 4
    assert all(train is parts["train"].images and valid is parts["valid"].images for train, valid in seen)
    train, test = (parts[name].images.flatten(1).numpy() for name in ("train", "test"))
    for row, d in enumerate((2, 5)):
        theirs = PCA(d, svd_solver="full").fit(train)
        expected = ((test - theirs.inverse_transform(theirs.transform(test))) ** 2).sum(1)
        for errors in found.values():
            np.testing.assert_allclose(errors[row][0], expected, rtol=1e-3, atol=1e-4)


def test_interpolation_starts_and_ends_at_the_reconstructions_and_is_affine_for_a_linear_model():
    model = taught.AutoEncoder((4, 4), 2)
    x, x2 = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(taught.interpolate(model, x, x2, 1.0), model(x))
        torch.testing.assert_close(taught.interpolate(model, x, x2, 0.0), model(x2))
        torch.testing.assert_close(taught.interpolate(model, x, x2, 0.3), 0.3 * model(x) + 0.7 * model(x2))


# --- denoising ---


def test_the_wiener_filter_is_the_posterior_mean_of_a_gaussian():
    """For Gaussian data the best denoiser is affine: E[x | noisy] by conditioning the joint Gaussian."""
    X, sigma = correlated(300, 5), 0.7
    wiener = taught.WienerFilter(X, sigma)
    cov = X.T.cov(correction=0)
    precision = torch.linalg.inv(cov) + torch.eye(5) / sigma**2
    noisy = correlated(4, 5)
    expected = (noisy / sigma**2 + torch.linalg.solve(cov, X.mean(0))) @ torch.linalg.inv(precision)
    torch.testing.assert_close(wiener(noisy), expected, rtol=1e-7, atol=1e-7)
    assert wiener.error == pytest.approx(torch.trace(torch.linalg.inv(precision)).item(), rel=1e-7)


def test_denoising_error_of_the_identity_is_the_noise():
    x = torch.rand(4000, 1, 5, 5)
    expected = 25 * taught.NOISE**2
    assert taught.denoising_error(nn.Identity(), x).item() == pytest.approx(
        expected, abs=5 * taught.NOISE**2 * math.sqrt(2 * 25 / 4000)
    )


def test_denoising_asks_for_the_clean_image():
    """A model that ignores its input and answers 0 has the error of the clean image, without any noise."""
    x = torch.rand(50, 1, 5, 5)

    class Zero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    assert taught.denoising_error(Zero(), x).item() == pytest.approx((x**2).sum((1, 2, 3)).mean().item(), rel=1e-5)


def test_noisy_copies_are_independent_and_of_the_stated_variance():
    x = torch.rand(200, 1, 4, 4)
    noise = taught.noisy_copies(x, 30, seed=0) - x
    assert noise.shape == (30, 200, 1, 4, 4)
    assert noise.std().item() == pytest.approx(taught.NOISE, rel=5 / math.sqrt(2 * noise.numel()))
    flat = noise.flatten(1)
    assert abs(torch.corrcoef(flat[:2])[0, 1].item()) < 5 / math.sqrt(flat.shape[1])
    torch.testing.assert_close(taught.noisy_copies(x, 30, seed=0) - x, noise)


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_the_wiener_filter_refuses_a_noise_that_is_not_positive(sigma: float):
    with pytest.raises(ValueError, match="sigma"):
        taught.WienerFilter(torch.rand(5, 3), sigma)


# --- the judge and the holes ---


def test_the_nearest_is_found_by_brute_force():
    x, reference = torch.rand(6, 1, 2, 3), torch.rand(9, 1, 2, 3)
    expected = [min(math.dist(a.flatten().tolist(), b.flatten().tolist()) for b in reference) for a in x]
    np.testing.assert_allclose(taught.nearest(x, reference), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def judge():
    """Two classes of 3 × 3 images: bright above, bright below."""
    torch.manual_seed(1)
    y = torch.arange(600) % 2
    x = 0.1 * torch.rand(600, 1, 3, 3)
    x[y == 0, :, 0] += 0.8
    x[y == 1, :, 2] += 0.8
    return taught.Judge((x[:400], y[:400]), x[400:], gamma=1.0), x[400:]


def test_the_judge_passes_the_share_that_it_was_calibrated_for_and_refuses_what_is_far(judge):
    judge, valid = judge
    assert judge.accepts(valid).mean() == pytest.approx(0.95, abs=0.006)
    assert judge.accepts(torch.full((1, 1, 3, 3), 5.0)).sum() == 0
    assert judge.accepts(torch.zeros(1, 1, 3, 3)).sum() == 0


def test_far_from_all_data_the_judge_is_sure_of_nothing():
    """Even if one class has most of the images: there is no default answer."""
    y = torch.tensor([0] * 300 + [1] * 60 + [2] * 40)
    x = 0.2 * torch.rand(400, 1, 3, 3) + y.view(-1, 1, 1, 1) / 3
    judge = taught.Judge((x, y), x, gamma=1.0)
    np.testing.assert_allclose(judge.confidence(torch.full((2, 1, 3, 3), 50.0)), 1 / 3, rtol=1e-6)


@pytest.mark.parametrize(("k", "n"), [(0, 20), (7, 20), (20, 20)])
def test_the_interval_is_that_of_clopper_and_pearson(k: int, n: int):
    value, low, high = taught.share(np.arange(n) < k)
    assert value == k / n
    assert low == pytest.approx(beta.ppf(0.025, k, n - k + 1) if k else 0)
    assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k) if k < n else 1)


def test_the_guesses_have_the_moments_they_promise():
    model = taught.AutoEncoder((3, 3), 2)
    x = torch.rand(500, 1, 3, 3)
    with torch.no_grad():
        z = model.encode(x)
    guesses = taught.latent_guesses(model, x, 40_000)
    fitted, box, standard = (guesses[k] for k in ("fitted Gaussian", "uniform in the box", "standard Gaussian"))
    torch.testing.assert_close(fitted.mean(0), z.mean(0), rtol=0, atol=5 * z.std(0).max().item() / 200)
    torch.testing.assert_close(fitted.T.cov(), z.T.cov(), rtol=0.05, atol=0.05 * z.T.cov().max().item())
    assert (box >= z.min(0).values).all()
    assert (box <= z.max(0).values).all()
    mean, side = (z.min(0).values + z.max(0).values) / 2, z.max(0).values - z.min(0).values
    assert ((box.mean(0) - mean).abs() < 5 * side / math.sqrt(12 * len(box))).all()  # that of a uniform on the box
    torch.testing.assert_close(standard.T.cov(), torch.eye(2), rtol=0, atol=0.05)


# --- what is shipped ---


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_shipped_weights_load_and_beat_pca(name: str):
    model = taught.full_model()
    card = load_weights(model, f"07_ae_{name}")
    assert card["error"] + 4 * card["standard_error"] < card["error_pca"]
    assert card["n_latent"] == model.n_latent == 30
