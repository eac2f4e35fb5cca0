"""What lecture 11 teaches, imported from its notebook, against closed forms, SciPy, and games played one by one."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from course_utils.datasets import load
from course_utils.reuse import lecture

taught = lecture("11")
X = torch.linspace(-16, 16, 8001, dtype=torch.float64)


def cloud(n: int = 400, d: int = 2) -> torch.Tensor:
    return 1.0 + 0.5 * torch.randn(n, d, generator=torch.Generator().manual_seed(7))


def parameters(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- the value, the best discriminator, the divergence ---


def test_value_is_minus_twice_the_cross_entropy():
    real, fake = torch.randn(2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits, labels = torch.cat([real, fake], 1), torch.cat([torch.ones(3, 50), torch.zeros(3, 50)], 1).double()
    entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)
    torch.testing.assert_close(taught.value(real, fake), -2 * entropy)
    assert taught.value(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(-math.log(4))


def test_value_stays_finite_for_a_certain_discriminator():
    sure = torch.tensor([200.0], requires_grad=True)
    V = taught.value(-sure, sure)  # certain and wrong, in float32
    assert V.item() == -400
    assert torch.autograd.grad(V, sure)[0].item() == -2
    assert taught.value(sure, -sure).item() == 0


@pytest.mark.parametrize(("mean", "scale"), [(0.5, 1.0), (2.5, 0.4), (-1.5, 0.5)])
def test_best_value_and_divergence_by_another_quadrature(mean: float, scale: float):
    def p(x: float) -> float:
        return 0.5 * norm.pdf(x, -1.5, 0.5) + 0.5 * norm.pdf(x, 1.5, 0.5)

    def g(x: float) -> float:
        return norm.pdf(x, mean, scale)

    def integrand(x: float) -> float:
        return p(x) * math.log(p(x) / (p(x) + g(x))) + g(x) * math.log(g(x) / (p(x) + g(x)))

    V = quad(integrand, -6, 6, limit=400, points=[-1.5, 1.5, mean])[0]
    log_p, log_g = taught.two_bumps().log_prob(X), taught.one_bump(mean, scale).log_prob(X)
    assert taught.best_value(log_p, log_g, X) == pytest.approx(V, abs=1e-6)
    js = taught.js_divergence(log_p, log_g, X)
    assert 2 * js - math.log(4) == pytest.approx(V, abs=1e-6)
    assert js == pytest.approx(taught.js_divergence(log_g, log_p, X), abs=1e-12)
    assert 0 < js < math.log(2)


def test_js_of_equal_and_of_disjoint():
    near, far = taught.one_bump(0.0, 0.5).log_prob(X), taught.one_bump(8.0, 0.5).log_prob(X)
    assert taught.js_divergence(near, near, X) == pytest.approx(0, abs=1e-12)
    assert taught.js_divergence(near, far, X) == pytest.approx(math.log(2), abs=1e-10)


def test_a_trained_discriminator_is_the_share_of_data_and_one_half_between_equals():
    torch.manual_seed(0)
    p, g = taught.two_bumps(), taught.one_bump(0.5, 1.0)
    x = torch.tensor([[-2.0], [-1.5], [-1.0], [1.0], [1.5]], dtype=torch.float64)
    best = torch.sigmoid(p.log_prob(x) - g.log_prob(x))
    assert (torch.sigmoid(taught.train_discriminator(p, g, 500)(x)) - best).abs().max() < 0.1
    assert (torch.sigmoid(taught.train_discriminator(p, p, 500)(x)) - 0.5).abs().max() < 0.1


@given(share=st.floats(0.01, 0.99))
def test_value_of_missing_is_that_of_the_best_discriminator(share: float):
    """D* is p / (p + q): on the part that the generator covers 1 - share against 1, elsewhere one."""
    covered = 1 - share
    V = covered * math.log(covered / (covered + 1)) + math.log(1 / (covered + 1))
    assert taught.value_of_missing(share) == pytest.approx(V, abs=1e-12)


def test_value_of_missing_nothing_and_all():
    assert taught.value_of_missing(0) == pytest.approx(-math.log(4), abs=1e-12)
    assert taught.value_of_missing(1) == pytest.approx(0, abs=1e-12)


# --- the generator's losses ---


@given(st.floats(-80, 80))
def test_slopes_of_both_losses(logit: float):
    f = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    D = torch.sigmoid(f.detach())
    slopes = [torch.autograd.grad(loss(f), f)[0] for loss in (taught.saturating, taught.non_saturating)]
    torch.testing.assert_close(slopes[0], -D, rtol=1e-9, atol=0)
    torch.testing.assert_close(slopes[1], -torch.sigmoid(-f.detach()), rtol=1e-9, atol=0)


def test_losses_do_not_depend_on_the_size_of_the_batch():
    fake = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    for loss in (taught.saturating, taught.non_saturating):
        assert loss(fake).shape == (2,)
        torch.testing.assert_close(loss(fake.repeat(1, 4)), loss(fake))


def test_saturating_is_the_generators_part_of_the_value():
    fake = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    infinite = torch.full_like(fake, 1e4)  # real examples that are recognized for sure
    torch.testing.assert_close(taught.saturating(fake), taught.value(infinite, fake))


def test_generator_gradient_is_that_of_autograd():
    game, twin = taught.new_game([3]), taught.new_game([3])
    draws = twin.draw(64)
    D = torch.sigmoid(twin.D(draws))
    by_hand = torch.autograd.grad((1 - D).log().mean(), list(twin.G.parameters()))
    norm_by_hand = torch.cat([s.flatten() for s in by_hand]).norm().item()
    assert taught.generator_gradient(game, taught.saturating, 64) == pytest.approx(norm_by_hand, rel=1e-4)


# --- players side by side ---


def test_parallel_layers_are_linear_layers():
    rngs = [torch.Generator().manual_seed(s) for s in (1, 2, 3)]
    layer, x = taught.ParallelLinear(4, 25, rngs), torch.randn(3, 7, 4)
    assert layer.weight.abs().max() <= 0.5
    assert layer.weight.abs().max() > 0.45
    out = layer(x)
    for j in range(3):
        single = nn.Linear(4, 25)
        single.weight.data, single.bias.data = layer.weight[j].T, layer.bias[j, 0]
        torch.testing.assert_close(out[j], single(x[j]))


@pytest.mark.parametrize("extra", [{}, {"r1": 0.5}, {"noise": 1.0}])
@pytest.mark.parametrize("pack", [1, 2])
def test_games_side_by_side_are_the_games_played_alone(extra: dict, pack: int):
    data = cloud()
    together = taught.train_gan(data, taught.new_game([3, 8], pack=pack), 10, n=16, **extra)
    alone = taught.train_gan(data, taught.new_game([8], pack=pack), 10, n=16, **extra)
    for a, b in zip(parameters(together.G) + parameters(together.D), parameters(alone.G) + parameters(alone.D),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a[1], b[0], rtol=0, atol=2e-5)
        assert not torch.allclose(a[0], a[1], atol=1e-3)
    torch.testing.assert_close(torch.stack(together.values)[:, 1], torch.stack(alone.values)[:, 0], rtol=0, atol=1e-4)


def test_the_same_seed_gives_the_same_game():
    first, second = (taught.train_gan(cloud(), taught.new_game([5]), 5) for _ in range(2))
    assert same(parameters(first.G), parameters(second.G))


@pytest.mark.parametrize("d", [1, 2, 64, 784])
def test_players_take_examples_of_any_width(d: int):
    game = taught.train_gan(cloud(50, d), taught.new_game([0, 1], d=d), 2, n=8)
    assert game.draw(6).shape == (2, 6, d)
    assert game.D(game.draw(6)).shape == (2, 6)
    assert len(game.values) == len(game.losses) == 2


def test_a_pack_is_judged_together():
    rngs = [torch.Generator().manual_seed(0)]
    D = taught.Discriminator2D(rngs, pack=3)
    x = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(2))
    logits = D(x)
    assert logits.shape == (1, 2)
    for j in range(6):  # each example moves the logit of its own pack, and no other
        moved = x.clone()
        moved[0, j] += 1
        changed = (D(moved) != logits)[0].tolist()
        assert changed == [j < 3, j >= 3]
    with pytest.raises(ValueError, match=r"7 examples do not make packs of 3"):
        D(torch.zeros(1, 7, 2))


# --- the loop ---


def test_discriminator_steps_up_and_generator_down():
    """Adam's first step is the step size times the sign of the gradient."""
    data, lr = cloud(), (1e-3, 2e-3)
    game, twin = taught.new_game([4]), taught.new_game([4])
    taught.train_gan(data, game, 1, lr, n=32)
    real, fake = twin.batch(data, 32), twin.draw(32).detach()
    up = torch.autograd.grad(taught.value(twin.D(real), twin.D(fake)).sum(), list(twin.D.parameters()))
    for p, slope, after in zip(twin.D.parameters(), up, game.D.parameters(), strict=True):
        clear = slope.abs() > 1e-5
        torch.testing.assert_close((after - p)[clear], lr[1] * slope.sign()[clear], rtol=1e-2, atol=1e-6)
        p.data.copy_(after)  # the generator answers the new discriminator
    loss = -torch.sigmoid(twin.D(twin.draw(32))).log().mean()
    down = torch.autograd.grad(loss, list(twin.G.parameters()))
    for p, slope, after in zip(twin.G.parameters(), down, game.G.parameters(), strict=True):
        clear = slope.abs() > 1e-5
        torch.testing.assert_close((after - p)[clear], -lr[0] * slope.sign()[clear], rtol=1e-2, atol=1e-6)


