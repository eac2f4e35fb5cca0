"""What lecture 23 teaches, imported from its notebook, against closed forms, autograd, quadrature and torch."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from course_utils.datasets import load
from course_utils.metrics import frechet_distance
from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("23")
MLP = lecture("04").MLP


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def shake(model: torch.nn.Module, std: float = 0.2) -> torch.nn.Module:
    for name, parameter in model.named_parameters():
        if "logits" not in name:
            torch.nn.init.normal_(parameter, std=std)
    return model


def images(n: int, h: int, w: int, levels: int) -> torch.Tensor:
    return torch.randint(levels, (n, 1, h, w)) / (levels - 1)


# --- coupling layers ---


@pytest.mark.parametrize("d", [2, 3, 7])
def test_layers_invert_and_have_the_determinant_of_autograd(d: int):
    mask = torch.arange(d) % 2
    flow = shake(taught.real_nvp([mask, 1 - mask, mask], width=16)).double()
    x = 2 * torch.randn(50, d, dtype=torch.float64)
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z), x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, taught.autograd_log_det(flow, x), rtol=0, atol=1e-9)
    expected = Normal(0.0, 1.0).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(flow.log_prob(x), expected)


def test_a_coupling_keeps_its_part_and_starts_as_the_identity():
    mask, x = torch.tensor([1, 0, 0, 1]), torch.randn(6, 4)
    layer = taught.Coupling(mask, MLP((4, 8, 8)))
    y, log_det = layer(x)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(6))
    y, log_det = shake(layer, 1.0)(x)
    assert torch.equal(y[:, mask == 1], x[:, mask == 1])
    assert ((y - x)[:, mask == 0].abs() > 0).any(0).all()
    assert layer.scale_and_shift(x)[0].abs().max() <= layer.BOUND
    other = torch.where(mask.bool(), x, torch.randn(6, 4))  # what moves must not decide how
    for a, b in zip(layer.scale_and_shift(x), layer.scale_and_shift(other), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("mask", [[0, 0], [1, 1, 1], [0, 1, 2], [0.5, 1.0], [[0, 1], [1, 0]]])
def test_a_mask_must_split(mask: list):
    with pytest.raises(ValueError, match="mask"):
        taught.Coupling(torch.tensor(mask), MLP((2, 4, 4)))


def test_a_constant_coupling_is_a_gaussian_with_known_mean_and_scale():
    layer = taught.Coupling(torch.tensor([1, 0]), MLP((2, 4, 4)))
    with torch.no_grad():
        layer.network.last.bias.copy_(torch.tensor([9.0, 2 * math.atanh(0.25), 9.0, 1.5]))
    flow, x = taught.Flow([layer], 2), torch.randn(20, 2)
    scale = math.exp(-0.5)  # s = 2 tanh(atanh(1/4)) = 1/2, b = 3/2
    expected = Normal(0.0, 1.0).log_prob(x[:, 0]) + Normal(-1.5 * scale, scale).log_prob(x[:, 1])
    torch.testing.assert_close(flow.log_prob(x), expected)
    samples = flow.sample(40_000)
    assert samples.mean(0).tolist() == pytest.approx([0, -1.5 * scale], abs=0.02)
    assert samples.std(0).tolist() == pytest.approx([1, scale], abs=0.02)


def test_a_flow_says_which_shape_it_expects():
    flow = taught.real_nvp([torch.tensor([0, 1])])
    for x in (torch.zeros(3, 3), torch.zeros(2)):
        with pytest.raises(ValueError, match="expected"):
            flow.log_prob(x)


def test_a_random_flow_has_mass_one():
    first = torch.tensor([1, 0])
    flow = shake(taught.real_nvp([first, 1 - first] * 2, width=16), 0.15)
    assert taught.grid_mass(flow.log_prob, 14.0, 500) == pytest.approx(1, abs=5e-3)


def test_the_mass_on_a_grid_is_an_integral():
    """Of exp(x_1 + x_2), which is not small at the edges: a shifted grid shows."""
    mass = taught.grid_mass(lambda x: x.sum(1), 1.5, 400)
    assert mass == pytest.approx((2 * math.sinh(1.5)) ** 2, rel=1e-4)


# --- training ---


def test_minimize_follows_the_last_gradient_clipped_with_a_falling_step():
    """For a constant gradient each of Adam's steps has the length of the step size, on a cosine (T + 1)/2 in all."""
    model = torch.nn.Linear(1, 1, bias=False)
    start = model.weight.item()
    taught.minimize(model, lambda: model.weight.sum(), 100, lr=0.01)
    assert start - model.weight.item() == pytest.approx(0.01 * 101 / 2, rel=1e-3)
    assert model.weight.grad.item() == pytest.approx(1)
    taught.minimize(model, lambda: 50 * model.weight.sum(), 3)
    assert model.weight.grad.item() == pytest.approx(10)


