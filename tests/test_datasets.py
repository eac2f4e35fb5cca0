"""Built-in and generated data: the right shapes, and the truth that they promise."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from course_utils import datasets, reuse, synthetic
from course_utils.synthetic import DENSITIES, Grammar

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=5)


# ---------------------------------------------------------------- names, splits, cards


def test_unknown_data_set_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'.*digits.*toy_english.*mnist.*fsdd"):
        datasets.load("mnits")


@pytest.mark.parametrize(("name", "valid"), [("digits", "train, valid, test"), ("python_docs", "train, valid, test")])
def test_unknown_split_names_the_valid_ones(name, valid):
    with pytest.raises(KeyError, match=f"no split 'dev'.*{valid}"):
        datasets.load(name)["dev"]


def test_import_loads_no_large_library():
    code = "import sys, course_utils.datasets; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "sklearn", "scipy", "matplotlib", "pooch", "pandas", "tqdm"} & set(loaded)


def test_every_data_set_has_a_card_and_every_download_a_registered_file():
    cards = (datasets.REGISTRY.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in datasets.NAMES if f"`{name}`" not in cards] == []
    entries = [line.split() for line in datasets.REGISTRY.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert {path.split("/")[0] for path, _ in entries} == set(datasets.ADDRESSES)
    assert all(len(sha256) == 64 and int(sha256, 16) >= 0 for _, sha256 in entries)
    assert len(dict(entries)) == len(entries)


# ---------------------------------------------------------------- images and text


def test_digits_are_those_of_scikit_learn_in_file_order():
    from sklearn.datasets import load_digits

    digits = datasets.load("digits")
    assert [len(part.images) for part in digits.values()] == [1000, 350, 447]
    images = torch.cat([part.images for part in digits.values()])
    np.testing.assert_array_equal(images[:, 0] * (digits.levels - 1), load_digits().images)
    np.testing.assert_array_equal(torch.cat([part.labels for part in digits.values()]), load_digits().target)


def test_photo_patches_tile_the_photographs():
    from sklearn.datasets import load_sample_images

    patches = datasets.load("photo_patches")
    photo = load_sample_images().images[0].astype(float)
    gray = (0.299 * photo[..., 0] + 0.587 * photo[..., 1] + 0.114 * photo[..., 2]).round() / 255
    np.testing.assert_allclose(patches["train"].images[0, 0], gray[:16, :16], atol=1e-6)
    np.testing.assert_allclose(patches["valid"].images[0, 0], gray[:16, 480:496], atol=1e-6)
    np.testing.assert_allclose(patches["test"].images[1, 0], gray[:16, 568:584], atol=1e-6)
    for part in patches.values():
        assert part.labels is None
        assert part.images.shape[1:] == (1, 16, 16)
        levels = part.images * (patches.levels - 1)
        np.testing.assert_allclose(levels, levels.round(), atol=1e-4)


def test_python_docs_are_reproducible_and_share_no_paragraph():
    docs = datasets.load("python_docs")
    assert docs == datasets.load("python_docs")
    paragraphs = {split: {p.strip() for p in text.split("\n\n")} for split, text in docs.items()}
    assert len(docs["train"]) > 4 * max(len(docs["valid"]), len(docs["test"])) > 0
    assert not paragraphs["train"] & paragraphs["valid"]
    assert not (paragraphs["train"] | paragraphs["valid"]) & paragraphs["test"]


def test_glyphs_are_reproducible_binary_and_recognizable():
    glyphs = datasets.load("glyphs")
    assert glyphs.levels == 2
    for part, per_class in zip(glyphs.values(), (30, 4, 5), strict=True):
        assert part.images.shape == (36 * per_class, 1, 20, 16)
        assert part.images.unique().tolist() == [0, 1]
        assert part.labels.bincount().tolist() == [per_class] * 36
        ink = part.images.mean(dim=(1, 2, 3))
        assert 0.05 < ink.min()
        assert ink.max() < 0.75
    assert torch.equal(glyphs["test"].images, datasets.load("glyphs")["test"].images)
    x, y = glyphs["train"]
    x_test, y_test = glyphs["test"]
    nearest = torch.cdist(x_test.flatten(1), x.flatten(1), p=1).argmin(dim=1)
    accuracy = (y[nearest] == y_test).float().mean()
    assert 0.5 < accuracy < 0.9, accuracy  # wrong labels: 1/36; copies of the training set: 1


def test_breast_cancer_is_that_of_scikit_learn_with_malignant_as_one():
    from sklearn.datasets import load_breast_cancer

    data, ours = load_breast_cancer(), datasets.load("breast_cancer")
    assert [len(part.y) for part in ours.values()] == [341, 114, 114]
    known = {(*row, 1 - label) for row, label in zip(data.data.tolist(), data.target.tolist(), strict=True)}
    found = {
        (*row, label) for part in ours.values() for row, label in zip(part.x.tolist(), part.y.tolist(), strict=True)
    }
    assert found == known
    assert len(found) == 569  # no row in two splits
    part = ours["train"]
    assert part.features == data.feature_names.tolist()
    assert dict(zip(part.features, part.units, strict=True))["worst area"] == "length²"
    assert part.x[part.y == part.classes.index("malignant"), 0].mean() > part.x[part.y == 0, 0].mean() + 3
    np.testing.assert_array_equal(part.x, datasets.load("breast_cancer")["train"].x)


def test_doc_topics_are_reproducible_learnable_and_share_no_paragraph():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    topics, again = datasets.load("doc_topics"), datasets.load("doc_topics")
    assert all(topics[split].texts == again[split].texts for split in topics)
    texts = [text for part in topics.values() for text in part.texts]
    assert len(set(texts)) == len(texts)
    counts = CountVectorizer().fit(topics["train"].texts)
    model = LogisticRegression().fit(counts.transform(topics["train"].texts), topics["train"].y)
    x = counts.transform(topics["valid"].texts + topics["test"].texts)
    y = np.concatenate([topics["valid"].y, topics["test"].y])
    commoner = max(y.mean(), 1 - y.mean())
    assert model.score(x, y) > commoner + 4 * math.sqrt(commoner * (1 - commoner) / len(y))
    assert model.score(x, 1 - y) < 0.5


def test_channels_are_reproducible_and_their_styles_are_known():
    data = datasets.load("channels")
    assert data.levels == 2
    assert {split: part.labels.bincount().tolist() for split, part in data.items()} == {
        "train": [2000, 2000], "valid": [300, 300], "test": [100, 100], "outside": [0, 0, 100]
    }  # fmt: skip
    for part in data.values():
        assert part.images.shape == (len(part.labels), 1, 32, 24)
        assert part.images.unique().tolist() == [0, 1]
        share = part.images.mean(dim=(1, 2, 3))
        assert 0.02 < share.min()
        assert share.max() < 0.6
    assert torch.equal(data["test"].images, datasets.load("channels")["test"].images)
    sections = torch.cat([part.images for part in data.values()]).flatten(1)
    assert len(sections.unique(dim=0)) == len(sections)  # none is in two splits


@pytest.mark.parametrize("size", [2, 3, 4])
def test_bars_and_stripes_have_the_probabilities_of_their_coins(size):
    data = datasets.load("bars_and_stripes") if size == 4 else synthetic.bars_and_stripes(size)
    truth = {}
    for coins in range(2**size):
        line = [coins >> k & 1 for k in range(size)]
        for image in (line * size, [pixel for pixel in line for _ in range(size)]):
            truth[tuple(image)] = truth.get(tuple(image), 0) + 2.0 ** -(size + 1)
    found = dict(zip(map(tuple, data.images.flatten(1).int().tolist()), data.probabilities.tolist(), strict=True))
    assert found == truth
    assert len(truth) == 2 ** (size + 1) - 2
    assert data.images.shape[1:] == (1, size, size)
    assert data.entropy == pytest.approx(-sum(p * math.log(p) for p in truth.values()), rel=1e-12)


def test_bars_and_stripes_are_drawn_by_their_probabilities():
    data, n = datasets.load("bars_and_stripes"), 20_000
    drawn, counts = data.sample(n).unique(dim=0, return_counts=True)
    assert torch.equal(drawn, data.images)  # unique sorts both
    assert stats.chisquare(counts.numpy(), n * data.probabilities.numpy()).pvalue > 1e-3
    assert torch.equal(data.sample(5, seed=3), data.sample(5, seed=3))
    assert not torch.equal(data.sample(50, seed=3), data.sample(50, seed=4))
    with pytest.raises(ValueError, match=r"size=1; expected at least 2"):
        synthetic.bars_and_stripes(1)


def test_plucked_strings_have_the_pitch_and_the_decay_of_their_delay():
    data = datasets.load("plucked_strings")
    rate, samples = synthetic.SOUND_RATE, synthetic.NOTE_SAMPLES
    assert [len(part.waveforms) for part in data.values()] == [200, 20, 20]
    for sounds, delays in data.values():
        assert sounds.shape == (len(delays), 8 * samples)
        assert 0.2 < sounds.abs().max() <= 1
    sounds, delays = data["train"]
    notes = sounds.view(-1, samples).double()
    window = torch.hann_window(samples // 2, dtype=torch.float64)
    halves = notes.view(-1, 2, samples // 2).unbind(1)
    first, second = (torch.fft.rfft(half * window, 8 * samples).abs() for half in halves)
    for delay in delays.unique():
        chosen = delays.flatten() == delay
        low, high = (int(8 * samples / (delay + 0.5) * factor) for factor in (0.8, 1.2))  # bins about the pitch
        power, later = ((part[chosen, low:high] ** 2).sum(0) for part in (first, second))
        peak = low + power.argmax()
        pitch = rate / (delay + 0.5)
        assert abs(peak * rate / (8 * samples) - pitch) < 0.75 * rate / (8 * samples), delay  # three quarters of a bin
        periods = samples / 2 / (delay + 0.5)
        shrinks = (synthetic.STRING_LOSS * torch.cos(torch.pi * pitch / rate)) ** periods  # in half a note
        assert (later[peak - low] / power[peak - low]).sqrt() == pytest.approx(shrinks.item(), rel=0.02), delay


def test_plucked_strings_obey_the_recursion_from_a_burst_of_mean_zero():
    sounds, delays = synthetic.plucked_strings(3, seed=5, notes=2)
    again = synthetic.plucked_strings(3, seed=5, notes=2)
    assert torch.equal(sounds, again.waveforms)
    assert not torch.equal(sounds, synthetic.plucked_strings(3, seed=6, notes=2).waveforms)
    for note, delay in zip(sounds.view(6, -1), delays.flatten(), strict=True):
        t = torch.arange(delay + 1, len(note))
        expected = synthetic.STRING_LOSS / 2 * (note[t - delay] + note[t - delay - 1])
        assert torch.allclose(note[t], expected, rtol=0, atol=1e-6)
        assert abs(note[:delay].mean()) < 1e-6
    with pytest.raises(ValueError, match="n=0"):
        synthetic.plucked_strings(0, seed=0)


def test_scenes_show_what_their_captions_say():
    data = datasets.load("scenes")
    assert [len(part.captions) for part in data.values()] == [1000, 300, 500, 500]
    assert str(data["train"].captions[0]).split()[0] == "a"
    for images, captions, scenes in data.values():
        assert images.shape == (len(captions), 3, 32, 32)
        assert 0 <= images.min() < images.max() <= 1
        for caption, scene in zip(captions, scenes, strict=True):
            a, b = scene.solids
            assert [(s.color, s.shape) for s in (a, b)] == [caption.first[1:], caption.second[1:]]
            for solid, (size, _, _) in ((a, caption.first), (b, caption.second)):
                low, high = synthetic.SIZES[size]
                assert low <= solid.size <= high
            holds = {
                "left of": b.x - a.x, "right of": a.x - b.x, "in front of": b.y - a.y, "behind": a.y - b.y,
            }  # fmt: skip
            assert max(holds, key=holds.get) == caption.relation  # also: by far more than across
            assert sorted(holds.values())[-1] > 2 * sorted(holds.values())[-2]
            assert max(abs(a.x - b.x), abs(a.y - b.y)) > (a.size + b.size) / 2  # two cubes do not overlap
    lecture = reuse.lecture("01")
    images, _, scenes = data["solids"]
    fine = lecture.render([scenes[7]], 64)[0]  # four rays a pixel
    by_hand = (fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]) / 4
    assert torch.allclose(images[7], by_hand, atol=1e-6)
    with pytest.raises(ValueError, match="no captions"):
        synthetic.scenes([], 0)


def test_scenes_hold_out_pairs_and_solids():
    data, groups = datasets.load("scenes"), synthetic.scene_captions()
    everything = [caption for group in groups.values() for caption in group]
    assert len(everything) == len(set(map(str, everything))) == 24 * 20 * 4  # each solid, one of another color, where
    pairs, solids = {}, {}
    for name, captions in groups.items():
        pairs[name] = {frozenset((c.first, c.second)) for c in captions}
        solids[name] = {solid for c in captions for solid in (c.first, c.second)}
    assert not pairs["known"] & pairs["pairs"]
    assert solids["pairs"] < solids["known"]
    assert not solids["known"] & set(synthetic.UNSEEN_SOLIDS)
    assert all({c.first, c.second} & set(synthetic.UNSEEN_SOLIDS) for c in groups["solids"])
    for size, color, shape in synthetic.UNSEEN_SOLIDS:  # any two of its words are seen together
        for k, words in enumerate([(color, shape), (size, shape), (size, color)]):
            assert any(tuple(v for i, v in enumerate(solid) if i != k) == words for solid in solids["known"])
    for split, group in (("train", "known"), ("valid", "known"), ("test", "pairs"), ("solids", "solids")):
        assert set(data[split].captions) <= set(groups[group])
    again = synthetic.scenes(data["test"].captions, seed=2)
    assert torch.equal(data["test"].images, again.images)
    assert data["test"].scenes == again.scenes
    assert not torch.equal(data["train"].images[:300], data["valid"].images)


def test_channels_look_like_their_style():
    data = datasets.load("channels")
    x, style = (torch.cat(parts) for parts in zip(data["test"], data["outside"], strict=True))
    across = (x.sum(dim=2) > 0).all(dim=2).squeeze(1)  # channel in every column
    down = (x.sum(dim=3) > 0).float().mean(dim=2).squeeze(1)  # share of rows with channel
    assert across[style == 0].all()
    assert across[style == 1].float().mean() < 0.9
    assert down[style == 2].mean() > 0.8
    steps = [(x.diff(dim=dim) != 0).sum(dim=(1, 2, 3)) for dim in (2, 3)]  # edges met going down, and going across
    assert ((steps[0] > 1.2 * steps[1]) == (style < 2)).float().mean() > 0.95
    with pytest.raises(ValueError, match=r"style='faults'.*meanders, lenses, dikes"):
        synthetic.channels("faults", 1, 0)


def wave_numbers(size):
    """Return |k| [size, size] of the modes of np.fft.fft2, in waves per box."""
    k = np.fft.fftfreq(size, 1 / size)
    return np.hypot(k[:, None], k)


def test_cosmic_web_is_reproducible_keeps_all_mass_and_fits_its_scale():
    web = datasets.load("cosmic_web")
    assert {split: tuple(part.images.shape) for split, part in web.items()} == {
        "train": (4000, 1, 32, 32), "valid": (1000, 1, 32, 32), "test": (1000, 1, 32, 32)
    }  # fmt: skip
    assert torch.equal(web["test"].images, datasets.load("cosmic_web")["test"].images)
    first = web["test"].images[:20, 0]
    np.testing.assert_allclose(first, np.log2(1 + 8 * synthetic.cosmic_web(20, seed=2).density) / 9, atol=1e-6)
    for part in web.values():
        assert part.labels is None
        assert 0 <= part.images.min()
        assert part.images.max() < 1
        density = (2 ** (9 * part.images.double()) - 1) / 8
        np.testing.assert_allclose(density.mean(dim=(1, 2, 3)), 1, atol=1e-6)
    everything = torch.cat([part.images for part in web.values()]).flatten(1)
    assert len(everything.unique(dim=0)) == len(everything)  # none is in two splits


@pytest.mark.parametrize(("size", "index"), [(32, -1.5), (32, 0.0), (20, -2.5)])
def test_initial_field_of_the_cosmic_web_is_gaussian_with_the_spectrum_that_was_asked_for(size, index):
    n = 400
    delta = synthetic.cosmic_web(n, seed=5, size=size, index=index).initial.astype(float)
    power = np.abs(np.fft.fft2(delta)) ** 2 / size**2  # [n, size, size], exponential around P(k)
    k = wave_numbers(size)
    inside = (k > 0) & (k < size / 2)
    assert power[:, ~inside].max() < 1e-9
    expected = np.where(inside, np.where(inside, k, 1) ** index, 0)
    expected *= size**2 / expected.sum()  # variance 1
    # each mode stands in the plane with its opposite, so half as many are independent
    ratios = (power.mean(0)[inside] / expected[inside])[: inside.sum() // 2]
    assert abs(ratios.mean() - 1) < 5 / math.sqrt(n * len(ratios))
    assert abs(ratios - 1).max() < 5.5 / math.sqrt(n)  # no direction is preferred
    slope, _ = np.polyfit(np.log(k[inside]), np.log(power.mean(0)[inside]), 1)
    error = math.sqrt(2 / n / len(np.log(k[inside]))) / np.log(k[inside]).std()
    assert abs(slope - index) < 5 * error
    values = delta[:, :: size // 4, :: size // 4].ravel()  # nearly independent
    assert stats.kstest(values, "norm").pvalue > 1e-4


def test_cosmic_web_grows_as_linear_theory_says_while_displacements_are_small():
    size, growth = 32, 1e-3
    initial, density = synthetic.cosmic_web(10, seed=1, size=size, growth=growth)
    before, after = (np.fft.fft2(field.astype(float)) for field in (initial, density - 1))
    window = np.sinc(np.fft.fftfreq(size)) ** 2  # cloud-in-cell averages over a triangle along each axis
    expected = growth * before * window[:, None] * window
    for low, high, tolerance in ((0, 4, 0.002), (4, 16, 0.02)):  # measured with 3² particles a cell: 0.0009, 0.009
        some = (wave_numbers(size) > low) & (wave_numbers(size) < high)
        assert abs(after - expected)[:, some].max() < tolerance * abs(expected)[:, some].max()


def test_cosmic_web_becomes_lumpy_but_stays_periodic_and_isotropic():
    initial, density = synthetic.cosmic_web(600, seed=4)
    contrast = density.astype(float) - 1
    np.testing.assert_allclose(contrast.mean(axis=(1, 2)), 0, atol=1e-6)
    assert stats.skew(contrast.ravel()) > 2 > 0.1 > abs(stats.skew(initial.ravel()))
    steps = {  # mean squared difference of neighbors: inside, across the edges, per field
        axis: (np.diff(contrast, axis=axis), contrast.take(0, axis) - contrast.take(-1, axis)) for axis in (1, 2)
    }
    inside = np.stack([(within**2).mean(axis=(1, 2)) for within, _ in steps.values()])  # [axis, n]
    edges = np.stack([(edge**2).mean(axis=1) for _, edge in steps.values()])
    for differences in (inside[0] - inside[1], edges[0] - inside[0], edges[1] - inside[1]):
        assert abs(differences.mean()) < 4.5 * differences.std() / math.sqrt(len(differences))


def test_cosmic_web_takes_any_even_size_and_its_first_fields_do_not_depend_on_n():
    for size, oversample in ((4, 1), (8, 3), (28, 2), (64, 2)):
        web = synthetic.cosmic_web(2, 0, size, oversample=oversample)
        assert web.density.shape == web.initial.shape == (2, size, size)
        assert web.density.dtype == web.initial.dtype == np.float32
        assert web.density.min() >= 0
    many, few = synthetic.cosmic_web(40, 3, 8), synthetic.cosmic_web(18, 3, 8)
    np.testing.assert_array_equal(many.density[:18], few.density)
    assert not np.array_equal(few.density, synthetic.cosmic_web(18, 4, 8).density)
    for bad in ({"size": 9}, {"size": 2}, {"n": 0}, {"oversample": 0}):
        with pytest.raises(ValueError, match=r"expected n ≥ 1, an even size ≥ 4, oversample ≥ 1"):
            synthetic.cosmic_web(**{"n": 1, "seed": 0, **bad})


# ---------------------------------------------------------------- 2-D densities


def grid(density, n=400):
    """Return the midpoints [n, n, 2] of a grid over the bounds, and the area of a cell."""
    left, right, bottom, top = density.bounds
    x = left + (right - left) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    y = bottom + (top - bottom) * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1), (right - left) * (top - bottom) / n**2


@cache
def masses(name):
    """Return the probability of each cell [400, 400] of the grid, and the entropy in nats, both by quadrature."""
    points, area = grid(datasets.load(name))
    p = datasets.load(name).log_prob(points).exp()
    return p * area, -area * torch.special.xlogy(p, p).sum().item()


@pytest.mark.parametrize("name", DENSITIES)
def test_density_integrates_to_one(name):
    assert masses(name)[0].sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", DENSITIES)
@REPEATABLE
@given(seed=st.integers(0, 2**32))
def test_density_agrees_with_its_samples(name, seed):
    density = datasets.load(name)
    x = density.sample(20_000, seed)
    assert x.shape == (20_000, 2)
    assert x.dtype == torch.float32
    assert torch.equal(x, density.sample(20_000, seed))
    surprise = -density.log_prob(x.double())
    error = surprise.std(correction=0).item() / math.sqrt(len(x))
    assert abs(surprise.mean().item() - masses(name)[1]) < 5 * error + 1e-6  # a normal error, 5 sigma
    # chi-squared: 20 x 20 cells, each the sum of 20 x 20 points of the grid; rare cells are pooled
    expected = len(x) * masses(name)[0].reshape(20, 20, 20, 20).sum(dim=(1, 3)).flatten().numpy()
    left, right, bottom, top = density.bounds
    observed = np.histogram2d(*x.T.numpy(), bins=20, range=[[left, right], [bottom, top]])[0].flatten()
    rare = expected < 10
    observed = np.append(observed[~rare], len(x) - observed[~rare].sum())
    expected = np.append(expected[~rare], len(x) - expected[~rare].sum())
    keep = expected > 1e-3
    assert observed[~keep].sum() == 0
    statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
    assert stats.chi2.sf(statistic, keep.sum() - 1) > 1e-6


@pytest.mark.parametrize("name", [name for name in DENSITIES if name != "checkerboard"])
def test_log_prob_is_differentiable(name):
    density = datasets.load(name)
    x = density.sample(20, seed=3).double().requires_grad_()
    assert torch.autograd.gradcheck(density.log_prob, x, atol=1e-4)


def test_log_prob_is_elementwise_and_keeps_the_dtype():
    for name in DENSITIES:
        density = datasets.load(name)
        x = density.sample(6, seed=1)
        assert density.log_prob(x).dtype == torch.float32
        torch.testing.assert_close(density.log_prob(x.reshape(2, 3, 2)), density.log_prob(x).reshape(2, 3))
        assert density.log_prob(torch.tensor([50.0, 50.0])) < -1000


def test_eight_gaussians_against_torch_distributions():
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    centers = 2.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    parts = torch.distributions.Independent(torch.distributions.Normal(centers, 0.25), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(8).double()), parts)
    density = datasets.load("eight_gaussians")
    x = density.sample(100, seed=2).double()
    torch.testing.assert_close(density.log_prob(x), mixture.log_prob(x))


# ---------------------------------------------------------------- toy English


def derivations(rules, longest):
    """Yield (sentence, probability) of every derivation of at most `longest` words: leftmost first, no cleverness."""
    forms = [(1.0, ("S",))]
    while forms:
        p, form = forms.pop()
        left = next((i for i, symbol in enumerate(form) if symbol in rules), None)
        if left is None:
            yield " ".join(form), p
            continue
        for q, symbols in rules[form[left]]:
            longer = (*form[:left], *symbols, *form[left + 1 :])
            if len(longer) <= longest:
                forms.append((p * q, longer))


@pytest.fixture(scope="module")
def english():
    return datasets.load("toy_english")


@pytest.fixture(scope="module")
def sampled(english):
    return english.sample(20_000, seed=5)


def test_rules_are_distributions(english):
    for options in english.rules.values():
        assert sum(p for p, _ in options) == pytest.approx(1, abs=1e-12)
        assert len({symbols for _, symbols in options}) == len(options)


def test_short_sentences_have_one_derivation_and_its_probability(english, sampled):
    enumerated = list(derivations(english.rules, longest=9))
    short = dict(enumerated)
    assert len(short) == len(enumerated) > 10_000  # unambiguous
    sentences, log_probs = sampled
    seen = [(short[s], math.exp(log_p)) for s, log_p in zip(sentences, log_probs, strict=True) if s.count(" ") < 9]
    np.testing.assert_allclose(*zip(*seen, strict=True), rtol=1e-9)
    mass = sum(short.values())
    assert abs(len(seen) / len(sentences) - mass) < 5 * math.sqrt(mass * (1 - mass) / len(sentences))


def test_entropy_and_mean_length_against_samples(english, sampled):
    sentences, log_probs = sampled
    lengths = np.array([len(sentence) + 1 for sentence in sentences])
    for values, exact in ((-log_probs, english.entropy), (lengths, english.mean_length)):
        assert abs(values.mean() - exact) < 5 * values.std() / math.sqrt(len(values))


def test_each_verb_agrees_with_its_own_subject(sampled):
    nouns, verbs = {"dog", "cat", "bird", "girl", "teacher"}, {"see", "like", "follow", "need"}
    alone = {"run", "sleep", "sing", "laugh"}

    def noun_phrase(words):  # -> is the noun plural, how deep do the clauses nest
        assert words.pop() == "the"
        noun = words.pop()
        assert noun.removesuffix("s") in nouns
        depth = 0
        if words and words[-1] == "that":
            words.pop()
            plural, depth = noun_phrase(words)
            verb = words.pop()
            assert verb.removesuffix("s") in verbs
            assert verb.endswith("s") != plural
            depth += 1
        return noun.endswith("s"), depth

    deepest = 0
    for sentence in sampled[0]:
        words = sentence.split()[::-1]
        plural, depth = noun_phrase(words)
        verb = words.pop()
        assert verb.endswith("s") != plural
        assert verb.removesuffix("s") in (verbs if words else alone)
        if words:
            noun_phrase(words)
        assert not words
        deepest = max(deepest, depth)
    assert deepest >= 5


@settings(derandomize=True, deadline=None)
@given(p=st.floats(0.01, 0.95))
def test_entropy_of_a_geometric_grammar_in_closed_form(p):
    grammar = Grammar({"S": [(p, ("again", "S")), (1 - p, ("end",))]})
    surprise = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert grammar.entropy == pytest.approx(surprise / (1 - p), rel=1e-9)
    assert grammar.mean_length == pytest.approx(6 * p / (1 - p) + 4, rel=1e-9)


def test_samples_repeat_with_the_seed(english):
    assert english.sample(50, seed=1)[0] == english.sample(50, seed=1)[0] != english.sample(50, seed=2)[0]
    assert synthetic.toy_english() == english


# ---------------------------------------------------------------- English and Turkish

FORMS = """
kedi kediyi kediye kedide kediden kediler kedileri kedilere | köpek köpeği köpeğe köpekte köpekten köpekler köpekleri köpeklere
kitap kitabı kitaba kitapta kitaptan kitaplar kitapları kitaplara | ağaç ağacı ağaca ağaçta ağaçtan ağaçlar ağaçları ağaçlara
çocuk çocuğu çocuğa çocukta çocuktan çocuklar çocukları çocuklara | süt sütü süte sütte sütten sütler sütleri sütlere
kutu kutuyu kutuya kutuda kutudan kutular kutuları kutulara | gül gülü güle gülde gülden güller gülleri güllere
dondurma dondurmayı dondurmaya dondurmada dondurmadan dondurmalar dondurmaları dondurmalara
sokak sokağı sokağa sokakta sokaktan sokaklar sokakları sokaklara
"""  # nominative, accusative, dative, locative, ablative; plural nominative, accusative, dative
VERB_FORMS = {  # third person, I, you, we
    ("like", "aorist", False, False): "sever severim seversin severiz",
    ("like", "aorist", True, False): "sevmez sevmem sevmezsin sevmeyiz",
    ("see", "past", False, False): "gördü gördüm gördün gördük",
    ("see", "aorist", False, True): "görür mü,görür müyüm,görür müsün,görür müyüz",
    ("see", "aorist", True, True): "görmez mi,görmez miyim,görmez misin,görmez miyiz",
    ("sell", "past", False, True): "sattı mı,sattım mı,sattın mı,sattık mı",
    ("find", "aorist", False, True): "bulur mu,bulur muyum,bulur musun,bulur muyuz",
    ("find", "past", True, False): "bulmadı bulmadım bulmadın bulmadık",
    ("wait for", "aorist", False, False): "bekler beklerim beklersin bekleriz",
    ("want", "aorist", True, False): "istemez istemem istemezsin istemeyiz",
    ("carry", "past", False, False): "taşıdı taşıdım taşıdın taşıdık",
    ("forget", "past", False, False): "unuttu unuttum unuttun unuttuk",
    ("fear", "aorist", False, False): "korkar korkarım korkarsın korkarız",
    ("approach", "aorist", False, False): "yaklaşır yaklaşırım yaklaşırsın yaklaşırız",
    ("flee from", "past", False, False): "kaçtı kaçtım kaçtın kaçtık",
}
SENTENCES = [
    (("who", "like", "ice cream", "aorist", True, False, ""), "who does not like ice cream", "dondurmayı kim sevmez"),
    (("who", "buy", "ice cream", "past", False, False, ""), "who bought ice cream", "kim dondurma aldı"),
    (("girl", "see", "book"), "the girl sees the book", "kız kitabı görür"),
    (("I", "find", "apple", "past", False, False, "a"), "I found an apple", "bir elma buldum"),
    (
        ("child", "look at", "dog", "past", False, True, "the", True, True, "big", "garden"),
        "did the children look at the big dogs in the garden",
        "çocuklar bahçede büyük köpeklere baktı mı",
    ),
    (("she", "fear", "cat", "aorist", False, False, "a"), "she fears a cat", "o bir kediden korkar"),
    (
        ("who", "carry", "box", "aorist", False, False, "a", False, False, "red", "street"),
        "who carries a red box in the street",
        "sokakta kim kırmızı bir kutu taşır",
    ),
    (
        ("we", "wait for", "bread", "aorist", True, True, "the", False, False, "", "school"),
        "do we not wait for the bread in the school",
        "okulda ekmeği beklemez miyiz",
    ),
]


def test_turkish_nouns_have_the_forms_of_the_grammar_book():
    nouns = synthetic.ANIMATE | synthetic.THINGS | synthetic.SUBSTANCES | synthetic.PLACES
    by_stem = {noun.turkish: noun for noun in nouns.values()}
    cases = [*synthetic.CASES, *["nominative", "accusative", "dative"]]
    for line in FORMS.replace("|", "\n").strip().splitlines():
        expected = line.split()
        found = [synthetic.inflect(by_stem[expected[0]], case, i > 4) for i, case in enumerate(cases)]
        assert found == expected


def test_turkish_verbs_have_the_forms_of_the_grammar_book():
    for (verb, *rest), forms in VERB_FORMS.items():
        tense, negative, question = rest
        found = [
            synthetic.conjugate(synthetic.VERBS[verb], tense, negative, person, question)
            for person in ("", "1sg", "2sg", "1pl")
        ]
        assert found == forms.split("," if question else None)


def test_sentences_in_two_languages():
    for meaning, english, turkish in SENTENCES:
        sentence = synthetic.Sentence(*meaning)
        assert (sentence.english(), sentence.turkish()) == (english, turkish)


def test_toy_translation_splits_are_what_their_names_say():
    data = datasets.load("toy_translation")
    again = datasets.load("toy_translation")
    assert data == again
    assert {split: len(english) for split, (english, _) in data.items()} == {
        "train": 12000, "valid": 500, "test": 1000, "forms": 500
    }  # fmt: skip
    everything = [text for english, _ in data.values() for text in english]
    assert len(set(everything)) == len(everything)
    known = [set(" ".join(side).split()) for side in data["train"]]
    for split, sides in data.items():
        assert len(sides[0]) == len(sides[1])
        assert set(" ".join(sides[0]).split()) <= known[0]
        words = [set(text.split()) for text in sides[1]]
        if split == "forms":
            assert all(w - known[1] for w in words)
            assert set.union(*words) - known[1] == synthetic.UNSEEN_FORMS
        else:
            assert set.union(*words) <= known[1]
    assert (data["test"][0][0], data["test"][1][0]) == ("who does not like ice cream", "dondurmayı kim sevmez")


def verb_and_object(english: str) -> tuple[str, str]:
    """Return the verb and the object of a sentence, found in its words."""
    text = f" {english} "
    verbs = {form: name for name, v in synthetic.VERBS.items() for form in (name, v.third, v.past)}
    _, end, verb = max((len(f), text.index(f" {f} ") + len(f), v) for f, v in verbs.items() if f" {f} " in text)
    rest = text[end:].partition(" in the ")[0]
    nouns = synthetic.ANIMATE | synthetic.THINGS | synthetic.SUBSTANCES
    [thing] = [n for n in nouns if rest.strip().endswith((n, nouns[n].plural or f"{n}s"))]
    return verb, thing


def test_toy_translation_tests_pairs_of_verb_and_object_that_training_never_joins():
    data = datasets.load("toy_translation")
    pairs = {split: {verb_and_object(text) for text in english} for split, (english, _) in data.items()}
    known_forms = ("train", "valid", "test")  # what is chosen on "valid" is new in "test"
    for one, other in itertools.combinations(known_forms, 2):
        assert not pairs[one] & pairs[other]
    for split in ("valid", "test"):
        assert {v for v, _ in pairs[split]} <= {v for v, _ in pairs["train"]}
        assert {n for _, n in pairs[split]} == {n for _, n in pairs["train"]}
    assert len(pairs["valid"]) == len(synthetic.ANIMATE | synthetic.THINGS | synthetic.SUBSTANCES)
    assert len(pairs["test"]) > 2 * len(pairs["valid"])
    assert pairs["forms"] <= pairs["train"]


# ---------------------------------------------------------------- users and films


def test_ratings_follow_the_known_tastes():
    ratings = datasets.load("ratings")
    n_users, n_films = ratings.p_seen.shape
    assert ratings.likes.shape == (n_users, len(synthetic.GENRES))
    assert ratings.genres.shape == (n_films,) == (len(ratings.titles),)
    seen = np.zeros((n_users, n_films))
    np.add.at(seen, (ratings.users, ratings.films), 1)
    assert seen.max() == 1  # nobody rates a film twice
    expected, variance = ratings.p_seen, ratings.p_seen * (1 - ratings.p_seen)
    liked = ratings.likes[:, ratings.genres]
    for group in (liked, ~liked):  # the sum of independent Bernoulli variables: 5 standard deviations
        assert abs((seen - expected)[group].sum()) < 5 * math.sqrt(variance[group].sum())
    film_error = (seen - expected).sum(0) / np.sqrt(variance.sum(0))
    assert np.abs(film_error).max() < 5
    odds = ratings.p_seen / (1 - ratings.p_seen)
    for film in range(n_films):  # a liked genre multiplies the odds by e^3
        assert odds[liked[:, film], film].min() == pytest.approx(math.exp(3) * odds[~liked[:, film], film].max())
    assert all(title.startswith(synthetic.GENRES[g]) for title, g in zip(ratings.titles, ratings.genres, strict=True))
    stars, keen = ratings.stars, liked[ratings.users, ratings.films]
    assert set(np.unique(stars)) <= set(np.arange(1, 11) / 2)
    assert stars[keen].mean() - stars[~keen].mean() > 1
    for ours, again in zip(ratings, datasets.load("ratings"), strict=True):
        np.testing.assert_array_equal(ours, again)
