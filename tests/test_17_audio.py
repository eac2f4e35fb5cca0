"""What lecture 17 teaches, imported from its notebook, against closed forms, SciPy, torch and enumeration."""

import base64
import io
import itertools
import math
import re
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright
from scipy import stats

from course_utils import results
from course_utils.reuse import lecture

taught = lecture("17")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def small(kind: str = "WaveNet", **sizes) -> torch.nn.Module:
    """Return a small network, its weights so large that each input it sees changes what it draws."""
    sizes = {"depth": 3, "stacks": 2, "channels": 6, "skip": 7, "levels": 5} | sizes
    if kind == "PredictiveWaveNet":
        sizes = {"lags": 2} | sizes
    model = getattr(taught, kind)(**sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        if kind == "PredictiveWaveNet":
            torch.nn.init.normal_(model.predictor.weight)
            torch.nn.init.normal_(model.predictor.bias)
    return model


KINDS = pytest.mark.parametrize("kind", ["WaveNet", "PredictiveWaveNet"])


# ---------------------------------------------------------------- µ-law


@given(st.floats(-1, 1), st.integers(2, 300))
def test_mu_law_errs_by_less_than_its_bound(x, levels):
    sound = torch.tensor([x], dtype=torch.float64)
    code = taught.mu_law(sound, levels)
    assert 0 <= code.item() < levels
    error = (taught.inverse_mu_law(code, levels) - sound).abs().item()
    mu, g = levels - 1, levels ** (1 / levels)
    assert error <= (g - 1) * (abs(x) + 1 / mu) * (1 + 1e-9)


def test_mu_law_agrees_with_the_textbook_formula_and_is_odd_and_monotone():
    x = np.linspace(-1, 1, 2001)
    y = np.sign(x) * np.log(1 + 255 * abs(x)) / np.log(256)
    codes = taught.mu_law(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(codes, np.minimum(np.floor((y + 1) * 128), 255))
    assert (np.diff(codes) >= 0).all()
    decoded = taught.inverse_mu_law(torch.arange(256))
    torch.testing.assert_close(decoded, -decoded.flip(0))
    assert torch.equal(taught.mu_law(decoded), torch.arange(256))
    assert taught.mu_law(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 128, 255]
    torch.testing.assert_close(taught.expand(taught.compand(torch.from_numpy(x))), torch.from_numpy(x))


@pytest.mark.parametrize("x", [[1.01], [-1.5, 0.0], [math.nan], [math.inf]])
def test_mu_law_refuses_what_is_not_a_sound(x):
    with pytest.raises(ValueError, match=r"leaves \[-1, 1\]"):
        taught.mu_law(torch.tensor(x))


def test_mu_law_refuses_codes_and_levels_that_do_not_exist():
    for codes in ([256], [-1]):
        with pytest.raises(ValueError, match="outside 0 … 255"):
            taught.inverse_mu_law(torch.tensor(codes))
    with pytest.raises(ValueError, match="levels=1"):
        taught.mu_law(torch.zeros(1), levels=1)


def test_signal_to_noise_ratio_in_decibels():
    x = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert taught.snr(x, 0.9 * x) == pytest.approx(20)
    steps = taught.linear_8_bit(torch.linspace(-1, 1, 10_001)).unique()
    assert len(steps) == 256
    torch.testing.assert_close(steps.diff(), torch.full((255,), 1 / 128))


# ---------------------------------------------------------------- convolutions and receptive field


@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 1), (2, 4), (3, 2), (4, 3)])
def test_a_causal_convolution_is_its_sum_written_out(k, d):
    conv = taught.CausalConv1d(2, 3, k, d).double()
    h = torch.randn(2, 2, 17, dtype=torch.float64)
    expected = conv.bias[None, :, None].repeat(2, 1, 17)
    for t, j in itertools.product(range(17), range(k)):
        if t - j * d >= 0:
            expected[:, :, t] += h[:, :, t - j * d] @ conv.weight[:, :, k - 1 - j].T
    torch.testing.assert_close(conv(h), expected)
    conv.start(2)
    torch.testing.assert_close(torch.stack([conv.step(h[:, :, t]) for t in range(17)], dim=2), expected)


