"""What lecture 08 teaches, imported from its notebook, against PyTorch's distributions and closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("08")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@settings(deadline=None)
@given(mu=st.floats(-5, 5), log_var=st.floats(-6, 4))
def test_kl_is_that_of_torch(mu: float, log_var: float):
    mu, log_var = torch.tensor(mu, dtype=torch.float64), torch.tensor(log_var, dtype=torch.float64)
    q, prior = Normal(mu, (0.5 * log_var).exp()), Normal(torch.zeros_like(mu), torch.ones_like(mu))
    torch.testing.assert_close(taught.kl_to_prior(mu, log_var), kl_divergence(q, prior), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("pixels", "latent"), [(1, 1), (5, 2), (8, 8)])
def test_elbo_and_divergence_add_up_to_the_evidence(pixels: int, latent: int):
    model = taught.linear_gaussian(pixels, latent, sigma=0.3)
    x = model.evidence.sample((4,))
    A = torch.randn(latent, latent, dtype=torch.float64)
    covariance = A @ A.T + 0.1 * torch.eye(latent, dtype=torch.float64)
    q = MultivariateNormal(torch.randn(4, latent, dtype=torch.float64), covariance)
    total = taught.exact_elbo(model, x, q) + kl_divergence(q, model.posterior(x))
    torch.testing.assert_close(total, model.evidence.log_prob(x), rtol=1e-9, atol=1e-9)


def test_the_evidence_is_the_integral_over_the_codes():
    model = taught.linear_gaussian(3, 1, sigma=0.4)
    x, z = model.evidence.sample(), torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None]
    joint = (model.log_likelihood(x, z) + model.prior.log_prob(z)).exp()
    integral = torch.trapezoid(joint, z[:, 0])
    torch.testing.assert_close(integral.log(), model.evidence.log_prob(x), rtol=0, atol=1e-8)


def test_both_gradients_are_unbiased():
    model = taught.linear_gaussian(6, 3, sigma=0.5)
    x, mu = model.evidence.sample(), torch.randn(3, dtype=torch.float64)
    exact = (x - model.W @ mu) @ model.W / 0.25 - mu
    for samples in taught.gradient_samples(model, x, mu, 0.4, 40_000).values():
        standard_error = samples.std(0) / 200
        assert ((samples.mean(0) - exact).abs() < 5 * standard_error).all()


@pytest.mark.parametrize("levels", [2, 3])
def test_the_probabilities_of_all_images_add_up_to_one(levels: int):
    model = taught.VAE((1, 3), levels, n_latent=2, channels=4).eval()
    values = itertools.product(range(levels), repeat=3)
    images = torch.tensor(list(values), dtype=torch.float32).view(-1, 1, 1, 3) / (levels - 1)
    with torch.no_grad():
        log_p = model.log_likelihood(images, torch.randn(1, 2).expand(len(images), -1))
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 17), ((28, 28), 2), ((20, 16), 2), ((9, 7), 4)])
def test_vae_takes_any_size_and_agrees_with_torch(size: tuple[int, int], levels: int):
    model = taught.VAE(size, levels, n_latent=3, channels=4).eval()
    x = model.sample(5)
    assert x.shape == (5, 1, *size)
    assert set((x * (levels - 1)).unique().tolist()) <= set(range(levels))
    with torch.no_grad():
        mu, log_var = model.encode(x)
        q, z = Normal(mu, (0.5 * log_var).exp()), torch.randn(5, 3)
        logits = model.decode(z) if levels > 2 else torch.cat([torch.zeros(5, 1, *size), model.decode(z)], dim=1)
        pixels = Categorical(logits=logits.movedim(1, 3))
        expected = pixels.log_prob((x[:, 0] * (levels - 1)).round()).sum((1, 2))
        torch.testing.assert_close(model.log_likelihood(x, z), expected, rtol=1e-4, atol=1e-3)
        mean = (pixels.probs * torch.linspace(0, 1, levels)).sum(-1, keepdim=True).movedim(3, 1)
        torch.testing.assert_close(model.mean_image(z), mean, rtol=1e-4, atol=1e-5)
        torch.manual_seed(1)
        log_w = model.log_weights(x, 4)
        torch.manual_seed(1)
        z = mu + q.stddev * torch.randn(4, *mu.shape)
        log_prior_ratio = (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(2)
        expected = torch.stack([model.log_likelihood(x, z[j]) for j in range(4)]) + log_prior_ratio
        torch.testing.assert_close(log_w, expected, rtol=1e-4, atol=1e-3)


def test_elbo_is_the_mean_log_weight_and_beta_weights_the_kl():
    model = taught.VAE((4, 4), 2, n_latent=2, channels=4).eval()
    x = model.sample(3)
    with torch.no_grad():
        elbos, log_w = torch.stack([model.elbo(x) for _ in range(4000)]), model.log_weights(x, 4000)
        error = ((elbos.var(0) + log_w.var(0)) / 4000).sqrt()
        assert ((elbos.mean(0) - log_w.mean(0)).abs() < 5 * error).all()
        torch.manual_seed(1)
        one = model.elbo(x)
        torch.manual_seed(1)
        three = model.elbo(x, beta=3.0)
        torch.testing.assert_close(one - three, 2 * taught.kl_to_prior(*model.encode(x)).sum(1), rtol=1e-4, atol=1e-4)


def test_with_the_exact_posterior_every_weight_is_the_evidence():
    """A linear VAE whose encoder is the closed-form posterior: no gap, no variance, and every bound is log p(x)."""
    linear = taught.linear_gaussian(16, 2, sigma=0.5)
    W, C = linear.W.float(), 1 / (2 * 0.5**2)
    model = taught.GaussianVAE((4, 4), C, n_latent=2)
    encode, decode = nn.Linear(16, 4), nn.Linear(2, 16)
    with torch.no_grad():
        variance = 0.25 / 1.25
        encode.weight.copy_(torch.cat([W.T * variance / 0.25 / 2, torch.zeros(2, 16)]))  # the network sees 2 x - 1
        encode.bias.copy_(torch.cat([W.sum(0) * variance / 0.25 / 2, torch.full((2,), math.log(variance))]))
        decode.weight.copy_(W)
        decode.bias.zero_()
    model.encoder = nn.Sequential(nn.Flatten(), encode)
    model.decoder = nn.Sequential(decode, nn.Unflatten(1, (1, 4, 4)))
    x = linear.evidence.sample((6,))
    with torch.no_grad():
        log_w = model.log_weights(x.float().view(6, 1, 4, 4), 50)
    expected = linear.evidence.log_prob(x).float().expand(50, -1)
    torch.testing.assert_close(log_w, expected, rtol=0, atol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0.1, 30))
def test_bounds_from_nested_groups_are_ordered(seed: int, scale: float):
    log_w = scale * torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    bounds = taught.importance_bounds(log_w, (1, 2, 4, 12))
    assert (bounds.diff(dim=0) >= -1e-9).all()
    torch.testing.assert_close(bounds[0], log_w.mean(0))
    torch.testing.assert_close(bounds[-1], log_w.exp().mean(0).log())


def test_bounds_stay_below_the_evidence_and_reach_it():
    model = taught.linear_gaussian(5, 2, sigma=0.5)
    x = model.evidence.sample((400,))
    q = Normal(model.posterior(x).mean + 0.2, 0.7)
    z = q.sample((512,))
    log_w = model.log_likelihood(x, z) + model.prior.log_prob(z) - q.log_prob(z).sum(2)
    gaps = taught.importance_bounds(log_w, (1, 8, 512)) - model.evidence.log_prob(x)
    mean, error = gaps.mean(1), gaps.std(1) / 20
    assert (mean < 4 * error).all()
    assert mean[0] < mean[1] < mean[2]
    assert abs(mean[2]) < 0.02


@settings(deadline=None)
@given(st.floats(-0.5, 1.5), st.floats(0.02, 3), st.integers(2, 20))
def test_bins_of_the_rounded_gaussian_add_up_to_one(mean: float, sigma: float, levels: int):
    x = torch.linspace(0, 1, levels, dtype=torch.float64)
    mass = taught.log_bin_mass(x, torch.tensor(mean, dtype=torch.float64), sigma, levels)
    assert mass.logsumexp(0).item() == pytest.approx(0, abs=1e-9)


def test_rounded_gaussian_is_near_density_times_width():
    x, mean = torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.45], dtype=torch.float64)
    density = Normal(mean, 0.5).log_prob(x) + math.log(1 / 16)
    torch.testing.assert_close(taught.log_bin_mass(x, mean, 0.5), density, rtol=0, atol=2e-3)


@pytest.mark.parametrize("C", [0.5, 4.0, 100.0])
def test_the_constant_is_the_precision_of_the_decoder(C: float):
    model, x = taught.GaussianVAE((4, 4), C, n_latent=2, channels=4).eval(), torch.rand(3, 1, 4, 4)
    losses = []
    for loss in (taught.weighted_error_loss, taught.negative_elbo):
        torch.manual_seed(1)
        losses.append(loss(model, x).item())
    assert losses[1] - losses[0] == pytest.approx(8 * math.log(math.pi / C), abs=1e-4 * (1 + abs(losses[0])))


def test_shipped_weights_load_and_give_binary_images():
    model = taught.VAE((28, 28), levels=2, n_latent=32)
    card = load_weights(model, taught.NAME)
    assert card["dataset"] == "binarized_mnist"
    assert model.eval().sample(2).shape == (2, 1, 28, 28)


def test_the_full_recipe_runs_at_any_size():
    model, x = taught.VAE((6, 5), 2, n_latent=2, channels=4), torch.randint(2, (40, 1, 6, 5)).float()
    warm, elbo, weighted = taught.train_binarized(model, x[:30], x[30:], epochs=3, iw_epochs=2)
    assert [len(history.train) for history in (warm, elbo, weighted)] == [1, 2, 2]
    assert all(math.isfinite(loss) for history in (warm, elbo, weighted) for loss in history.train)


def test_two_level_estimate_adds_the_step_from_100_to_5000(monkeypatch):
    """The bound rises by 3, with L_100 = -10 - image: only a right sign and a mean over all images give the sum below."""

    def bounds(model, x, ks):
        first = -10 - x.flatten()
        return torch.stack([first + 3 * (k == 5000) for k in ks])

    monkeypatch.setitem(taught.two_level_nll.__globals__, "log_evidence_bounds", bounds)
    images = 2 ** torch.arange(12.0)  # no four of them have the mean of all
    result = taught.two_level_nll(nn.Identity(), images.view(12, 1), n_subset=4)
    assert result["nll_100"] == pytest.approx(10 + 4095 / 12)
    assert result["nll_5000"] == pytest.approx(10 + 4095 / 12 - 3)
    assert result["images_error"] == pytest.approx(images.std().item() / math.sqrt(12))
    assert result["step_error"] == pytest.approx(0)


def test_the_autoencoder_is_trained_without_noise_and_without_a_price():
    model, x = taught.VAE((4, 4), 2, n_latent=2, channels=4).eval(), torch.randint(2, (12, 1, 4, 4)).float()
    mean = -model.log_likelihood(x, model.encode(x)[0]).mean()
    assert taught.reconstruction_loss(model, x) == taught.reconstruction_loss(model, x) == mean


def test_two_level_estimate_is_the_plain_one_when_the_subset_is_all():
    model, x = taught.VAE((4, 4), 2, n_latent=2, channels=4).eval(), torch.randint(2, (12, 1, 4, 4)).float()
    result = taught.two_level_nll(model, x, n_subset=12)
    plain = -taught.log_evidence_bounds(model, x, (5000,)).mean().item()
    assert result["nll_5000"] == pytest.approx(plain, abs=0.05)


class Encoder(nn.Module):
    """An encoder whose means are the images' own two numbers, and whose variances are all one."""

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, torch.zeros_like(x)