def test_a_batch_is_drawn_from_all_rows():
    x = torch.arange(1000)
    first, second = taught.batch(x), taught.batch(x)
    assert first.shape == (256,)
    assert not torch.equal(first, second)
    assert taught.batch(x, 20_000).unique().numel() == 1000


# --- images ---


@settings(deadline=None)
@given(mu=st.floats(1, 4), sigma=st.floats(0.3, 5))  # beyond, the distribution function is 0 or 1 to rounding
def test_the_gap_of_dequantization_is_a_divergence(mu: float, sigma: float):
    exact, bound, kl = taught.gaussian_pixel(2.0, mu, sigma)
    cube = 0.5 * (math.erf((3 - mu) / sigma / math.sqrt(2)) - math.erf((2 - mu) / sigma / math.sqrt(2)))
    assert exact == pytest.approx(math.log(cube), abs=1e-7)
    assert exact - bound == pytest.approx(kl, abs=1e-5, rel=1e-5)
    assert kl >= -1e-9


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 17), ((28, 28), 256), ((1, 2), 3), ((5, 3), 2)])
def test_real_nvp_takes_any_size(size: tuple[int, int], levels: int):
    x = images(6, *size, levels)
    model = shake(taught.RealNVP(x, levels, width=8), 0.05).eval()
    with torch.no_grad():
        bound = model.dequantized_bound(x, k=3)
    assert bound.shape == (6,)
    assert bound.isfinite().all()
    samples = model.sample(4)
    assert samples.shape == (4, 1, *size)
    assert torch.equal(model.integers(samples), (samples * (levels - 1)).flatten(1).round())
    model = model.double()
    y = model.integers(x).double() + 0.05 + 0.9 * torch.rand(6, math.prod(size), dtype=torch.float64)
    torch.testing.assert_close(model.flow.inverse(model.flow(y)[0]), y, rtol=0, atol=1e-5)


def test_the_probabilities_of_all_images_add_up_to_one():
    """The density over the square [0, 3)² of a two-pixel flow, by quadrature; and cube by cube by the bound.

    Toward the edges of the square it may grow without bound, so the nodes gather at both ends of each level.
    """
    model = shake(taught.RealNVP(images(50, 1, 2, 3), 3, width=8, dropout=0.0)).eval().double()
    n = 200
    v = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    total = v**4 + (1 - v) ** 4
    side = (torch.arange(3)[:, None] + v**4 / total).flatten()
    weight = (4 * (v * (1 - v)) ** 3 / total**2 / n).repeat(3)
    with torch.no_grad():
        density = model.flow.log_prob(torch.cartesian_prod(side, side)).exp().view(3 * n, 3 * n)
        cubes = (density * weight[:, None] * weight).view(3, n, 3, n).sum((1, 3))
        assert cubes.sum().item() == pytest.approx(1, abs=2e-3)
        for i, j in itertools.product(range(3), repeat=2):
            image = torch.tensor([i, j], dtype=torch.float64).view(1, 1, 1, 2) / 2
            one_draw = model.dequantized_bound(image.expand(20_000, -1, -1, -1))
            tight = math.log(20_000) - (-one_draw).logsumexp(0).item()
            assert tight == pytest.approx(-cubes[i, j].log().item(), abs=0.06)
            assert one_draw.mean().item() > tight


def test_the_bound_of_many_draws_is_the_log_of_the_mean():
    x = images(7, 3, 3, 4)
    model = shake(taught.RealNVP(x, 4, width=8), 0.3).eval()
    with torch.no_grad():
        torch.manual_seed(1)
        together = model.dequantized_bound(x, k=3)
        torch.manual_seed(1)
        log_p = -torch.stack([model.dequantized_bound(x) for _ in range(3)])
    torch.testing.assert_close(together, -log_p.exp().mean(0).log(), rtol=1e-4, atol=1e-4)


def test_histograms_alone_are_the_counts_whatever_the_noise():
    x = images(40, 4, 4, 5)
    model = taught.RealNVP(x, 5, width=8).eval()
    levels = (x.flatten(1) * 4).round().long()
    counts = torch.stack([(levels == k).sum(0) for k in range(5)], 1) + 1 / 5
    expected = -(counts / counts.sum(1, keepdim=True)).log()[torch.arange(16), levels].sum(1)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(model.dequantized_bound(x), expected, rtol=0, atol=1e-3)