@KINDS
@pytest.mark.parametrize(("depth", "stacks"), [(1, 1), (1, 3), (4, 1), (3, 2), (2, 3)])
def test_each_code_is_predicted_from_exactly_the_receptive_field(depth, stacks, kind):
    model = small(kind, depth=depth, stacks=stacks)
    R = model.receptive_field
    assert R == 2 + stacks * (2**depth - 1)
    codes = torch.randint(5, (1, R + 12))
    features = model.features(codes).requires_grad_()
    for t in (0, R - 1, R + 5):
        (gradient,) = torch.autograd.grad(model.next_logits(features)[0, :, t].square().sum(), features)
        seen = gradient[0].abs().sum(0).nonzero().flatten().tolist()
        assert seen == list(range(max(0, t - R + 1), t + 1))


@KINDS
def test_no_logit_changes_with_its_own_code_or_a_later_one(kind):
    model = small(kind)
    codes = torch.randint(5, (1, 30))
    changed = codes.clone()
    changed[0, 12] = (codes[0, 12] + 1) % 5
    with torch.no_grad():
        difference = (model.logits(codes) - model.logits(changed)).abs().sum(1)[0]
    assert (difference[:13] == 0).all()
    last = 12 + model.receptive_field
    assert (difference[13:last + 1] > 0).all()  # fmt: skip
    assert (difference[last + 1 :] == 0).all()


# ---------------------------------------------------------------- the network


@KINDS
@pytest.mark.parametrize(("levels", "length"), [(2, 6), (3, 4), (7, 2)])
def test_probabilities_of_all_sounds_sum_to_one(levels, length, kind):
    sounds = torch.cartesian_prod(*[torch.arange(levels)] * length)
    total = small(kind, levels=levels).log_prob(sounds).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_log_prob_is_that_of_the_logits_in_nats_and_bits_are_per_sample():
    model, codes = small(), torch.randint(5, (3, 20))
    by_torch = torch.distributions.Categorical(logits=model.logits(codes).transpose(1, 2)).log_prob(codes)
    torch.testing.assert_close(-model.nll(codes), by_torch)
    torch.testing.assert_close(model.log_prob(codes), by_torch.sum(1))
    torch.testing.assert_close(taught.bits(model, codes), -by_torch.mean() / math.log(2))


def test_bits_at_each_are_those_of_the_logits_however_many_sounds():
    model, codes = small(), torch.randint(5, (5, 20))
    expected = torch.distributions.Categorical(logits=model.logits(codes).transpose(1, 2)).log_prob(codes)
    np.testing.assert_allclose(taught.bits_at_each(model, codes), -expected.detach() / math.log(2))


def test_a_block_gates_adds_and_skips():
    block = taught.GatedBlock(4, 3, 2).double()
    h = torch.randn(2, 4, 9, dtype=torch.float64)
    mixed = F.conv1d(F.pad(h, (2, 0)), block.conv.weight, block.conv.bias, dilation=2)
    z = torch.tanh(mixed[:, :4]) * torch.sigmoid(mixed[:, 4:])
    out = torch.einsum("oc,bct->bot", block.out.weight[:, :, 0], z) + block.out.bias[:, None]
    residual, skip = block(h)
    torch.testing.assert_close(residual, h + out[:, :4])
    torch.testing.assert_close(skip, out[:, 4:])


def test_silence_comes_before_the_first_code():
    model = small()
    codes = torch.randint(5, (2, 8))
    with torch.no_grad():
        logits = model.logits(codes)
        first = model.next_logits(torch.zeros(1, 2, 1, dtype=torch.float64))
    torch.testing.assert_close(logits[:, :, :1], first.expand(2, -1, -1))


