"""Lecture 21's taught code against closed forms, autograd, PyTorch's distributions and exact denoisers."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from course_utils.results import WEIGHTS, load_weights
from course_utils.reuse import lecture

L = lecture("21")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def mixture(d=3):
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    return L.Gaussians(weights, 2 * torch.randn(3, d, dtype=torch.float64), 0.3)


# --- the mixture and its score ---


@pytest.mark.parametrize("d", [1, 2, 5])
def test_mixture_density_and_score_by_torch(d):
    law = mixture(d)
    parts = Independent(Normal(law.means, torch.tensor(law.var, dtype=torch.float64).sqrt()), 1)
    reference = MixtureSameFamily(Categorical(law.weights), parts)
    x = (3 * torch.randn(200, d, dtype=torch.float64)).requires_grad_()
    log_p = reference.log_prob(x)
    (score,) = torch.autograd.grad(log_p.sum(), x)
    torch.testing.assert_close(law.log_prob(x.detach()), log_p.detach(), atol=1e-10, rtol=0)
    torch.testing.assert_close(law.score(x.detach()), score, atol=1e-9, rtol=0)


def test_mixture_samples_have_its_moments():
    law = mixture(2)
    x = law.sample(100_000, torch.Generator().manual_seed(1))
    mean = law.weights @ law.means
    second = law.weights @ law.means.square() + law.var
    scatter = (second - mean**2).sqrt() / math.sqrt(len(x))
    assert ((x.mean(0) - mean).abs() < 5 * scatter).all()
    assert ((x.square().mean(0) - second).abs() < 5 * x.square().std(0) / math.sqrt(len(x))).all()


def test_noised_mixture_is_the_law_of_noised_samples():
    law = mixture(1)
    x = law.sample(20_000, torch.Generator().manual_seed(2))
    noisy = (math.sqrt(0.4) * x + math.sqrt(0.6) * torch.randn_like(x))[:, 0].numpy()
    end = law.noised(0.4)
    cdf = lambda at: (  # noqa: E731
        stats.norm.cdf(at[:, None], end.means[:, 0], math.sqrt(end.var)) @ end.weights.numpy()
    )
    assert stats.kstest(noisy, cdf).pvalue > 1e-4
    assert law.noised(1.0).var == pytest.approx(law.var)


def test_mixture_rejects_what_is_none():
    with pytest.raises(ValueError, match=r"1.5"):
        L.Gaussians(torch.tensor([0.5, 1.0]), torch.zeros(2, 2), 1.0)
    with pytest.raises(ValueError, match="var=0"):
        L.Gaussians(torch.tensor([0.5, 0.5]), torch.zeros(2, 2), 0)


# --- the schedule ---


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [2, 50, 1000, 4000])
def test_schedule_closed_form_is_iteration(kind, steps):
    schedule = L.NoiseSchedule(steps, kind)
    mean, var = 1.0, 0.0
    assert schedule.alpha_bar[0] == 1
    assert len(schedule.beta) == steps
    if kind == "linear" and steps < 50:
        return  # β would exceed 1; it is clamped
    for t in range(1, steps + 1):
        beta = schedule.beta[t - 1].item()
        mean, var = math.sqrt(1 - beta) * mean, (1 - beta) * var + beta
        assert mean == pytest.approx(schedule.alpha_bar[t].sqrt().item(), rel=1e-9)
        assert var == pytest.approx(1 - schedule.alpha_bar[t].item(), rel=1e-9)
    assert (schedule.snr.diff() < 0).all()
    assert schedule.alpha_bar[-1] < 1e-3


def test_linear_schedule_is_that_of_ddpm():
    schedule = L.NoiseSchedule(1000, "linear")
    assert schedule.beta[0] == pytest.approx(1e-4)
    assert schedule.beta[-1] == pytest.approx(0.02)
    assert schedule.alpha_bar[-1] == pytest.approx(4.036e-5, rel=1e-3)  # as published code prints it


def test_cosine_schedule_follows_the_cosine():
    alpha_bar = L.NoiseSchedule(1000).alpha_bar
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(alpha_bar[:999], (f / f[0])[:999], rtol=1e-9)


@pytest.mark.parametrize(("arguments", "said"), [((1,), "steps=1"), ((10, "sine"), "sine.*linear.*cosine")])
def test_schedule_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        L.NoiseSchedule(*arguments)


# --- the denoiser ---


class Fixed(nn.Module):
    """A network with a known output: v = a x + t."""

    def forward(self, x, t, context=None):
        v = 0.3 * x + t.view(-1, *[1] * (x.ndim - 1))
        return v if context is None else v + context.sum(1).view(-1, *[1] * (x.ndim - 1))


class Known(nn.Module):
    """A network whose output is given."""

    def __init__(self, v):
        super().__init__()
        self.v = v

    def forward(self, x, t, context=None):
        return self.v


def test_prediction_turns_v_back():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(100))
    x0, noise, t = torch.randn(40, 2), torch.randn(40, 2), torch.randint(1, 101, (40,))
    x_t = model.q_sample(x0, t, noise)
    signal, sigma = model.schedule.alpha_bar[t].sqrt()[:, None], (1 - model.schedule.alpha_bar[t]).sqrt()[:, None]
    torch.testing.assert_close(x_t, (signal * x0 + sigma * noise).float())
    model.network = Known((signal * noise - sigma * x0).float())  # the true v
    guess, noise_guess = model.predict(x_t, t)
    torch.testing.assert_close(guess, x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(noise_guess, noise, atol=1e-5, rtol=0)


def test_weightings_are_weights_of_one_error():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(100))
    x0, t = torch.randn(500, 3), torch.randint(2, 101, (500,))
    found = {}
    for weighting in ("noise", "v", "bound"):
        torch.manual_seed(5)
        found[weighting] = model.losses(x0, t, weighting=weighting).double()
    snr = model.schedule.snr
    x_error = found["noise"] / snr[t]
    torch.testing.assert_close(found["v"], found["noise"] + x_error, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found["bound"], 0.5 * (snr[t - 1] - snr[t]) * x_error, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weighting", ["noise", "v", "bound"])
def test_loss_is_unbiased(weighting):
    model = L.Diffusion(Fixed(), L.NoiseSchedule(20))
    x0 = torch.randn(1, 3).expand(400, 3)
    first, scale = (2, 19) if weighting == "bound" else (1, 1 / 3)
    terms = [model.losses(x0, torch.full((400,), t), weighting=weighting) for t in range(first, 21)]
    expected, spread = torch.stack(terms).mean() * scale, torch.stack(terms).std() * scale
    drawn = torch.cat([model.loss(x0, weighting=weighting) for _ in range(40)])
    spread = max(spread.item(), drawn.std().item())
    assert abs(drawn.mean() - expected) < 5 * spread / math.sqrt(400 * 19)
    seen = []
    model.losses = lambda x, t, context, weighting: seen.append(t) or t.double()
    model.loss(x0, weighting=weighting)
    counts = seen[0].bincount(minlength=21)[first:]  # a batch covers the steps evenly
    chances = model.q if weighting == "bound" else torch.full((20,), 1 / 20)
    assert len(counts) == len(chances)
    assert (counts - 400 * chances).abs().max() <= 1 + 1e-6


@pytest.mark.parametrize(("kind", "steps"), [("linear", 1000), ("cosine", 30), ("cosine", 4000)])
def test_steps_of_the_bound_are_drawn_with_the_probability_of_their_weight(kind, steps):
    model = L.Diffusion(Fixed(), L.NoiseSchedule(steps, kind))
    n = 400_000
    t, weight = model.bound_steps((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    assert t.min() >= 2
    assert t.max() <= steps
    torch.testing.assert_close(model.q.sum().item(), 1.0)
    pace = torch.log1p(model.schedule.snr)
    torch.testing.assert_close(
        1 / weight.double(), ((pace[t - 1] - pace[t]) / (pace[1] - pace[steps])), rtol=1e-4, atol=0
    )
    shares = t.bincount(minlength=steps + 1)[2:] / n
    assert (shares - model.q).abs().max() < 2 / n


def test_losses_reject_another_weighting():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(20))
    with pytest.raises(ValueError, match=r"'snr'.*noise.*bound"):
        model.loss(torch.randn(3, 2), weighting="snr")


def test_kl_of_a_step_is_the_bound_term():
    schedule = L.NoiseSchedule(50)
    model = L.Diffusion(Fixed(), schedule)
    x0, noise = torch.randn(2, 1, 4)
    for t in (2, 3, 25, 50):
        at = torch.tensor([t])
        x_t = model.q_sample(x0, at, noise)
        guess, _ = model.predict(x_t, at)
        q, p = (L.posterior(schedule, t, x_t.double(), x.double()) for x in (x0, guess))
        kl = torch.distributions.kl_divergence(q, p).sum()
        ours = model.half_snr_drop[t] * (x0 - guess).square().sum()
        assert ours == pytest.approx(kl.item(), rel=1e-3)


# --- the bound ---


def independent_pixels(levels, T, n=400, side=4):
    frequency = torch.rand(levels) + 0.1
    frequency /= frequency.sum()
    schedule = L.NoiseSchedule(T)
    net = L.LevelNet(L.ConstantLogits(frequency.log()), schedule, levels)
    k = torch.multinomial(frequency, n * side * side, replacement=True).view(n, 1, side, side)
    surprise = -frequency.log()[k].flatten(1).sum(1)
    return L.Diffusion(net, schedule, levels), k / (levels - 1), surprise


@pytest.mark.parametrize("levels", [2, 5, 17])
def test_bound_meets_the_entropy_of_independent_pixels(levels):
    model, x, surprise = independent_pixels(levels, 2000)
    gap = model.nll_bound(x, n_times=60) - surprise
    error = gap.std() / math.sqrt(len(x))
    assert -4 * error < gap.mean() < 0.6 + 4 * error


def test_quadrature_meets_the_entropy_and_every_term_of_the_bound():
    """I-MMSE: the mean of L_1 + … + L_{T-1} is a Riemann sum of half the least error, whose integral is the entropy."""
    frequency = torch.rand(17) + 0.1
    frequency = (frequency / frequency.sum()).double()
    entropy = -64 * (frequency * frequency.log()).sum().item()
    sums = [L.exact_chain(L.NoiseSchedule(T), frequency) for T in (500, 1000)]
    assert (sums[0] - entropy) / (sums[1] - entropy) == pytest.approx(2, rel=0.1)
    u = torch.tensor([0.01, 1.0, 30.0, 500.0], dtype=torch.float64)
    x, noise = torch.linspace(-1, 1, 17).double()[torch.multinomial(frequency, 100_000, True)], torch.randn(100_000)
    for snr, found in zip(u, L.least_error(u, frequency), strict=True):
        y = snr.sqrt() * x + noise
        log_w = frequency.log() + Normal(snr.sqrt() * torch.linspace(-1, 1, 17).double(), 1.0).log_prob(y[:, None])
        error = (x - log_w.softmax(1) @ torch.linspace(-1, 1, 17).double()).square()
        assert abs(error.mean() - found) < 5 * error.std() / math.sqrt(len(x))


def test_bound_by_a_sample_of_terms_is_the_sum_of_all():
    model, x, _ = independent_pixels(5, 30, n=2000)
    everything = sum(model.losses(2 * x - 1, torch.full((2000,), t), weighting="bound") for t in range(2, 31))
    for n_times in (1, 4, 40):
        difference = model.bound_parts(x, n_times)[1] - everything
        assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(len(x))


def test_bound_parts_against_torch():
    schedule = L.NoiseSchedule(20)
    schedule.alpha_bar = torch.linspace(1, 0.3, 21, dtype=torch.float64)  # much signal is left: L_T counts
    model = L.Diffusion(Fixed(), schedule, levels=5)
    x = torch.randint(5, (6, 1, 4, 4)) / 4
    last, _, first = model.bound_parts(x, 3)
    ab = schedule.alpha_bar[20]
    q = Normal(ab.sqrt() * (2 * x - 1).double(), (1 - ab).sqrt())
    prior = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    kl = torch.distributions.kl_divergence(q, prior).flatten(1).sum(1)
    torch.testing.assert_close(last.double(), kl, rtol=1e-4, atol=1e-5)
    assert (first >= 0).all()  # minus the logarithm of a probability


def test_last_step_is_a_distribution_over_the_levels():
    """The probabilities of all 3² two-pixel images that L_0 gives add up to one."""
    schedule = L.NoiseSchedule(20)
    model = L.Diffusion(Fixed(), schedule, levels=3)
    model.predict = lambda x, t, context=None: (torch.full_like(x, 0.2), x)  # the same mean for all
    images = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2) / 2
    _, _, first = model.bound_parts(images, 2)
    assert (-first).exp().sum() == pytest.approx(1, abs=1e-5)
    sigma = math.sqrt(1 - schedule.alpha_bar[1])
    middle = stats.norm.cdf((0.5 - 0.2) / sigma) - stats.norm.cdf((-0.5 - 0.2) / sigma)
    assert first[4] == pytest.approx(-2 * math.log(middle), rel=1e-3)  # both pixels at the middle level


def test_bound_draws_the_steps_from_2_to_the_last():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(10), levels=3)
    seen = []
    model.losses = lambda x, t, context, weighting: seen.append(t) or torch.ones(len(x))
    _, chain, _ = model.bound_parts(torch.zeros(20_000, 1, 1, 1), 9)
    assert torch.stack(seen).unique().tolist() == list(range(2, 11))
    assert abs(chain.mean() - 9) < 5 * chain.std() / math.sqrt(20_000)


def test_bound_rejects_what_it_cannot_read():
    schedule = L.NoiseSchedule(10)
    with pytest.raises(ValueError, match="levels"):
        L.Diffusion(Fixed(), schedule).nll_bound(torch.zeros(2, 1, 4, 4))
    model = L.Diffusion(Fixed(), schedule, levels=17)
    for bad in (torch.full((2, 1, 4, 4), 0.51), torch.full((2, 1, 4, 4), -1.0), torch.full((2, 1, 4, 4), 2.0)):
        with pytest.raises(ValueError, match="17 gray levels"):
            model.nll_bound(bad)
    with pytest.raises(ValueError, match="levels=1"):
        L.Diffusion(Fixed(), schedule, levels=1)


@pytest.mark.parametrize(("levels", "steps"), [(2, 100), (17, 100)])
def test_level_net_gives_the_posterior_mean(levels, steps):
    model, x, _ = independent_pixels(levels, steps, n=3, side=4)
    grays, prior = torch.linspace(-1, 1, levels).double(), model.network.unet.logits.double()
    for t in (1, 10, 50, 99):
        at = torch.full((3,), t)
        x_t = model.q_sample(2 * x - 1, at, torch.randn_like(x))
        guess, _ = model.predict(x_t, at)
        ab = model.schedule.alpha_bar[t]
        log_w = prior + Normal(ab.sqrt() * grays, (1 - ab).sqrt()).log_prob(x_t[..., None].double())
        torch.testing.assert_close(guess.double(), log_w.softmax(-1) @ grays, atol=2e-4, rtol=0)


def test_level_net_keeps_color_channels_apart():
    schedule = L.NoiseSchedule(50)
    net = L.LevelNet(L.UNet(3, 8, outputs=12), schedule, 4)
    x = torch.randn(2, 3, 8, 8)
    out = net(x, torch.tensor([0.5, 0.9]))
    assert out.shape == x.shape
    changed = x.clone()
    changed[:, 2] += 1  # at fresh weights the logits are nearly flat: other channels do not move
    assert (net(changed, torch.tensor([0.5, 0.9])) - out)[:, :2].abs().max() < 1e-5


# --- samplers ---


def exact_model(T=100, kind="cosine"):
    law = L.Gaussians(torch.tensor([0.3, 0.7]), torch.tensor([[-1.5, 0.0], [1.0, 1.0]]), 0.05)
    schedule = L.NoiseSchedule(T, kind)
    return law, L.Diffusion(L.ExactNet(law, schedule), schedule)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_exact_net_is_the_posterior_mean(kind):
    law, model = exact_model(kind=kind)
    x_t, t = torch.tensor([[0.3, 0.2]]), 40
    ab = model.schedule.alpha_bar[t]
    x0 = law.sample(400_000, torch.Generator().manual_seed(1))
    w = (-0.5 * (x_t - ab.sqrt() * x0).square().sum(1) / (1 - ab)).softmax(0)
    mean = w @ x0
    error = (w.square() @ (x0 - mean).square()).sqrt()
    assert ((model.predict(x_t, torch.tensor([t]))[0][0] - mean).abs() < 5 * error).all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samplers_find_the_weights_of_the_modes(eta):
    _, model = exact_model()
    x = model.ddpm_sample((4000, 2), 100, eta=eta, generator=torch.Generator().manual_seed(3))
    share = (x[:, 0] < -0.4).double().mean()
    assert abs(share - 0.3) < 5 * math.sqrt(0.21 / 4000)
    left = x[x[:, 0] < -0.4]
    assert left.var(0).mean() == pytest.approx(0.05, rel=0.25)


def test_one_jump_from_noise_is_the_mean():
    law, model = exact_model()
    x = model.ddim_sample((50, 2), 1)
    mean = (law.weights @ law.means).float()
    torch.testing.assert_close(x, mean.expand(50, 2), atol=2e-2, rtol=0)


def test_ddpm_step_is_the_posterior():
    _, model = exact_model()
    x_t, n = torch.tensor([[0.7, -1.1]]), 100_000
    for t, s in ((60, 59), (2, 1)):
        many = model.move(x_t.expand(n, 2), t, s, eta=1.0)
        guess, _ = model.predict(x_t, torch.tensor([t]))
        step = L.posterior(model.schedule, t, x_t.double(), guess.double())
        assert ((many.mean(0) - step.mean[0]).abs() < 5 * step.stddev[0] / math.sqrt(n)).all()
        assert ((many.var(0) / step.variance[0] - 1).abs() < 5 * math.sqrt(2 / n)).all()
    half = model.move(x_t.expand(n, 2), t, s, eta=0.5)  # a quarter of the variance
    assert ((half.var(0) / step.variance[0] - 0.25).abs() < 5 * 0.25 * math.sqrt(2 / n)).all()
    last = model.move(x_t, 1, 0, eta=1.0)
    torch.testing.assert_close(last, model.predict(x_t, torch.tensor([1]))[0])  # no noise in the last step


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_eta_keeps_the_marginal(eta):
    """With the truth in the place of the guess, x_s has the law of the jump from x_0 to s."""
    schedule = L.NoiseSchedule(100)
    model = L.Diffusion(Fixed(), schedule)
    x0, noise = torch.full((100_000, 1), 0.8), torch.randn(100_000, 1)
    model.predict = lambda x, t, context=None: (x0, noise)
    x_s = model.move(model.q_sample(x0, torch.tensor([70]), noise), 70, 30, eta=eta)
    ab = schedule.alpha_bar[30].item()
    assert abs(x_s.mean() - math.sqrt(ab) * 0.8) < 5 * math.sqrt((1 - ab) / 1e5)
    assert x_s.var() == pytest.approx(1 - ab, rel=5 * math.sqrt(2 / 1e5))


def test_ddim_is_deterministic_and_ddpm_follows_its_generator():
    _, model = exact_model()
    start = torch.randn(20, 2)
    runs = [list(model.denoise(start, 10))[-1] for _ in range(2)]
    assert torch.equal(*runs)
    draw = [model.ddpm_sample((20, 2), 10, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    quiet = [
        f((20, 2), 10, generator=torch.Generator().manual_seed(1), **o)
        for f, o in ((model.ddim_sample, {}), (model.ddpm_sample, {"eta": 0.0}))
    ]
    assert torch.equal(*quiet)
    assert not torch.equal(quiet[0], draw[0])
    assert not torch.equal(draw[0], draw[2])
    before = torch.random.get_rng_state()
    model.ddpm_sample((5, 2), 10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_round_trip_improves_with_steps():
    law, model = exact_model(400)
    home = law.sample(300, torch.Generator().manual_seed(4)).float()
    errors = [L.round_trip(model, home, n) for n in (25, 100, 400)]
    assert errors[0] > 2.5 * errors[1] > 2.5 * 2.5 * errors[2]


def test_times_are_even_and_checked():
    _, model = exact_model()
    assert model.times(4) == [100, 75, 50, 25, 0]
    assert model.times(None) == list(range(100, -1, -1))
    for T in (50, 1000):
        for steps in (1, 3, 7, 33, T):
            times = L.Diffusion(Fixed(), L.NoiseSchedule(T)).times(steps)
            assert times[0] == T
            assert times[-1] == 0
            assert (np.diff(times) < 0).all()
            assert len(times) == steps + 1
    for bad in (0, 101):
        with pytest.raises(ValueError, match=f"steps={bad}"):
            model.times(bad)


def test_a_guide_replaces_the_noise():
    _, model = exact_model()
    seen = []

    def guide(x, t):
        seen.append(t[0].item())
        return model.predict(x, t)[1]

    start = torch.randn(10, 2)
    plain, guided = (list(model.denoise(start, 10, guide=g))[-1] for g in (None, guide))
    torch.testing.assert_close(plain, guided, atol=1e-2, rtol=0)
    assert seen == model.times(10)[:-1]
    shifted = list(model.denoise(start, 10, guide=lambda x, t: guide(x, t) - 0.3))[-1]
    assert (shifted - plain).abs().max() > 0.1


def test_context_reaches_the_network():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(20))
    start, context = torch.randn(4, 2), torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    plain = list(model.denoise(start, 5))[-1]
    told = list(model.denoise(start, 5, context=context))[-1]
    torch.testing.assert_close(plain[::2], told[::2])
    assert (plain[1::2] - told[1::2]).abs().min() > 0.01
    assert model.loss(start, context).shape == (4,)


def test_images_are_scaled_and_come_back():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(20), levels=17)
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.decode(model.encode(x)), x)
    assert model.encode(torch.zeros(1)).item() == -1
    assert model.encode(torch.ones(1)).item() == 1
    drawn = model.ddim_sample((3, 1, 8, 8), 5)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


# --- networks ---


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 12, 20)])
def test_unet_takes_any_size(shape):
    net = L.UNet(shape[0], 8)
    x, t = torch.randn(2, *shape), torch.tensor([0.1, 0.9])
    assert net(x, t).shape == x.shape
    assert L.UNet(shape[0], 8, outputs=7)(x, t).shape == (2, 7, *shape[1:])


def test_unet_hears_time_and_context():
    net = L.UNet(1, 8, context=5).eval()
    nn.init.normal_(net.head[-1].weight)
    x, t, context = torch.randn(1, 1, 8, 8), torch.tensor([0.2]), torch.randn(1, 5)
    base = net(x, t, context)
    assert (net(x, torch.tensor([0.21]), context) - base).abs().max() > 1e-4
    assert (net(x, t, -context) - base).abs().max() > 1e-4
    assert (net(x + 0.1, t, context) - base).abs().max() > 1e-4


def test_unet_passes_gradients_everywhere():
    net = L.UNet(1, 8, context=2)
    nn.init.normal_(net.head[-1].weight)
    net(torch.randn(2, 1, 8, 8), torch.rand(2), torch.randn(2, 2)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_unet_hands_the_detail_of_the_way_down_to_the_way_up():
    net = L.UNet(1, 8)
    nn.init.normal_(net.head[-1].weight)
    net(torch.randn(2, 1, 8, 8), torch.rand(2)).square().mean().backward()
    for block, n in ((net.up[0], 16), (net.up[1], 8)):  # its first n inputs come from the way down
        gradient = block.skip.weight.grad[:, :n].abs().amax((0, 2, 3))
        assert gradient.min() > 0


def test_unet_says_what_is_wrong():
    with pytest.raises(ValueError, match="width=12"):
        L.UNet(1, 12)
    with pytest.raises(ValueError, match=r"\(10, 8\).*multiples of 4"):
        L.UNet(1, 8)(torch.randn(1, 1, 10, 8), torch.rand(1))
    with pytest.raises(ValueError, match="context"):
        L.UNet(1, 8, context=3)(torch.randn(1, 1, 8, 8), torch.rand(1))
    with pytest.raises(ValueError, match="context"):
        L.UNet(1, 8)(torch.randn(1, 1, 8, 8), torch.rand(1), torch.randn(1, 3))


def test_point_net_hears_the_time():
    net, x = L.PointNet(), torch.randn(5, 2)
    times = torch.linspace(0, 1, 9)  # any two of them give another answer
    outs = torch.stack([net(x, t.expand(5)) for t in times])
    assert torch.cdist(outs.flatten(1), outs.flatten(1))[~torch.eye(9, dtype=torch.bool)].min() > 1e-3
    assert net(x, torch.rand(5)).shape == x.shape


def test_point_net_learns_a_line_of_points():
    """A few hundred steps move the samples onto two points: the whole of training and sampling."""
    model = L.Diffusion(L.PointNet(d=1, width=32), L.NoiseSchedule(50))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        x = torch.where(torch.rand(256, 1) < 0.5, -1.0, 1.0)
        loss = model.loss(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = model.ddim_sample((500, 1), 25)
    assert (drawn.abs() - 1).abs().median() < 0.15
    assert 0.3 < (drawn > 0).double().mean() < 0.7


@pytest.mark.parametrize("side", [8, 28])
def test_train_images_runs_and_averages(side):  # 28: averages, in half precision
    torch.manual_seed(0)
    x = torch.randint(17, (20, 1, side, side)) / 16
    model = L.Diffusion(L.UNet(1, 8), L.NoiseSchedule(50), 17)
    before = [p.clone() for p in model.parameters()]
    options = {"average": True, "half": True} if side == 28 else {}
    trained, history = L.train_images(model, x, 2, 8, lr=1e-1, weighting="v", seed=0, **options)
    assert len(history) == 2
    assert all(math.isfinite(h) for h in history)
    assert not trained.training
    last = list(trained.parameters())[-1]  # the bias of the head always moves
    assert not torch.equal(last, before[-1])
    assert torch.equal(last, list(model.parameters())[-1]) == (side == 8)


class Slope(nn.Module):
    """A model with one number p and the loss 0.3 p, which keeps the numbers that it was asked at."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(1))
        self.seen, self.weightings = [], set()

    def loss(self, x, weighting):
        self.seen.append(self.p.item())
        self.weightings.add(weighting)
        return 0.3 * self.p.expand(len(x))