def test_three_steps_are_those_of_a_plain_loop():
    data, lr = cloud(), (1e-3, 2e-3)
    game, twin = taught.new_game([4]), taught.new_game([4])
    taught.train_gan(data, game, 3, lr, n=32)
    adam = {p: torch.optim.Adam(p.parameters(), r, (0.5, 0.999)) for p, r in zip((twin.G, twin.D), lr, strict=True)}
    for _ in range(3):
        real, fake = twin.batch(data, 32), twin.draw(32).detach()
        for player in (twin.D, twin.G):
            loss = taught.non_saturating(twin.D(twin.draw(32))) if player is twin.G else -taught.value(
                twin.D(real), twin.D(fake))  # fmt: skip
            adam[player].zero_grad()
            loss.sum().backward()
            adam[player].step()
    for a, b in zip(parameters(twin.G) + parameters(twin.D), parameters(game.G) + parameters(game.D), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_the_generator_learns_even_from_a_certain_discriminator():
    game = taught.new_game([0])
    game.D.net[-1].bias.data -= 40  # D(G(z)) is about 1e-17: the saturating loss would not move Adam
    before = parameters(game.G)
    taught.train_gan(cloud(), game, 1, lr=(1e-3, 0.0))
    moved = max((a - b).abs().max().item() for a, b in zip(before, game.G.parameters(), strict=True))
    assert moved == pytest.approx(1e-3, rel=0.01)
    assert game.losses[0].item() > 30


def test_a_step_size_of_zero_freezes_a_player():
    data = cloud()
    for lr, frozen, moving in (((0.0, 1e-3), "G", "D"), ((1e-3, 0.0), "D", "G")):
        game = taught.new_game([0])
        before = {name: parameters(getattr(game, name)) for name in "GD"}
        taught.train_gan(data, game, 3, lr)
        assert same(before[frozen], parameters(getattr(game, frozen)))
        assert not same(before[moving], parameters(getattr(game, moving)))


def test_each_player_alone_gets_better_at_its_own_aim():
    data = cloud()
    alone = taught.train_gan(data, taught.new_game([0, 1]), 60, lr=(0.0, 3e-3))
    assert (alone.values[-1] > alone.values[0] + 0.2).all()
    alone = taught.train_gan(data, taught.new_game([0, 1]), 60, lr=(3e-3, 0.0))
    assert (alone.losses[-1] < alone.losses[0]).all()


def test_penalty_of_a_linear_discriminator_is_its_squared_slope():
    for pack in (1, 2):
        rngs = [torch.Generator().manual_seed(s) for s in (0, 1)]
        D = taught.Discriminator2D(rngs, pack=pack)
        D.net = taught.ParallelLinear(2 * pack, 1, rngs)
        penalty = taught.gradient_penalty(D, torch.randn(2, 8, 2))
        torch.testing.assert_close(penalty, D.net.weight.square().sum((1, 2)))


def test_the_penalty_counts_half_of_its_weight_and_at_real_examples():
    """Adam's first step shows the sign of each slope; a wrong weight or place turns some of them."""
    data, weight = cloud(), 5.0
    game, twin = taught.new_game([4]), taught.new_game([4])
    taught.train_gan(data, game, 1, (0.0, 2e-3), r1=weight, n=32)
    real, fake = twin.batch(data, 32).requires_grad_(), twin.draw(32).detach()

    def slopes(scale: float, place: torch.Tensor) -> list[torch.Tensor]:
        place = place.detach().requires_grad_()
        (slope,) = torch.autograd.grad(twin.D(place).sum(), place, create_graph=True)
        aim = taught.value(twin.D(real), twin.D(fake)).sum() - scale * slope.square().sum(2).mean()
        return torch.autograd.grad(aim, list(twin.D.parameters()))

    up = slopes(weight / 2, real)
    for p, slope, after in zip(twin.D.parameters(), up, game.D.parameters(), strict=True):
        clear = slope.abs() > 1e-5
        torch.testing.assert_close((after - p)[clear], 2e-3 * slope.sign()[clear], rtol=1e-2, atol=1e-6)
    for other in (slopes(weight, real), slopes(weight / 2, fake)):
        assert any((a * b < -1e-8).any() for a, b in zip(up, other, strict=True))


def test_the_penalty_flattens_the_logit():
    data, slopes = cloud(), []
    for r1 in (0.0, 20.0):
        game = taught.train_gan(data, taught.new_game([0, 1]), 60, lr=(0.0, 3e-3), r1=r1)
        slopes.append(taught.gradient_penalty(game.D, game.batch(data, 200)))
    assert (slopes[1] < slopes[0] / 2).all()


def test_noise_falls_linearly_on_all_that_the_discriminator_sees():
    data, seen = torch.zeros(10, 2), []
    game = taught.new_game([0])
    for p in game.G.parameters():
        p.data.zero_()  # data and draws are the origin: what is seen is the noise
    game.D.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0].std().item()))
    taught.train_gan(data, game, 10, lr=(0.0, 1e-3), noise=2.0, n=4000)
    spread = np.array(seen).reshape(10, 3)  # real, fake, and the generator's turn
    expected = 2 * np.maximum(0, 1 - np.arange(10) / 8)
    np.testing.assert_allclose(spread, np.repeat(expected[:, None], 3, 1), rtol=0.06, atol=1e-12)


