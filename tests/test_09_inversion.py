"""What lecture 09 teaches, imported from its notebook, against geometry, dense linear algebra, and exact posteriors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from course_utils.reuse import lecture

taught = lecture("09")
LinearGaussian = lecture("08").LinearGaussian


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


# ---------------------------------------------------------------- rays


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.1, 0.25, 1.0, 3.0]))
def test_lengths_add_up_and_agree_with_points_on_the_ray(seed: int, rows: int, columns: int, cell: float):
    rng = np.random.default_rng(seed)
    start, end = (rng.random((5, 2)) * [columns * cell, rows * cell] for _ in range(2))
    A = taught.ray_matrix(start, end, (rows, columns), cell).toarray()
    length = np.linalg.norm(end - start, axis=1)
    np.testing.assert_allclose(A.sum(1), length, rtol=1e-9)
    assert (A >= 0).all()
    t = (np.arange(3000) + 0.5) / 3000
    for i in range(5):
        column, row = ((start[i] + t[:, None] * (end[i] - start[i])) // cell).astype(int).T
        share = np.bincount(row * columns + column, minlength=rows * columns) / 3000
        assert (
            abs(share * length[i] - A[i]).max() <= 1.001 * length[i] / 3000
        )  # a convex cell: one point too many or few


def test_rays_along_rows_columns_and_diagonals():
    corner = np.array([[0.0, 0.0], [0.0, 0.3], [0.7, 0.0], [0.0, 1.5]])
    ends = np.array([[1.5, 1.5], [1.5, 0.3], [0.7, 1.5], [1.5, 0.0]])
    A = taught.ray_matrix(corner, ends, (3, 3), 0.5).toarray().reshape(4, 3, 3)
    np.testing.assert_allclose(A[0], np.eye(3) * 0.5 * math.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(A[1], [[0.5] * 3, [0] * 3, [0] * 3], atol=1e-12)
    np.testing.assert_allclose(A[2], [[0, 0.5, 0]] * 3, atol=1e-12)
    np.testing.assert_allclose(A[3], np.eye(3)[::-1] * 0.5 * math.sqrt(2), atol=1e-12)
    backwards = taught.ray_matrix(ends, corner, (3, 3), 0.5).toarray().reshape(4, 3, 3)
    np.testing.assert_allclose(backwards, A, atol=1e-12)


def test_a_ray_on_the_border_stays_on_the_grid_and_one_outside_is_refused():
    A = taught.ray_matrix(np.array([[0.0, 1.5]]), np.array([[1.5, 1.5]]), (3, 3), 0.5).toarray().reshape(3, 3)
    np.testing.assert_allclose(A, [[0] * 3, [0] * 3, [0.5] * 3], atol=1e-12)
    for bad in (1.6, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"outside of the grid of 1\.5 m by 1\.5 m"):
            taught.ray_matrix(np.array([[0.0, bad]]), np.array([[1.5, 1.0]]), (3, 3), 0.5)


def test_crosshole_pairs_every_transmitter_with_every_receiver():
    start, end = taught.crosshole(4, (8, 6), 0.5)
    assert len({(a[1], b[1]) for a, b in zip(start, end, strict=True)}) == 16
    assert set(start[:, 0]) == {0.0}
    assert set(end[:, 0]) == {3.0}
    np.testing.assert_allclose(sorted(set(start[:, 1])), [0.5, 1.5, 2.5, 3.5])


def test_travel_time_of_a_uniform_section_is_distance_over_velocity():
    start, end = taught.crosshole(5, (8, 6), 0.5)
    lengths = torch.from_numpy(taught.ray_matrix(start, end, (8, 6), 0.5).toarray())
    x = torch.stack([torch.zeros(1, 8, 6), torch.ones(1, 8, 6)]).double()
    distance = np.linalg.norm(end - start, axis=1)
    expected = np.stack([distance / 0.06, distance / 0.08])  # m / (m / ns)
    np.testing.assert_allclose(taught.travel_times(x, lengths), expected, rtol=1e-12)


# ---------------------------------------------------------------- Tikhonov


@pytest.fixture(scope="module")
def small():
    """A ray matrix for 6 × 5 cells, data of a smooth section, and the noise level."""
    rng = np.random.default_rng(1)
    A = taught.ray_matrix(*taught.crosshole(4, (6, 5), 1.0), (6, 5), 1.0)
    u = 14 + np.add.outer(np.sin(np.arange(6)), np.cos(np.arange(5))).ravel()
    return A, A @ u + 0.5 * rng.standard_normal(16), 0.5


def test_roughness_is_the_sum_of_squared_differences():
    u = np.random.default_rng(0).standard_normal((6, 5))
    weighted = 4 * (np.diff(u, axis=0) ** 2).sum() + 9 * (np.diff(u, axis=1) ** 2).sum()
    assert np.sum((taught.roughness((6, 5), 2.0, 3.0) @ u.ravel()) ** 2) == pytest.approx(weighted)


@pytest.mark.parametrize("lam", [1e-3, 0.4, 50.0])
def test_tikhonov_is_the_least_squares_solution(small, lam: float):
    A, y, sigma = small
    R = taught.roughness((6, 5))
    stacked = np.vstack([A.toarray() / sigma, math.sqrt(lam) * R.toarray()])
    expected = np.linalg.lstsq(stacked, np.concatenate([y / sigma, np.zeros(R.shape[0])]), rcond=None)[0]
    np.testing.assert_allclose(taught.Tikhonov(A, R, sigma).solve(y, lam), expected, rtol=1e-7)


def test_the_discrepancy_principle_hits_its_target_or_says_why_not(small):
    A, y, sigma = small
    solver = taught.Tikhonov(A, taught.roughness((6, 5)), sigma)
    for target in (0.5, 1.0, 1.3):
        u = solver.solve(y, solver.discrepancy(y, target))
        assert np.mean((y - A @ u) ** 2) / sigma**2 == pytest.approx(target, rel=1e-6)
    for impossible in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match=rf"chi² = {impossible} is below .* that of lam = 1e-6"):
            solver.discrepancy(y, impossible)


def test_a_uniform_section_is_enough_if_it_fits_better_than_the_target(small):
    A, y, sigma = small
    solver = taught.Tikhonov(A, taught.roughness((6, 5)), sigma)
    lam = solver.discrepancy(y, 1e6)
    lengths = A.sum(1)
    best = lengths @ y / (lengths @ lengths)  # least squares with one unknown
    np.testing.assert_allclose(solver.solve(y, lam), best, rtol=1e-5)


# ---------------------------------------------------------------- the latent posterior and its sampler


def linear_posterior(n_chains: int, covariance: torch.Tensor):
    """Return a LatentPosterior of a linear map with three latents, and its exact mean and covariance."""
    G = torch.randn(8, 3, dtype=torch.float64)
    y = 2 * torch.randn(1, 8, dtype=torch.float64)
    inverse = torch.linalg.inv(covariance)
    exact = torch.linalg.inv(G.T @ inverse @ G + torch.eye(3, dtype=torch.float64))
    return (
        taught.LatentPosterior(lambda z: z @ G.T, y, covariance).repeat(n_chains),
        (y @ inverse @ G @ exact)[0],
        exact,
    )


def correlated() -> torch.Tensor:
    root = torch.randn(8, 8, dtype=torch.float64)
    return root @ root.T + torch.eye(8, dtype=torch.float64)


def test_log_prob_is_that_of_torch_with_a_full_covariance():
    posterior, _, _ = linear_posterior(4, correlated())
    z = torch.randn(4, 3, dtype=torch.float64)
    likelihood = torch.distributions.MultivariateNormal(posterior.predict(z), posterior.covariance)
    expected = likelihood.log_prob(posterior.y) + torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    difference = posterior.log_prob(z) - expected
    torch.testing.assert_close(difference, difference[:1].expand(4), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"data \[1, 7\], covariance \[8, 8\]"):
        taught.LatentPosterior(posterior.predict, torch.zeros(1, 7), posterior.covariance)


def test_gauss_newton_is_exact_for_a_linear_map_and_the_hessian_without_residual():
    posterior, _, exact = linear_posterior(2, correlated())
    B = posterior.gauss_newton(torch.randn(2, 3, dtype=torch.float64))
    torch.testing.assert_close(B @ B.transpose(1, 2), exact.expand(2, 3, 3))
    bent = taught.LatentPosterior(lambda z: torch.sin(z) @ torch.eye(3, 8).double(), posterior.y, posterior.covariance)
    z = torch.randn(1, 3, dtype=torch.float64)
    bent.y = bent.predict(z)  # no residual: the second derivatives of the map do not count
    hessian = torch.autograd.functional.hessian(lambda code: -bent.log_prob(code[None])[0], z[0])
    torch.testing.assert_close(torch.linalg.inv(hessian), (bent.gauss_newton(z) @ bent.gauss_newton(z).mT)[0])


def test_repeated_data_stand_in_consecutive_rows():
    y = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    many = taught.LatentPosterior(lambda z: z, y, torch.eye(2)).repeat(3)
    assert many.y[:, 0].tolist() == [1, 1, 1, 3, 3, 3]


def test_best_codes_are_modes_of_their_own_data_best_first():
    G = torch.randn(30, taught.N_LATENT)
    y = 2 * torch.randn(3, 30)
    posterior = taught.LatentPosterior(lambda z: z @ G.T, y, 4 * torch.eye(30))
    mode = torch.linalg.solve(G.T @ G / 4 + torch.eye(taught.N_LATENT), G.T @ y.T / 4).T  # [cases, latent]
    codes = taught.best_codes(posterior, 5, 3)
    assert codes.shape == (3, 3, taught.N_LATENT)
    log_p = posterior.repeat(3).log_prob(codes.flatten(0, 1)).view(3, 3)
    assert (log_p.diff(dim=1) <= 1e-4).all()
    assert (posterior.log_prob(mode) - log_p[:, 0]).abs().max() < 0.1  # nats, after 150 steps


def test_descent_finds_the_mode_of_a_linear_posterior():
    posterior, mean, _ = linear_posterior(5, correlated())
    z = taught.descend(posterior, torch.randn(5, 3, dtype=torch.float64), n_steps=400)
    torch.testing.assert_close(z, mean.expand(5, 3), rtol=0, atol=5e-3)


@pytest.mark.parametrize("n_leapfrog", [1, 4])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_hmc_draws_from_the_exact_posterior(n_leapfrog: int, preconditioned: bool):
    """Thinned draws of 60 chains: every latent against its normal distribution, and all covariances."""
    posterior, mean, exact = linear_posterior(60, correlated())
    z = mean + torch.randn(60, 3, dtype=torch.float64)
    unit = torch.eye(3, dtype=torch.float64).expand(60, 3, 3)
    factor = posterior.gauss_newton(z) if preconditioned else unit
    draws, rates = taught.hmc(posterior.log_prob, z, factor, 100, 300, n_leapfrog)
    assert draws.shape == (300, 60, 3)
    assert 0.4 < rates.mean() < 0.9
    thin = draws[19::20].flatten(0, 1)
    for k in range(3):
        scaled = (thin[:, k] - mean[k]) / exact[k, k].sqrt()
        assert stats.kstest(scaled.numpy(), "norm").pvalue > 1e-4
    assert (thin.T.cov() / (exact.diagonal()[:, None] * exact.diagonal()).sqrt() - exact / (
        exact.diagonal()[:, None] * exact.diagonal()).sqrt()).abs().max() < 5 * math.sqrt(2 / len(thin))  # fmt: skip


def test_hmc_corrects_for_a_coarse_step_on_a_density_that_is_not_gaussian():
    """exp(-z⁴): the accept step must remove the leapfrog's error. Its second moment is Γ(3/4)/Γ(1/4)."""
    z, unit = torch.randn(200, 1, dtype=torch.float64), torch.ones(200, 1, 1, dtype=torch.float64)
    draws, _ = taught.hmc(lambda z: -(z**4).sum(1), z, unit, 100, 500, 3)
    per_chain = (draws**2).mean((0, 2))
    exact = math.gamma(0.75) / math.gamma(0.25)
    assert abs(per_chain.mean() - exact) < 4.5 * per_chain.std() / math.sqrt(200)
    assert per_chain.std() / math.sqrt(200) < 0.01 * exact


