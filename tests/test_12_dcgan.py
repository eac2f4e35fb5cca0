"""Lecture 12: transposed sizes, DCGAN's networks, the three losses, the critic's biases, what is shipped."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils.metrics import wasserstein
from course_utils.results import WEIGHTS, load_weights, table
from course_utils.reuse import lecture

L = lecture("12")


def layers(network: nn.Module, *kinds: type) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kinds)]


# --- sizes ---


@pytest.mark.parametrize("h", [1, 3, 7, 14])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 0, 1), (2, 1, 0), (3, 2, 2)])
def test_grown_side_is_torchs(h: int, k: int, stride: int, padding: int, extra: int):
    if (h - 1) * stride + k - 2 * padding + extra < 1:
        with pytest.raises(ValueError, match="cuts away"):
            L.grown_side(h, k, stride, padding, extra)
        return
    layer = nn.ConvTranspose1d(1, 1, k, stride, padding, extra)
    assert L.grown_side(h, k, stride, padding, extra) == layer(torch.zeros(1, 1, h)).shape[2]


@pytest.mark.parametrize("bad", [(0, 3), (3, 0), (3, 3, 2, -1), (3, 3, 2, 0, 2), (3, 3, 1, 0, 1), (3, 3, 2, 0, -1)])
def test_grown_side_names_a_bad_geometry(bad: tuple):
    with pytest.raises(ValueError, match="no such geometry"):
        L.grown_side(*bad)


@pytest.mark.parametrize(
    ("size", "n", "start"), [(8, 2, 2), (12, 2, 3), (28, 2, 7), (32, 3, 4), (56, 3, 7), (64, 4, 4)]
)
def test_halvings_leave_two_to_seven_pixels(size: int, n: int, start: int):
    assert L.halvings(size) == n
    assert size // 2**n == start


@pytest.mark.parametrize("size", [0, 4, 7, 10, 27, 30, 33])
def test_a_size_that_cannot_be_halved_is_named(size: int):
    for make in (L.Generator, L.Discriminator):
        with pytest.raises(ValueError, match=f"size={size}"):
            make(size)


# --- the networks ---

OPTIONS = [{}, {"norm": False}, {"strided": False}, {"dense": True}, {"slope": 0.1}, {"tanh": False}]


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_images_in_images_out(size: int, options: dict):
    torch.manual_seed(0)
    G = L.Generator(size, channels=3, latent=5, width=4, **options)
    x = G(torch.randn(6, 5))
    assert x.shape == (6, 3, size, size)
    options = {key: value for key, value in options.items() if key != "tanh"}
    assert L.Discriminator(size, channels=3, width=4, **options)(x).shape == (6,)


def test_the_networks_follow_dcgan():
    G, D = L.Generator(32, width=8), L.Discriminator(32, width=8)
    assert not layers(G, nn.Linear, nn.Upsample)
    assert not layers(D, nn.Linear, nn.MaxPool2d)
    assert [m.stride for m in layers(D, nn.Conv2d)] == [(2, 2)] * 3 + [(1, 1)]
    assert [m.stride for m in layers(G, nn.ConvTranspose2d)] == [(1, 1)] + [(2, 2)] * 3
    assert [m.out_channels for m in layers(G, nn.ConvTranspose2d)] == [32, 16, 8, 1]
    assert [m.out_channels for m in layers(D, nn.Conv2d)] == [8, 16, 32, 1]
    assert [m.num_features for m in layers(G, nn.BatchNorm2d)] == [32, 16, 8]  # not at the image
    assert [m.num_features for m in layers(D, nn.BatchNorm2d)] == [16, 32]  # not at the image
    assert {m.negative_slope for m in layers(G, nn.LeakyReLU)} == {0.0}
    assert {m.negative_slope for m in layers(D, nn.LeakyReLU)} == {0.2}
    assert isinstance(list(G.layers)[-1], nn.ConvTranspose2d)
    assert len(set(map(id, layers(G, nn.BatchNorm2d)))) == 3  # no layer is used twice


def test_the_initial_weights_are_dcgans():
    torch.manual_seed(0)
    for network in (L.Generator(28, width=32), L.Discriminator(28, width=32)):
        for module in layers(network, nn.Conv2d, nn.ConvTranspose2d):
            weight = module.weight
            assert abs(weight.std().item() - 0.02) < 5 * 0.02 / math.sqrt(2 * weight.numel())
            assert not module.bias.any()
        gammas = torch.cat([m.weight for m in layers(network, nn.BatchNorm2d)])
        assert abs(gammas.mean().item() - 1) < 5 * 0.02 / math.sqrt(len(gammas))
        assert 0.01 < gammas.std() < 0.03


def test_tanh_is_a_sigmoid_of_twice_the_output():
    torch.manual_seed(0)
    G = L.Generator(8, latent=4, width=4)
    z = torch.randn(7, 4)
    with torch.no_grad():
        assert torch.allclose(G(z), torch.sigmoid(2 * G.layers(z)), atol=1e-6)
        G.tanh = False
        assert torch.equal(G(z), G.layers(z))


def test_the_discriminator_sees_centered_images():
    torch.manual_seed(0)
    D = L.Discriminator(8, width=4, norm=False)
    with torch.no_grad():
        for parameter in D.parameters():
            if parameter.dim() == 1:
                parameter.zero_()
        assert torch.allclose(D(torch.full((2, 1, 8, 8), 0.5)), torch.zeros(2))  # gray is zero


def test_batch_norm_couples_a_batch_and_only_batch_norm():
    torch.manual_seed(0)
    x, other = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8)
    other[:3] = x[:3]
    for norm in (True, False):
        D = L.Discriminator(8, width=8, norm=norm)
        same = torch.allclose(D(x)[:3], D(other)[:3], atol=1e-7)
        assert same is not norm


def test_sampling_uses_running_averages_and_leaves_the_mode():
    torch.manual_seed(0)
    G = L.Generator(8, latent=4, width=4)
    for _ in range(3):
        G(torch.randn(16, 4))
    before = {key: value.clone() for key, value in G.state_dict().items()}
    torch.manual_seed(1)
    many = G.sample(5)
    assert G.training
    assert all(torch.equal(value, before[key]) for key, value in G.state_dict().items())
    torch.manual_seed(1)
    z = torch.randn(5, 4)
    with torch.no_grad():
        alone = torch.cat([G.eval()(code[None]) for code in z])
    assert torch.allclose(many, alone, atol=1e-6)
    assert not many.requires_grad
    assert not L.Generator(8, latent=4, width=4).eval().sample(2).requires_grad
    assert not G.training


def test_samples_without_tanh_are_clamped():
    G = L.Generator(8, latent=4, width=4, tanh=False)
    with torch.no_grad():
        G.layers[-1].bias.fill_(3.0)
    assert G.sample(2).max() <= 1


# --- penalty and clipping ---


class Linear(nn.Module):
    """f(x) = w · x, summed over all coordinates of an example."""

    def __init__(self, w: torch.Tensor):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.w).flatten(1).sum(1)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 28, 28)])
def test_the_penalty_of_a_linear_critic(shape: tuple):
    torch.manual_seed(0)
    f, (real, fake) = Linear(torch.randn(shape)), torch.rand(2, 5, *shape)
    value = L.gradient_penalty(f, real, fake)
    norm = f.w.norm()
    assert torch.isclose(value, (norm - 1) ** 2, rtol=1e-4)
    value.backward()
    assert torch.allclose(f.w.grad, 2 * (norm - 1) * f.w.detach() / norm, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_of_each_example():
    square = lambda x: (x**2).flatten(1).sum(1) / 2  # noqa: E731  its gradient at x is x
    x = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert torch.isclose(L.gradient_penalty(square, x, x), torch.tensor(8.0))  # mean of 4² and 0²


def test_the_penalty_looks_all_along_segments():
    seen = []

    def critic(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach())
        return x.sum(1)

    torch.manual_seed(0)
    real, fake = torch.zeros(4000, 2), torch.tensor([1.0, 2.0]).expand(4000, 2)
    L.gradient_penalty(critic, real, fake)
    share = seen[0][:, 0]
    assert torch.allclose(seen[0][:, 1], 2 * share)  # on the segment: one share for all coordinates
    quantiles = share.quantile(torch.tensor([0.1, 0.5, 0.9]))
    assert torch.allclose(quantiles, torch.tensor([0.1, 0.5, 0.9]), atol=0.03)  # uniform


def test_the_penalty_sends_no_gradient_to_the_generator():
    fake = torch.rand(3, 2, requires_grad=True)
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))  # its slope depends on the point
    L.gradient_penalty(critic, torch.rand(3, 2), fake).backward()
    assert fake.grad is None
    assert critic[0].weight.grad.any()


def test_the_penalty_needs_pairs():
    with pytest.raises(ValueError, match="differ"):
        L.gradient_penalty(Linear(torch.ones(2)), torch.rand(3, 2), torch.rand(4, 2))


def test_clipping_touches_only_what_is_outside():
    f = Linear(torch.tensor([-3.0, -0.04, 0.0, 0.05, 0.2]))
    L.clip_weights(f, 0.05)
    assert torch.allclose(f.w.detach(), torch.tensor([-0.05, -0.04, 0.0, 0.05, 0.05]))


# --- the loop ---


class Constant(nn.Module):
    """A generator that ignores its noise."""

    latent = 1

    def __init__(self, theta: float):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.theta + 0 * z


def one_round(monkeypatch: pytest.MonkeyPatch, loss: str, **settings) -> tuple[float, float]:
    """Play a round of gradient descent with D(x) = w x, w = 0.3; all real points are at 2, G is at -1."""
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, lr, betas: torch.optim.SGD(parameters, lr))
    G, D = Constant(-1.0), Linear(torch.tensor([0.3]))
    L.train_pair(G, D, torch.full((10, 1), 2.0), loss, 1, lr=0.1, **settings)
    return D.w.item(), G.theta.item()


def sigmoid(u: float) -> float:
    return 1 / (1 + math.exp(-u))


def test_a_round_of_each_loss_by_hand(monkeypatch: pytest.MonkeyPatch):
    w, theta = one_round(monkeypatch, "GAN")
    by_hand = 0.3 + 0.1 * (2 * sigmoid(-0.6) + sigmoid(-0.3))  # d/dw of log σ(2w) + log(1 - σ(-w))
    assert math.isclose(w, by_hand, rel_tol=1e-5)
    assert math.isclose(theta, -1 + 0.1 * by_hand * sigmoid(by_hand), rel_tol=1e-5)  # d/dθ log σ(wθ)
    w, theta = one_round(monkeypatch, "WGAN-clip", clip=10.0)
    assert math.isclose(w, 0.3 + 0.1 * 3, rel_tol=1e-5)
    assert math.isclose(theta, -1 + 0.1 * w, rel_tol=1e-5)
    w, _ = one_round(monkeypatch, "WGAN-clip", clip=0.05)
    assert math.isclose(w, 0.05, rel_tol=1e-5)
    w, _ = one_round(monkeypatch, "WGAN-GP", penalty=4.0)
    assert math.isclose(w, 0.3 + 0.1 * (3 - 4 * 2 * (0.3 - 1)), rel_tol=1e-5)
    w, _ = one_round(monkeypatch, "WGAN-clip", clip=10.0, n_critic=3)
    assert math.isclose(w, 0.3 + 3 * 0.1 * 3, rel_tol=1e-5)


def test_adam_has_dcgans_momentum(monkeypatch: pytest.MonkeyPatch):
    seen, adam = [], torch.optim.Adam

    def spy(parameters, lr, betas):
        seen.append((lr, betas))
        return adam(parameters, lr, betas=betas)

    monkeypatch.setattr(torch.optim, "Adam", spy)
    for settings in ({}, {"beta1": 0.9, "lr": 1e-2, "ratio": 3}):
        L.train_pair(Constant(0.0), Linear(torch.ones(1)), torch.ones(4, 1), "GAN", 1, **settings)
    assert seen == [(5e-4, (0.5, 0.999))] * 2 + [(1e-2, (0.9, 0.999)), (3 * 1e-2, (0.9, 0.999))]  # G, then D


def test_training_repeats_and_looks_on_time():
    x, states, seen = torch.rand(50, 1, 8, 8), [], []
    for drawn in (0, 7):
        torch.manual_seed(3)
        G, D = L.Generator(8, latent=4, width=4), L.Discriminator(8, width=4, norm=False)
        torch.rand(drawn)  # what was drawn before does not matter
        L.train_pair(G.eval(), D.eval(), x, "WGAN-GP", 5, batch_size=8, seed=1, every=2, look=seen.append)
        assert G.training
        assert D.training
        states.append(G.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert seen == [2, 4] * 2


def test_an_unknown_loss_is_named():
    with pytest.raises(ValueError, match=r"hinge.*GAN, WGAN-clip, WGAN-GP"):
        L.train_pair(Constant(0.0), Linear(torch.ones(1)), torch.ones(4, 1), "hinge", 1)


def test_each_recipe_changes_one_thing():
    full = L.RECIPES["full recipe"]
    assert full == ({}, {}, {})
    for name, (for_G, for_D, for_training) in L.RECIPES.items():
        if name == "full recipe":
            continue
        changed = [set(part) for part in (for_G, for_D, for_training)]
        assert len(set.union(*changed)) == 1, name
        L.Generator(8, width=4, **for_G), L.Discriminator(8, width=4, **for_D)
    for_G, for_D, _ = L.RECIPES["no batch norm"]
    assert not layers(L.Generator(8, **for_G), nn.BatchNorm2d)
    assert not layers(L.Discriminator(8, **for_D), nn.BatchNorm2d)
    for_G, for_D, _ = L.RECIPES["pooling, not strides"]
    assert (
        len(layers(L.Generator(8, **for_G), nn.Upsample)) == len(layers(L.Discriminator(8, **for_D), nn.MaxPool2d)) == 2
    )
    for_G, for_D, _ = L.RECIPES["dense hidden layers"]
    assert layers(L.Generator(8, **for_G), nn.Linear)
    assert layers(L.Discriminator(8, **for_D), nn.Linear)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Replace the training of the digits' networks by notes of what would be trained, and how."""
    calls = []

    def note(G, D, x, loss, rounds, **settings):
        calls.append((G, D, x, loss, rounds, settings))

    monkeypatch.setattr(L, "train_pair", note)
    monkeypatch.setattr(L, "x_train", torch.zeros(3, 1, 8, 8), raising=False)
    return calls