def test_kept_players_are_copies_of_their_moment():
    game = taught.new_game([0])
    start = parameters(game.G)
    taught.train_gan(cloud(), game, 4, keep=(0, 2, 4))
    assert sorted(game.kept) == [0, 2, 4]
    assert same(start, parameters(game.kept[0][0]))
    assert same(parameters(game.G), parameters(game.kept[4][0]))
    assert same(parameters(game.D), parameters(game.kept[4][1]))
    assert not same(parameters(game.kept[2][0]), parameters(game.kept[4][0]))


def test_catching_up_changes_no_player_and_bounds_the_divergence():
    game = taught.new_game([0, 1])
    for p in game.G.parameters():
        p.data.zero_()
    game.G.net[-1].bias.data[0] = 1.0  # one generator draws the point (1, 1), the other the origin
    data = torch.ones(50, 2)
    before = parameters(game.G), parameters(game.D), len(game.values)
    V = taught.catch_up(data, game, 200)
    assert V.shape == (2,)
    assert V[0] == pytest.approx(-math.log(4), abs=0.02)  # equal: JS is 0
    assert -0.1 < V[1] <= 0  # disjoint: 2 JS - log 4 is 0
    assert same(before[0], parameters(game.G))
    assert same(before[1], parameters(game.D))
    assert len(game.values) == before[2]


