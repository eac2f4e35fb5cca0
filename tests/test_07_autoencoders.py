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
        optimizer = torch.optim.LBFGS(pair.parameters(), max_iter=100, line_search_fn="strong_wolfe")

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


# --- the judge and the holes ---


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
    torch.testing.assert_close(standard.T.cov(), torch.eye(2), rtol=0, atol=0.05)


# --- what is shipped ---


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_shipped_weights_load_and_beat_pca(name: str):
    model = taught.full_model()
    card = load_weights(model, f"07_ae_{name}")
    assert card["error"] + 4 * card["standard_error"] < card["error_pca"]
    assert card["n_latent"] == model.n_latent == 30
