"""What lecture 01 teaches, imported from its notebook, against scikit-learn, SciPy, enumeration and closed forms."""

import math
import time
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import nbformat
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import ConvexHull
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB

from course_utils import ROOT
from course_utils.reuse import lecture

taught = lecture("01")
Scene, Solid = taught.Scene, taught.Solid


# --- tables ---


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30))
def test_the_chain_rule_holds_from_both_sides_without_rounding(points):
    table = taught.joint(points)
    assert sum(table.values()) == 1
    for axis in (0, 1):
        given_, side = taught.conditional(table, axis), taught.marginal(table, axis)
        assert sum(side.values()) == 1
        assert all(isinstance(p, Fraction) and p * side[k[axis]] == table[k] for k, p in given_.items())


def test_the_four_points():
    table = taught.joint(taught.POINTS)
    assert [str(p) for p in table.values()] == ["1/2", "0", "1/4", "1/4"]
    assert [str(p) for p in taught.conditional(table, 0).values()] == ["1", "0", "1/2", "1/2"]
    assert [str(p) for p in taught.conditional(table, 1).values()] == ["2/3", "0", "1/3", "1"]


# --- the Gaussian classifier ---


@pytest.fixture
def labeled():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [30, 40, 50])
    return rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4)) + y[:, None], y


@pytest.mark.parametrize("kind", ["full", "shared", "diagonal", "shared diagonal"])
def test_each_covariance_is_the_maximum_of_the_likelihood(labeled, kind):
    """Any small change of the parameters within the model's form lowers the log-likelihood."""
    x, y = labeled
    model = taught.GaussianClassifier(kind).fit(x, y)

    def log_likelihood():
        return model.log_joint(x)[np.arange(len(y)), y].sum()

    best, rng = log_likelihood(), np.random.default_rng(1)
    mu, sigma, log_prior = model.mu, model.sigma, model.log_prior
    for _ in range(30):
        change = rng.normal(size=sigma.shape)
        if kind.startswith("shared"):
            change = np.broadcast_to(change[:1], change.shape)
        if kind.endswith("diagonal"):
            change = change * np.eye(4)
        model.sigma = sigma + 0.02 * (change + change.swapaxes(1, 2))
        assert log_likelihood() < best
        model.sigma, model.mu = sigma, mu + 0.02 * rng.normal(size=mu.shape)
        assert log_likelihood() < best
        weights = np.exp(log_prior) * rng.uniform(0.9, 1.1, 3)
        model.mu, model.log_prior = mu, np.log(weights / weights.sum())
        assert log_likelihood() < best
        model.log_prior = log_prior


def test_naive_bayes_is_scikit_learns(labeled):
    x, y = labeled
    model = taught.GaussianClassifier("diagonal", noise=0.3).fit(x, y)
    theirs = GaussianNB(var_smoothing=0.3 / x.var(0).max()).fit(x, y)
    log_p = model.log_joint(x) - model.log_prob(x)[:, None]
    np.testing.assert_allclose(log_p, theirs.predict_log_proba(x), atol=1e-8)
    np.testing.assert_array_equal(model.predict(x), theirs.predict(x))


def test_seen_pixels_give_the_marginal(labeled):
    x, y = labeled
    model, seen = taught.GaussianClassifier().fit(x, y), np.array([True, False, True, False])
    expected = stats.multivariate_normal(model.mu[1][seen], model.sigma[1][np.ix_(seen, seen)]).logpdf(x[:, seen])
    np.testing.assert_allclose(model.log_joint(x, seen)[:, 1], expected + math.log(40 / 120))


def test_classifier_names_bad_input(labeled):
    x, y = labeled
    with pytest.raises(ValueError, match="choose one of"):
        taught.GaussianClassifier("round")
    with pytest.raises(ValueError, match="not negative"):
        taught.GaussianClassifier(noise=-1)
    with pytest.raises(ValueError, match=r"no example of the classes \[1\]"):
        taught.GaussianClassifier().fit(x[y != 1], y[y != 1])