def test_the_histogram_layer_inverts_and_has_the_slope_of_autograd():
    layer = taught.Histogram(torch.randint(6, (30, 3)), 6)
    y = (6 * torch.rand(200, 3, dtype=torch.float64)).requires_grad_()
    z, log_det = layer(y)
    torch.testing.assert_close(layer.inverse(z), y, rtol=0, atol=1e-6)
    [slope] = torch.autograd.grad(z.sum(), y)
    torch.testing.assert_close(log_det, slope.log().sum(1), rtol=0, atol=1e-6)


def test_samples_lie_in_the_cubes_of_their_levels():
    """With histograms alone, each level is drawn as often as its count says."""
    x = torch.tensor([0.0] * 10 + [0.5] * 30 + [1.0] * 60).view(100, 1, 1, 1).expand(-1, -1, 1, 2)
    samples = taught.RealNVP(x, 3, width=8).eval().sample(20_000)
    for level, count in ((0.0, 10), (0.5, 30), (1.0, 60)):
        share = (count + 1 / 3) / 101
        found = (samples == level).float().mean((0, 1, 2)).tolist()
        assert found == pytest.approx([share] * 2, abs=5 * math.sqrt(share * (1 - share) / 20_000))


def test_dropout_works_in_training_only():
    model = taught.RealNVP(images(5, 4, 4, 4), 4, width=32, dropout=0.5)
    network, y = shake(model.flow.layers[1].network), torch.randn(3, 16)
    assert not torch.equal(network(y), network(y))
    network.eval()
    assert torch.equal(network(y), network(y))


def test_values_between_the_levels_are_refused():
    model = taught.RealNVP(images(5, 2, 2, 4), 4, width=8)
    for bad in (torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 4 / 3), torch.full((1, 1, 2, 2), -1 / 3)):
        with pytest.raises(ValueError, match="levels"):
            model.dequantized_bound(bad)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (1, 2), (3, 5)])
def test_each_mask_is_followed_by_its_complement(size: tuple[int, int]):
    masks = taught.image_masks(*size, rounds=2)
    assert len(masks) >= 2
    for a, b in zip(masks[::2], masks[1::2], strict=True):
        assert torch.equal(a + b, torch.ones(math.prod(size), dtype=a.dtype))
        assert 0 < a.sum() < math.prod(size)
    assert len(masks) == 2 * len(taught.image_masks(*size))


def test_the_masks_are_two_checkerboards_and_two_stripes():
    pictures = ["0101101001011010", "0000111100001111", "0101010101010101", "0011001111001100"]
    masks = taught.image_masks(4, 4)[::2]
    assert ["".join(map(str, mask.tolist())) for mask in masks] == pictures


# --- continuous flows ---


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
def test_the_solvers_have_their_order(method: str, order: int):
    errors = []
    for steps in (50, 100):
        times = torch.linspace(0, 1, steps + 1).tolist()
        *_, end = taught.solve(lambda x, t: x * math.cos(t), torch.ones(1, dtype=torch.float64), times, method)
        errors.append(abs(end.item() - math.exp(math.sin(1))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_unknown_methods_and_no_steps_are_refused():
    flow = taught.ContinuousFlow(lambda x, t: x)
    with pytest.raises(ValueError, match="rk45"):
        flow.path(torch.zeros(2, 2), 3, method="rk45")
    with pytest.raises(ValueError, match="steps=0"):
        flow.sample((2, 2), 0)


def test_time_runs_from_noise_to_data():
    """For v = t, n steps of Euler give (n - 1)/(2n), the midpoint method the exact ½."""
    flow = taught.ContinuousFlow(lambda x, t: t[:, None].expand_as(x))
    z = torch.randn(3, 2)
    torch.testing.assert_close(flow.path(z, 4)[-1] - z, torch.full_like(z, 3 / 8))
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    z = torch.randn(3, 2, generator=seeds[0])
    drawn = flow.sample((3, 2), 4, "midpoint", generator=seeds[1])
    torch.testing.assert_close(drawn - z, torch.full_like(z, 0.5))


def test_a_linear_velocity_has_the_density_of_a_gaussian():
    rate = torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
    flow = taught.ContinuousFlow(lambda x, t: rate * x)
    x = torch.randn(30, 3, dtype=torch.float64)
    expected = Normal(0.0, rate.exp()).log_prob(x).sum(1)
    torch.testing.assert_close(flow.log_prob(x, steps=100), expected, rtol=0, atol=1e-3)


def test_the_divergence_is_the_trace_of_the_jacobian_of_images_too():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 12), torch.nn.Unflatten(1, (1, 3, 4)))
    flow = taught.ContinuousFlow(lambda x, t: t.view(-1, 1, 1, 1) * network(x))
    v, trace = flow.divergence(torch.randn(5, 1, 3, 4), 0.5)
    assert v.shape == (5, 1, 3, 4)
    torch.testing.assert_close(trace, (0.5 * network[1].weight.trace()).detach().expand(5))


