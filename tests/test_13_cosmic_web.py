"""What lecture 13 teaches, imported from its notebook, against closed forms, SciPy and the simulator."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

from course_utils.results import load_weights
from course_utils.reuse import lecture
from course_utils.synthetic import cosmic_web

taught = lecture("13")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def density():
    return cosmic_web(400, seed=20).density.astype(float)


@pytest.mark.parametrize("size", [8, 9, 28])
def test_rings_hold_every_mode_once(size: int):
    ring, modes = taught.rings(size)
    assert modes.sum() == ring.size == size**2
    for i, j in ((0, 1), (1, 0), (2, 1), (-1, -2), (2, 2), (-2, 3), (3, 3)):
        assert ring[i, j] == round(math.hypot(i, j))


@pytest.mark.parametrize("size", [8, 28])
def test_power_of_a_wave_is_in_its_ring_and_nowhere_else(size: int):
    i, j = np.indices((size, size))
    wave = np.cos(2 * np.pi * (2 * i + j) / size)  # |k| = √5, in ring 2
    power = taught.power_spectrum(np.stack([wave, 3 * wave]))
    _, modes = taught.rings(size)
    assert power.shape == (2, size // 2)
    # Parseval: the sum of P over the modes is size² times the variance, which is 1/2
    np.testing.assert_allclose(power[0, 1] * modes[2], size**2 / 2)
    np.testing.assert_allclose(power[1], 9 * power[0], atol=1e-12)
    np.testing.assert_allclose(np.delete(power[0], 1), 0, atol=1e-12)


def test_power_of_white_noise_is_its_variance_and_scatters_by_the_number_of_modes():
    white = np.random.default_rng(0).standard_normal((3000, 16, 16))
    power, modes = taught.power_spectrum(2 * white), taught.rings(16)[1][1:9]
    np.testing.assert_allclose(power.mean(0), 4, rtol=5 * math.sqrt(2 / 8 / 3000))
    np.testing.assert_allclose(power.std(0), 4 * np.sqrt(2 / modes), rtol=0.1)


@pytest.mark.parametrize(("size", "oversample"), [(8, 3), (28, 3), (32, 2)])
def test_displacement_and_deposit_make_the_simulators_density(size: int, oversample: int):
    initial, density = cosmic_web(2, seed=21, size=size, growth=0.9, oversample=oversample)
    points = (np.arange(size * oversample) + 0.5) / oversample
    q = np.stack(np.meshgrid(points, points, indexing="ij"))
    for before, after in zip(initial.astype(float), density, strict=True):
        ours = taught.cloud_in_cell(q + 0.9 * taught.displacement(before, points), size)
        np.testing.assert_allclose(ours, after, atol=2e-4)


def test_displacement_of_a_wave_is_along_it_and_turns_it_into_a_sheet_on_time():
    size, n = 16, 2
    points = np.arange(400) / 25
    delta = np.cos(2 * np.pi * n * np.arange(size) / size)[:, None].repeat(size, 1)
    psi = taught.displacement(delta, points)
    exact = -size / (2 * np.pi * n) * np.sin(2 * np.pi * n * points / size)
    np.testing.assert_allclose(psi[0], exact[:, None].repeat(400, 1), atol=1e-9)
    np.testing.assert_allclose(psi[1], 0, atol=1e-9)
    # λ₁ is the contrast itself: neighbors first meet when D₊ is one over its maximum
    q = points[:, None]
    assert (np.diff(q + 0.99 * psi[0], axis=0) > 0).all()
    assert (np.diff(q + 1.05 * psi[0], axis=0) < 0).any()


def test_cloud_in_cell_shares_a_particle_out_by_area_across_the_edges():
    mass = taught.cloud_in_cell(np.array([[3.75], [1.0]]), 4)
    np.testing.assert_allclose(mass[3, 1], 16 * 0.25)
    np.testing.assert_allclose(mass[0, 1], 16 * 0.75)
    r = np.random.default_rng(1).uniform(-20, 20, (2, 500))
    mass = taught.cloud_in_cell(r, 8)
    assert mass.sum() == pytest.approx(64)
    np.testing.assert_allclose(mass, taught.cloud_in_cell(r + 8, 8), atol=1e-9)
    center = taught.cloud_in_cell(np.array([[2.3], [4.6]]), 8) / 64
    i, j = np.indices((8, 8))
    assert ((center * i).sum(), (center * j).sum()) == pytest.approx((2.3, 4.6))


def test_images_and_densities_are_inverse(density):
    images = taught.to_image(density)
    assert images.shape == (400, 1, 32, 32)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(taught.to_density(images), density, rtol=1e-4)
    known = taught.to_image(np.array([[[0.0, 0.125, 511 / 8]]]))
    torch.testing.assert_close(known.flatten(), torch.tensor([0, 1 / 9, 1]))


def test_peaks_are_those_of_scipys_filter(density):
    highest = ndimage.maximum_filter(density[:50], size=(1, 3, 3), mode="wrap")
    np.testing.assert_array_equal(taught.peaks(density[:50]), density[:50] == highest)


def test_yardstick_measures_what_numpy_measures(density):
    yardstick = taught.Yardstick(density)
    measured = yardstick.measure(density[:7])
    for box, one_point, counts in zip(density, measured["one-point"], measured["peaks"], strict=False):
        np.testing.assert_allclose(one_point, np.histogram(box, yardstick.edges["one-point"])[0] / 1024)
        heights = box[taught.peaks(box[None])[0]]
        np.testing.assert_array_equal(counts, np.histogram(heights, yardstick.edges["peaks"])[0])
    np.testing.assert_allclose(yardstick.mean["one-point"], np.diff(taught.QUANTILES), atol=1e-3)
    assert all(values.sum() > 0 for values in measured.values())
    extreme = np.zeros((1, 32, 32)) - 5
    extreme[0, 3, 3] = 1e6
    beyond = yardstick.measure(extreme)
    assert beyond["one-point"][0, [0, -1]] == pytest.approx([1023 / 1024, 1 / 1024])
    assert beyond["peaks"].sum() == 1


def test_deviations_of_the_same_boxes_are_zero_on_average_and_one_wide(density):
    yardstick = taught.Yardstick(density)
    for off in yardstick.deviations(density, 10).values():
        assert off.shape[0] == 40
        np.testing.assert_allclose(off.mean(0), 0, atol=1e-9)
        assert 0.8 < off.std() < 1.2
    doubled = yardstick.deviations(np.concatenate([density[:10]] * 2), 20)
    for once, twice in zip(yardstick.deviations(density[:10], 10).values(), doubled.values(), strict=True):
        np.testing.assert_allclose(twice, math.sqrt(2) * once)  # twice as many boxes, a smaller scatter
    for n in (0, 401):
        with pytest.raises(ValueError, match=f"n={n}: a set has 1 to 400 boxes"):
            yardstick.deviations(density, n)


def test_gaussian_field_has_the_spectrum_and_no_other_structure(density):
    power = (np.abs(np.fft.fft2(density - 1)) ** 2).mean(0) / 1024
    field = taught.gaussian_field(power, 2000, 0)
    measured = (np.abs(np.fft.fft2(field)) ** 2).mean(0) / 1024
    some = np.s_[1:16, :16]
    np.testing.assert_allclose(measured[some] / power[some], 1, atol=5.5 / math.sqrt(2000))
    assert abs(stats.skew(field[:, ::8, ::8].ravel())) < 5 * math.sqrt(6 / 32_000) * 2
    np.testing.assert_array_equal(field[:3], taught.gaussian_field(power, 3, 0))


def test_lognormal_field_has_mean_variance_and_distribution_of_a_lognormal():
    k = np.fft.fftfreq(16, 1 / 16)
    power = 4 * np.exp(-(k[:, None] ** 2 + k**2) / 8)
    power[0, 0] = 0
    rho = taught.lognormal_field(power, 4000, 1)
    assert rho.min() > 0
    variance = power.sum() / 256
    log_variance = np.log(rho).var()
    assert math.expm1(log_variance) == pytest.approx(variance, rel=0.03)
    assert rho.mean() == pytest.approx(1, abs=5 * rho.mean(axis=(1, 2)).std() / math.sqrt(4000))
    assert abs(stats.skew(np.log(rho).ravel())) < 0.05
    measured = (np.abs(np.fft.fft2(rho - 1)) ** 2).mean(0) / 256
    strong = (power > 0.5) & (np.hypot(k[:, None], k) > 0)
    np.testing.assert_allclose(measured[strong] / power[strong], 1, atol=0.15)


def test_moves_keep_every_pixel_and_lose_no_power():
    x = torch.arange(2 * 64.0).reshape(2, 1, 8, 8)
    seen = set()
    for _ in range(200):
        moved = taught.move(x)
        assert moved.shape == x.shape
        torch.testing.assert_close(moved[0].flatten().sort()[0], x[0].flatten())
        torch.testing.assert_close(moved[1] - moved[0], torch.full((1, 8, 8), 64.0))
        np.testing.assert_allclose(
            taught.power_spectrum(moved[:, 0].numpy()), taught.power_spectrum(x[:, 0].numpy()), rtol=1e-4
        )
        seen.add(tuple((moved[0, 0] == value).nonzero()[0].tolist() for value in (0, 1, 8)).__repr__())
    assert len(seen) > 150  # 8 turns and mirrors of 64 shifts


def test_periodic_convolutions_commute_with_shifts():
    network = taught.periodic(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1)))
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(network(x.roll((3, 2), (2, 3))), network(x).roll((3, 2), (2, 3)))


@pytest.mark.parametrize("size", [16, 32, 64])
def test_generator_and_encoder_commute_with_shifts_by_a_place_of_the_code(size: int):
    generator, encoder = taught.WebGenerator(size, 3, 8).eval(), taught.Encoder(size, 3, 8).eval()
    z = torch.randn(2, generator.latent)
    assert generator.latent == 3 * 64
    with torch.no_grad():
        x = generator(z)
        assert x.shape == (2, 1, size, size)
        for shift in ((1, 0), (0, 3), (7, 2)):
            moved = z.unflatten(1, (3, 8, 8)).roll(shift, (2, 3)).flatten(1)
            cells = [s * size // 8 for s in shift]
            torch.testing.assert_close(generator(moved), x.roll(cells, (2, 3)), rtol=1e-4, atol=1e-5)
            codes = encoder(x).unflatten(1, (3, 8, 8)).roll(shift, (2, 3)).flatten(1)
            torch.testing.assert_close(encoder(x.roll(cells, (2, 3))), codes, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 24, 33, 0])
def test_generator_refuses_other_sizes(size: int):
    with pytest.raises(ValueError, match=f"size={size}; expected 16, 32, 64"):
        taught.WebGenerator(size)


def test_every_number_of_the_code_reaches_every_row_and_column():
    generator = taught.WebGenerator(32).eval()
    z = torch.randn(1, generator.latent, requires_grad=True)
    generator(z)[0, 0, 5, 7].backward()
    reached = z.grad.unflatten(1, (4, 8, 8)).abs().sum((0, 1)) > 0
    assert reached.sum() >= 25  # two convolutions of 3 × 3 see 5 × 5 places, and doublings a little more


def test_discriminator_sees_every_cell_and_no_edge():
    _, critic = taught.new_players(32)
    x = torch.randn(4, 1, 32, 32, requires_grad=True)
    value = critic(x)
    assert value.shape == (4,)
    value[0].backward()
    assert (x.grad[0] != 0).all()
    assert (x.grad[1:] == 0).all()  # a penalty on the slope needs a value that depends on one box
    assert 0.2 < value.std() < 20  # He's initial weights: neither dead nor wild
    padded = [m for m in critic.modules() if isinstance(m, nn.Conv2d) and m.padding != (0, 0)]
    assert len(padded) >= 2
    assert {m.padding_mode for m in padded} == {"circular"}


def test_pixels_scale_and_mass():
    images = taught.to_image(cosmic_web(50, seed=22).density)
    pixels = taught.Pixels(images)
    x = pixels.standardize(images)
    assert (x.mean().item(), x.std().item()) == pytest.approx((0, 1), abs=1e-4)
    np.testing.assert_allclose(pixels.density(x), taught.to_density(images), rtol=1e-3)
    wild = pixels.density(10 * torch.randn(3, 1, 32, 32))
    np.testing.assert_allclose(wild.mean(axis=(1, 2)), 1)
    assert wild.min() >= 0


class Point(nn.Module):
    """A generator of boxes of one gray level, uniform after a shift that it learns."""

    latent = 1

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(-3.0))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (self.shift + 0.1 * z).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_training_moves_the_generator_to_the_data_and_returns_an_average():
    data = 2 + 0.1 * torch.randn(500, 1, 1, 1).expand(500, 1, 8, 8)
    generator = Point()
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1), nn.Flatten(0))
    average = taught.train_gan(generator, critic, data, 600, lr=2e-2, memory=0.99)
    assert average is not generator
    assert not average.training
    assert average.shift.item() == pytest.approx(2, abs=0.5)


def test_average_is_the_recursion_that_is_stated():
    torch.manual_seed(1)
    generator, seen = Point(), []
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    original, step = torch.optim.Adam.step, [0]

    def spy(self, *args, **kwargs):
        original(self, *args, **kwargs)
        step[0] += 1
        if step[0] % 2 == 0:  # the generator's turn
            seen.append(generator.shift.item())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", spy)
        average = taught.train_gan(generator, critic, torch.zeros(10, 1, 8, 8), 30, memory=0.8)
    expected = -3.0
    for t, value in enumerate(seen):
        weight = max(0.2, 9 / (t + 10))
        expected += weight * (value - expected)
    assert len(seen) == 30
    assert average.shift.item() == pytest.approx(expected, abs=1e-5)


def test_encoder_finds_what_shows_and_answers_zero_for_what_does_not():
    class Half(nn.Module):
        latent = 2 * 64

        def forward(self, z: torch.Tensor) -> torch.Tensor:  # the second channel does not show
            box = z.unflatten(1, (2, 8, 8))[:, :1]
            return box.repeat_interleave(2, 2).repeat_interleave(2, 3)

    encoder = taught.train_encoder(taught.Encoder(16, 2, 8), Half(), 200)
    z = torch.randn(200, 128)
    with torch.no_grad():
        found = encoder(Half()(z)).unflatten(1, (2, 64))
    shown, hidden = (found - z.unflatten(1, (2, 64))).square().mean((0, 2))
    assert shown < 0.1
    assert hidden == pytest.approx(1, abs=0.1)


def test_encoder_training_leaves_the_generator_alone_and_uses_the_data():
    generator = taught.WebGenerator(16, 1, 4).eval()
    before = [p.clone() for p in generator.parameters()]
    data = torch.randn(50, 1, 16, 16)
    trained = []
    for given in (None, data):
        torch.manual_seed(0)
        trained.append(taught.train_encoder(taught.Encoder(16, 1, 4), generator, 3, given))
    assert all(torch.equal(a, b) for a, b in zip(before, generator.parameters(), strict=True))
    first, second = (next(e.parameters()) for e in trained)
    assert not torch.allclose(first, second)


def test_pca_equals_scikit_learns():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(3)
    train = torch.from_numpy(rng.standard_normal((80, 1, 5, 4)) @ rng.standard_normal((4, 4)))
    x = torch.from_numpy(rng.standard_normal((6, 1, 5, 4)))
    reference = PCA(7).fit(train.flatten(1).numpy())
    expected = reference.inverse_transform(reference.transform(x.flatten(1).numpy()))
    np.testing.assert_allclose(taught.pca_reconstruct(train, x, 7).flatten(1), expected, atol=1e-8)


@pytest.mark.parametrize("size", [32, 64])
def test_shipped_weights_load_and_make_a_web(size: int):
    generator = taught.WebGenerator(size, width=taught.WIDTHS[size])
    encoder = taught.Encoder(size, width=taught.WIDTHS[size])
    for name, network in (("gan", generator), ("encoder", encoder)):
        card = load_weights(network, f"13_{name}_cosmic_web_{size}")
        assert card["steps"] > 0
        network.eval()
    truth = cosmic_web(200, seed=23, size=size).density.astype(float)
    pixels = taught.Pixels(taught.to_image(truth))
    with torch.no_grad():
        boxes = pixels.density(taught.draw_boxes(generator, 200))
        z = torch.randn(50, generator.latent)
        error = (encoder(generator(z)) - z).square().mean().item()
    assert error < 0.9
    yardstick = taught.Yardstick(truth)
    least = {32: 0.4, 64: 0.2}[size]  # the larger one was trained without the term for the spectrum
    assert np.mean(list(yardstick.shares(boxes, 20).values())) > least
    assert stats.skew(boxes.ravel()) > 0.7 * stats.skew(truth.ravel())


def test_spectrum_match_is_the_distance_of_measured_log_powers_and_has_a_gradient():
    images = taught.to_image(cosmic_web(60, seed=24, size=16).density)
    pixels = taught.Pixels(images)
    match = taught.SpectrumMatch(pixels, images)
    x = pixels.standardize(images)
    assert match(x).item() == pytest.approx(0, abs=1e-9)
    some = x[:5].clone().requires_grad_()
    powers = [taught.power_spectrum(taught.to_density(part) - 1).mean(0) for part in (images[:5], images)]
    expected = (np.log(powers[0] / powers[1]) ** 2).sum()
    assert match(some).item() == pytest.approx(expected, rel=1e-3)
    match(some).backward()
    step = some.detach() - 1e-3 * some.grad / some.grad.norm()
    assert match(step) < match(some)


def test_training_uses_the_term_for_the_spectrum():
    seen = []

    def match(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape)
        return 100 * (x - 5).square().mean()  # outweighs any critic

    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    average = taught.train_gan(Point(), critic, torch.zeros(10, 1, 8, 8), 300, match, lr=5e-2, batch_size=8)
    assert seen == [(8, 1, 8, 8)] * 300
    assert average.shift.item() == pytest.approx(5, abs=0.3)  # without the term it goes to 0


class Gray(nn.Module):
    """A generator of black boxes, so that only penalties pull on a critic that is linear."""

    latent = 1

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 0 * self.norm(1 + z).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_penalty_is_half_gamma_times_the_squared_slope_four_times_on_every_fourth_step():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False), nn.Flatten(0))
    before, lr, gamma = critic[1].weight.clone(), 0.05, 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", lambda parameters, lr, betas: torch.optim.SGD(parameters, lr))
        taught.train_gan(Gray(), critic, torch.zeros(10, 1, 8, 8), 6, lr=lr, gamma=gamma)
    # steps 0 and 4 of 6; the schedule takes the rate of step 4 down to 2 (1 - 4/6) of the first one
    left = (1 - 4 * gamma * lr) * (1 - 4 * gamma * lr * 2 / 3)
    torch.testing.assert_close(critic[1].weight, left * before)


def test_average_holds_the_statistics_of_batch_norm():
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    generator = Gray()
    average = taught.train_gan(generator, critic, torch.zeros(10, 1, 8, 8), 60)
    assert average.norm.num_batches_tracked == generator.norm.num_batches_tracked == 120
    assert average.norm.running_mean.item() == pytest.approx(1, abs=0.2)  # starts at 0


def test_every_box_is_moved_before_a_critic_or_an_encoder_of_data_sees_it():
    seen = []

    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.mean().item())
            return x

    critic = nn.Sequential(Watch(), nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    encoder = nn.Sequential(Watch(), nn.Flatten(), nn.Linear(64, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(taught.train_gan.__globals__, "move", lambda x: x + 100)
        taught.train_gan(Gray(), critic, torch.zeros(10, 1, 8, 8), 2)
        assert seen == pytest.approx([100] * 6)  # drawn, real, drawn
        seen.clear()
        taught.train_encoder(encoder, Gray().eval(), 2, torch.zeros(10, 1, 8, 8))
        assert seen == pytest.approx([0, 100] * 2)  # drawn with its code, data


def test_drawn_boxes_are_moved_one_by_one():
    class Fixed(nn.Module):
        latent = 1

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.arange(64.0).view(1, 1, 8, 8).expand(len(z), 1, 8, 8)

    boxes = taught.draw_boxes(Fixed(), 150)
    assert boxes.shape == (150, 1, 8, 8)
    assert len(boxes.flatten(1).unique(dim=0)) > 100  # of 512 places: about 130 differ
    torch.testing.assert_close(boxes.flatten(1).sort(1)[0], torch.arange(64.0).expand(150, 64))


def test_share_is_of_the_bins_that_are_off_by_less_than_one_scatter(density):
    yardstick = taught.Yardstick(density)
    deviations = {"one-point": np.array([[0.9, -0.9, 1.1, -1.1]]), "power": np.array([[0.0], [5.0]])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yardstick, "deviations", lambda boxes, n: deviations)
        assert yardstick.shares(density, 20) == {"one-point": 0.5, "power": 0.5}


def test_encoder_of_data_learns_to_reconstruct_it():
    class Flat(nn.Module):
        latent = 1

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z.view(-1, 1, 1, 1).expand(-1, 1, 8, 8)

    data = torch.full((10, 1, 8, 8), 5.0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    taught.train_encoder(encoder, Flat(), 200, data, lr=1e-2)
    with torch.no_grad():
        assert encoder(data[:1]).item() == pytest.approx(5, abs=0.3)
        assert encoder(-data[:1]).item() == pytest.approx(-5, abs=0.6)