def test_train_images_takes_the_steps_and_averages_that_it_promises():
    """With a constant gradient, each of Adam's steps is as long as the step size."""
    for average in (False, True):
        model = Slope()
        trained, history = L.train_images(
            model, torch.zeros(10, 1), 4, 3, lr=0.5, weighting="bound", seed=0, average=average
        )
        visited = np.array([*model.seen[1:], model.p.item()])  # after each of 4 * 4 steps
        k = np.arange(1, 17)
        size = 0.5 * k / 300 * (1 if average else (1 + np.cos(np.pi * k / 16)) / 2)
        np.testing.assert_allclose(-np.diff([0.0, *visited]), size, rtol=1e-2, atol=1e-6)
        share = (k**9 - (k - 1.0) ** 9) / 16**9 if average else k == 16  # about k⁸
        assert trained.p.item() == pytest.approx(visited @ share, rel=1e-4)
        losses, sizes = 0.3 * np.array(model.seen).reshape(4, 4), np.array([3, 3, 3, 1])
        np.testing.assert_allclose(history, losses @ sizes / 10, rtol=1e-4, atol=1e-7)
        assert model.weightings == {"bound"}
        assert not trained.training
    long = Slope()
    L.train_images(long, torch.zeros(400, 1), 1, 1, lr=1e-3, weighting="v", seed=0, average=True)
    assert -np.diff(long.seen)[-5:] == pytest.approx(1e-3, rel=1e-2)  # after 300 steps