def test_the_exact_velocity_satisfies_the_continuity_equation():
    path = taught.MixturePath(torch.tensor([[1.0, 0.5], [-0.7, 0.2], [0.1, -1.1]]).double(), 0.3)
    x = torch.randn(100, 2, dtype=torch.float64).requires_grad_()
    t = (0.05 + 0.9 * torch.rand(100, dtype=torch.float64)).requires_grad_()
    p = path.log_prob(x, t).exp()
    [rate] = torch.autograd.grad(p.sum(), t, retain_graph=True)
    flux = path.velocity(x, t) * p[:, None]
    out = sum(torch.autograd.grad(flux[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(2))
    assert rate.abs().max() > 0.01
    torch.testing.assert_close(rate, -out, rtol=0, atol=1e-10)


def test_the_path_joins_noise_and_mixture():
    mu = torch.randn(4, 3)
    path, x = taught.MixturePath(mu, 0.5), torch.randn(20, 3)
    mixture = MixtureSameFamily(Categorical(torch.ones(4)), Independent(Normal(mu, 0.5), 1))
    torch.testing.assert_close(path.log_prob(x, torch.ones(20)), mixture.log_prob(x))
    torch.testing.assert_close(path.log_prob(x, torch.zeros(20)), Normal(0.0, 1.0).log_prob(x).sum(1))
    torch.testing.assert_close(path.velocity(x, torch.zeros(20)), mu.mean(0) - x)


# --- flow matching ---


def test_the_loss_of_the_right_velocity_is_zero():
    """All data at one point c: every line through x_t leads there, so u = (c - x_t) / (1 - t)."""
    c = torch.tensor([2.0, -1.0])
    flow = taught.FlowMatching(lambda x, t: (c - x) / (1 - t)[:, None])
    assert flow.loss(c.expand(500, 2)).max() < 1e-4
    shift = taught.FlowMatching(lambda x, t: c.expand_as(x))
    z = torch.randn(50, 2)
    assert shift.loss(z + c, z).max() < 1e-8
    torch.testing.assert_close(shift.loss(z, z), (c.square().mean()).expand(50))


def test_the_loss_looks_at_all_times_and_averages_over_coordinates():
    seen = []

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return torch.zeros_like(x)

    x = torch.zeros(400, 1, 4, 4)
    loss = taught.FlowMatching(network).loss(x)
    assert loss.shape == (400,)
    assert loss.mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / x.numel()))
    assert torch.histc(seen[0], 10, 0, 1).tolist() == pytest.approx([40] * 10, abs=1)
    assert seen[0].max() < 1
    flow, seen[:] = taught.FlowMatching(network), []
    for _ in range(300):
        flow.loss(x[:1])
    assert torch.histc(torch.cat(seen), 3, 0, 1).tolist() == pytest.approx([100] * 3, abs=5 * math.sqrt(300 * 2 / 9))


@pytest.mark.parametrize("size", [(8, 8), (28, 28)])
def test_images_flow_through_the_unet_of_lecture_21(size: tuple[int, int]):
    flow = taught.FlowMatching(lecture("21").UNet(1, width=8))
    assert flow.loss(torch.rand(3, 1, *size)).shape == (3,)
    path = flow.path(torch.randn(2, 1, *size), 3)
    assert [x.shape for x in path] == [(2, 1, *size)] * 4
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    a, b = (flow.sample((2, 1, *size), 2, generator=g) for g in generators)
    assert torch.equal(a, b)