@pytest.mark.parametrize("codes", [torch.tensor([[0, 5]]), torch.tensor([[-1, 0]]), torch.tensor([0, 1])])
def test_wavenet_refuses_codes_that_do_not_fit(codes):
    with pytest.raises(ValueError, match=r"expected \[batch, time\], 0 … 4"):
        small().logits(codes)


def test_wavenet_refuses_sizes_below_one():
    for sizes in ({"depth": 0}, {"stacks": 0}, {"channels": -1}, {"levels": 1}):
        with pytest.raises(ValueError, match=f"{next(iter(sizes))}="):
            taught.WaveNet(**sizes)


# ---------------------------------------------------------------- the network with a predictor


def test_logits_are_those_of_the_head_minus_the_distance_to_the_prediction_over_the_width():
    model, codes = small("PredictiveWaveNet", lags=3), torch.randint(5, (2, 9))
    features = F.pad(model.features(codes), (1, -1))
    with torch.no_grad():
        s, logits = model.skips(features), model.logits(codes)
        plain = model.head(s)
        out = torch.einsum("oc,bct->bot", model.predictor.weight[:, :, 0], s.relu()) + model.predictor.bias[:, None]
    values = taught.inverse_mu_law(torch.arange(5), 5)
    sound = F.pad(taught.inverse_mu_law(codes, 5), (3, 0))  # silence before
    for i, t, c in itertools.product(range(2), range(9), range(5)):
        mean = sum(out[i, j, t] * sound[i, t + j] for j in range(3))  # the oldest first
        expected = plain[i, c, t] - abs(values[c] - mean) / (1e-4 + F.softplus(out[i, 3, t]))
        torch.testing.assert_close(logits[i, c, t], expected, rtol=1e-5, atol=1e-5)  # values are kept in float32


def test_training_starts_from_the_linear_prediction_that_it_is_given():
    model = taught.PredictiveWaveNet(depth=3, lags=4).double()
    coefficients = torch.tensor([0.1, -0.2, -0.7, 1.5], dtype=torch.float64)
    model.start_from(coefficients)
    with torch.no_grad():
        model.head[-1].weight.zero_()
        model.head[-1].bias.zero_()
        codes = taught.mu_law(torch.rand(1, 30, dtype=torch.float64) - 0.5)
        best = model.logits(codes).argmax(1)
    x = taught.inverse_mu_law(codes).numpy()
    mean = torch.from_numpy(taught.history_of(x, 4)[..., :-1] @ coefficients.numpy())
    nearest = (taught.inverse_mu_law(torch.arange(256))[:, None] - mean[:, None]).abs().argmin(1)
    assert torch.equal(best, nearest)


@pytest.mark.parametrize("lags", [0, 17])
def test_a_predictor_sees_no_further_than_its_network(lags):
    with pytest.raises(ValueError, match=f"lags={lags}; expected 1 … 16"):
        taught.PredictiveWaveNet(depth=3, stacks=2, lags=lags)


def test_training_is_one_pass_whose_step_size_rises_stays_and_falls(monkeypatch):
    rates, norms, pieces = [], [], torch.randint(5, (700, 32))
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first Adam of a process wraps `step` with its hooks
    step = torch.optim.Adam.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        result = step(self, *args, **kwargs)
        norms.append(sum(p.grad.square().sum() for p in self.param_groups[0]["params"]).sqrt().item())
        return result

    spy.hooked = True  # not a second time
    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    monkeypatch.setitem(taught.train.__globals__, "seed", 0)
    steep = taught.bits
    monkeypatch.setitem(taught.train.__globals__, "bits", lambda model, codes: 1e4 * steep(model, codes))
    model = taught.WaveNet(depth=1, stacks=1, channels=2, skip=2, levels=5)
    history = taught.train(model, pieces, pieces[:9], n=64 * 400, lr=0.01)
    np.testing.assert_allclose(norms, 5, rtol=1e-3)  # all far above 5 before they are clipped
    assert len(history.train) == 1
    assert len(rates) == 400
    expected = [0.01 * min((i + 1) / 200, 1, 4 - i / 100) for i in range(400)]
    np.testing.assert_allclose(rates, expected)


