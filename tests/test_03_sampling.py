"""What lecture 03 teaches, imported from its notebook, against SciPy, ArviZ, enumeration and closed forms."""

import math
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from course_utils.quiet import arviz
from course_utils.reuse import lecture

taught = lecture("03")
ALPHA = 1e-4  # with fixed seeds a test passes always or never; a right sampler passes at all but one seed in 10,000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def exact_kernel(conditional, p: int) -> np.ndarray:
    """Return the kernel of one Gibbs sweep, by its definition, one state and one coordinate at a time."""
    states, K = taught.all_states(p), np.eye(2**p)
    for i in range(p):
        site = np.zeros((2**p, 2**p))
        for row, x in enumerate(states):
            one = conditional(i, x[None])[0]
            for value, probability in ((1, one), (0, 1 - one)):
                new = x.copy()
                new[i] = value
                site[row, int("".join(map(str, new)), 2)] = probability
        K = K @ site
    return K


# --- the tests themselves ---


def test_states_are_the_binary_numbers():
    assert taught.all_states(2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert taught.state_index(taught.all_states(9)).tolist() == list(range(512))
    with pytest.raises(ValueError, match="p=21"):
        taught.all_states(21)


def test_chi2_is_that_of_scipy_and_merges_rare_cells():
    counts = np.array([30, 50, 20])
    assert taught.chi2_p_value(counts, [0.3, 0.4, 0.3]) == stats.chisquare(counts, [30, 40, 30]).pvalue
    merged = taught.chi2_p_value([60, 36, 1, 3], [0.6, 0.33, 0.02, 0.05])  # expected 60, 33, 2, 5
    assert merged == pytest.approx(stats.chisquare([60, 36, 4], [60, 33, 7]).pvalue)
    assert taught.chi2_p_value([99, 1], [1.0, 0.0]) == 0
    with pytest.raises(ValueError, match="counts"):
        taught.chi2_p_value([1, 2], [0.5, 0.4])


# --- exact samplers ---


def test_gaussians_have_their_covariance(rng):
    d, mu = 4, np.array([1.0, -2.0, 0.5, 0.0])
    A = rng.standard_normal((d, d))
    sigma = A @ A.T + 0.1 * np.eye(d)
    y = taught.cholesky_gaussian(mu, sigma, 20_000, rng)
    for direction in rng.standard_normal((5, d)):  # every projection of a Gaussian is one
        law = stats.norm(direction @ mu, math.sqrt(direction @ sigma @ direction))
        assert stats.kstest(y @ direction, law.cdf).pvalue > ALPHA


def test_box_muller_is_the_change_of_variables(rng):
    z = taught.box_muller(20_000, rng)
    assert stats.kstest(z.ravel(), "norm").pvalue > ALPHA
    assert stats.kstest((z**2).sum(1), stats.chi2(2).cdf).pvalue > ALPHA
    assert stats.kstest((z[:, 0] + z[:, 1]) / math.sqrt(2), "norm").pvalue > ALPHA


def test_inversion(rng):
    assert stats.kstest(taught.exponential(3.0, 20_000, rng), stats.expon(scale=1 / 3).cdf).pvalue > ALPHA
    probs = stats.binom.pmf(np.arange(11), 10, 0.3)
    counts = np.bincount(taught.categorical(probs, 20_000, rng), minlength=11)
    assert taught.chi2_p_value(counts, probs) > ALPHA
    assert set(taught.categorical(np.array([0.0, 1.0, 0.0]), 1000, rng)) == {1}
    with pytest.raises(ValueError, match="probabilities"):
        taught.categorical(np.array([0.5, 0.4]), 1, rng)


def test_rejection_keeps_one_in_m_and_refuses_a_low_envelope(rng):
    target, proposal = stats.norm(0, 1), stats.cauchy()
    M = math.sqrt(2 * math.pi / math.e)  # the largest ratio, at x = ±1
    x, height, kept = taught.rejection(target.pdf, proposal, M, 20_000, rng)
    assert stats.kstest(x[kept], "norm").pvalue > ALPHA
    assert stats.binomtest(int(kept.sum()), 20_000, 1 / M).pvalue > ALPHA
    assert np.array_equal(kept, height < target.pdf(x))
    assert stats.kstest(height / (M * proposal.pdf(x)), "uniform").pvalue > ALPHA
    with pytest.raises(ValueError, match="too small"):
        taught.rejection(target.pdf, proposal, 0.9 * M, 20_000, rng)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.floats(-500, 500))
