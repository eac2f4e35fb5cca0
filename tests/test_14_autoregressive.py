"""What lecture 14 teaches, imported from its notebook, against enumeration, scikit-learn, PyTorch and finite differences."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.distributions import MultivariateNormal

from course_utils.results import load_weights
from course_utils.reuse import lecture
from course_utils.synthetic import bars_and_stripes

taught = lecture("14")
FAMILIES = {
    "FVSBN": (taught.FVSBN, {}),
    "NADE": (taught.NADE, {"width": 6}),
    "MADE": (taught.MADE, {"width": 20, "n_blocks": 2}),
    "MADE that sees its mask": (taught.MADE, {"width": 20, "show_mask": True}),
    "separate": (taught.SeparateNets, {"width": 5}),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def random_model(family: str, shape, levels=2, *, order=None, head=None):
    """A model in double precision whose weights are all random."""
    kind, options = FAMILIES[family]
    model = kind(shape, levels, order=order, head=head, **options).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def in_order(jacobian: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return jacobian[order][:, order]


# ---------------------------------------------------------------- the conditionals


@every_family
@pytest.mark.parametrize("levels", [2, 3, None])
def test_the_jacobian_is_strictly_triangular_in_the_models_order(family: str, levels: int | None):
    order = torch.randperm(12)
    model = random_model(family, (3, 4), levels, order=order)
    x = torch.rand(1, 12, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(model.params, x)  # [1, d, k, 1, d]
    size = in_order(jacobian[0, :, :, 0].abs().amax(1), order)
    assert (size.triu() == 0).all()
    assert (size.tril(-1).sum(1)[1:] > 0).all()  # every pixel but the first depends on earlier ones


@every_family
@pytest.mark.parametrize(("shape", "levels"), [((9,), 2), ((2, 4), 2), ((5,), 3), ((1,), 3)])
def test_probabilities_add_up_to_one(family: str, shape, levels: int):
    d = math.prod(shape)
    model = random_model(family, shape, levels, order=torch.randperm(d))
    x = torch.tensor([*itertools.product(range(levels), repeat=d)], dtype=torch.double) / (levels - 1)
    total = model.log_prob(x.view(-1, *model.shape)).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-9)


@every_family
def test_a_real_valued_density_integrates_to_one(family: str):
    model = random_model(family, (2,), None, order=[1, 0])
    axis = torch.linspace(-25, 25, 401, dtype=torch.double)
    with torch.no_grad():
        density = model.log_prob(torch.cartesian_prod(axis, axis)).exp().view(401, 401)
    total = torch.trapezoid(torch.trapezoid(density, axis), axis)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)


@every_family
def test_log_prob_is_the_sum_over_pixels_and_each_ignores_later_ones(family: str):
    order = torch.randperm(9)
    model = random_model(family, (3, 3), 3, order=order)
    x = torch.randint(3, (5, 1, 3, 3)).double() / 2
    torch.testing.assert_close(model.log_prob(x), model.log_prob_each(x).sum(1))
    changed = x.flatten(1).clone()
    changed[:, order[5:]] = 1 - changed[:, order[5:]]
    after = model.log_prob_each(changed.view_as(x))
    torch.testing.assert_close(after[:, order[:5]], model.log_prob_each(x)[:, order[:5]])


SIZES = [(family, shape) for family in FAMILIES for shape in ((8, 8), (28, 28), (5, 3))]
SIZES.remove(("separate", (28, 28)))  # 784 networks of 784 inputs: not what this class is for


@pytest.mark.parametrize(("family", "shape"), SIZES)
def test_any_image_size(family: str, shape):
    kind, options = FAMILIES[family]
    model, x = kind(shape, **options), torch.randint(2, (2, 1, *shape)).float()
    log_prob = model.log_prob(x)
    assert log_prob.shape == (2,)
    (-log_prob.mean()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if shape != (28, 28):
        drawn = model.sample(3)
        assert drawn.shape == (3, 1, *shape)
        assert ((drawn == 0) | (drawn == 1)).all()


@every_family
def test_bad_input_is_refused(family: str):
    kind, options = FAMILIES[family]
    model = kind((2, 3), **options)
    with pytest.raises(ValueError, match=r"shape \(4, 6\); expected"):
        model.log_prob(torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"0\.5.* is none of 2 levels"):
        model.log_prob(torch.full((1, 1, 2, 3), 0.5))
    with pytest.raises(ValueError, match="none of 2 levels"):
        model.log_prob(torch.full((1, 1, 2, 3), 2.0))
    with pytest.raises(ValueError, match=r"order=\[0, 1, 1, 3, 4, 5\]; expected each of 0 … 5 once"):
        kind((2, 3), order=[0, 1, 1, 3, 4, 5], **options)
    with pytest.raises(ValueError, match="levels=1; expected 2 or more, or None"):
        kind((2, 3), 1, **options)


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize("head", [taught.Binary(), taught.Categorical(5), taught.Logistics(5), taught.Logistics(17, 1)])
def test_discrete_heads_are_normalized_and_draw_what_they_say(head):
    params = torch.randn(len(head.start), dtype=torch.double) + head.start
    values = torch.linspace(0, 1, head.levels, dtype=torch.double)
    p = head.log_prob(params.expand(head.levels, -1), values).exp()
    torch.testing.assert_close(p.sum(), torch.ones_like(p.sum()), rtol=0, atol=1e-9)
    drawn = head.sample(params.expand(20_000, -1))
    counts = (drawn[:, None] - values).abs().lt(1e-6).sum(0)
    assert counts.sum() == 20_000  # nothing but levels
    kept = p > 1e-3
    observed = np.append(counts[kept].numpy(), counts[~kept].sum())
    expected = 20_000 * np.append(p[kept].numpy(), p[~kept].sum())
    assert stats.chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-4


def test_gaussian_head_is_that_of_torch():
    params, x = torch.randn(50, 2, dtype=torch.double), torch.randn(50, dtype=torch.double)
    reference = torch.distributions.Normal(params[:, 0], (0.5 * params[:, 1]).exp()).log_prob(x)
    torch.testing.assert_close(taught.Gaussian().log_prob(params, x), reference)
    drawn = taught.Gaussian().sample(torch.tensor([2.0, math.log(9.0)]).expand(20_000, 2))
    assert drawn.mean().item() == pytest.approx(2, abs=4 * 3 / math.sqrt(20_000))
    assert drawn.std().item() == pytest.approx(3, rel=4 / math.sqrt(40_000))


def test_logistics_are_differences_of_distribution_functions():
    params = torch.tensor([[0.3, -0.7, 0.2, 0.8, -2.0, -3.0]], dtype=torch.double)
    head, x = taught.Logistics(17, 2), torch.linspace(0, 1, 17, dtype=torch.double)
    weight = torch.softmax(params[0, :2], 0).numpy()
    edges = np.concatenate([[-np.inf], (np.arange(16) + 0.5) / 16, [np.inf]])
    cdf = sum(
        w * stats.logistic.cdf(edges, m, math.exp(s)) for w, m, s in zip(weight, (0.2, 0.8), (-2, -3), strict=True)
    )
    np.testing.assert_allclose(head.log_prob(params.expand(17, -1), x).exp().numpy(), np.diff(cdf), rtol=1e-6)


@pytest.mark.parametrize("log_scale", [-30.0, -7.0, 5.0, 30.0])
def test_logistics_have_finite_gradients_far_from_the_level(log_scale: float):
    params = torch.tensor([[0.0, 3.0, log_scale]]).requires_grad_()
    for x in (0.0, 0.5, 1.0):
        value = taught.Logistics(17, 1).log_prob(params, torch.tensor([x])).sum()
        (gradient,) = torch.autograd.grad(value, params)
        assert value.isfinite()
        assert gradient.isfinite().all()


# ---------------------------------------------------------------- FVSBN


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_fvsbn_is_logistic_regressions(penalty: float):
    order = torch.tensor([2, 0, 5, 3, 1, 4])
    x = (torch.rand(300, 6) < 0.3 + 0.4 * torch.rand(300, 1)).double()  # not separable
    model = taught.FVSBN((6,), order=order).double()
    weight = model.linear.weight
    taught.minimize(model, lambda: penalty / 2 * weight.square().sum() - model.log_prob(x).sum())
    data = x.numpy()
    for place, i in enumerate(order.tolist()):
        before = order[:place].tolist()
        if place == 0:
            assert model.linear.bias[i].sigmoid().item() == pytest.approx(data[:, i].mean(), abs=1e-6)
            continue
        C = 1 / penalty if penalty else np.inf
        reference = LogisticRegression(C=C, tol=1e-10, max_iter=5000).fit(data[:, before], data[:, i])
        np.testing.assert_allclose(weight[i, before].detach(), reference.coef_[0], atol=2e-4)
        assert model.linear.bias[i].item() == pytest.approx(reference.intercept_[0], abs=2e-4)


def test_a_linear_gaussian_chain_is_a_multivariate_normal():
    d = 5
    A = torch.randn(d, d, dtype=torch.double)
    covariance = A @ A.T + 0.3 * torch.eye(d, dtype=torch.double)
    L, model = torch.linalg.cholesky(covariance), taught.FVSBN((d,), None).double()
    scale = L.diagonal()
    W = torch.eye(d, dtype=torch.double) - scale[:, None] * torch.linalg.inv(L)  # x_i = Σ_j<i W_ij x_j + scale_i ε_i
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.weight[0::2] = W
        model.linear.bias.zero_()
        model.linear.bias[1::2] = 2 * scale.log()
    x = torch.randn(20, d, dtype=torch.double)
    reference = MultivariateNormal(torch.zeros(d, dtype=torch.double), covariance).log_prob(x)
    torch.testing.assert_close(model.log_prob(x), reference)
    drawn = model.sample(20_000)
    assert ((drawn.T.cov() - covariance).abs() < 6 * covariance.diagonal().max() * math.sqrt(2 / 20_000)).all()


# ---------------------------------------------------------------- NADE


@pytest.mark.parametrize(("shape", "levels"), [((7,), 2), ((3, 5), 4), ((6,), None)])
def test_the_recursion_is_the_naive_sum(shape, levels):
    d = math.prod(shape)
    model = random_model("NADE", shape, levels, order=torch.randperm(d))
    x = torch.rand(4, d, dtype=torch.double)
    torch.testing.assert_close(model.params(x), model.naive_params(x), rtol=0, atol=1e-12)


def test_the_recursion_has_the_gradient_of_automatic_differentiation():
    model = random_model("NADE", (9,), 3, order=torch.randperm(9))
    x = torch.rand(5, 9, dtype=torch.double)
    weights = torch.randn(5, 9, 3, dtype=torch.double)
    ours = torch.autograd.grad((model.params(x) * weights).sum(), [*model.parameters()])
    theirs = torch.autograd.grad((model.naive_params(x) * weights).sum(), [*model.parameters()])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_nade_draws_in_one_recursion_what_d_passes_draw():
    model = random_model("NADE", (4, 4), 3, order=torch.randperm(16))
    torch.manual_seed(5)
    fast = model.sample(30)
    torch.manual_seed(5)
    slow = torch.zeros(30, 16, dtype=torch.double)
    taught.Autoregressive._draw(model, slow, model.order)
    torch.testing.assert_close(fast.flatten(1), slow)


# ---------------------------------------------------------------- MADE


@pytest.mark.parametrize("n_blocks", [0, 1, 3])
def test_paths_are_counted_right_and_none_goes_back(n_blocks: int):
    model = taught.MADE((5,), width=6, n_blocks=n_blocks)
    model.set_order(torch.tensor([3, 0, 4, 1, 2]), torch.randint(1, 5, (6,)))
    layers = [model.inputs.mask, *((b.mask, a.mask) for a, b in model.blocks), model.outputs.mask]
    for output, start in itertools.product(range(5), repeat=2):
        ways = layers[0][:, start]  # paths from the input to each unit
        for second, first in layers[1:-1]:
            around = [sum(second[u, v] * first[v, w] * ways[w] for v in range(6) for w in range(6)) for u in range(6)]
            ways = ways + torch.stack(around)
        assert model.paths()[output, start] == (layers[-1][output] * ways).sum()
    assert (in_order(model.paths(), model.order).triu() == 0).all()


def test_with_a_unit_of_each_degree_every_earlier_pixel_is_heard():
    model = taught.MADE((9,), width=8)
    model.set_order(torch.randperm(9))
    paths = in_order(model.paths(), model.order)
    assert (paths[torch.ones(9, 9).tril(-1).bool()] > 0).all()


def test_hidden_units_hear_those_of_the_same_degree():
    block = taught.MADE((2,), width=3).blocks[0]  # two pixels: all hidden units have degree 1
    assert all((layer.mask == 1).all() for layer in block)


def test_a_new_order_moves_the_masks_and_the_known_pixels():
    model = random_model("MADE that sees its mask", (3, 3))
    x = torch.randint(2, (4, 1, 3, 3)).double()
    first = model.log_prob_each(x)
    order = torch.randperm(9)
    model.set_order(order)
    fresh = taught.MADE((3, 3), width=20, show_mask=True, order=order).double().eval()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.log_prob_each(x), fresh.log_prob_each(x))
    assert not torch.allclose(first, model.log_prob_each(x))


def test_a_network_that_sees_its_mask_is_given_ones():
    model = random_model("MADE that sees its mask", (3, 3))
    x = torch.rand(4, 9, dtype=torch.double)
    torch.testing.assert_close(model.features(x), torch.cat([x, torch.ones_like(x)], 1))


def test_dropout_and_noise_act_in_training_only_and_never_on_the_labels():
    model = taught.MADE((4,), 3, width=16, dropout=0.5, input_dropout=0.3, input_noise=0.5)
    nn.init.normal_(model.outputs.weight)
    x = torch.randint(3, (50, 4)) / 2
    noisy = model.log_prob_each(x)
    assert not torch.equal(noisy, model.log_prob_each(x))
    torch.testing.assert_close(noisy[:, 0], model.log_prob_each(x)[:, 0])  # the first pixel has no inputs
    model.eval()
    assert torch.equal(model.log_prob_each(x), model.log_prob_each(x))


# ---------------------------------------------------------------- drawing and filling in


@every_family
def test_draws_follow_the_models_own_probabilities(family: str):
    model = random_model(family, (2, 2), order=torch.tensor([2, 0, 3, 1]))
    x = torch.tensor([*itertools.product((0.0, 1.0), repeat=4)], dtype=torch.double).view(16, 1, 2, 2)
    expected = 8000 * model.log_prob(x).exp()
    counts = (model.sample(8000)[:, None] == x).all((2, 3, 4)).sum(0)
    assert stats.chisquare(counts.numpy(), expected.detach().numpy()).pvalue > 1e-4


@every_family
def test_completions_follow_the_conditional_and_keep_what_is_known(family: str):
    order = torch.tensor([2, 0, 3, 1])
    model = random_model(family, (2, 2), order=order)
    known = torch.tensor([[True, False], [True, False]])  # pixels 0 and 2 come first
    x = torch.tensor([[1.0, 0.7], [0.0, -3.0]])[None, None]  # what is unknown may hold anything
    drawn = model.complete(x.expand(8000, 1, 2, 2), known)
    assert (drawn[:, 0, 0, 0] == 1).all()
    assert (drawn[:, 0, 1, 0] == 0).all()
    fits = torch.tensor([[1.0, a, 0.0, b] for a in (0, 1) for b in (0, 1)], dtype=torch.double).view(4, 1, 2, 2)
    p = model.log_prob(fits).softmax(0).detach()
    counts = (drawn[:, None] == fits).all((2, 3, 4)).sum(0)
    assert stats.chisquare(counts.numpy(), 8000 * p.numpy()).pvalue > 1e-4
    with pytest.raises(ValueError, match="known pixel comes after an unknown one"):
        model.complete(x, ~known)


def test_drawing_leaves_the_mode_of_training_as_it_was():
    model = taught.MADE((2, 2), width=8, dropout=0.5)
    model.train()
    modes = []
    handle = model.inputs.register_forward_hook(lambda *_: modes.append(model.training))
    model.sample(2)
    handle.remove()
    assert modes == [False] * 4  # no dropout while drawing
    assert model.training


# ---------------------------------------------------------------- divergences, mixtures, training


def test_exact_kl_is_the_sum_over_all_images():
    data = bars_and_stripes(3)
    model = random_model("NADE", (3, 3))
    q = model.log_prob(data.images.double()).exp()
    p = data.probabilities
    torch.testing.assert_close(taught.exact_kl(model, data), (p * (p / q).log()).sum())
    uniform = taught.FVSBN((3, 3)).double()  # all weights zero
    assert taught.exact_kl(uniform, data).item() == pytest.approx(9 * math.log(2) - data.entropy)


def test_completion_errors_vanish_for_the_truth_and_not_for_coins():
    data = bars_and_stripes(2)
    known = torch.tensor([[True, True], [False, False]])
    model = taught.NADE((2, 2), width=8).double()
    taught.minimize(model, lambda: taught.exact_kl(model, data))
    coins = taught.FVSBN((2, 2)).double()
    for x in data.images[:, 0]:
        assert taught.completion_errors(model, data, x, known)[0] < 0.02
    # given an upper row 1, 0 the lower row must be 1, 0: coins give it one quarter
    one = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert taught.completion_errors(coins, data, one, known)[0] == pytest.approx(0.75)


def test_the_guess_that_ignores_what_is_known_is_the_marginal():
    data = bars_and_stripes(2)
    known = torch.tensor([[True, True], [False, False]])
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # the lower row must be 1, 0
    rows = data.images[:, 0, 1]
    probability = data.probabilities[(rows == x[1]).all(1)].sum().item()
    blind = taught.completion_errors(taught.FVSBN((2, 2)).double(), data, x, known)[1]
    assert blind == pytest.approx(1 - probability)


def test_known_pixels_come_first():
    known = torch.rand(4, 5) < 0.5
    order = taught.known_first(known)
    assert sorted(order.tolist()) == list(range(20))
    assert known.flatten()[order].tolist() == sorted(known.flatten().tolist(), reverse=True)


def test_a_mixture_is_the_mean_of_probabilities():
    log_probs = torch.randn(4, 7, dtype=torch.double) * 50
    reference = torch.tensor(
        [math.log(sum(math.exp(v - max(c)) for v in c) / 4) + max(c) for c in log_probs.T.tolist()]
    )
    torch.testing.assert_close(taught.log_mixture(log_probs), reference.double())


def test_training_lowers_the_loss_keeps_the_best_epoch_and_the_order():
    data = bars_and_stripes(3)
    x, x_valid = data.sample(500), data.sample(200, seed=1)
    order = torch.randperm(9)
    model = taught.MADE((3, 3), width=32, order=order, show_mask=True)
    before = taught.mean_nll(model, x_valid)
    loss, seconds = taught.train_averaged(model, x, x_valid, epochs=12, lr=1e-2, new_order=lambda: torch.randperm(9))
    assert loss < before - 0.3
    assert seconds > 0
    assert torch.equal(model.order, order)
    assert taught.mean_nll(model, x_valid) == pytest.approx(loss, abs=1e-5)
    assert not model.training


def test_closeness_is_one_for_neighbors_and_falls():
    near = taught.closeness(3, 4, reach=2.0)
    assert near.shape == (12, 12)
    assert near[0, 1] == near[0, 4] == near[0, 0] == 1
    assert near[0, 2].item() == pytest.approx(math.exp(-0.5))
    assert torch.equal(near, near.T)


def test_each_batch_is_read_in_another_order():
    seen = []

    class Spy(taught.MADE):
        def set_order(self, order, degrees=None):
            seen.append(tuple(order.tolist()))
            super().set_order(order, degrees)

    x = bars_and_stripes(3).sample(100)
    new = iter([torch.randperm(9) for _ in range(4)])
    orders = []
    taught.train_averaged(
        Spy((3, 3), width=8), x, x, epochs=2, lr=1e-2, new_order=lambda: orders.append(next(new)) or orders[-1]
    )
    assert len(orders) == 4
    assert {tuple(order.tolist()) for order in orders} <= set(seen)


def test_the_small_training_goes_on_while_it_helps():
    data = bars_and_stripes(3)
    x, x_valid = data.sample(300), data.sample(300, seed=1)
    model = taught.FVSBN((3, 3))
    start = taught.mean_nll(model, x_valid)
    taught.train_small(model, x, x_valid)
    assert taught.mean_nll(model, x_valid) < start - 1.5


def test_training_adds_the_penalty():
    data = bars_and_stripes(3)
    free, bound = taught.FVSBN((3, 3)), taught.FVSBN((3, 3))
    for model, penalty in ((free, None), (bound, lambda: 10 * bound.linear.weight.square().sum())):
        taught.train_averaged(model, data.sample(200), data.sample(200, seed=1), epochs=40, lr=2e-2, penalty=penalty)
    assert bound.linear.weight.norm() < 0.3 * free.linear.weight.norm()


# ---------------------------------------------------------------- full budget


def test_the_smooth_fvsbn_is_an_fvsbn_with_shared_weights():
    side = 4
    model = taught.SmoothFVSBN(side, knots=side)  # a knot at each pixel: nothing to interpolate
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    W = model.matrix()
    offsets, own, regional = 2 * side - 1, 0.0, 0.0
    for i, j in itertools.product(range(side**2), repeat=2):
        (y, x), (v, u) = divmod(i, side), divmod(j, side)
        if j >= i:
            assert W[i, j] == 0
            continue
        k = (y - v) * offsets + x - u + side - 1
        expected = model.linear.weight[i, j] + 0.5 * model.regional[i, k] + 0.3 * model.shared[k]
        torch.testing.assert_close(W[i, j], expected)
        own += 20 * math.hypot(y - v, x - u) * model.linear.weight[i, j] ** 2
    for dy, dx in itertools.product(range(side), range(1 - side, side)):
        column = model.regional[:, dy * offsets + dx + side - 1]
        regional += max(1, math.hypot(dy, dx)) * (0.5 * column).square().sum()
    torch.testing.assert_close(model.penalty(100), (own + regional) / 200)
    coarse = taught.SmoothFVSBN(side, knots=2)  # each region stands for four pixels
    nn.init.zeros_(coarse.linear.weight)
    with torch.no_grad():
        coarse.regional[0, side] = 2.0  # offset (0, 1), of length one; in W the weight counts half
    assert coarse.penalty(100).item() == pytest.approx(4 * 1.0 / 200)
    images = torch.randint(2, (7, 1, side, side)).float()
    torch.testing.assert_close(model.plain().log_prob(images), model.log_prob(images))


def test_moved_images_keep_what_stays_inside_and_take_each_of_nine_places():
    x = torch.zeros(3, 1, 5, 6)
    x[:, :, 2, 3] = 1
    places = set()
    for _ in range(200):
        y = taught.moved(x)
        assert y.shape == x.shape
        assert y.sum() == 3
        assert torch.equal(y[0], y[2])
        places.add(tuple(y[0, 0].nonzero()[0].tolist()))
    assert places == {(i, j) for i in (1, 2, 3) for j in (2, 3, 4)}
    corner = torch.zeros(1, 1, 5, 6)
    corner[..., 0, 0] = 1
    assert {taught.moved(corner).sum().item() for _ in range(100)} == {
        0.0,
        1.0,
    }  # may leave; never comes back elsewhere


def test_a_changed_batch_is_what_the_model_learns():
    model = taught.MADE((2, 2), width=8)
    x = torch.randint(2, (60, 1, 2, 2)).float()
    taught.train_averaged(model, x, torch.ones(20, 1, 2, 2), epochs=30, lr=5e-2, average=5, change=torch.ones_like)
    with torch.no_grad():
        assert model.log_prob(torch.ones(1, 1, 2, 2)).exp() > 0.9


@pytest.mark.parametrize("name", ["FVSBN", "NADE", "MADE"])
def test_a_full_training_runs_on_a_few_images(name: str, monkeypatch: pytest.MonkeyPatch):
    images = torch.randint(2, (20, 1, 28, 28)).float()
    parts = {split: SimpleNamespace(images=images) for split in ("train", "valid", "test")}
    rows, cards = [], []
    scope = taught.train_full.__globals__
    monkeypatch.setitem(scope, "load", lambda _: parts)
    monkeypatch.setitem(scope, "record", lambda *row, **rest: rows.append(row))
    monkeypatch.setitem(scope, "save_weights", lambda model, file, card: cards.append((file, card)))
    short = {key: [phase | {"epochs": 1} for phase in phases] for key, phases in taught.FULL.items()}
    monkeypatch.setitem(scope, "FULL", short)
    trained, train = [], taught.train_averaged
    monkeypatch.setitem(scope, "train_averaged", lambda model, *a, **k: trained.append(model) or train(model, *a, **k))
    taught.train_full(name)
    models = list(dict.fromkeys(trained))
    assert trained == [model for model in models for _ in taught.FULL[name]]  # each network goes through each phase
    assert len(models) == (2 if name == "MADE" else 1)
    with torch.no_grad():
        mean_probability = torch.stack([model.log_prob(images).double().exp() for model in models]).mean(0)
    assert rows[0][4] == pytest.approx(-mean_probability.log().mean().item(), rel=1e-3)  # weights may be rounded
    assert rows[0][:4] == ("14", name, "binarized_mnist", "nll")
    assert len(cards) == (name != "MADE")
    assert all(card["test_nll"] == rows[0][4] for _, card in cards)


# ---------------------------------------------------------------- shipped weights


@pytest.mark.parametrize("name", ["FVSBN", "NADE"])
def test_shipped_weights_load_and_know_strokes(name: str):
    model = taught.FVSBN((28, 28)) if name == "FVSBN" else taught.NADE((28, 28), width=500)
    card = load_weights(model.eval(), f"14_{name.lower()}_binarized_mnist")
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert card["dataset"] == "binarized_mnist"
    with torch.no_grad():
        drawn = model.sample(20)
        own, upside_down, noise = (
            -model.log_prob(x).mean()
            for x in (drawn, drawn.flip(2), torch.bernoulli(drawn.mean().expand(20, 1, 28, 28)))
        )
    assert own < upside_down < noise
    assert 60 < own < 140