# ---------------------------------------------------------------- sampling


@KINDS
@pytest.mark.parametrize(("depth", "stacks", "n", "steps"), [(1, 1, 1, 9), (3, 2, 4, 60), (4, 1, 2, 5)])
def test_queues_draw_the_same_codes_as_the_naive_way_with_the_columns_of_the_formula(depth, stacks, n, steps, kind):
    model = small(kind, depth=depth, stacks=stacks)
    u = torch.rand(n, steps, dtype=torch.float64)
    convs = [model.first, *(block.conv for block in model.blocks)]
    codes, columns = [], []
    for cached in (True, False, True):  # the third finds queues that were used before
        before = [conv.columns for conv in convs]
        codes.append(model.sample(u, cached))
        columns.append({conv.columns - old for conv, old in zip(convs, before, strict=True)})
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])
    R = model.receptive_field
    assert columns == [{steps}, {sum(min(t, R) for t in range(1, steps + 1))}, {steps}]


@KINDS
def test_stepping_gives_the_logits_of_the_single_pass(kind):
    model, codes = small(kind), torch.randint(5, (3, 40))
    features = F.pad(model.features(codes), (1, -1))
    model.start(3)
    with torch.no_grad():
        stepped = torch.stack([model.step(features[:, :, t]) for t in range(40)], dim=2)
        torch.testing.assert_close(stepped, model.logits(codes))


def test_samples_have_the_probabilities_of_the_model():
    model = small(levels=3)
    with torch.no_grad():
        sounds = torch.cartesian_prod(*[torch.arange(3)] * 3)
        p = model.log_prob(sounds).exp().numpy()
    n = 5000
    codes = model.sample(torch.rand(n, 3, dtype=torch.float64))
    counts = np.bincount((codes @ torch.tensor([9, 3, 1])).numpy(), minlength=27)
    assert stats.chisquare(counts, n * p).pvalue > 1e-3


def test_a_uniform_number_is_inverted_by_the_cumulative_distribution():
    model = small(depth=1, stacks=1)
    with torch.no_grad():
        cdf = model.logits(torch.zeros(1, 1, dtype=torch.long))[0, :, 0].softmax(0).cumsum(0)
    u = torch.tensor([0.0, cdf[0] - 1e-6, cdf[0] + 1e-6, cdf[3] - 1e-6, cdf[3] + 1e-6, 1 - 1e-12])[:, None]
    assert model.sample(u.double())[:, 0].tolist() == [0, 0, 1, 3, 4, 4]


# ---------------------------------------------------------------- baselines


def test_cut_keeps_order_and_drops_the_rest():
    assert taught.cut(torch.arange(14).view(2, 7), 3).tolist() == [[0, 1, 2], [3, 4, 5], [7, 8, 9], [10, 11, 12]]


def test_markov_counts_with_back_off_as_written_and_sums_to_one():
    rng = np.random.default_rng(0)
    train, sound, beta = rng.integers(4, size=(3, 50)), rng.integers(5, size=(2, 12)), 2.5
    p = taught.Markov(train, 2, beta).probs(sound)[2]

    def count(context: list, code: int | None) -> int:
        found = 0
        for row in train.tolist():
            padded = [256] * len(context) + row
            for t in range(len(row)):
                same = padded[t : t + len(context)] == context
                found += same and (code is None or row[t] == code)
        return found

    for i, t in itertools.product(range(2), range(12)):
        expected = 1 / 256
        for k in range(3):
            context = ([256, 256, *sound[i, :t].tolist()])[t + 2 - k :]
            hits = count(context, int(sound[i, t]))
            expected = (hits + beta * expected) / (count(context, None) + beta)
        assert p[i, t] == pytest.approx(expected)
    every = np.concatenate([np.tile([[1, 2]], (256, 1)), np.arange(256)[:, None]], axis=1)
    assert taught.Markov(train, 2, beta).probs(every)[2][:, 2].sum() == pytest.approx(1)


