"""What lecture 24 teaches, imported from its notebook, against closed forms, enumeration and loops."""

import itertools
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import expect, sync_playwright

from course_utils import ROOT
from course_utils.datasets import load
from course_utils.metrics import c2st, frechet_distance
from course_utils.results import table
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


# --- a small Boltzmann machine, exactly ---


@pytest.fixture
def machine():
    model = taught.LevelRBM(images(9, 1, 3, levels=3), levels=3, q=4)
    with torch.no_grad():
        model.W.normal_()
        model.b.normal_()
    grid = torch.cartesian_prod(*[torch.arange(3)] * 3).view(27, 1, 1, 3) / 2
    return model, grid


def test_the_boltzmann_machine_of_levels_is_its_energy_summed_by_brute_force(machine):
    model, grid = machine
    weights = torch.zeros(27)
    for k, h in itertools.product(range(27), itertools.product((0.0, 1.0), repeat=4)):
        v, hidden = model.one_hot(grid[k : k + 1]).flatten(), torch.tensor(h)
        weights[k] += (v @ model.a + hidden @ model.b + v @ model.W @ hidden).exp().item()
    torch.testing.assert_close(model.log_prob(grid), (weights / weights.sum()).log(), rtol=1e-4, atol=1e-4)


def test_the_boltzmann_machine_draws_from_its_own_law(machine):
    model, grid = machine
    n = 20_000
    drawn = (2 * model.sample(n)).round().long().view(n, 3)
    counts = (drawn @ torch.tensor([9, 3, 1])).bincount(minlength=27)
    p = model.log_prob(grid).exp().detach()
    assert ((counts / n - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


def test_the_untrained_boltzmann_machine_has_the_frequencies_of_the_pixels():
    x = images(500, 2, 2, levels=4)
    model = taught.LevelRBM(x, levels=4, q=3)
    with torch.no_grad():
        model.W.zero_()
    counts = torch.nn.functional.one_hot((3 * x.flatten(1)).round().long(), 4).sum(0) + 0.1
    expected = taught.independent((counts / counts.sum(1, keepdim=True)).view(2, 2, 4), "pixels", 0).nll(x)
    torch.testing.assert_close(-model.log_prob(x), expected, rtol=1e-4, atol=1e-4)


# --- measuring ---


def test_measures_of_a_copier_and_of_a_model_of_one_class(baselines):
    digits, models = baselines
    train, test = digits["train"], digits["test"].images
    row, nats = taught.measure(models[-1], train.images, test)
    assert set(row) >= {*taught.UNITS, "model", "kind", "error"}
    assert row["copies"] == 1
    assert row["recall"] > 0.7
    assert math.isinf(row["nll"])
    assert nats.shape == (len(test),)
    fixed = taught.Contestant("fixed", lambda n: train.images[:n])
    row, _ = taught.measure(fixed, train.images, test, seed=5)
    drawn, real = map(lecture("10").digits_features, (train.images[:447], test))
    assert row["Fréchet"] == pytest.approx(frechet_distance(drawn, real))
    assert row["C2ST"] == c2st(drawn, real, 5)[0]
    zeros = train.images[train.labels == 0]
    narrow = taught.Contestant("zeros", lambda n: zeros[torch.randint(len(zeros), (n,))], seconds=3.5, parameters=7)
    row, nats = taught.measure(narrow, train.images, test)
    assert nats is None
    assert row["precision"] > 0.7 > 0.3 > row["recall"]
    assert row["C2ST"] > 0.8
    assert (row["training"], row["parameters"]) == (3.5, 7)
    assert row["Fréchet"] > 20


def test_nats_of_a_row_are_mean_and_standard_error(baselines):
    digits, models = baselines
    test = digits["test"].images
    row, nats = taught.measure(models[1], digits["train"].images, test)
    expected = models[1].nll(test)
    assert row["nll"] == pytest.approx(expected.mean().item())
    assert row["error"] == pytest.approx(expected.std().item() / math.sqrt(447))
    torch.testing.assert_close(nats, expected)


def test_points_of_the_true_law_have_no_divergence_and_shifted_ones_the_known_one():
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))

    class Known:
        def sample(self, n, seed):
            return normal.sample((n,))

        def log_prob(self, x):
            return normal.log_prob(x)

    def model(shift: float) -> taught.Contestant:
        nll = lambda x, k=1: -normal.log_prob(x - shift)  # noqa: E731
        return taught.Contestant("m", lambda n: normal.sample((n,)) + shift, nll, "exact")

    row = taught.measure_points(model(0.0), Known(), 0)
    assert row["KL"] == pytest.approx(0, abs=1e-6)
    row = taught.measure_points(model(2.0), Known(), 0)  # KL of two Gaussians: ½ |shift|² = 4
    assert abs(row["KL"] - 4) < 5 * row["error"]
    assert row["error"] == pytest.approx(math.sqrt(8 / 1000), rel=0.2)
    assert row["W1"] == pytest.approx(2 * math.sqrt(2), abs=0.25)
    assert row["C2ST"] > 0.85