def test_diagnose_tells_chains_that_agree_from_chains_that_do_not():
    samples = torch.randn(500, 4, 2)
    rhat, ess = taught.diagnose(samples)
    assert rhat < 1.02
    assert 1200 < ess < 3000
    samples[:, 0, 1] += 5
    rhat, ess = taught.diagnose(samples)
    assert rhat > 1.3
    assert ess < 30


# ---------------------------------------------------------------- what is measured


class Half(nn.Module):
    """A decoder that returns half of the image; the code is the image itself."""

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.flatten(1), torch.full_like(x.flatten(1), -3.0)

    def mean_image(self, z: torch.Tensor) -> torch.Tensor:
        return z.view(-1, 1, 2, 2) / 2


def test_representation_covariance_is_the_second_moment_of_the_travel_time_error():
    x, lengths = torch.rand(50, 1, 2, 2), torch.rand(3, 4)
    error = x.flatten(1) / 2 @ lengths.T * (1 / 0.08 - 1 / 0.06)
    expected = sum(torch.outer(e, e) for e in error) / 50
    torch.testing.assert_close(taught.representation_covariance(Half(), x, lengths), expected)


def test_intervals_cover_what_they_promise():
    truth = torch.randn(20_000, dtype=torch.float64)
    share = taught.covered(torch.randn(400, 20_000, dtype=torch.float64), truth, level=0.8).double().mean().item()
    assert share == pytest.approx(0.8, abs=0.02)  # 400 draws: quantiles are a little inside


def test_scores_of_a_shifted_section():
    truth = torch.zeros(1, 32, 24)
    truth[:, 8:16] = 1
    assert taught.scores(truth, truth) == (0, pytest.approx(1))
    rmse, ssim = taught.scores(truth + 0.1, truth)
    assert rmse == pytest.approx(0.1 * (1 / 0.06 - 1 / 0.08), rel=1e-5)
    assert 0 < ssim < 1


def test_structural_similarity_of_two_uniform_sections_is_its_luminance_term():
    """Without variance, the formula of Wang et al. is (2ab + c) / (a² + b² + c) with c = (0.01 · range)², range 1."""
    one, other = torch.full((1, 32, 24), 0.2), torch.full((1, 32, 24), 0.6)
    assert taught.scores(one, other)[1] == pytest.approx((2 * 0.12 + 1e-4) / (0.4 + 1e-4), abs=2e-5)