def test_mean_bound_is_that_of_all_images():
    model = type("Sum", (), {"nll_bound": lambda self, x, n_times: x.flatten(1).sum(1)})()
    x = torch.randn(1203, 1, 2, 2)
    mean, error = L.mean_bound(model, x)
    values = x.flatten(1).sum(1).double()
    assert mean == pytest.approx(values.mean().item(), abs=1e-5)
    assert error == pytest.approx(stats.sem(values.numpy()), rel=1e-5)


def test_loss_scales_images_and_the_round_trip_compares_scaled_ones():
    model = L.Diffusion(Fixed(), L.NoiseSchedule(20), levels=17)
    x, seen = torch.rand(6, 1, 4, 4), []
    losses = model.losses
    model.losses = lambda x0, *rest: seen.append(x0) or losses(x0, *rest)
    model.loss(x)
    torch.testing.assert_close(seen[0], 2 * x - 1)
    model.move = lambda x, t, s: seen.append(x) or x
    model.ddim_invert(x, 4)
    torch.testing.assert_close(seen[1], 2 * x - 1)
    model.ddim_invert = lambda x0, steps: x0
    model.denoise = lambda x, steps: iter([x, 2 * x - 1 + 0.25])
    assert L.round_trip(model, x[:, 0, 0], 5) == pytest.approx(0.25 * math.sqrt(4))