def test_markov_samples_follow_its_probabilities():
    rng = np.random.default_rng(0)
    chain = taught.Markov(rng.integers(3, size=(4, 60)), 1, beta=1.0)
    sample = chain.sample(4000, rng)
    after = sample[1:][sample[:-1] == 1]
    p = chain.probs(np.array([[1, c] for c in range(256)]))[1][:, 1]
    expected = np.r_[p[:3], p[3:].sum()] * len(after)
    counts = np.r_[np.bincount(after[after < 3], minlength=3), (after >= 3).sum()]
    assert stats.chisquare(counts, expected).pvalue > 1e-3


def test_least_squares_find_the_coefficients_of_an_autoregressive_sound():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 3000))
    for t in range(2, 3000):
        x[0, t] = 1.6 * x[0, t - 1] - 0.8 * x[0, t - 2] + 0.01 * rng.standard_normal()
    coefficients = taught.solve(taught.history_of(x, 2)[0], 0)[:, 0]
    np.testing.assert_allclose(coefficients, [-0.8, 1.6], atol=0.05)
    history = taught.history_of(np.arange(5.0)[None], 2)
    np.testing.assert_array_equal(history[0, :3], [[0, 0, 0], [0, 0, 1], [0, 1, 2]])


def test_adaptive_prediction_learns_a_string_and_never_sees_the_future():
    sound, _ = taught.load("plucked_strings")["valid"]
    x = sound[:1, :1500].double().numpy()
    mean = taught.adaptive_prediction(x, ridge=1e-9)
    assert np.abs(mean - x)[0, 400:].max() < 1e-3 * np.abs(x[0, 400:]).max()
    changed = x.copy()
    changed[0, 777:] = 0.3
    np.testing.assert_array_equal(taught.adaptive_prediction(changed, ridge=1e-9)[0, :778], mean[0, :778])


def test_laplace_bits_are_those_of_scipy_and_a_distribution_at_each_time():
    rng = np.random.default_rng(0)
    codes = rng.integers(256, size=(2, 50))
    x = taught.inverse_mu_law(torch.from_numpy(codes)).numpy()
    mean = x + rng.normal(0, 0.1, x.shape)
    width, floor, mix = 0.7, 0.003, 0.02
    loss = taught.laplace_bits(codes, mean, width, floor, mix)
    edges = taught.expand(torch.arange(257, dtype=torch.float64) / 128 - 1).numpy()
    edges[[0, -1]] = -np.inf, np.inf
    for i, t in itertools.product(range(2), (0, 1, 31, 49)):
        recent = np.abs(x - mean)[i, max(0, t - 32) : t].sum() / 32
        cdf = stats.laplace(mean[i, t], floor + width * recent).cdf(edges)
        mass = (1 - mix) * np.diff(cdf) + mix / 256
        assert mass.sum() == pytest.approx(1)
        assert loss[i, t] == pytest.approx(-np.log2(mass[codes[i, t]]))


def test_the_recursion_gives_back_the_melodies_from_their_bursts():
    part = taught.load("plucked_strings")["test"]
    notes, delays = part.waveforms.double().numpy().reshape(160, 2000), part.delays.flatten().numpy()
    for delay in np.unique(delays):
        some = notes[delays == delay]
        again = taught.resynthesize(some[:, :delay], int(delay), 2000)
        np.testing.assert_allclose(again, some, atol=1e-6)