def test_effective_sample_size_of_weights(log_w: list[float], shift: float):
    log_w = np.array(log_w)
    ess = taught.importance_ess(log_w)
    w = np.exp(log_w - log_w.max())
    assert ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
    assert taught.importance_ess(log_w + shift) == pytest.approx(ess, rel=1e-9)
    assert 1 - 1e-9 <= ess <= len(log_w) * (1 + 1e-9)


# --- Markov chains ---


def test_metropolis_kernel_is_balanced_for_any_proposal(rng):
    q = rng.dirichlet(np.ones(7), 7)
    p = rng.gamma(1, size=7)
    K = taught.metropolis_kernel(p, q)
    np.testing.assert_allclose(K.sum(1), 1)
    assert K.min() >= 0
    np.testing.assert_allclose(p[:, None] * K, (p[:, None] * K).T, atol=1e-14)
    np.testing.assert_allclose(taught.stationary(K), p / p.sum(), atol=1e-10)


def test_simulation_follows_the_kernel(rng):
    K = rng.dirichlet(np.ones(4), 4)
    chain = taught.simulate(K, np.full(20_000, 2), 3, rng)
    assert chain.shape == (4, 20_000)
    for t in (1, 3):
        law = np.linalg.matrix_power(K, t)[2]
        assert taught.chi2_p_value(np.bincount(chain[t], minlength=4), law) > ALPHA


def test_random_walk_samples_a_student(rng):
    law = stats.t(4)
    chain, rate = taught.metropolis_hastings(lambda x: law.logpdf(x[:, 0]), np.zeros((4_000, 1)), 3.0, 150, rng)
    assert chain.shape == (151, 4_000, 1)
    assert stats.kstest(chain[-1, :, 0], law.cdf).pvalue > ALPHA
    moved = (np.diff(chain[..., 0], axis=0) != 0).mean()
    assert rate == pytest.approx(moved, abs=1e-9)
    for step, x in ((0, np.zeros((1, 1))), (-1, np.zeros((1, 1))), (1, np.zeros(3))):
        with pytest.raises(ValueError, match="need step > 0"):
            taught.metropolis_hastings(law.logpdf, x, step, 1, rng)
    with pytest.raises(ValueError, match="eta=0"):
        taught.langevin(lambda x: -x, np.zeros((1, 1)), 0, 1, rng)


@pytest.mark.parametrize("eta", [0.1, 1.0])
def test_langevin_is_biased_as_computed_and_mala_is_not(rng, eta: float):
    start = rng.standard_normal((8_000, 1)) * 2
    for log_prob, variance in ((None, 1 / (1 - eta / 2)), (lambda x: -(x[:, 0] ** 2) / 2, 1)):
        chain, rate = taught.langevin(lambda x: -x, start, eta, 120, rng, log_prob)
        assert stats.kstest(chain[-1, :, 0], stats.norm(0, math.sqrt(variance)).cdf).pvalue > ALPHA
        assert (rate == pytest.approx(1)) == (log_prob is None)


def test_mala_is_right_where_the_score_is_not_constant(rng):
    law = stats.logistic()
    chain, _ = taught.langevin(
        lambda x: -np.tanh(x / 2), np.zeros((6_000, 1)), 1.5, 120, rng, lambda x: law.logpdf(x[:, 0])
    )
    assert stats.kstest(chain[-1, :, 0], law.cdf).pvalue > ALPHA


# --- Gibbs ---


@pytest.mark.parametrize("p", [1, 3, 6])
def test_boltzmann_conditionals_and_probabilities_are_those_of_the_energy(p: int):
    model, x = taught.random_boltzmann(p, 1.3, seed=p), taught.all_states(p)
    weights = []
    for state in x.astype(float):
        pairs = sum(model.W[i, j] * state[i] * state[j] for i in range(p) for j in range(i))
        weights.append(math.exp(model.b @ state + pairs))
    pi = np.array(weights) / sum(weights)
    np.testing.assert_allclose(model.probs(), pi, rtol=1e-10)
    K = exact_kernel(model.conditional, p)
    np.testing.assert_allclose(pi @ K, pi, atol=1e-14)
    product = np.eye(2**p)
    for i in range(p):
        product = product @ taught.site_kernel(model, i).toarray()
    np.testing.assert_allclose(product, K, atol=1e-14)


def test_boltzmann_refuses_bad_parameters():
    for W in (np.array([[0.0, 1.0], [2.0, 0.0]]), np.eye(2), np.zeros((3, 3))):
        with pytest.raises(ValueError, match="W"):
            taught.Boltzmann(W, np.zeros(2))