def test_conditional_is_the_regression_on_many_draws():
    """Least squares on samples knows no formula of ours: slopes, intercept and residual covariance must agree."""
    rng = np.random.default_rng(0)
    root, mu, n = rng.normal(size=(5, 5)), rng.normal(size=5), 200_000
    x, seen = mu + rng.normal(size=(n, 5)) @ root.T, np.array([False, True, True, False, True])
    design = np.column_stack([x[:, seen], np.ones(n)])
    slopes = np.linalg.lstsq(design, x[:, ~seen], rcond=None)[0]
    residual = np.cov((x[:, ~seen] - design @ slopes).T)
    at = rng.normal(size=3)
    mean, covariance = taught.condition(mu, root @ root.T, at, seen)
    error = 5 * np.sqrt(np.diag(covariance) / n) * (1 + np.abs(at).sum() * 3)
    assert (np.abs(mean - np.append(at, 1) @ slopes) < error).all()
    np.testing.assert_allclose(covariance, residual, atol=5 * 2 * np.diag(covariance).max() / math.sqrt(n))


def test_completions_keep_what_is_seen_and_have_the_conditional_law(labeled):
    x, y = labeled
    model, seen = taught.GaussianClassifier(noise=0.1).fit(x, y), np.array([True, True, False, False])
    rng = np.random.default_rng(0)
    draws = np.stack([taught.complete(model, x[0], seen, rng) for _ in range(1_000)])
    assert (draws[:, seen] == x[0, seen]).all()
    weights = np.exp(model.log_joint(x[:1], seen)[0])
    parts = [taught.condition(model.mu[k], model.sigma[k], x[0, seen], seen)[0] for k in range(3)]
    mean = weights / weights.sum() @ np.array(parts)
    assert (np.abs(draws.mean(0)[~seen] - mean) < 4.5 * draws.std(0)[~seen] / math.sqrt(1_000)).all()


def test_drawn_images_have_the_moments_of_their_class(labeled):
    model = taught.GaussianClassifier().fit(*labeled)
    draws = taught.draw_images(model, np.full(50_000, 2), np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(draws.T), model.sigma[2], atol=0.03 * model.sigma[2].max())
    assert (np.abs(draws.mean(0) - model.mu[2]) < 4.5 * draws.std(0) / math.sqrt(50_000)).all()


def test_area_counts_pairs_and_half_of_the_ties():
    assert taught.area(np.array([3.0, 1.0]), np.array([0.0, 1.0, 2.0])) == pytest.approx((3 + 1.5) / 6)


# --- the renderer ---


solids = st.builds(
    Solid, st.sampled_from(taught.SHAPES), st.sampled_from(list(taught.COLORS)), st.floats(0.3, 1.2),
    st.floats(-1.2, 1.2), st.floats(-1.2, 1.2),
)  # fmt: skip


def corners(solid) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(4) / 4 + 1 / 8 if solid.shape == "cube" else np.arange(500) / 500)
    radius = solid.size / 2 * (math.sqrt(2) if solid.shape == "cube" else 1)
    ring = np.stack([solid.x + radius * np.cos(angle), solid.y + radius * np.sin(angle)], 1)
    return np.concatenate([np.insert(ring, 2, z, axis=1) for z in (0.0, solid.size)])


@settings(max_examples=25)
@given(solids)
def test_a_pixel_shows_the_solid_exactly_if_it_lies_in_the_hull_of_its_projected_corners(solid):
    """A pinhole camera written anew: only pixels on the outline itself, within rounding, may differ."""
    forward = np.subtract(taught.TARGET, taught.EYE)
    forward = forward / np.linalg.norm(forward)
    right, up = np.array([1.0, 0, 0]), np.cross([1.0, 0, 0], forward)
    relative = corners(solid) - taught.EYE
    film = taught.ZOOM * relative @ np.stack([right, up], 1) / (relative @ forward)[:, None]
    faces = ConvexHull(film).equations
    centers = (2 * np.arange(48) + 1) / 48 - 1
    u, v = np.meshgrid(centers, -centers)
    signed = (np.stack([u.ravel(), v.ravel()], 1) @ faces[:, :2].T + faces[:, 2]).max(1)
    seen = taught.trace([Scene((solid,))], 48)[1][0].numpy() == 0
    clear = np.abs(signed) > 1e-3  # of a film 2 wide; the rim of a cylinder is a polygon here
    assert (seen == (signed < 0))[clear].all()