# --- counting ---


def test_centers_are_those_of_the_data():
    ring, centers = load("eight_gaussians"), taught.ring_centers()
    at_center = torch.full((8,), -math.log(8 * 2 * math.pi * taught.CENTERS_STD**2))
    torch.testing.assert_close(ring.log_prob(centers), at_center, rtol=0, atol=1e-4)
    assert len(centers.round(decimals=3).unique(dim=0)) == 8


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), d=st.sampled_from([1, 2, 64]), radius=st.floats(0.2, 3))
def test_count_modes_by_brute_force(seed: int, d: int, radius: float):
    rng = np.random.default_rng(seed)
    samples, centers = rng.normal(size=(60, d)) * 2 / math.sqrt(d), rng.normal(size=(5, d)) * 2 / math.sqrt(d)
    good, found = 0, set()
    for x in samples:
        distances = [math.dist(x, c) for c in centers]
        if min(distances) < radius:
            good += 1
            found.add(int(np.argmin(distances)))
    counted = taught.count_modes(torch.from_numpy(samples), torch.from_numpy(centers), radius)
    assert counted == (len(found), pytest.approx(good / 60))


def test_count_modes_of_nothing_good():
    assert taught.count_modes(torch.full((5, 2), 9.0), torch.zeros(1, 2), 1.0) == (0, 0.0)
    midway = taught.ring_centers().roll(1, 0).add(taught.ring_centers()) / 2
    assert taught.count_modes(midway, taught.ring_centers(), 0.75) == (0, 0.0)


