"""What lecture 06 teaches, imported from its notebook, against enumeration, autograd, SciPy and scikit-learn."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.neural_network import BernoulliRBM

from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("06")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def random_rbm(p: int, q: int, scale: float = 1.0):
    """Return a machine whose parameters are all random, in double precision."""
    return taught.RBM(*(scale * torch.randn(shape).double() for shape in ((p, q), (p,), (q,))))


def table(rbm) -> tuple[np.ndarray, list, list]:
    """Return exp(-E) [2^p, 2^q] and the states, from the formula of the energy, one state after another."""
    W, a, b = (t.numpy() for t in (rbm.W, rbm.a, rbm.b))
    V, H = (np.array(list(itertools.product((0.0, 1.0), repeat=n))) for n in W.shape)
    return np.exp([[v @ a + h @ b + v @ W @ h for h in H] for v in V]), V, H


@pytest.mark.parametrize(("p", "q"), [(1, 1), (2, 5), (5, 3)])
def test_conditionals_and_marginal_are_those_of_the_joint_table(p: int, q: int):
    rbm = random_rbm(p, q)
    weight, V, H = table(rbm)
    v, h = torch.from_numpy(V), torch.from_numpy(H)
    np.testing.assert_allclose(rbm.in_out(v), weight @ H / weight.sum(1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(rbm.out_in(h), weight.T @ V / weight.sum(0)[:, None], rtol=1e-10)
    np.testing.assert_allclose(taught.log_partition(rbm), math.log(weight.sum()), rtol=1e-12)
    np.testing.assert_allclose(taught.log_prob(rbm, v).exp(), weight.sum(1) / weight.sum(), rtol=1e-10)
    np.testing.assert_allclose((-rbm.energy(v[-1:].expand(len(h), p), h)).exp(), weight[-1], rtol=1e-10)


@pytest.mark.parametrize("units", [(12, 12), (3, 12), (12, 3)])
def test_the_smaller_layer_gives_the_same_partition_function(units: tuple[int, int]):
    rbm = random_rbm(*units)
    other = (-rbm.flipped().free_energy(taught.all_states(units[1]))).logsumexp(0)
    torch.testing.assert_close(taught.log_partition(rbm), other)


def test_all_states_are_all_and_each_once():
    states = taught.all_states(5)
    assert {tuple(row) for row in states.tolist()} == set(itertools.product((0.0, 1.0), repeat=5))
    assert (states @ 2.0 ** torch.arange(5).double()).tolist() == list(range(32))


@pytest.mark.parametrize("units", [(4, 3), (12, 12)])
def test_exact_gradient_is_that_of_autograd(units: tuple[int, int]):
    rbm = random_rbm(*units)
    X = taught.bernoulli(torch.full((7, units[0]), 0.3).double())
    leaves = [t.clone().requires_grad_() for t in (rbm.W, rbm.a, rbm.b)]
    taught.log_prob(taught.RBM(*leaves), X).mean().backward()
    for leaf, ours in zip(leaves, taught.exact_gradient(rbm, X), strict=True):
        torch.testing.assert_close(leaf.grad, ours, rtol=1e-9, atol=1e-11)


def test_conditionals_are_those_of_scikit_learn():
    theirs = BernoulliRBM(4, n_iter=3, random_state=0).fit(
        np.random.default_rng(0).integers(0, 2, (50, 6)).astype(float)
    )
    parts = theirs.components_.T, theirs.intercept_visible_, theirs.intercept_hidden_
    ours = taught.RBM(*(torch.tensor(part) for part in parts))
    x = taught.all_states(6)
    np.testing.assert_allclose(ours.in_out(x), theirs.transform(x.numpy()), rtol=1e-12)


def test_the_gibbs_chain_has_the_machine_as_its_stationary_distribution():
    rbm = random_rbm(4, 3, scale=0.7)
    V, P, H = taught.gibbs(rbm, taught.bernoulli(torch.full((20_000, 3), 0.5).double()), 30)
    torch.testing.assert_close(P, rbm.in_out(V))
    for drawn, machine in ((V, rbm), (H, rbm.flipped())):
        states = taught.all_states(drawn.shape[1])
        counts = (drawn[:, None] == states).all(2).sum(0).numpy()
        expected = len(drawn) * taught.log_prob(machine, states).exp().numpy()
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


@pytest.mark.parametrize("k", [1, 3])
def test_expected_gibbs_is_the_average_of_gibbs(k: int):
    rbm, start = random_rbm(4, 3), torch.zeros(40_000, 4).double()
    V, _, _ = taught.gibbs(rbm, taught.bernoulli(rbm.in_out(start)), k)
    states = taught.all_states(4)
    pi = taught.expected_gibbs(rbm, torch.eye(16).double()[0], k)
    counts = (V[:, None] == states).all(2).sum(0).numpy()
    assert pi.sum().item() == pytest.approx(1, abs=1e-12)
    assert stats.chisquare(counts, pi.numpy() * len(V)).pvalue > 1e-4


def test_the_exact_distribution_does_not_move():
    rbm = random_rbm(5, 4)
    p = taught.log_prob(rbm, taught.all_states(5)).exp()
    torch.testing.assert_close(taught.expected_gibbs(rbm, p, 3), p, rtol=1e-10, atol=0)


@pytest.mark.parametrize(("option", "k"), [({"k": 1}, 1), ({"k": 4}, 4)])
def test_a_step_of_train_is_contrastive_divergence_on_average(option: dict, k: int):
    rbm, x = random_rbm(3, 2), torch.tensor([[1.0, 0.0, 1.0]]).double()
    W, a, b = rbm.W.clone(), rbm.a.clone(), rbm.b.clone()
    X = x.repeat(200_000, 1)  # one update with very many copies: the average of the update
    taught.train(rbm, X, len(X), eps=1.0, epochs=1, **option)
    states = taught.all_states(3)
    start = (states == x).all(1).double()
    before = taught.RBM(W, a, b)
    expected = taught.ascent_direction(before, x, states, taught.expected_gibbs(before, start, k))
    for new, old, step in zip((rbm.W, rbm.a, rbm.b), (W, a, b), expected, strict=True):
        assert (new - old - step).abs().max() < 5 * 0.5 / math.sqrt(len(X))


def test_persistent_chains_go_on_where_the_last_update_left_them():
    rbm, x, n = random_rbm(3, 2), torch.tensor([[1.0, 0.0, 1.0]]).double(), 200_000
    old, seen = taught.RBM(rbm.W.clone(), rbm.a.clone(), rbm.b.clone()), []
    taught.train(
        rbm, x, 1, eps=0.5, epochs=2, n_chains=n,
        after_epoch=lambda _: seen.append([t.clone() for t in (rbm.W, rbm.a, rbm.b)]),
    )  # fmt: skip
    states, before = taught.all_states(3), old
    pi = (states == x).all(1).double()
    for now, new in ((old, seen[0]), (taught.RBM(*seen[0]), seen[1])):
        up, down = before.in_out(states), now.out_in(taught.all_states(2))  # h was drawn before the update, v after it
        pi = pi @ taught.probability_table(up) @ taught.probability_table(down)
        expected = taught.ascent_direction(now, x, states, pi)
        for moved, start, step in zip(new, (now.W, now.a, now.b), expected, strict=True):
            assert (moved - start - 0.5 * step).abs().max() < 5 * 0.5 * 0.5 / math.sqrt(n)
        before = now


@pytest.mark.parametrize("option", [{"k": 5}, {"n_chains": 30}, {"n_chains": 30, "cool": True}])
def test_training_raises_the_exact_likelihood(option: dict):
    X = torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]]).double().repeat(25, 1)
    rbm = taught.init_rbm(4, 3, X)
    start = taught.log_prob(rbm, X).mean()
    assert start.item() == pytest.approx(-4 * math.log(2), abs=0.02)  # fair, independent pixels
    assert taught.train(rbm, X, 20, 0.2, 400, **option) is rbm
    assert taught.log_prob(rbm, X).mean() > -3.2 * math.log(2)  # the best are two pairs, each of one coin: -2 log 2


def test_a_cooling_step_ends_near_zero_and_epochs_are_reported():
    rbm, seen = taught.init_rbm(3, 2), []
    weights = []
    X = taught.all_states(3).float()
    taught.train(rbm, X, 8, 0.1, 100, cool=True, after_epoch=lambda e: (seen.append(e), weights.append(rbm.W.clone())))
    assert seen == list(range(100))
    moves = [(after - before).abs().mean().item() for before, after in itertools.pairwise(weights)]
    assert np.mean(moves[-5:]) < np.mean(moves[:5]) / 5


def test_init_rbm_is_the_model_of_independent_pixels():
    X = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]).double()
    rbm = taught.init_rbm(2, 3, X, scale=0.0)
    torch.testing.assert_close(rbm.out_in(torch.zeros(1, 3).double()), torch.tensor([[0.8, 0.4]]).double())
    assert rbm.W.shape == (2, 3)


def test_annealing_is_unbiased_and_its_interval_covers():
    rbm = random_rbm(8, 5)
    truth = taught.log_partition(rbm).item()
    log_w = taught.ais_log_weights(rbm, torch.randn(8).double(), n_steps=50, n_runs=100 * 100)
    ratio = (log_w - truth).exp()
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(len(ratio))
    intervals = [taught.log_mean(group) for group in log_w.view(100, 100)]
    assert sum(low < truth < high for _, low, high in intervals) >= 95
    assert sum(abs(high - low) < 1 for _, low, high in intervals) >= 95  # covers because it is right, not because wide


def test_annealing_in_few_steps_is_unbiased_because_each_step_is_of_its_own_machine():
    rbm, a0 = random_rbm(5, 3), torch.randn(5).double()
    ratio = (taught.ais_log_weights(rbm, a0, n_steps=3, n_runs=200_000) - taught.log_partition(rbm)).exp()
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(len(ratio))


def test_annealing_is_exact_where_nothing_is_to_be_annealed():
    rbm = taught.RBM(torch.zeros(6, 3), torch.randn(6), torch.zeros(3))
    log_w = taught.ais_log_weights(rbm, rbm.a, n_steps=5, n_runs=10)
    torch.testing.assert_close(log_w, taught.log_partition(rbm).double().expand(10), rtol=1e-5, atol=1e-4)


def test_log_mean_is_the_logarithm_of_the_mean():
    middle, low, high = taught.log_mean(torch.tensor([0.0, math.log(3.0)]).double() + 1000)
    assert middle == pytest.approx(1000 + math.log(2))
    assert high == pytest.approx(1000 + math.log(2 + 3 * math.sqrt(2) / math.sqrt(2)))
    assert low == -math.inf  # the mean less three errors is below zero


def test_recall_counts_hidden_films_among_the_best_new_ones():
    known = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [1.0, 1.0, 0, 0]])
    wanted = torch.tensor([[0, 1.0, 1.0, 0], [0, 0, 1.0, 0], [0, 0, 0, 0.0]])
    scores = torch.tensor([[9.0, 3, 1, 2], [1, 9, 2, 3], [1, 2, 3, 4]])  # the best is known already: not a guess
    assert taught.recall_at(scores, known, wanted, k=1).tolist() == [1, 0]  # the third user has nothing to find
    assert taught.recall_at(scores, known, wanted, k=2).tolist() == [0.5, 1]


def test_the_path_goes_from_independent_pixels_to_the_machine():
    rbm, a0, states = random_rbm(4, 3), torch.randn(4).double(), taught.all_states(4)
    ends = [taught.on_path(rbm, a0, tau) for tau in (0.0, 1.0)]
    torch.testing.assert_close(ends[0].out_in(taught.all_states(3)), torch.sigmoid(a0).expand(8, 4))
    torch.testing.assert_close(ends[0].in_out(states), torch.full((16, 3), 0.5).double())
    torch.testing.assert_close(taught.log_prob(ends[1], states), taught.log_prob(rbm, states))


@pytest.mark.parametrize("n_steps", [1, 4, 20])
def test_annealing_back_encloses_log_z_and_is_unbiased(n_steps: int):
    rbm, a0 = random_rbm(6, 4), torch.randn(6).double()
    states = taught.all_states(6)
    X = states[torch.multinomial(taught.log_prob(rbm, states).exp(), 20_000, replacement=True)]
    back = taught.reverse_log_z(rbm, a0, X, n_steps) - taught.log_partition(rbm)
    ahead = taught.ais_log_weights(rbm, a0, n_steps, 20_000) - taught.log_partition(rbm)
    ratio = (-back).exp()
    assert abs(ratio.mean() - 1) < 4.5 * ratio.std() / math.sqrt(len(ratio))
    assert ahead.mean() < -0.01
    assert back.mean() > 0.01


def test_a_step_back_from_one_image_estimates_where_annealing_ends():
    rbm, a0, states = random_rbm(4, 3), torch.randn(4).double(), taught.all_states(4)
    p = torch.softmax(states @ a0, 0)  # K = 1: draw from the pixels, then one Gibbs step of the machine
    ends = taught.expected_gibbs(rbm, p, 1)
    for x, p_ann in zip(states[[0, 5, 15]], ends[[0, 5, 15]], strict=True):
        back = taught.reverse_log_z(rbm, a0, x.expand(20_000, -1), 1)
        found = (-rbm.free_energy(x[None]) - back).exp()
        assert abs(found.mean() - p_ann) < 4.5 * found.std() / math.sqrt(len(found))


def test_bad_input_is_named():
    rbm = random_rbm(3, 2)
    with pytest.raises(ValueError, match=r"shape \(4, 2\); expected \[n, 3\]"):
        rbm.in_out(torch.zeros(4, 2).double())
    with pytest.raises(ValueError, match=r"expected \[n, 2\]"):
        rbm.out_in(torch.zeros(4, 3).double())
    with pytest.raises(ValueError, match="p=0, q=2"):
        taught.init_rbm(0, 2)
    with pytest.raises(ValueError, match="k=0"):
        taught.gibbs(rbm, torch.zeros(1, 2).double(), 0)
    with pytest.raises(ValueError, match="eps=0"):
        taught.train(rbm, torch.zeros(2, 3).double(), 1, 0, 1)
    with pytest.raises(ValueError, match="21 units"):
        taught.log_partition(taught.init_rbm(21, 22))


def test_the_shipped_machine_is_that_of_its_card():
    shipped = taught.as_module(taught.init_rbm(taught.P_MNIST, taught.Q_MNIST))
    card = load_weights(shipped, taught.NAME)
    rbm = taught.RBM(*(shipped[key].detach().float() for key in ("W", "a", "b")))
    assert card["parameters"] == 784 * 500 + 784 + 500
    assert card["nll_low"] <= card["nll"] <= card["nll_high"] < 90
    assert card["nll"] < card["nll_reverse"]  # annealing forward and back err to opposite sides
    assert torch.equal(taught.rounded(rbm).W, rbm.W)
    _, _, H = taught.gibbs(rbm, taught.bernoulli(torch.full((20, 500), 0.5)), 500)
    drawn, _, _ = taught.gibbs(rbm, H, 1)
    surprise, flipped = ((rbm.free_energy(x) + card["log_z"]).mean() for x in (drawn, drawn.flip(1)))
    assert surprise < 110  # its draws are as likely as digits are …
    assert flipped > surprise + 20  # … and upside down they are not