@settings(max_examples=25)
@given(solids)
def test_hits_lie_on_the_surface(solid):
    t, which = taught.trace([Scene((solid,))], 40)
    point = (torch.tensor(taught.EYE)[:, None] + t[0] * taught.camera_rays(40)).T
    on_ground = point[which[0] == 1]
    assert (on_ground[:, 2].abs() < 1e-4).all()
    x, y, z = point[which[0] == 0].T
    half = solid.size / 2
    dx, dy = (x - solid.x) / half, (y - solid.y) / half
    across = torch.maximum(dx.abs(), dy.abs()) if solid.shape == "cube" else (dx**2 + dy**2).sqrt()
    up = (z - half).abs() / half
    np.testing.assert_allclose(torch.maximum(across, up), 1, atol=2e-3)


@settings(max_examples=20)
@given(st.lists(solids, min_size=1, max_size=3))
def test_mirrored_scenes_are_seen_mirrored_and_order_does_not_matter(items):
    items = [*{(s.x, s.y): s for s in items}.values()]
    scene = Scene(tuple(items))
    mirrored = Scene(tuple(replace(s, x=-s.x) for s in items))
    (t, _), (t_mirrored, _) = taught.trace([scene], 31), taught.trace([mirrored], 31)
    np.testing.assert_allclose(t.view(31, 31), t_mirrored.view(31, 31).fliplr(), rtol=1e-4)
    np.testing.assert_allclose(t, taught.trace([Scene(tuple(items[::-1]))], 31)[0], rtol=1e-6)


@settings(max_examples=10)
@given(st.lists(solids, min_size=2, max_size=3))
def test_the_nearest_solid_is_seen(items):
    """Together, a ray stops where the first of the solids alone would stop it."""
    together = taught.trace([Scene(tuple(items))], 24)[0]
    alone = torch.stack([taught.trace([Scene((s,))], 24)[0] for s in items])
    torch.testing.assert_close(together, alone.amin(0))


def test_a_batch_is_its_scenes_one_by_one():
    rng = np.random.default_rng(0)
    scenes = [taught.draw_scene(rng, k % 4) for k in range(40)]  # more than a part, with empty ones
    one_by_one = torch.cat([taught.render([scene], 20) for scene in scenes])
    images = taught.render(scenes, 20)
    assert images.shape == (40, 3, 20, 20)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    torch.testing.assert_close(images, one_by_one, rtol=0, atol=1e-6)


def test_at_least_500_images_a_second():
    """On one core, the best of three, in the time of this process: others on the machine do not count."""
    rng, threads = np.random.default_rng(0), torch.get_num_threads()
    scenes = [taught.draw_scene(rng, 1 + k % 3) for k in range(128)]
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(3):
            start = time.process_time()
            taught.render(scenes)
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert len(scenes) / min(seconds) >= 500


def test_light_and_shadow_follow_lambert():
    """The ground, a top and a front have brightness ambient + (1 - ambient) max(0, n·l); shadows have the ambient."""
    light = np.array(taught.LIGHT) / np.linalg.norm(taught.LIGHT)
    scene = Scene((Solid("cube", "yellow", 1.0, 0.0, 0.0),))
    image = taught.render([scene], 120)[0].movedim(0, 2).reshape(-1, 3).numpy()
    t, which = taught.trace([scene], 120)
    point = (torch.tensor(taught.EYE)[:, None] + t[0] * taught.camera_rays(120)).T.numpy()
    cube, bright = which[0].numpy() == 0, lambda n: taught.AMBIENT + (1 - taught.AMBIENT) * max(0, n @ light)
    yellow = np.array(taught.COLORS["yellow"])
    top, front = cube & (point[:, 2] > 0.999), cube & (point[:, 1] < -0.499) & (point[:, 2] < 0.99)
    np.testing.assert_allclose(image[top], np.tile(yellow * bright(np.array([0, 0, 1])), (top.sum(), 1)), atol=1e-5)
    np.testing.assert_allclose(
        image[front], np.tile(yellow * bright(np.array([0, -1, 0])), (front.sum(), 1)), atol=1e-5
    )
    # A point of the ground is in the shadow if, on its way to the light, it passes through the cube.
    steps = point[~cube][:, None] + np.linspace(1e-3, 1.5, 200)[:, None] * light
    inside = ((np.abs(steps[..., :2]) < 0.5).all(-1) & (steps[..., 2] < 1)).any(1)
    ground = image[~cube]
    dark = np.isclose(ground, taught.GRAY * taught.AMBIENT, atol=1e-5).all(1)
    assert inside.sum() > 200
    assert np.mean(dark != inside) < 0.004  # the steps may miss a corner
    np.testing.assert_allclose(ground[~dark], taught.GRAY * bright(np.array([0, 0, 1])), atol=1e-5)