def test_recipes_reach_the_networks_and_the_training(trained: list[tuple]):
    for name, (for_G, for_D, _) in L.RECIPES.items():
        made = L.train_recipe(name, 5, 12)
        G, D, x, loss, rounds, settings = trained.pop()
        assert made is G
        assert x is L.x_train
        assert (loss, rounds, settings["seed"]) == ("GAN", 12, 5)
        assert repr(G) == repr(L.Generator(8, latent=16, width=16, **for_G))
        assert repr(D) == repr(L.Discriminator(8, width=16, **for_D))
        assert G.tanh is (name != "no tanh")
        assert settings.get("beta1", 0.5) == (0.9 if name == "β₁ = 0.9" else 0.5)
        first = layers(G, nn.ConvTranspose2d)[0].weight.std()
        assert (first > 0.03) == (name == "PyTorch's initial weights")
    torch.manual_seed(5)
    expected = L.Generator(8, latent=16, width=16).state_dict()
    made = L.train_recipe("full recipe", 5, 12).state_dict()
    assert all(torch.equal(value, made[key]) for key, value in expected.items())


@pytest.mark.parametrize("loss", L.LOSSES)
def test_cells_of_the_map_differ_in_loss_and_step_only(loss: str, trained: list[tuple]):
    made = L.train_cell(loss, 3e-3, 4, 9)
    G, D, _, used, rounds, settings = trained.pop()
    assert made is G
    assert (used, rounds, settings) == (loss, 9, {"lr": 3e-3, "n_critic": 2, "seed": 4})
    assert repr(G) == repr(L.Generator(8, latent=16, width=16))
    assert not layers(D, nn.BatchNorm2d)