def test_denoising_errors_have_the_score_as_minimum():
    """At a point, the mean of the target -ε/s is the score of the noisy law."""
    law = L.Gaussians(torch.tensor([1.0]), torch.zeros(1, 2), 1.0)
    x, epsilon = law.sample(50_000), torch.randn(50_000, 2, dtype=torch.float64)
    noisy = L.Gaussians(law.weights, law.means, 1 + L.NOISE**2)
    best = L.denoising_errors(noisy.score, x, epsilon)
    for worse in (law.score, lambda y: 0 * y, lambda y: 1.2 * noisy.score(y)):
        difference = L.denoising_errors(worse, x, epsilon) - best
        assert difference.mean() > 4 * difference.std() / math.sqrt(len(x))


def test_shipped_weights_fit_and_are_small():
    shipped = L.Shipped()
    card = load_weights(shipped, L.NAME)
    assert (WEIGHTS / f"{L.NAME}.safetensors").stat().st_size < 5_000_000
    assert card["parameters"] == sum(p.numel() for p in shipped.parameters())
    assert {"nll", "samples", "sampling_steps", "epochs", "seconds"} <= set(card)
    assert card["Fréchet distance"] > card["Fréchet distance, training images"] > 0
    model = L.mnist_diffusion(shipped.unet.eval())
    bound = model.nll_bound(shipped.examples[:4] / 255, 20)
    assert (bound < 784 * math.log(256)).all()  # far better than all levels equally likely
