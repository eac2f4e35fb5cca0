"""What lecture 20 teaches, imported from its notebook, against exact sums, closed forms, torch, NumPy and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress
from torch.utils.flop_counter import FlopCounterMode

from course_utils.results import load_weights, table
from course_utils.reuse import lecture

taught = lecture("20")
TEXT = "the quick brown fox jumps over the lazy dog\n" * 20
ALPHABET = "".join(sorted(set(TEXT)))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def random_gpt(alphabet: str = "abc", width: int = 16, **more) -> "taught.GPT":
    """Return a model in which every weight matters: at its start, most layers are switched off."""
    return taught.scrambled(taught.GPT(alphabet, width, **{"layers": 2, "heads": 2, "context": 6} | more))


# --- positions ---


@pytest.mark.parametrize(("T", "d"), [(1, 2), (9, 8), (30, 64)])
def test_rotation_is_multiplication_of_complex_numbers(T: int, d: int):
    x = torch.randn(3, T, d, dtype=torch.float64)
    turn = lecture("18").sinusoids(T, d).double()
    z = torch.complex(x[..., : d // 2], x[..., d // 2 :]).numpy()
    omega = 10_000.0 ** (-np.arange(0, d, 2) / d)
    expected = z * np.exp(1j * np.arange(T)[:, None] * omega)
    found = taught.rotate(x, turn).numpy()
    np.testing.assert_allclose(found, np.concatenate([expected.real, expected.imag], -1), atol=1e-6)
    np.testing.assert_allclose(found[:, 0], x[:, 0].numpy(), atol=1e-12)  # place 0 is not turned


def test_order_matters_although_no_vector_of_a_place_is_added():
    model = random_gpt(context=8)
    with torch.no_grad():
        logits = [model(torch.tensor([x]))[0][0, -1] for x in ([0, 1, 2, 1], [1, 0, 2, 1])]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


# --- the model ---


def by_torch(model: "taught.GPT", x: torch.Tensor) -> torch.Tensor:
    """Compute the logits from the weights alone, with torch's own attention and normalization."""
    h, T = model.embedding.weight[x], x.shape[1]
    d = h.shape[-1] // model.blocks[0].self_attention.heads
    angle = torch.arange(T)[:, None] * 10_000 ** (-torch.arange(0, d, 2) / d)

    def heads(layer, u, turned):
        u = layer(u).view(len(u), T, -1, d).transpose(1, 2)
        if not turned:
            return u
        z = torch.polar(torch.ones_like(angle), angle) * torch.complex(u[..., : d // 2], u[..., d // 2 :])
        return torch.cat([z.real, z.imag], -1)

    for block in model.blocks:
        u, a = block.self_norm(h), block.self_attention
        q, k, v = (heads(part, u, part is not a.value) for part in (a.query, a.key, a.value))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + a.out(out.transpose(1, 2).flatten(2))
        first, _, second = block.feed_forward
        h = h + second(F.gelu(first(block.feed_norm(h))))
    return model.readout(model.norm(h))


@pytest.mark.parametrize(
    ("width", "layers", "heads", "context"), [(4, 1, 1, 2), (32, 2, 4, 17), (48, 3, 2, 64), (8, 1, 4, 5)]
)
def test_logits_are_those_of_torchs_own_attention(width: int, layers: int, heads: int, context: int):
    model = random_gpt(ALPHABET, width, layers=layers, heads=heads, context=context)
    x = torch.randint(len(ALPHABET), (3, context))
    with torch.no_grad():
        torch.testing.assert_close(model(x)[0], by_torch(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alphabet", ["a", "abc", ALPHABET])
def test_the_first_prediction_is_uniform(alphabet: str):
    model = taught.GPT(alphabet, 8, heads=2)
    np.testing.assert_allclose(model.log_prob(alphabet * 3), -math.log(len(alphabet)), atol=1e-6)


def test_each_block_starts_as_the_identity_and_the_other_weights_at_one_over_inputs():
    model = taught.GPT(ALPHABET, 64, layers=3)
    h = torch.randn(2, 5, 64)
    for block in model.blocks:
        assert torch.equal(block(h, model.turn[:5])[0], h)
        linear = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
        drawn = [module for module in linear if module.weight.any()]
        assert len(drawn) == len(linear) - 2  # the last layer of each part is at zero
        for module in drawn:
            assert module.weight.std().item() == pytest.approx(module.in_features**-0.5, rel=0.05)
        assert not any(module.bias.any() for module in linear)


def test_no_prediction_depends_on_what_comes_later():
    model = random_gpt(context=12).double()
    model.turn = model.turn.double()
    embedded = []
    model.embedding.register_forward_hook(lambda _m, _i, out: embedded.append(out) or out.retain_grad())
    logits, _ = model(torch.randint(3, (1, 12)))
    for t in range(12):
        logits[0, t].square().sum().backward(retain_graph=True)
        effect = embedded[0].grad[0].abs().amax(-1)
        embedded[0].grad = None
        assert (effect[: t + 1] > 0).all()
        assert (effect[t + 1 :] == 0).all()


def test_the_number_of_weights():
    w, L, V = 32, 3, 65
    model = taught.GPT(taught.SHAKESPEARE, w, layers=L)
    blocks = L * (4 * (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w) + 4 * w)
    assert sum(p.numel() for p in model.blocks.parameters()) == blocks
    assert sum(p.numel() for p in model.parameters()) == blocks + V * w + (w + 1) * V + 2 * w


# --- the cache ---


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_the_cache_changes_no_logit(sizes: list[int], seed: int):
    torch.manual_seed(seed)
    model = random_gpt(context=max(2, sum(sizes)), layers=3)
    x = torch.randint(3, (2, sum(sizes)))
    with torch.no_grad():
        whole = model(x)[0]
        cache, parts = None, []
        for piece in x.split(sizes, 1):
            logits, cache = model(piece, cache)
            parts.append(logits)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5
    assert len(cache) == 3
    assert cache[0][0].shape == (2, 2, sum(sizes), 8)  # batch, heads, tokens, width of a head


@pytest.mark.parametrize("keep", [0, 1, 3, 5])
def test_samples_are_the_same_with_and_without_the_cache(keep: int):
    model = random_gpt(context=6)
    model.keep = keep
    drawn = []
    for cached in (True, False):
        torch.manual_seed(1)
        drawn.append(model.sample(200, 20, before="abcab", cached=cached))
    assert np.mean([a == b for a, b in zip(*drawn, strict=True)]) > 0.99  # rounding may move a draw


def test_cached_sampling_costs_what_the_lecture_counts():
    model = random_gpt(context=40)
    with FlopCounterMode(display=False) as counter:
        model.sample(1, 40)
    w, L, V = 16, 2, 3
    assert counter.get_total_flops() == sum(L * (24 * w**2 + 4 * w * t) + 2 * w * V for t in range(1, 41))


def test_the_context_is_not_exceeded():
    model = random_gpt(context=4)
    with torch.no_grad():
        _, cache = model(torch.zeros(1, 3, dtype=torch.long))
        with pytest.raises(ValueError, match=r"3 \+ 2 tokens; the context is 4"):
            model(torch.zeros(1, 2, dtype=torch.long), cache)


# --- a distribution over texts ---


@pytest.mark.parametrize("context", [2, 3, 5, 9])
@pytest.mark.parametrize("keep", [0, 1, None])
def test_probabilities_of_all_texts_sum_to_one(context: int, keep: int | None):
    model = random_gpt("ab", context=context)
    texts = ["".join(letters) for letters in itertools.product("ab", repeat=7)]
    assert sum(math.exp(model.log_prob(text, "ba", keep).sum()) for text in texts) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("length", [1, 2, 5, 6, 7, 20, 61])
@pytest.mark.parametrize("keep", [0, 2, 5])
def test_log_prob_is_the_loop_over_characters(length: int, keep: int):
    model = random_gpt(context=6)
    text = "".join(np.random.default_rng(length).choice(list("abc"), length))
    ids, expected = [0, *model.encode(text).tolist()], []
    for end in range(1, length + 1):
        begin = 0
        while end - begin > 6:
            begin += 6 - keep
        with torch.no_grad():
            log_p = model(torch.tensor([ids[begin:end]]))[0][0, -1].log_softmax(0)
        expected.append(log_p[ids[end]].item())
    np.testing.assert_allclose(model.log_prob(text, keep=keep), expected, atol=1e-5)


def test_a_text_after_another_is_the_second_part_of_both():
    model = random_gpt(context=6)
    both = model.log_prob("abcabcacbbca")
    np.testing.assert_allclose(both[5:], model.log_prob("cacbbca", before="abcab"), atol=1e-5)
    assert model.nll("cacbbca", before="abcab") == pytest.approx(-both[5:].mean(), abs=1e-5)


def test_draws_follow_the_probabilities():
    model = random_gpt("ab", context=3)
    texts = ["".join(letters) for letters in itertools.product("ab", repeat=5)]
    n, p = 20_000, np.exp([model.log_prob(text, "bb").sum() for text in texts])
    drawn = model.sample(n, 5, before="bb")
    observed = np.array([drawn.count(text) for text in texts])
    error = np.sqrt(p * (1 - p) / n)
    assert (np.abs(observed / n - p) < 5 * error + 1 / n).all()


def test_the_empty_text():
    model = random_gpt()
    assert model.log_prob("").shape == (0,)
    assert model.sample(2, 0, before="ab") == ["", ""]
    with pytest.raises(ValueError, match="empty"):
        model.nll("")


# --- drawing ---


def by_hand(logits: list[float], temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    p = np.exp((np.array(logits) - max(logits)) / temperature)
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda i: -p[i])
    if top_k is not None:
        p[order[top_k:]] = 0
        p /= p.sum()
    if top_p is not None:
        kept, mass = 0, 0.0
        while kept < len(p) and mass < top_p:
            mass += p[order[kept]]
            kept += 1
        p[order[kept:]] = 0
        p /= p.sum()
    return p


@given(
    logits=st.lists(st.floats(-8, 8), min_size=1, max_size=12, unique=True),
    temperature=st.floats(0.2, 5),
    top_k=st.none() | st.integers(1, 15),
    top_p=st.none() | st.floats(0.05, 0.95),
)
@settings(max_examples=150, deadline=None)
def test_reshape_is_what_is_done_by_hand(logits, temperature, top_k, top_p):
    expected = by_hand(logits, temperature, top_k, top_p)
    cumulated = np.cumsum(np.sort(by_hand(logits, temperature, top_k, None))[::-1])
    if top_p is not None and np.abs(cumulated - top_p).min() < 1e-9:
        return  # rounding decides
    q = taught.reshape(torch.tensor([logits], dtype=torch.float64), temperature, top_k, top_p)
    np.testing.assert_allclose(q.exp()[0], expected, atol=1e-9)


def test_reshape_with_defaults_is_log_softmax_and_changes_nothing_in_place():
    f = torch.randn(2, 3, 11)
    kept = f.clone()
    torch.testing.assert_close(taught.reshape(f), f.log_softmax(-1))
    taught.reshape(f, 0.5, 2, 0.5)
    assert torch.equal(f, kept)
    assert taught.reshape(f, top_p=1.0).isfinite().all()


def test_ties_do_not_let_more_than_k_through():
    assert (taught.reshape(torch.zeros(1, 9), top_k=3) > -math.inf).sum() == 3
    assert (taught.reshape(torch.zeros(1, 10, dtype=torch.float64), top_p=0.25) > -math.inf).sum() == 3


def test_entropy_of_a_truncated_distribution():
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    assert taught.entropy(p.log()).item() == pytest.approx(1.5 * math.log(2))


def test_greedy_takes_the_likeliest():
    model = random_gpt(context=6)
    [text] = model.sample(1, 12, before="a", top_k=1)
    for i in range(12):
        others = [model.log_prob(c, "a" + text[:i])[0] for c in "abc"]
        assert "abc"[int(np.argmax(others))] == text[i]


# --- training ---


def test_training_learns_the_text_and_repeats_itself():
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        model = taught.GPT(ALPHABET, 32, layers=1, context=16)
        losses.append(list(taught.train_gpt(model, TEXT, 150, warmup=20, report=50)))
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3
    assert losses[0][-1] < 0.6 < 2 < losses[0][0] + 0.5
    assert not model.training
    assert model.nll(TEXT[:400]) < 0.5


def test_the_loss_that_is_reported_is_that_of_the_windows():
    model = taught.GPT(ALPHABET, 8, layers=1, heads=2, context=16)
    [first] = taught.train_gpt(model, TEXT, 1, report=1)
    assert first == pytest.approx(math.log(len(ALPHABET)), abs=1e-5)  # before the step


def test_step_sizes_rise_and_fall_in_lines(monkeypatch: pytest.MonkeyPatch):
    seen, step = [], torch.optim.AdamW.step

    def spy(self, *args, **more):
        seen.append([group["lr"] for group in self.param_groups])
        decays.add(tuple(group["weight_decay"] for group in self.param_groups))
        decayed.append([p.ndim for group in self.param_groups for p in group["params"] if group["weight_decay"]])
        return step(self, *args, **more)

    decays, decayed = set(), []
    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    model = taught.GPT(ALPHABET, 8, layers=1, heads=2, context=8)
    list(taught.train_gpt(model, TEXT, 20, lr=1.0, warmup=5))
    expected = [min((s + 1) / 5, (20 - s) / 15) for s in range(20)]
    np.testing.assert_allclose(np.array(seen)[:, 0], expected)
    assert decays == {(0.1, 0.0)}
    assert decayed[0] == [2 for p in model.parameters() if p.ndim > 1]


def test_gradients_do_not_pile_up(monkeypatch: pytest.MonkeyPatch):
    seen, step = [], torch.optim.AdamW.step

    def spy(self, *args, **more):
        seen.append(model.readout.weight.grad.clone())
        return step(self, *args, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: None)
    model = random_gpt(ALPHABET, context=16)
    list(taught.train_gpt(model, TEXT[:17], 3, lr=1e-9))  # the same window each time
    torch.testing.assert_close(seen[2], seen[0], rtol=1e-3, atol=1e-4)


def test_windows_start_anywhere_and_targets_are_one_further(monkeypatch: pytest.MonkeyPatch):
    model, seen = taught.GPT(ALPHABET, 8, layers=1, heads=2, context=4), set()
    loss, text = F.cross_entropy, ALPHABET[:6]

    def spy(logits, targets, **more):
        seen.update("".join(ALPHABET[i] for i in row) for row in targets.tolist())
        return loss(logits, targets, **more)

    monkeypatch.setattr(F, "cross_entropy", spy)
    list(taught.train_gpt(model, text, 20, warmup=5))
    assert seen == {text[1:5], text[2:6]}


def test_training_in_half_precision_is_close():
    losses = []
    for bf16 in (False, True):
        torch.manual_seed(3)
        losses += taught.train_gpt(taught.GPT(ALPHABET, 32, layers=1, context=16), TEXT, 100, warmup=20, bf16=bf16)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch):
    norms, step = [], torch.optim.AdamW.step

    def spy(self, *args, **more):
        grads = [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.stack(grads).norm().item())
        return step(self, *args, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    model = random_gpt(ALPHABET, context=16)
    with torch.no_grad():
        model.readout.weight.mul_(30)
    list(taught.train_gpt(model, TEXT, 3, lr=1e-3))
    assert max(norms) <= 1 + 1e-4
    assert max(norms) > 0.99


# --- nanoGPT, the reference ---


def nano_by_hand(model: "taught.NanoGPT", x: torch.Tensor) -> torch.Tensor:
    """Compute nanoGPT's logits from the weights, layer by layer."""
    T, w = x.shape[1], model.embedding.weight.shape[1]
    h = model.embedding.weight[x] + model.places.weight[:T]
    hidden = torch.ones(T, T).triu(1).bool()
    for layer in model.blocks:
        heads = layer.heads
        u = F.layer_norm(h, (w,), layer.norms[0].weight)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (u @ layer.qkv.weight.T).split(w, -1))
        a = (q @ k.mT / math.sqrt(w / heads)).masked_fill(hidden, -math.inf).softmax(-1) @ v
        h = h + a.transpose(1, 2).flatten(2) @ layer.out.weight.T
        u = F.layer_norm(h, (w,), layer.norms[1].weight)
        h = h + F.gelu(u @ layer.up.weight.T) @ layer.down.weight.T
    return F.layer_norm(h, (w,), model.norm.weight) @ model.embedding.weight.T


@pytest.mark.parametrize("training", [False, True])
def test_the_reference_is_nanogpts_model(training: bool):
    model = taught.scrambled(taught.NanoGPT(ALPHABET, 16, layers=2, heads=2, context=9)).train(training)
    x = torch.randint(len(ALPHABET), (3, 9))
    torch.testing.assert_close(model(x)[0], nano_by_hand(model, x), rtol=1e-4, atol=1e-4)
    assert model.readout.weight is model.embedding.weight


def test_the_reference_starts_with_small_weights_and_smaller_ones_where_parts_end():
    model = taught.NanoGPT(taught.SHAKESPEARE)
    for name, p in model.named_parameters():
        if p.ndim > 1:
            last = name.endswith(("out.weight", "down.weight"))
            assert p.std().item() == pytest.approx(0.02 / math.sqrt(8) if last else 0.02, rel=0.05)
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


def test_the_schedule_of_the_reference():
    rates = [taught.to_a_tenth(s, 2_000, 100) for s in range(2_000)]
    assert rates[0] == pytest.approx(1 / 101)
    assert rates[99] == pytest.approx(100 / 101)
    assert rates[100] == 1 == max(rates)
    assert rates[1_050] == pytest.approx(0.55)  # half way: the mean of 1 and a tenth
    assert taught.to_a_tenth(2_000, 2_000, 100) == pytest.approx(0.1)
    assert (np.diff(rates[:101]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()


# --- prompts, laws, costs ---


def test_a_prompt_is_worth_nothing_to_a_model_that_ignores_it():
    model = taught.GPT(ALPHABET, 8, heads=2, context=40)
    assert np.abs(taught.prompt_gains(model, TEXT, np.arange(20, 50), 5)).max() < 1e-4


def test_gains_are_those_of_log_prob():
    model, places = random_gpt(ALPHABET, context=40), np.array([30, 12, 77, 101])
    gains = taught.prompt_gains(model, TEXT, places, 7)
    for n, i in enumerate(places):
        j, rest = places[n - 1], TEXT[i : i + 16]
        with torch.no_grad():
            log_p = []
            for k in (i, j):
                x = model.encode(TEXT[k - 7 : k] + rest)[None]
                all_p = model(x)[0].log_softmax(-1)[0]
                log_p.append(sum(all_p[6 + m, x[0, 7 + m]].item() for m in range(16)))
        assert gains[n] == pytest.approx(log_p[0] - log_p[1], abs=1e-3)


@pytest.mark.parametrize("n", [3, 6, 30])
def test_the_fit_is_that_of_scipy(n: int):
    rng = np.random.default_rng(n)
    N = 10 ** rng.uniform(3, 7, n)
    loss = 5 * N**-0.1 * np.exp(0.03 * rng.normal(size=n))
    alpha, N_c, half = taught.fit_power_law(N, loss, level=0.5)
    line = linregress(np.log(N), np.log(loss))
    assert alpha == pytest.approx(-line.slope)
    assert alpha * math.log(N_c) == pytest.approx(line.intercept)
    assert half == pytest.approx(line.stderr * taught.student.ppf(0.75, n - 2))


def test_the_best_size_balances_both_terms():
    C = 1e22
    N = taught.best_size(C)
    slopes = [taught.two_term_law(N * f, C / 6 / (N * f)) for f in (0.99, 1, 1.01)]
    assert slopes[1] < min(slopes[0], slopes[2])
    assert taught.two_term_law(1e30, 1e30) == pytest.approx(1.69, abs=1e-3)
    assert taught.two_term_law(70e9, 1.4e12) == pytest.approx(1.69 + 0.0834 + 0.163, abs=2e-3)


def test_a_run_of_the_law_counts_what_it_says():
    corpus = {"train": TEXT, "valid": TEXT[:300][::-1]}
    N, loss, seconds = taught.law_run(corpus, 16, 1, 40, seed=1)
    torch.manual_seed(1)
    model = taught.GPT(ALPHABET, 16, 1)
    list(taught.train_gpt(model, TEXT, 40, warmup=10))
    assert N == sum(p.numel() for p in model.blocks.parameters())
    assert loss == pytest.approx(model.nll(corpus["valid"], TEXT[-1_000:]), rel=1e-6)
    assert seconds > 0
    assert taught.law_run(corpus, 16, 1, 40, seed=1)[1] == loss
    assert taught.law_run(corpus, 16, 1, 40, seed=2)[1] != loss


def test_the_recorded_family_falls_and_bends_by_more_than_luck():
    rows = table("full").query("lecture == '20' and metric == @taught.LAW").sort_values("parameters")
    assert (rows["dataset"] == "tinyshakespeare").all()
    assert rows["value"].is_monotonic_decreasing
    N, loss = rows["parameters"].to_numpy(float), rows["value"].to_numpy()
    alpha, N_c, _ = taught.fit_power_law(N[:-1], loss[:-1])
    assert loss[-1] - (N_c / N[-1]) ** alpha > 5 * rows["spread"].max()  # as the lecture says


# --- bad input ---

GPT_MODEL = taught.GPT("abc", 8, heads=2)
BAD = {
    "twice the same character": (lambda: taught.GPT("aba"), "give each character, once"),
    "no character": (lambda: taught.GPT(""), "give each character, once"),
    "no layer": (lambda: taught.GPT("ab", layers=0), "layers=0"),
    "no context": (lambda: taught.GPT("ab", context=1), "context=1"),
    "a head without pairs": (lambda: taught.GPT("ab", width=12, heads=4), "width=12"),
    "a character of another alphabet": (lambda: GPT_MODEL.nll("abz"), r"\['z'\] not in the alphabet 'abc'"),
    "all is kept": (lambda: GPT_MODEL.log_prob("ab", keep=64), "keep=64; expected 0 … 63"),
    "less than nothing is kept": (lambda: GPT_MODEL.log_prob("ab", keep=-1), "keep=-1"),
    "no temperature": (lambda: taught.reshape(torch.zeros(2), 0), "temperature=0"),
    "no temperature at all": (lambda: taught.reshape(torch.zeros(2), math.nan), "temperature=nan"),
    "no token": (lambda: taught.reshape(torch.zeros(2), top_k=0), "top_k=0"),
    "no mass": (lambda: taught.reshape(torch.zeros(2), top_p=0.0), r"top_p=0.0: it must be in \(0, 1\]"),
    "too much mass": (lambda: GPT_MODEL.sample(1, 1, top_p=1.5), "top_p=1.5"),
    "too little text": (lambda: list(taught.train_gpt(GPT_MODEL, "abc", 1)), "3 characters: a window takes 65"),
    "two points": (lambda: taught.fit_power_law(np.ones(2), np.ones(2)), "three or more"),
    "no loss": (lambda: taught.fit_power_law(np.ones(3), np.zeros(3)), "positive"),
    "a long prompt": (lambda: taught.prompt_gains(GPT_MODEL, "abc" * 50, [70], 60), "m=60; expected 1 … 48"),
    "a prompt from before the text": (lambda: taught.prompt_gains(GPT_MODEL, "abc" * 50, [3, 70], 4), "places 3 … 70"),
    "a text that ends": (lambda: taught.prompt_gains(GPT_MODEL, "abc" * 50, [135], 4), "of 150 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


# --- what is shipped ---


def test_shipped_weights_have_the_size_and_the_loss_of_their_card():
    model = taught.GPT(taught.SHAKESPEARE).eval()
    card = load_weights(model, taught.NAME)
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
    assert (len(model.blocks), model.blocks[0].self_attention.heads, model.context) == (4, 4, 64)
    assert model.readout.in_features == 128
    assert card["steps"] * card["batch"] <= 24_000  # nanoGPT's budget of sequences
    rows = table("full").query("lecture == '20' and model == 'GPT, width 128'").set_index("metric")
    for metric in ("held-out loss", taught.SIDE):
        assert rows.loc[metric, "value"] == pytest.approx(card[metric], abs=1e-5)
        assert rows.loc[metric, "seconds"] == pytest.approx(card["seconds"], abs=0.051)
    assert card["held-out loss"] < card[taught.SIDE] < 1.88
    nano = table("full").query("lecture == '20' and model == 'nanoGPT, run here'").squeeze()
    assert nano["metric"] == taught.SIDE
    assert card[taught.SIDE] < nano["value"] - 0.1
    assert card["seconds"] < nano["seconds"]
    assert nano["parameters"] == sum(p.numel() for p in taught.NanoGPT(taught.SHAKESPEARE).parameters())


def test_the_full_run_trains_ships_and_records_both(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    saved, rows = [], []
    module = vars(taught)
    monkeypatch.setitem(module, "save_weights", lambda model, name, card: saved.append((model, name, card)))
    monkeypatch.setitem(module, "record", lambda *what, **more: rows.append((what, more)))
    plays = {"train": TEXT * 3, "valid": TEXT[:400]}
    gpt, nano = (kind(ALPHABET, 16, 1, 2, 16) for kind in (taught.GPT, taught.NanoGPT))
    facts = taught.train_in_full(gpt, plays, 100, warmup=10, bf16=True)
    nano_facts = taught.train_in_full(nano, plays, 100, warmup=10, lr=1e-3, schedule=taught.to_a_tenth)
    taught.ship(gpt, facts, nano, nano_facts, 100, "a note")
    assert capsys.readouterr().out.count("100 steps: ") == 2
    [(stored, name, card)] = saved
    assert name == taught.NAME
    for key, p in stored.state_dict().items():
        assert p.dtype == torch.float16
        assert torch.equal(p.float(), gpt.state_dict()[key])  # what is measured is what is stored
    assert card["held-out loss"] == pytest.approx(gpt.nll(plays["valid"], plays["train"][-1_000:]))
    assert card[taught.SIDE] == pytest.approx(gpt.nll(plays["valid"], plays["train"][-64:], keep=0))
    assert (card["steps"], card["batch"], card["note"]) == (100, 12, "a note")
    assert [(what[1], what[3], what[4]) for what, _ in rows] == [
        ("GPT, width 128", "held-out loss", card["held-out loss"]),
        ("GPT, width 128", taught.SIDE, card[taught.SIDE]),
        ("nanoGPT, run here", taught.SIDE, nano_facts[taught.SIDE]),
    ]
    counts = [sum(p.numel() for p in model.parameters()) for model in (gpt, gpt, nano)]
    assert [more["parameters"] for _, more in rows] == counts