# --- what is recorded ---


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """Collect the rows that would go to the table of results."""
    rows = []

    def note(lecture, model, dataset, metric, value, unit, **facts):
        assert lecture == "12"
        rows.append({"model": model, "dataset": dataset, "metric": metric, "value": value, "unit": unit} | facts)

    monkeypatch.setattr(L, "record", note)
    return rows


def test_seeds_are_averaged_on_the_logarithm(recorded: list[dict]):
    L.record_over_seeds("DCGAN, x", "Fréchet distance, ablation", [1.0, 10.0, 100.0])
    [row] = recorded
    assert math.isclose(row["value"], 10)
    assert math.isclose(row["spread"], math.log(10))  # divisor n - 1
    assert row["note"].startswith("3 seeds")
    assert (row["kind"], row["budget"]) == ("estimate", "full")


class Flat:
    """A stand-in for lecture 10: pixels are the features."""

    @staticmethod
    def image_features(images: torch.Tensor, name: str):
        assert name == "mnist"
        return images.flatten(1).double().numpy()


def test_precision_is_of_samples_and_recall_of_data(monkeypatch: pytest.MonkeyPatch, recorded: list[dict]):
    torch.manual_seed(0)
    real = torch.rand(300, 1, 2, 2)
    one_place = 0.5 + 0.01 * torch.rand(300, 1, 2, 2)  # inside the data, but nowhere else
    monkeypatch.setattr(L, "x_test", real, raising=False)
    monkeypatch.setattr(L, "features", lambda images: Flat.image_features(images, "mnist"), raising=False)
    monkeypatch.setattr(L, "lecture", lambda number: Flat)
    for found in (L.measure(one_place), L.record_full("mnist", "DCGAN", one_place, real, 0, seconds=3.0)):
        assert found["precision"] > 0.9
        assert found["recall"] < 0.1
        assert found["Fréchet distance"] > 0.1
    assert [row["metric"] for row in recorded] == ["Fréchet distance", "precision", "recall"]
    assert all(row["value"] == found[row["metric"]] and row["seconds"] == 3.0 for row in recorded)