def test_a_code_in_two_parts_is_delay_burst_and_corrections():
    part = taught.load("plucked_strings")["test"]
    cost, e, miss = taught.two_part_code(part, 40)  # bursts as good as exact
    assert e < 1e-4  # float32 melodies, at the edges of steps
    assert cost == pytest.approx((math.log2(6) + 40 * part.delays.double().mean().item()) / 2000, abs=2e-3)
    cost, e, miss = taught.two_part_code(part, 8)
    assert miss > 1
    flips = stats.entropy([e, 1 - e], base=2)
    assert cost == pytest.approx((math.log2(6) + 8 * part.delays.double().mean().item()) / 2000 + flips + e)


def test_the_oracle_predicts_unrounded_strings_exactly():
    part = taught.load("plucked_strings")["test"]
    x = part.waveforms.double().numpy()
    error = np.abs(taught.oracle_prediction(x, part.delays) - x).reshape(-1, 2000)
    assert error[:, 40:].max() < 1e-6
    assert error[:, :18].mean() > 0.01


def test_periodicity_tells_a_string_from_noise():
    sound = taught.load("plucked_strings")["test"].waveforms[0]
    assert taught.periodicity(sound) > 0.8
    assert taught.periodicity(torch.rand(12_000) - 0.5) < 0.2


# ---------------------------------------------------------------- players


def players(monkeypatch, sounds) -> str:
    shown = []
    monkeypatch.setitem(taught.listen.__globals__, "display", shown.append)
    taught.listen(sounds)
    return shown[0]._repr_mimebundle_()["text/html"]


def test_a_player_holds_its_sound_and_says_what_it_is(monkeypatch):
    sound = torch.linspace(-1, 1, 4000)
    page = players(monkeypatch, {'A <"string">': sound, "noise": sound / 2})
    assert page.count("<audio controls") == page.count("aria-label=") == 2
    assert "http" not in page
    assert 'aria-label="A &lt;&quot;string&quot;&gt;, 0.5 seconds"' in page
    data = base64.b64decode(re.search(r'src="data:audio/wav;base64,([^"]+)"', page)[1])
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        heard = np.frombuffer(file.readframes(9999), "<i2") / 32767
    np.testing.assert_allclose(heard, sound, atol=0.51 / 32767)
    with pytest.raises(ValueError, match="'loud'"):
        taught.listen({"loud": 2 * sound})


def test_a_player_plays_by_keyboard_in_a_browser_without_network(monkeypatch):
    page_source = players(monkeypatch, {"Two seconds": torch.zeros(16_000)})
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.fail("no Chromium: install the chromium package, or run `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        asked = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.set_content(f"<html lang=en><title>x</title><body>{page_source}</body></html>")
        tab.evaluate("turned = []; document.addEventListener('keydown', event => turned.push(event.key))")
        player = tab.get_by_label("Two seconds, 2.0 seconds")
        tab.wait_for_function("document.querySelector('audio').readyState >= 1")
        assert player.evaluate("node => node.duration") == 2
        player.focus()
        tab.keyboard.press("Space")
        tab.wait_for_function("!document.querySelector('audio').paused")
        turned = tab.evaluate("turned")
        browser.close()
    assert [url for url in asked if not url.startswith(("data:", "about:"))] == []
    assert turned == []  # a key on a player turns no slide


# ---------------------------------------------------------------- shipped weights


@pytest.mark.parametrize("name", [taught.STRINGS, taught.SPEECH])
def test_shipped_weights_fit_are_small_and_say_how_they_came_about(name):
    model = taught.PredictiveWaveNet(**taught.LARGE)
    card = results.load_weights(model, name)
    assert (results.WEIGHTS / f"{name}.safetensors").stat().st_size < 1_000_000
    assert model.receptive_field == 513
    assert card["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    rows = results.table("full").query("lecture == '17' and dataset == @card['dataset']")
    assert rows["value"].tolist() == [pytest.approx(card["test_bits_per_sample"], abs=1e-6)]