def races() -> pd.DataFrame:
    return pd.DataFrame([
        {"model": "A", "kind": "bound", "nll": 80.0, "error": 0.5, "training": 1.0, "parameters": 7},
        {"model": "B", "kind": "none", "C2ST": 0.75, "training": 2.0, "parameters": 9},
        {"model": "A", "kind": "bound", "nll": 84.0, "error": 0.7, "training": 3.0, "parameters": 7},
    ])  # fmt: skip


SOME = {"nll": "nats per image", "C2ST": "accuracy", "training": "processor s", "parameters": "count"}


def test_a_board_has_means_and_standard_deviations_over_seeds():
    board = taught.summarize(races(), SOME)
    assert list(board.index) == ["A", "B"]
    assert board.loc["A", ["nll", "error", "training"]].tolist() == [82.0, pytest.approx(0.6), 2.0]
    assert board.loc["A", "± nll"] == pytest.approx(math.sqrt(8))
    assert math.isnan(board.loc["B", "nll"])
    one, two = taught.board_lines(board, "this run", SOME)
    assert one["nll (nats per image)"] == ("≤ 82.00 ± 2.83", 82.0)
    assert two["C2ST (accuracy)"] == ("0.75", 0.75)
    one, _ = taught.board_lines(taught.summarize(races()[:2], SOME), "this run", SOME)
    assert one["nll (nats per image)"] == ("≤ 80.00 ± 0.50", 80.0)  # one seed: the error over images


def test_what_is_recorded_comes_back_as_a_board(monkeypatch):
    kept = []

    def record(lecture, model, dataset, metric, value, unit, **rest):
        kept.append({"model": model, "dataset": dataset, "metric": metric, "value": value, "unit": unit, **rest})

    monkeypatch.setattr(taught, "record", record)
    taught.record_race(races(), "digits", SOME, "quick")
    rows = pd.DataFrame(kept)
    assert list(rows["metric"]) == ["nll", "C2ST"]
    assert list(rows["kind"]) == ["bound", "estimate"]
    assert "seeds: 2" in rows["note"][0]
    assert "deviation" in rows["note"][0]
    board = taught.recorded_board(rows)
    assert board.loc["A", ["kind", "nll", "training"]].tolist() == ["bound", 82.0, 2.0]
    assert board.loc["A", "± nll"] == pytest.approx(math.sqrt(8))
    assert board.loc["B", "kind"] == "none"
    kept.clear()
    taught.record_race(races()[:1].assign(nll=math.inf), "digits", SOME, "quick")
    assert kept == []  # the copier's infinite nats are no row
    taught.record_race(races()[:1], "digits", SOME, "quick")
    assert kept[0]["spread"] == 0.5
    assert "error over examples" in kept[0]["note"]


def test_every_published_figure_has_a_row_of_ours_and_a_source():
    sources = (ROOT / "jupyter_book" / "references.bib").read_text(encoding="utf-8")
    rows = table("full").query("dataset == 'binarized_mnist' and metric == 'nll'")
    for ours, _, nats, kind, variant, source in taught.PAPERS:
        assert (rows["model"] == ours).sum() == 1
        assert 80 < nats < 100
        assert kind.partition(",")[0] in {"exact", "bound", "estimate"}
        assert variant in {"fixed", "stochastic"}
        assert f"{{{source}," in sources


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
    assert list(taught.recommend(board, "sampling", nll=3.0).index) == ["a", "b"]
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


@pytest.fixture(scope="module")
def page():
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_page()
        browser.close()


def order(page) -> list[str]:
    return page.locator("tbody tr td:first-child").all_text_contents()


