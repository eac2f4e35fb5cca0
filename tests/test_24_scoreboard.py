"""What lecture 24 teaches, imported from its notebook, against closed forms, enumeration and loops."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from course_utils.datasets import load
from course_utils.reuse import lecture

taught = lecture("24")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def images(n: int, h: int, w: int, levels: int = 17) -> torch.Tensor:
    return torch.randint(levels, (n, 1, h, w)) / (levels - 1)


# --- bounds and trivial models ---


@pytest.mark.parametrize(("h", "w", "levels"), [(8, 8, 17), (28, 28, 2), (3, 5, 4)])
@pytest.mark.parametrize("k", [1, 7])
def test_a_density_that_is_constant_in_each_cube_has_an_exact_bound(h: int, w: int, levels: int, k: int):
    x, step = images(6, h, w, levels), levels - 1
    law = torch.rand(levels).softmax(0)

    def log_density(v: torch.Tensor) -> torch.Tensor:  # p(level) over its cube of width 1 / step
        return (law[(v * step).round().long()].double().log() + math.log(step)).flatten(1).sum(1)

    exact = -law.double().log()[(x * step).round().long()].flatten(1).sum(1)
    torch.testing.assert_close(taught.cube_bound(log_density, x, k, levels), exact, rtol=0, atol=1e-6)


def test_more_draws_lower_the_bound_to_the_probability_of_the_cube():
    x, normal = torch.tensor([[[[0.5]]]]).expand(4000, 1, 1, 1), torch.distributions.Normal(0.4, 0.05)
    log_density = lambda v: normal.log_prob(v).flatten(1).sum(1)  # noqa: E731
    exact = -math.log(normal.cdf(torch.tensor(0.75)) - normal.cdf(torch.tensor(0.25)))
    one, many = (taught.cube_bound(log_density, x, k, levels=3) for k in (1, 400))
    assert one.mean() > exact + 0.1
    assert abs(many.mean() - exact) < 4 * many.std() / math.sqrt(len(many)) + 0.01


def test_bad_input_to_the_bound_is_named():
    flat = lambda v: torch.zeros(len(v))  # noqa: E731
    with pytest.raises(ValueError, match="k=0"):
        taught.cube_bound(flat, images(2, 8, 8), k=0)
    for wrong in (images(2, 8, 8) + 0.01, images(2, 8, 8) + 1):
        with pytest.raises(ValueError, match="17 gray levels"):
            taught.cube_bound(flat, wrong)


@pytest.fixture(scope="module")
def baselines():
    digits = load("digits")
    torch.manual_seed(0)
    return digits, taught.trivial(*digits["train"], digits["valid"].images)


def test_trivial_models_draw_images_on_the_levels(baselines):
    _, models = baselines
    for one in models:
        x = one.sample(20)
        assert x.shape == (20, 1, 8, 8), one.name
        assert torch.equal(taught.to_levels(x), x), one.name


def test_independent_pixels_are_a_distribution():
    frequency = torch.rand(1, 2, 3).softmax(2)
    one = taught.independent(frequency, "two pixels", 4)
    grid = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2) / 2
    assert (-one.nll(grid, 1)).exp().sum().item() == pytest.approx(1, abs=1e-5)
    drawn = (one.sample(20_000) * 2).round().long().flatten(1)
    shares = torch.nn.functional.one_hot(drawn, 3).float().mean(0)
    assert (shares - frequency[0]).abs().max() < 5 * 0.5 / math.sqrt(20_000)


def test_the_copier_knows_the_training_images_and_nothing_else(baselines):
    digits, models = baselines
    copier = models[-1]
    train = digits["train"].images
    torch.testing.assert_close(copier.nll(train[:5], 1), torch.full((5,), math.log(1000)))
    assert torch.isinf(copier.nll(digits["test"].images[:5], 1)).all()
    assert (copier.sample(9).flatten(1)[:, None] == train.flatten(1)).all(2).any(1).all()


def test_a_contestant_says_what_its_figure_is():
    draw = lambda n: images(n, 8, 8)  # noqa: E731
    with pytest.raises(ValueError, match="kind='sharp'"):
        taught.Contestant("x", draw, lambda x, k: x, "sharp")
    for kind, nll in (("bound", None), ("none", lambda x, k: x)):
        with pytest.raises(ValueError, match="does not fit"):
            taught.Contestant("x", draw, nll, kind)


# --- reading the board ---


def test_a_lead_is_paired():
    hard = 30 * torch.randn(400)
    a, b = hard + 1.0, hard + 1.5 + 0.1 * torch.randn(400)
    ahead, error = taught.lead(a, b)
    assert ahead == pytest.approx(0.5, abs=4 * error)
    assert error < 0.01
    back, same = taught.lead(b, a)
    assert back == pytest.approx(-ahead)
    assert same == pytest.approx(error)
    with pytest.raises(ValueError, match="shapes"):
        taught.lead(a, b[:10])


def test_the_front_is_that_of_a_double_loop():
    rng = np.random.default_rng(0)
    for _ in range(30):
        cost, loss = rng.integers(0, 5, (2, 12))  # with ties
        slow = [
            not any(
                c <= cost[i] and q <= loss[i] and (c < cost[i] or q < loss[i]) for c, q in zip(cost, loss, strict=True)
            )
            for i in range(12)
        ]
        assert taught.pareto(cost, loss).tolist() == slow
    with pytest.raises(ValueError, match="NaN"):
        taught.pareto([1.0], [math.nan])


def test_recommendations_keep_their_limits():
    board = pd.DataFrame({"nll": [3.0, 1.0, math.nan], "sampling": [0.1, 9.0, 0.1]}, index=["a", "b", "c"])
    assert list(taught.recommend(board, "nll").index) == ["b", "a"]
    assert list(taught.recommend(board, "nll", sampling=1.0).index) == ["a"]
    with pytest.raises(ValueError, match="beauty"):
        taught.recommend(board, "beauty")


def test_recorded_rows_become_a_board_that_keeps_kind_and_spread():
    rows = pd.DataFrame([
        {"model": "A", "metric": "nll", "value": 80.0, "spread": 0.5, "kind": "bound", "seconds": 3.0, "parameters": 7},
        {"model": "A", "metric": "C2ST", "value": 0.6, "spread": 0.1, "kind": "estimate", "seconds": 3.0, "parameters": 7},
    ])  # fmt: skip
    board = taught.recorded_board(rows)
    assert board.loc["A", "kind"] == "bound"
    assert board.loc["A", "± C2ST"] == 0.1
    [line] = taught.board_lines(board, "recorded")
    assert line["nll (nats per image)"] == ("≤ 80.00 ± 0.50", 80.0)
    assert line["precision (share)"][0] == "–"
    assert taught.recorded_board(rows[:0]).empty


# --- the table ---


class Cells(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.values = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self.values.append(dict(attrs)["data-value"])


def test_the_table_is_sorted_by_buttons_and_loads_nothing():
    lines = [
        {"model": "<b>", "nll": ("≤ 1.00", 1.0)}, {"model": "c", "nll": ("∞", math.inf)},
        {"model": "d", "nll": ("–", math.nan)},
    ]  # fmt: skip
    shown = taught.sortable(lines, "A table of three lines.")
    text = shown._repr_mimebundle_()["text/html"]
    cells = Cells(text)
    assert cells.values == ["<b>", "1.0", "c", "Infinity", "d", ""]
    heads = [attrs for tag, attrs in cells.tags if tag == "th"]
    assert len(heads) == 2
    assert all(attrs["scope"] == "col" for attrs in heads)
    assert sum(tag == "button" for tag, _ in cells.tags) == 2
    assert "<caption>A table" in text
    assert not re.search(r"(?:src|href)=|https?:", text)
    assert text.count("<b>") == 0
    assert "A table of three lines." in shown._repr_mimebundle_()["text/plain"]
    with pytest.raises(ValueError, match="columns"):
        taught.sortable([{"a": 1}, {"b": 1}], "no")
    with pytest.raises(ValueError, match="0 lines"):
        taught.sortable([], "no")


# --- families, shortest training ---


@pytest.mark.parametrize("family", taught.FAMILIES, ids=lambda f: f.__name__)
def test_each_family_draws_images_and_says_what_it_promises(family):
    n = 5
    digits = load("digits")
    x, x_valid = digits["train"].images[:100], digits["valid"].images[:50]
    one = family(x, x_valid, 0.01, 0)
    drawn = one.sample(n)
    assert drawn.shape == (n, 1, 8, 8)
    assert torch.equal(taught.to_levels(drawn), drawn)
    assert one.parameters > 1000
    assert one.seconds > 0
    if one.nll is not None:
        losses = one.nll(x_valid[:10], 1)
        assert losses.shape == (10,)
        assert torch.isfinite(losses).all()
        if one.kind == "exact":
            assert torch.equal(losses, one.nll(x_valid[:10], 9))


def test_the_vae_of_points_has_the_bound_of_torch():
    model = taught.PointVAE()
    x = torch.randn(6, 2)
    with torch.no_grad():
        assert model.log_weights(x, 5).shape == (5, 6)
        torch.manual_seed(3)
        log_w = model.log_weights(x, 20_000)
        bounds = torch.stack([model.elbo(x) for _ in range(3000)])
    mean, error = log_w.mean(0), log_w.std(0) / math.sqrt(20_000)
    other, other_error = bounds.mean(0), bounds.std(0) / math.sqrt(3000)
    # E[log w] is the ELBO, up to log p(x | z)'s own constants: both ways keep them
    assert ((mean - other).abs() < 5 * (error**2 + other_error**2).sqrt()).all()


@pytest.mark.parametrize("family", taught.POINT_FAMILIES, ids=lambda f: f.__name__)
def test_each_family_of_points_draws_points(family):
    x = load("moons").sample(500)
    one = family(x, 5)
    assert one.sample(7).shape == (7, 2)
    if one.nll is not None:
        assert one.nll(x[:9], 1).shape == (9,)


def test_flow_matching_in_the_plane_is_a_density_in_the_units_of_the_data():
    one = taught.point_matching(load("moons").sample(2000, seed=1), 60)
    side = torch.linspace(-7, 7, 57)
    grid = torch.cartesian_prod(side, side)
    mass = (-one.nll(grid, 1)).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=0.03)