class Drawer:
    """A stand-in for a trained model, all of whose images have one gray level."""

    n_latent = 3

    def __init__(self, level: float):
        self.level = level

    def sample(self, n: int) -> torch.Tensor:
        return torch.full((n, 1, 8, 8), self.level)

    def mean_image(self, z: torch.Tensor) -> torch.Tensor:
        return torch.full((len(z), 1, 8, 8), self.level / 2)


def test_contestants_keep_their_names_and_numbers(monkeypatch: pytest.MonkeyPatch):
    calls = []

    def train(*settings):
        calls.append(settings)
        return Drawer(0.2 if settings[0] == "full recipe" else 0.6)

    monkeypatch.setattr(L, "train_vae", lambda seed: Drawer(0.8))
    monkeypatch.setattr(L, "train_recipe", train)
    monkeypatch.setattr(L, "train_cell", train)
    monkeypatch.setattr(L, "measure", lambda images: (len(images), round(images.max().item(), 3)))
    for name, value in {"x_test": torch.zeros(7), "best": {"WGAN-GP": 3e-3}, "rounds": 5, "map_rounds": 6}.items():
        monkeypatch.setattr(L, name, value, raising=False)
    expected = {"VAE, samples": 0.8, "VAE, mean images": 0.4, "DCGAN": 0.2, "WGAN-GP": 0.6}
    expected = {name: (7, level) for name, level in expected.items()}  # as many as there are test images
    assert L.contest(4) == expected
    assert calls == [("WGAN-GP", 3e-3, 4, 6), ("full recipe", 4, 5)]
    assert L.contest(4, torch.full((20, 1, 8, 8), 0.2), Drawer(0.6)) == expected
    assert len(calls) == 2  # what is given is not trained again