@pytest.mark.parametrize(
    ("samples", "centers", "radius", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(2, 3), 1.0, r"\(3, 2\) and \(2, 3\)"),
        (torch.zeros(3), torch.zeros(2, 3), 1.0, r"\(3,\)"),
        (torch.zeros(2, 3, 2), torch.zeros(2, 2), 1.0, r"\(2, 3, 2\)"),
        (torch.zeros(0, 2), torch.zeros(2, 2), 1.0, "0 samples"),
        (torch.zeros(3, 2), torch.zeros(2, 2), 0.0, "radius 0"),
        (torch.zeros(3, 2), torch.zeros(2, 2), math.nan, "radius nan"),
        (torch.full((3, 2), math.nan), torch.zeros(2, 2), 1.0, "not a number"),
    ],
)
def test_count_modes_refuses(samples: torch.Tensor, centers: torch.Tensor, radius: float, message: str):
    with pytest.raises(ValueError, match=message):
        taught.count_modes(samples, centers, radius)


def test_scores_of_the_data():
    ring = load("eight_gaussians")
    real = ring.sample(1000, seed=0)
    rows = taught.scores(torch.stack([ring.sample(1000, seed=1), torch.zeros(1000, 2)]), real)
    assert rows[0, 0] == 8
    assert rows[0, 1] > 0.97
    assert rows[0, 2] < 0.6
    assert rows[1].tolist()[:2] == [0, 0]
    assert rows[1, 2] == pytest.approx(real[:500].norm(dim=1).mean().item(), rel=1e-4)


# --- the Dirac-GAN ---


@given(psi=st.floats(-3, 3), theta=st.floats(-3, 3))
def test_rotation_is_the_field_of_the_game(psi: float, theta: float):
    w = torch.tensor([psi, theta], dtype=torch.float64, requires_grad=True)
    real, fake = w[0] * torch.zeros(1, dtype=torch.float64), w[0] * w[1].view(1)
    (slope,) = torch.autograd.grad(taught.value(real, fake), w)
    torch.testing.assert_close(taught.rotation(w.detach()), slope * torch.tensor([1.0, -1.0], dtype=torch.float64))


@pytest.mark.parametrize("name", ["simultaneous", "alternating", "extra-gradient"])
@pytest.mark.parametrize("eta", [0.05, 0.3, 1.0, 1.9])
def test_eigenvalues_of_the_update(name: str, eta: float):
    rule, origin = taught.RULES[name], torch.zeros(2, dtype=torch.float64)
    M = torch.autograd.functional.jacobian(lambda w: rule(w, eta), origin)
    moduli = torch.linalg.eigvals(M).abs().square()
    torch.testing.assert_close(moduli, torch.full((2,), taught.squared_modulus(name, eta), dtype=torch.float64))


def test_the_three_rules_go_out_around_and_in():
    energy = {name: taught.orbit(rule, (1.0, 0.0), 0.4, 400).square().sum(1) for name, rule in taught.RULES.items()}
    assert (energy["simultaneous"].diff() > 0).all()
    assert energy["extra-gradient"][-1] < 1e-3
    assert 0.5 < energy["alternating"].min()
    assert energy["alternating"].max() < 2


def test_orbit_starts_where_it_is_told_and_leaves_its_rule_alone():
    path = taught.orbit(taught.simultaneous, (0.5, -0.25), 0.1, 3)
    assert path.shape == (4, 2)
    assert path[0].tolist() == [0.5, -0.25]
    step = path[0] + 0.1 * taught.rotation(path[0])
    torch.testing.assert_close(path[1], step)
    assert copy.deepcopy(path).equal(path)