def test_a_latent_is_active_if_its_mean_moves():
    x = torch.stack([torch.full((100,), 2.0), torch.linspace(-1, 1, 100)], dim=1)  # large and still; small and moving
    kl, active = taught.diagnose(Encoder(), x)
    assert active.tolist() == [False, True]
    torch.testing.assert_close(kl, (x**2).mean(0) / 2)


def test_holes_are_where_no_training_code_is(monkeypatch):
    grid = torch.cartesian_prod(torch.arange(10.0), torch.arange(10.0))
    for name, codes in (("x_train", grid), ("x_valid", grid + 0.1)):
        monkeypatch.setitem(taught.hole_share.__globals__, name, codes)
    draws = torch.cat([grid + 0.05, grid + 0.5])  # nearer and farther than the validation codes
    assert taught.hole_share(Encoder(), draws, noisy=False) == 0.5


def test_the_reported_bound_has_the_standard_error_of_its_mean():
    class Known(nn.Module):
        def elbo(self, x: torch.Tensor) -> torch.Tensor:
            return -x.flatten()

    mean, error = taught.test_bound(Known(), torch.arange(101.0), draws=2)
    assert (mean, error) == (pytest.approx(50), pytest.approx(math.sqrt(858.5 / 101)))
    assert taught.bits_per_dimension(16 * math.log(2), torch.Size([5, 1, 4, 4])) == pytest.approx(1)