def test_the_round_that_is_best_on_validation_is_kept(monkeypatch: pytest.MonkeyPatch):
    class Split:
        def __init__(self, value: float):
            self.images = torch.full((4, 1, 28, 28), value)

    distances, seen, marks = iter([5.0, 2.0, 3.0]), [], []

    def train(G, D, x, loss, rounds, *, every, look, **settings):
        assert x.max() == 1
        assert (loss, rounds, every) == ("WGAN-GP", 12, 2)
        assert not layers(D, nn.BatchNorm2d)
        for number in (1, 2, 3):
            with torch.no_grad():
                G.layers[1].bias.fill_(number)
            before = torch.get_rng_state()
            look(number)
            assert torch.equal(before, torch.get_rng_state())  # looking does not change the training
            marks.append(number)

    def distance(samples, valid):
        seen.append((len(samples), float(valid.max())))
        return next(distances)

    splits = {"train": Split(1.0), "valid": Split(0.5), "test": Split(0.25)}
    monkeypatch.setattr(L, "load", lambda name: splits)
    monkeypatch.setattr(L, "lecture", lambda number: Flat)
    monkeypatch.setattr(L, "train_pair", train)
    monkeypatch.setattr(L, "frechet_distance", distance)
    G, best = L.train_full("mnist", "WGAN-GP", 0.01, 0)
    assert seen == [(5000, 0.5)] * 3  # against the validation images
    assert marks == [1, 2, 3]
    assert (best["round"], best["distance"], best["loss"], best["rounds"]) == (2, 2.0, "WGAN-GP", 12)
    assert (G.layers[1].bias == 2).all()
    assert not G.training