def test_straightness_and_detour_of_a_line_and_of_half_a_circle():
    steps = torch.linspace(0, 1, 1001)[:, None, None]
    line = list(torch.tensor([[0.0, 0.0], [1.0, 1.0]]) + steps * torch.tensor([[1.0, 2.0], [-3.0, 0.5]]))
    assert taught.straightness(line) == pytest.approx(0, abs=1e-6)
    assert taught.detour(line) == pytest.approx(1, abs=1e-5)
    slow = [line[0] + (k / 100) ** 2 * (line[-1] - line[0]) for k in range(101)]  # straight, but not at constant speed
    assert taught.straightness(slow) == pytest.approx(1 / 3, abs=1e-3)
    assert taught.detour(slow) == pytest.approx(1, abs=1e-5)
    circle = list(torch.cat([(math.pi * steps).cos(), (math.pi * steps).sin()], 2))
    assert taught.straightness(circle) == pytest.approx((math.pi**2 - 4) / 4, abs=1e-3)
    assert taught.detour(circle) == pytest.approx(math.pi / 2, abs=1e-3)
    both = [torch.cat(pair) for pair in zip(line, circle, strict=True)]
    ends = (line[-1] - line[0]).norm(dim=1).sum().item()
    assert taught.detour(both) == pytest.approx((ends + math.pi) / (ends + 2), abs=1e-3)


def test_both_samplers_follow_the_same_number_of_steps():
    diffusion = lecture("21").Diffusion(lecture("21").PointNet(2), lecture("21").NoiseSchedule(50))
    z = torch.randn(4, 2)
    assert [len(taught.ddim_path(diffusion, z, k)) for k in (1, 5)] == [2, 6]
    assert torch.equal(taught.ddim_path(diffusion, z, 5)[0], z)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_ddim_is_eulers_method_at_times_of_its_own(steps: int):
    """For any denoiser: w = y / (a + b) moves by (s' - s) (guess of x - guess of z), with s = a / (a + b)."""
    schedule = lecture("21").NoiseSchedule(50)
    diffusion = lecture("21").Diffusion(shake(lecture("21").PointNet(2, width=16)), schedule)
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    times, s = diffusion.times(steps), a / (a + b)
    path = taught.ddim_path(diffusion, torch.randn(20, 2), steps)
    for k in range(steps):
        t, after = times[k : k + 2]
        with torch.no_grad():
            x, z = diffusion.predict(path[k], torch.full((20,), t))
        w = path[k] / (a + b)[t] + (s[after] - s[t]) * (x - z)
        torch.testing.assert_close(path[k + 1] / (a + b)[after], w, rtol=1e-4, atol=1e-4)


def test_the_loss_of_diffusion_is_that_of_flow_matching_over_half_of_pi():
    """On a cosine schedule, up to its offset of 0.008, for perfect networks."""
    schedule = lecture("21").NoiseSchedule(1000, "cosine")
    path = taught.MixturePath(torch.tensor([[1.0, 0.0], [-1.0, 0.5]]).double(), 0.2)
    denoiser = lecture("21").Diffusion(taught.ExactDenoiser(path, schedule), schedule)
    x = path.mu[torch.randint(2, (200_000,))].float() + 0.2 * torch.randn(200_000, 2)
    ratio = denoiser.loss(x).mean() / taught.FlowMatching(path.velocity).loss(x).mean()
    assert ratio.item() == pytest.approx(2 / math.pi, rel=0.02)


@pytest.mark.parametrize("t", [1, 20, 50])
def test_a_perfect_denoiser_knows_the_posterior_of_a_gaussian(t: int):
    """For x ~ N(0, σ²) and y = a x + b z, E[x | y] = a σ² y / (a² σ² + b²)."""
    schedule = lecture("21").NoiseSchedule(50)
    path = taught.MixturePath(torch.zeros(1, 2, dtype=torch.float64), 0.3)
    diffusion = lecture("21").Diffusion(taught.ExactDenoiser(path, schedule), schedule)
    y, steps = torch.randn(20, 2), torch.full((20,), t)
    a, b = diffusion.amounts(steps, y)
    guess, noise = diffusion.predict(y, steps)
    torch.testing.assert_close(guess, a * 0.09 * y / (a**2 * 0.09 + b**2), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(a * guess + b * noise, y, rtol=1e-3, atol=1e-4)


def test_the_shipped_velocity_gives_what_its_card_says():
    model = taught.FlowMatching(lecture("21").UNet(1, width=16))
    card = load_weights(model.eval(), taught.NAME)
    images, features = load("digits")["test"].images, lecture("10").image_features
    noise = torch.randn(350, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = (model.path(noise, 20)[-1] + 1) / 2
    found = frechet_distance(features(drawn.clamp(0, 1)), features(images[:350]))
    assert found == pytest.approx(card["frechet_20_steps"], abs=0.5)