@pytest.mark.parametrize("p", [2, 5, 10])
def test_gibbs_follows_the_exact_law_at_every_sweep(rng, p: int):
    model, n = taught.random_boltzmann(p, 1.0, seed=p), 20_000
    laws = taught.exact_laws(model, 12)
    states = taught.gibbs_sampler(model.conditional, p, 12, rng, n)
    assert states.shape == (13, n, p)
    assert states.dtype == np.int8
    for t in (0, 1, 2, 12):  # the transient, too: a start other than fair coins would fail
        counts = np.bincount(taught.state_index(states[t]), minlength=2**p)
        assert taught.chi2_p_value(counts, laws[t]) > ALPHA


def test_exact_laws_are_powers_of_the_kernel():
    model = taught.random_boltzmann(5, 1.5, seed=2)
    K = exact_kernel(model.conditional, 5)
    expected = np.full(32, 1 / 32) @ np.linalg.matrix_power(K, 7)
    np.testing.assert_allclose(taught.exact_laws(model, 7)[7], expected, atol=1e-14)
    lam = np.sort(np.abs(np.linalg.eigvals(K)))[-2]
    assert taught.second_eigenvalue(model) == pytest.approx(lam, rel=1e-6)
    mu = np.random.default_rng(0).dirichlet(np.ones(32))
    np.testing.assert_allclose(taught.exact_sweep(model)(mu), mu @ K, atol=1e-15)


def test_the_gap_of_equal_couplings_closes_exponentially():
    """Exercise 5: two mirrored modes; the logarithm of the gap falls at least linearly with the coupling."""
    couplings = np.array([0.5, 1.0, 1.5, 2.0])
    gaps = []
    for w in couplings:
        W = w * (1 - np.eye(8))
        gaps.append(1 - taught.second_eigenvalue(taught.Boltzmann(W, -W.sum(1) / 2)))
    slopes = np.diff(np.log(gaps)) / np.diff(couplings)
    assert (slopes < -4).all()


def test_gibbs_works_with_any_conditional_and_leaves_the_start_alone(rng):
    """Three bits with a third-order interaction, no Boltzmann machine: p(x) from a table."""
    table = rng.dirichlet(np.ones(8))
    calls = []

    def conditional(i: int, x: np.ndarray) -> np.ndarray:
        calls.append(i)
        on, off = x.copy(), x.copy()
        on[:, i], off[:, i] = 1, 0
        one, zero = table[taught.state_index(on)], table[taught.state_index(off)]
        return one / (one + zero)

    start = np.zeros((10_000, 3), dtype=int)
    states = taught.gibbs_sampler(conditional, 3, 40, rng, 10_000, start=start, every=20)
    assert states.shape == (3, 10_000, 3)
    assert not start.any()
    assert not states[0].any()
    assert calls == [0, 1, 2] * 40  # the cost: p times L
    assert taught.chi2_p_value(np.bincount(taught.state_index(states[-1]), minlength=8), table) > ALPHA


def test_gibbs_runs_whole_blocks_of_sweeps(rng):
    """Seven sweeps, one in three kept: states 0, 3 and 6 of the chain that keeps them all."""
    model = taught.random_boltzmann(4, 1.0, seed=0)
    rare = taught.gibbs_sampler(model.conditional, 4, 7, np.random.default_rng(7), 5, every=3)
    every = taught.gibbs_sampler(model.conditional, 4, 7, np.random.default_rng(7), 5)
    assert np.array_equal(rare, every[::3])


def test_gibbs_is_the_same_for_the_same_seed_and_refuses_bad_input(rng):
    model = taught.random_boltzmann(4, 1.0, seed=0)
    one, two = (taught.gibbs_sampler(model.conditional, 4, 5, np.random.default_rng(7), 3) for _ in range(2))
    assert np.array_equal(one, two)
    for bad in ({"n_sweeps": -1}, {"every": 0}, {"n_chains": 0}, {"p": 0}):
        with pytest.raises(ValueError, match="must be"):
            taught.gibbs_sampler(**{"conditional": model.conditional, "p": 4, "n_sweeps": 1, "rng": rng, **bad})
    for start in (np.zeros(4), np.zeros((2, 3)), np.full((2, 4), 0.5)):
        with pytest.raises(ValueError, match="start"):
            taught.gibbs_sampler(model.conditional, 4, 1, rng, 2, start=start)