def test_the_better_generator_ships(monkeypatch: pytest.MonkeyPatch):
    saved = []
    monkeypatch.setattr(L, "save_weights", lambda *parts: saved.append(parts))
    gans = {}
    for loss, distance in (("GAN", 3.0), ("WGAN-GP", 2.0)):
        G = L.Generator(28, latent=64, width=32)
        facts = {"loss": loss, "distance": distance, "round": 4, "rounds": 5, "seconds": 6.0}
        gans[loss] = (G, facts)
    test = torch.rand(30, 1, 28, 28)
    L.ship("mnist", gans, test, {"precision": 0.5})
    [(shipped, name, card)] = saved
    assert name == "12_gan_mnist"
    assert (card["loss"], card["valid_frechet_distance"], card["precision"]) == ("WGAN-GP", 2.0, 0.5)
    assert (card["kept_round"], card["rounds"], card["seconds"]) == (4, 5, 6.0)
    for key, value in gans["WGAN-GP"][0].state_dict().items():
        assert torch.allclose(shipped.generator.state_dict()[key].float(), value.float(), rtol=1e-3, atol=1e-6)
    assert (shipped.examples / 255 - test[:24]).abs().max() < 0.51 / 255


# --- the critic's biases ---


def test_undo_penalty_inverts_the_bias():
    for W in (0.0, 0.3, 2.0, 7.0):
        for penalty in (1.0, 10.0):
            assert math.isclose(L.undo_penalty(W + W**2 / (2 * penalty), penalty), W, abs_tol=1e-9)


def clouds(distance: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return 0.02 * torch.randn(64, 2), 0.02 * torch.randn(64, 2) + torch.tensor([0.6, 0.8]) * distance


@pytest.mark.parametrize("penalty", [3.0, 10.0])
def test_the_penalized_critic_is_too_high_by_the_formula(penalty: float):
    x, y = clouds(1.5)
    estimate = L.fit_critic(L.point_critic(64), x, y, "WGAN-GP", penalty=penalty, steps=250)
    W = wasserstein(x, y)
    assert math.isclose(estimate, W * (1 + W / (2 * penalty)), rel_tol=0.02)


def test_the_clipped_critic_is_below_its_bound():
    x, y = clouds(2.0)
    critic = L.point_critic(64)
    estimate = L.fit_critic(critic, x, y, "WGAN-clip", clip=0.1, steps=250)
    assert all(p.abs().max() <= 0.1 for p in critic.parameters())
    assert 0.1 < estimate / (0.1**3 * 64**2 * math.sqrt(2) * wasserstein(x, y)) < 1


# --- what is shipped ---


def test_all_measured_rows_are_shipped():
    rows = table("full").query("lecture == '12' and dataset == 'digits'")
    ablation = rows.query("metric == 'Fréchet distance, ablation'")
    assert set(ablation["model"]) == {f"DCGAN, {name}" for name in L.RECIPES}
    assert (ablation["note"].str.split().str[0].astype(int) >= 3).all()
    assert (ablation["spread"] > 0).all()
    cells = rows[rows["metric"] == L.METRIC]
    assert set(cells["model"]) == {f"{loss}, step {lr:g}" for loss in L.LOSSES for lr in L.STEPS}
    for model in ("DCGAN", "WGAN-GP", "VAE, samples", "VAE, mean images", "training images"):
        found = rows[rows["model"] == model].set_index("metric")["value"]
        assert {"Fréchet distance", "precision", "recall"} <= set(found.index)
        assert 0 <= found["precision"] <= 1
        assert 0 <= found["recall"] <= 1


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_shipped_generators(name: str):
    path = WEIGHTS / f"12_gan_{name}.safetensors"
    assert path.stat().st_size < 1.5e6
    shipped = L.Shipped()
    card = load_weights(shipped, f"12_gan_{name}")
    assert card["dataset"] == name
    assert card["loss"] in ("GAN", "WGAN-GP")
    label = {"GAN": "DCGAN"}.get(card["loss"], card["loss"])
    rows = table("full").set_index(["lecture", "dataset", "model"]).loc[("12", name, label)].set_index("metric")
    for metric in ("Fréchet distance", "precision", "recall"):
        assert math.isclose(rows.loc[metric, "value"], card[metric], abs_tol=1e-5)
    assert all(value.dtype != torch.float16 for value in shipped.state_dict().values())
    torch.manual_seed(0)
    samples, real = shipped.eval().generator.sample(200), shipped.examples / 255
    assert samples.shape == (200, 1, 28, 28)
    assert torch.isfinite(samples).all()
    assert abs(samples.mean() - real.mean()) < 0.1  # as much ink as data
    assert F.mse_loss(samples[:100], samples[100:]) > 0.02  # not one image