def test_a_round_side_is_lit_by_its_normal():
    scene = Scene((Solid("cylinder", "red", 1.0, 0.0, 0.0),))
    t, which = taught.trace([scene], 64)
    point = (torch.tensor(taught.EYE)[:, None] + t[0] * taught.camera_rays(64)).T.double()
    side = (which[0] == 0) & (point[:, 2] < 0.98)
    normal = torch.nn.functional.normalize(point[side] * torch.tensor([1.0, 1.0, 0.0]), dim=1)
    lambert = (normal @ torch.tensor(taught.LIGHT).double() / np.linalg.norm(taught.LIGHT)).clamp(min=0)
    expected = taught.COLORS["red"][0] * (taught.AMBIENT + (1 - taught.AMBIENT) * lambert)
    seen = taught.render([scene])[0, 0].flatten()[side].double()
    assert ((seen - expected).abs() < 1e-3).double().mean() > 0.98  # the terminator may fall to either side


def test_shapes_and_colors_differ_at_32_pixels():
    """Every two kinds of solid in the same place differ on many pixels: lecture 22 reads them off small images."""
    kinds = [(shape, color) for shape in taught.SHAPES for color in taught.COLORS]
    images = taught.render([Scene((Solid(*kind, 0.7, 0.2, 0.1),)) for kind in kinds], 32)
    for i in range(len(kinds)):
        for j in range(i):
            assert ((images[i] - images[j]).abs().amax(0) > 0.1).sum() >= 6, (kinds[i], kinds[j])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": "cone"}, "choose one of cube, cylinder"),
        ({"color": "pink"}, "choose one of red"),
        ({"size": 0.0}, "give a length"),
        ({"size": 9.0}, "give a length"),
        ({"size": math.nan}, "give a length"),
        ({"x": 2.0}, "both lie in"),
        ({"y": math.nan}, "both lie in"),
    ],
)
def test_solids_name_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        replace(Solid("cube", "red", 1.0, 0.0, 0.0), **change)


def test_scenes_are_frozen_and_checked():
    scene = Scene((Solid("cube", "red", 1.0, 0.0, 0.0),))
    with pytest.raises(FrozenInstanceError):
        scene.solids = ()
    assert len({scene, Scene(scene.solids)}) == 1
    with pytest.raises(TypeError, match="tuple of Solid"):
        Scene([scene.solids[0]])
    for scenes, size in (([], 64), ([scene], 0)):
        with pytest.raises(ValueError, match="at least one of each"):
            taught.render(scenes, size)
    with pytest.raises(ValueError, match="0 to 4"):
        taught.draw_scene(np.random.default_rng(0), 5)


def test_the_prior_is_uniform_and_solids_stand_apart():
    rng = np.random.default_rng(0)
    drawn = [taught.draw_solid(rng) for _ in range(3_000)]
    for values, choices in (([s.shape for s in drawn], taught.SHAPES), ([s.color for s in drawn], taught.COLORS)):
        assert stats.chisquare([values.count(c) for c in choices]).pvalue > 1e-4
    assert stats.kstest([s.size for s in drawn], stats.uniform(0.5, 0.6).cdf).pvalue > 1e-4
    assert stats.kstest([s.x for s in drawn], stats.uniform(-1.2, 2.4).cdf).pvalue > 1e-4
    for scene in (taught.draw_scene(rng, 3) for _ in range(100)):
        a, b, c = scene.solids
        for one, two in ((a, b), (a, c), (b, c)):
            apart = max(abs(one.x - two.x), abs(one.y - two.y))
            assert apart > (one.size + two.size) / 2  # the squares around both do not meet


# --- densities on the line ---


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(1, 5), st.integers(6, 60))
def test_em_never_falls(seed, K, n):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) * rng.uniform(0.1, 5, n)
    model = taught.Mixture(np.full(K, 1 / K), rng.choice(x, K), np.full(K, x.var()))
    before = model.log_prob(x).sum()
    for _ in range(30):
        model = taught.em_step(model, x)
        after = model.log_prob(x).sum()
        assert after >= before - 1e-9 * max(1, abs(before))
        assert model.pi.sum() == pytest.approx(1)
        assert model.var.min() >= 1e-2
        before = after