@pytest.mark.parametrize("n", [1, 7, 50])
def test_floor_is_the_mean_total_variation_of_samples(rng, n: int):
    pi = rng.dirichlet(np.ones(6))
    direct = sum(
        stats.binom.pmf(k, n, prob) * abs(k / n - prob) for prob in pi for k in range(n + 1)
    )  # fmt: skip
    assert taught.sampling_floor(pi, n) == pytest.approx(direct / 2, rel=1e-10)


# --- diagnostics ---


def chains_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return chains [m, n] that are autoregressive, alternating, drifting, short, or in disagreement."""
    if kind.startswith("ar"):
        phi = float(kind[2:])
        noise = rng.standard_normal((4, 200_000)) * math.sqrt(1 - phi**2)
        return lfilter([1], [1, -phi], noise, axis=1)[:, 1000:]
    noise = rng.standard_normal((3, 501))
    return {
        "disagree": noise + 3 * np.arange(3)[:, None],
        "drift": noise + np.linspace(0, 5, 501),
        "short": noise[:2, :10],
        "even": noise[:, :500].cumsum(1),
        "alternate": noise + 5 * (-1) ** np.arange(501),
    }[kind]


KINDS = ["ar-0.3", "ar0.0", "ar0.5", "ar0.95", "disagree", "drift", "short", "even", "alternate"]


@pytest.mark.parametrize("kind", KINDS)
def test_r_hat_and_ess_are_those_of_arviz(rng, kind: str):
    """Both are the same computation, so the tolerance is rounding, for even, odd, short and bad chains."""
    x = chains_of(kind, rng)
    assert taught.r_hat(x) == pytest.approx(float(arviz.rhat(x, method="split")), rel=1e-10)
    assert taught.chain_ess(x) == pytest.approx(float(arviz.ess(x, method="mean")), rel=1e-8)


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.5, 0.95])
def test_ess_is_near_the_truth(rng, phi: float):
    """The standard error of a sum of M autocorrelations is sqrt((4 M + 2) / n): 3 % for M = 150 at phi = 0.95."""
    x = chains_of(f"ar{phi}", rng)
    assert taught.chain_ess(x) == pytest.approx(x.size * (1 - phi) / (1 + phi), rel=0.15)


@pytest.mark.parametrize("diagnostic", ["r_hat", "chain_ess"])
def test_diagnostics_refuse_what_is_no_table_of_chains(diagnostic: str):
    for bad in (np.zeros(100), np.zeros((4, 7)), np.zeros((2, 50, 1))):
        with pytest.raises(ValueError, match="need"):
            getattr(taught, diagnostic)(bad)


# --- tempering ---


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(1, 10), st.floats(1, 10))
def test_swap_ratio_is_that_of_the_joint_density(a: float, b: float, T_j: float, T_k: float):
    before, after = a / T_j + b / T_k, b / T_j + a / T_k
    assert taught.swap_log_ratio(a, b, T_j, T_k) == pytest.approx(after - before, abs=1e-9)


def test_tempering_joins_two_modes(rng):
    def log_prob(x: np.ndarray) -> np.ndarray:
        return np.logaddexp(
            math.log(0.8) + stats.norm.logpdf(x[..., 0], -5, 1), math.log(0.2) + stats.norm.logpdf(x[..., 0], 5, 1)
        )

    def cdf(t: np.ndarray) -> np.ndarray:
        return 0.8 * stats.norm.cdf(t, -5) + 0.2 * stats.norm.cdf(t, 5)

    start = np.full((5, 2_000, 1), 5.0)  # all in the smaller mode
    cold, swaps = taught.parallel_tempering(log_prob, start, np.geomspace(1, 20, 5), 1.5, 400, rng)
    assert cold.shape == (401, 2_000, 1)
    assert (start == 5).all()
    assert stats.kstest(cold[-1, :, 0], cdf).pvalue > ALPHA
    assert ((swaps > 0.2) & (swaps < 1)).all()
    with pytest.raises(ValueError, match="rising from 1"):
        taught.parallel_tempering(log_prob, start, [1, 2, 2, 3, 4], 1.0, 1, rng)


# --- the import of ArviZ ---


def test_arviz_is_imported_without_its_notice_and_nothing_else_is_silenced(tmp_path):
    """The notice comes once a day, unless a file in the user's cache says that it came: here that cache is empty."""
    script = (
        "import warnings; from course_utils.quiet import arviz; warnings.warn('ArviZ is undergoing a major refactor')"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "MPLCONFIGDIR": matplotlib.get_cachedir()}
    command = [sys.executable, "-W", "always", "-c", script]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stderr.count("major refactor") == 1  # ours, from after the import