def test_a_press_on_a_heading_sorts_the_rows_by_mouse_and_keyboard(page):
    values = {"ten": 10.0, "nine": 9.0, "none": math.nan, "never": math.inf, "small": 0.001}
    lines = [{"model": name, "nll": (f"≤ {value}", value)} for name, value in values.items()]
    text = taught.sortable(lines, "Five rows to sort.")._repr_mimebundle_()["text/html"]
    page.set_content(f"<!doctype html><title>t</title>{text}")
    head = page.locator("th").nth(1)
    head.get_by_role("button").click()
    assert order(page) == ["small", "nine", "ten", "never", "none"]  # as numbers, not as text
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.get_by_role("status")).to_have_text("Sorted by nll, rising.")
    page.keyboard.press("Enter")  # the focus is still on the button
    assert order(page) == ["never", "ten", "nine", "small", "none"]  # what has no figure stays last
    expect(head).to_have_attribute("aria-sort", "descending")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert order(page) == sorted(values)
    expect(head).not_to_have_attribute("aria-sort", re.compile(".*"))
    assert page.locator("tbody tr").count() == 5


def test_two_tables_on_a_page_sort_apart(page):
    texts = [
        taught.sortable([{"a": b}, {"a": a}], "Two rows to sort.")._repr_mimebundle_()["text/html"]
        for a, b in (("1", "2"), ("3", "4"))
    ]
    page.set_content("".join(texts))
    page.get_by_role("button").nth(1).click()
    assert order(page) == ["2", "1", "3", "4"]


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
            torch.testing.assert_close(losses, one.nll(x_valid[:10], 9), rtol=0, atol=1e-3)


def test_k_draws_of_the_vae_stand_inside_the_logarithm():
    x = load("digits")["train"].images[:100]
    one = taught.train_vae(x, x[:50], 0.05, 0)
    torch.manual_seed(1)
    tight, loose = one.nll(x, 50), torch.stack([one.nll(x, 1) for _ in range(3)]).mean(0)
    ahead, error = taught.lead(tight, loose)
    assert ahead > 4 * error
    assert 60 < tight.mean() < 64 * math.log(17)


def test_made_is_a_mixture_of_which_each_member_draws_its_share(monkeypatch):
    auto, x = lecture("14"), load("digits")["train"].images[:60]
    one, asked, seen = taught.train_made(x, x, 0.01, 0), [], []
    mixture, sample = auto.log_mixture, auto.MADE.sample
    monkeypatch.setattr(auto, "log_mixture", lambda log_probs: seen.append(log_probs) or mixture(log_probs))
    monkeypatch.setattr(auto.MADE, "sample", lambda self, n: asked.append(n) or sample(self, n))
    losses = one.nll(x[:9], 1)
    torch.testing.assert_close(losses, math.log(4) - seen[0].logsumexp(0))
    assert len({row.tolist()[0] for row in seen[0]}) == 4  # four models, not one
    for n in (7, 2):
        asked.clear()
        assert one.sample(n).shape == (n, 1, 8, 8)
        assert sum(asked) == n
        assert max(asked) - min(asked) <= 1


def test_no_bound_of_points_is_below_the_entropy():
    density = load("moons")
    one, x = taught.point_vae(density.sample(2000, seed=1), 100), density.sample(500, seed=2)
    above, error = taught.lead(-density.log_prob(x), one.nll(x, 200))
    assert above > -4 * error
    assert one.nll(x, 200).mean() < one.nll(x, 1).mean()


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
    assert one.parameters >= 5
    if one.nll is not None:
        assert one.nll(x[:9], 1).shape == (9,)
        if one.kind != "estimate":  # more steps of a solver are another figure
            exact = (one.nll(x[:9], 1) - one.nll(x[:9], 3)).abs().max() < 1e-5
            assert exact == (one.kind == "exact")


def test_the_gaussian_of_points_has_the_entropy_of_its_points():
    x = load("moons").sample(400, seed=1)
    one = taught.point_gaussian(x, 0)
    entropy = 0.5 * torch.logdet(2 * math.pi * math.e * x.T.cov()).item()
    assert one.nll(x).mean().item() == pytest.approx(entropy - 1 / 400, abs=1e-4)  # divisor n - 1


def test_flow_matching_in_the_plane_is_a_density_in_the_units_of_the_data():
    one = taught.point_matching(load("moons").sample(2000, seed=1), 60)
    side = torch.linspace(-7, 7, 57)
    grid = torch.cartesian_prod(side, side)
    mass = (-one.nll(grid, 1)).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("family", [taught.point_diffusion, taught.point_matching], ids=lambda f: f.__name__)
def test_samples_of_scaled_families_have_the_scale_of_the_data(family):
    x = load("moons").sample(2000, seed=1)
    one = family(x, 200)
    ratio = one.sample(2000).std(0) / x.std(0)
    assert ((0.7 < ratio) & (ratio < 1.4)).all()  # a factor of two is forgotten easily