def test_em_is_scikit_learns():
    x = taught.draw_data(300, np.random.default_rng(0))
    model = taught.fit_mixture(x, 3, np.random.default_rng(1), n_steps=800)
    theirs = GaussianMixture(3, weights_init=model.pi, means_init=model.mu[:, None], tol=1e-9, reg_covar=0,
                             precisions_init=1 / model.var[:, None, None]).fit(x[:, None])  # fmt: skip
    assert model.log_prob(x).mean() == pytest.approx(theirs.score(x[:, None]), abs=1e-4)
    np.testing.assert_allclose(model.log_prob(x), theirs.score_samples(x[:, None]), atol=0.05)


def test_draws_have_the_density():
    x, grid = taught.draw_data(20_000, np.random.default_rng(0)), np.linspace(*taught.GRID)
    cdf = np.cumsum(taught.p_data(grid)) * (grid[1] - grid[0])
    assert cdf[-1] == pytest.approx(1, abs=1e-6)
    assert stats.kstest(x, lambda at: np.interp(at, grid, cdf)).pvalue > 1e-4


@settings(max_examples=25)
@given(st.integers(0, 2**31 - 1), st.integers(2, 40), st.sampled_from([6, 19, 60]))
def test_histogram_and_kernels_integrate_to_one(seed, n, bins):
    x, grid = taught.draw_data(n, np.random.default_rng(seed)), np.linspace(*taught.GRID)
    middles = grid[:-1] + np.diff(grid) / 2
    total = np.exp(taught.histogram_log_prob(x, middles, bins)).mean() * (grid[-1] - grid[0])
    assert total == pytest.approx(1, abs=2e-3 * bins)
    assert np.trapezoid(np.exp(taught.kernel_log_prob(x, grid, 0.3)), grid) == pytest.approx(1, abs=1e-6)
    exact = np.log([stats.norm(x, 0.3).pdf(v).mean() for v in middles[2400:2410]])
    np.testing.assert_allclose(taught.kernel_log_prob(x, middles[2400:2410], 0.3), exact)


def test_leaving_one_out_is_done_by_n_fits():
    x = taught.draw_data(40, np.random.default_rng(3))
    rest = [np.delete(x, i) for i in range(40)]
    scores = {h: sum(np.log(stats.norm(r, h).pdf(v).mean()) for r, v in zip(rest, x, strict=True))
              for h in taught.WIDTHS}  # fmt: skip
    assert taught.choose_width(x) == max(scores, key=scores.get)
    scores = {b: sum(taught.histogram_log_prob(r, np.array([v]), b)[0] for r, v in zip(rest, x, strict=True))
              for b in taught.BINS}  # fmt: skip
    assert taught.choose_bins(x) == max(scores, key=scores.get)


def test_poison_costs_at_most_log_100():
    log_p, log_q = np.array([0.0, -800.0, -3.0]), np.array([-1_000.0, -700.0, -3.0])
    mixed = taught.poisoned_log_prob(log_p, log_q)
    np.testing.assert_allclose(mixed, [-math.log(100), -700 + math.log(0.99), -3.0])


def test_patches_seen_before_are_counted_whole():
    train = np.array([[True, False], [False, False]])
    test = np.array([[True, False], [False, True], [False, False], [True, True]])
    assert taught.share_seen_before(train, test) == 0.5


# --- the map ---


def test_the_list_of_links_is_in_step_with_the_map_and_the_course():
    """If it fails, because a lecture was added, say: its message is the text for the cell `map-links`."""
    plan = yaml.safe_load((ROOT / "jupyter_book" / "course.yml").read_text(encoding="utf-8"))
    entries = {}
    for item in (entry for part in plan["parts"] for entry in part["lectures"]):
        slug, title = item["slug"], f"{item['slug'][:2]} {item['title']}"
        written = (ROOT / "notebooks" / f"{slug}.ipynb").exists()
        entries[slug[:2]] = f"[{title}]({slug}.ipynb)" if written else title
    expected = "The same map as a list, with a link to every lecture that is written."
    for branch, families in {**taught.FAMILIES, "tools": taught.TOOLS}.items():
        rows = (f"- {family}: {' · '.join(entries[n] for n in numbers)}" for family, numbers in families.items())
        expected += f"\n\n**{branch}**\n\n" + "\n".join(rows)
    notebook = nbformat.read(ROOT / "notebooks" / "01_what_is_a_generative_model.ipynb", 4)
    text = next(cell.source for cell in notebook.cells if cell.id == "map-links")
    assert text == expected, f"the cell map-links of lecture 01 should read:\n\n{expected}\n"
