"""What lecture 16 teaches, imported from its notebook, against torch.nn, autograd and exact sums."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils.results import WEIGHTS, load_weights, table
from course_utils.reuse import lecture

taught = lecture("16")
CELLS = {"RNN": (taught.RNN, nn.RNN), "LSTM": (taught.LSTM, nn.LSTM), "GRU": (taught.GRU, nn.GRU)}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


# --- the cells ---


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("batch", "time", "n_in", "n"), [(1, 1, 1, 1), (4, 17, 3, 8), (2, 60, 10, 5)])
def test_cells_equal_those_of_torch(name: str, batch: int, time: int, n_in: int, n: int):
    own, theirs = (cell(n_in, n, **more) for cell, more in zip(CELLS[name], ({}, {"batch_first": True}), strict=True))
    assert [p.shape for p in own.parameters()] == [p.shape for p in theirs.parameters()]
    for p, q in zip(own.parameters(), theirs.parameters(), strict=True):
        q.data.copy_(p.data)
    x = torch.randn(batch, time, n_in, requires_grad=True)
    state = tuple(torch.randn(batch, n) for _ in range(own.n_states))
    given_state = tuple(s[None] for s in state)
    out, last = own(x, state)
    expected, expected_last = theirs(x, given_state if name == "LSTM" else given_state[0])
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    expected_last = expected_last if name == "LSTM" else (expected_last,)
    for s, t in zip(last, expected_last, strict=True):
        torch.testing.assert_close(s, t[0], rtol=1e-6, atol=1e-6)
    (g,), (h,) = (torch.autograd.grad(y.square().sum(), [x]) for y in (out, expected))
    torch.testing.assert_close(g, h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_starts_at_zero_and_hands_its_state_on(name: str):
    cell, x = CELLS[name][0](3, 4), torch.randn(2, 9, 3)
    whole, last = cell(x)
    zeros = (torch.zeros(2, 4),) * cell.n_states
    torch.testing.assert_close(cell(x, zeros)[0], whole)
    first, state = cell(x[:, :4])
    second, end = cell(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    for s, t in zip(end, last, strict=True):
        torch.testing.assert_close(s, t)


@pytest.mark.parametrize("name", CELLS)
def test_one_batch_row_does_not_see_another_nor_the_future(name: str):
    cell, x = CELLS[name][0](3, 4), torch.randn(2, 6, 3, requires_grad=True)
    (g,) = torch.autograd.grad(cell(x)[0][0, 3].sum(), x)
    assert (g[0, :4] != 0).any()
    assert (g[0, 4:] == 0).all()
    assert (g[1] == 0).all()


@pytest.mark.parametrize(("n_in", "n"), [(0, 3), (3, 0), (-1, 2)])
def test_bad_sizes_are_named(n_in: int, n: int):
    with pytest.raises(ValueError, match=f"n_in={n_in}, n_hidden={n}"):
        taught.RNN(n_in, n)


@pytest.mark.parametrize("cell", [taught.LSTM(3, 5), taught.GRU(3, 5), nn.LSTM(3, 5), nn.GRU(3, 5)])
def test_remember_sets_the_gate_that_keeps(cell: nn.Module):
    names = [name for name, _ in cell.named_parameters()]
    taught.remember(cell, 100)
    p = dict(cell.named_parameters())
    bias = sum(p[name] for name in names if "bias" in name)
    torch.testing.assert_close(bias[5:10].sigmoid(), torch.full((5,), 100 / 101))
    with pytest.raises(ValueError, match=r"steps=0\.5"):
        taught.remember(cell, 0.5)


def test_an_open_gate_keeps_the_state():
    x = torch.zeros(1, 200, 2)
    for cell, at in ((taught.LSTM(2, 3), -1), (taught.GRU(2, 3), 0)):
        taught.remember(cell, 1e9)
        start = tuple(torch.full((1, 3), 0.7) for _ in range(cell.n_states))
        with torch.no_grad():
            if cell.n_states == 2:
                cell.bias_ih[:3], cell.bias_hh[:3] = -60, 0  # nothing new gets in
            assert torch.allclose(cell(x, start)[1][at], start[at], atol=1e-4)


def test_remember_leaves_an_rnn_alone():
    cell = taught.RNN(2, 3)
    before = [p.clone() for p in cell.parameters()]
    taught.remember(cell, 50)
    assert all(torch.equal(p, q) for p, q in zip(before, cell.parameters(), strict=True))


# --- backpropagation through time ---


def by_autograd(weights: list, x: torch.Tensor, y: torch.Tensor, window: int | None):
    W, U, b, R, c = leaves = [w.clone().requires_grad_() for w in weights]
    h, loss = torch.zeros_like(b), 0.0
    for t in range(len(x)):
        h = h.detach() if window and t % window == 0 else h
        h = torch.tanh(W @ h + U @ x[t] + b)
        loss = loss + F.cross_entropy(R @ h + c, y[t])
    return loss, torch.autograd.grad(loss, leaves)


@settings(max_examples=25)
@given(
    n=st.integers(1, 8), T=st.integers(1, 20), n_in=st.integers(1, 4), n_classes=st.integers(1, 5),
    window=st.none() | st.integers(1, 25), seed=st.integers(0, 2**30),
)  # fmt: skip
def test_bptt_is_autograd(n: int, T: int, n_in: int, n_classes: int, window: int | None, seed: int):
    weights, x, y = taught.random_problem(n, T, n_in, n_classes, torch.Generator().manual_seed(seed))
    loss, gradients = taught.bptt(*weights, x, y, window)
    expected_loss, expected = by_autograd(weights, x, y, window)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-12, atol=1e-12)
    assert list(gradients) == ["W", "U", "b", "R", "c"]
    for gradient, other in zip(gradients.values(), expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-10)


def test_a_window_only_drops_terms_of_the_recurrence():
    weights, x, y = taught.random_problem(6, 24, 3, 4, torch.Generator().manual_seed(0))
    full, cut = (taught.bptt(*weights, x, y, window)[1] for window in (None, 4))
    assert all(torch.equal(full[name], cut[name]) for name in "Rc")  # no path through time
    assert not torch.allclose(full["W"], cut["W"])
    assert all(torch.equal(full[name], taught.bptt(*weights, x, y, 24)[1][name]) for name in full)


# --- gradients against the lag ---


@pytest.mark.parametrize("rho", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("n", [1, 2, 20])
def test_the_recurrent_matrix_has_its_spectral_radius(n: int, rho: float):
    W = taught.recurrent_matrix(n, rho, torch.Generator().manual_seed(1))
    assert np.abs(np.linalg.eigvals(W.numpy())).max() == pytest.approx(rho, rel=1e-12)


def test_linear_jacobians_are_powers_and_a_jordan_block_still_grows_like_rho():
    W = torch.tensor([[0.9, 1.0], [0.0, 0.9]], dtype=torch.float64)  # not diagonalizable: k ρ^(k-1)
    J = taught.jacobians(W, torch.zeros(400, 2, dtype=torch.float64))
    for k in (0, 1, 7, 400):
        torch.testing.assert_close(J[k], torch.linalg.matrix_power(W, k))
    logs = taught.log_norms(J)
    k = np.arange(200, 401)
    assert taught.slope(logs) == pytest.approx(np.polyfit(k, k * math.log(0.9) + np.log(k), 1)[0], abs=1e-3)


@pytest.mark.parametrize("drive", [0.0, 0.3, 2.0])
def test_tanh_jacobians_are_those_of_autograd(drive: float):
    W = taught.recurrent_matrix(7, 1.3, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(4)
    h = taught.states_of(W, drive, 12, torch.Generator().manual_seed(4))
    noise = torch.randn(12, 7, generator=rng, dtype=torch.float64)

    def last(start: torch.Tensor, k: int) -> torch.Tensor:
        for e in noise[-k:]:
            start = torch.tanh(W @ start + drive * e)
        return start

    J = taught.jacobians(W, h)
    assert torch.equal(J[0], torch.eye(7, dtype=torch.float64))
    for k in (1, 5, 11):
        expected = torch.autograd.functional.jacobian(lambda s, k=k: last(s, k), h[-k - 1])
        torch.testing.assert_close(J[k], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", [taught.RNN, taught.GRU, taught.LSTM])
def test_state_jacobian_is_a_finite_difference(cell: type):
    model = cell(2, 4).double()
    with torch.no_grad():
        u = torch.randn(9, 2).double() @ model.weight_ih.T + model.bias_ih
        J = taught.state_jacobian(model, u, 5)
        state = (torch.zeros(1, 4).double(),) * model.n_states
        for row in u[:-5]:
            state = model.step(row[None], state)
        for j, step in itertools.product(range(4), (1e-5,)):
            ends = []
            for sign in (1, -1):
                moved = state[-1].clone()
                moved[0, j] += sign * step
                now = (*state[:-1], moved)
                for row in u[-5:]:
                    now = model.step(row[None], now)
                ends.append(now[-1][0])
            torch.testing.assert_close(J[:, j], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-8)


# --- clipping ---


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.floats(1e-3, 1e3))
def test_clipping_is_that_of_torch(values: list[float], largest: float):
    gradients = [torch.tensor(values[:1], dtype=torch.float64), torch.tensor(values[1:], dtype=torch.float64)]
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g.clone()
    before = torch.cat(gradients)
    expected = nn.utils.clip_grad_norm_(parameters, largest)
    norm = taught.clip_by_norm(gradients, largest)
    after = torch.cat(gradients)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(gradients, [p.grad for p in parameters], rtol=2e-3, atol=1e-8)  # torch adds 1e-6
    assert after.norm() <= largest * (1 + 1e-9)
    torch.testing.assert_close(after * before.norm(), before * after.norm(), rtol=1e-9, atol=1e-9)  # same direction


@pytest.mark.parametrize("largest", [0, -1.0])
def test_a_norm_that_is_not_positive_is_named(largest: float):
    with pytest.raises(ValueError, match=f"largest={largest}"):
        taught.clip_by_norm([torch.ones(2)], largest)


def test_each_start_is_clipped_for_itself():
    together = taught.descend([[4.5, -2.0], [6.0, -3.0]], 0.5, n=20)
    for k, start in enumerate(([4.5, -2.0], [6.0, -3.0])):
        torch.testing.assert_close(taught.descend([start], 0.5, n=20)[:, 0], together[:, k])


# --- the copy task and truncation ---


@pytest.mark.parametrize("lag", [1, 5, 30])
def test_recall_batch_holds_its_answer_at_the_lag(lag: int):
    x, y = taught.recall_batch(200, lag, torch.Generator().manual_seed(0))
    n, ids = taught.N_SYMBOLS, x.argmax(2)
    assert x.shape == (200, lag + 1, 2 * n + 1)
    assert (x.sum(2) == 1).all()
    assert (ids[:, 0] == y).all()
    assert (ids[:, -1] == 2 * n).all()
    assert ((ids[:, 1:-1] >= n) & (ids[:, 1:-1] < 2 * n)).all()  # noise never looks like an answer
    assert set(y.tolist()) == set(range(n))


def test_recall_needs_a_lag():
    with pytest.raises(ValueError, match="lag=0"):
        taught.recall_batch(3, 0, torch.Generator())


def test_recall_networks_have_nearly_equally_many_weights():
    counts = [sum(p.numel() for p in taught.Recall(cell, 3_000).parameters()) for cell in (nn.RNN, nn.GRU, nn.LSTM)]
    assert max(counts) <= 3_000
    assert min(counts) > 0.9 * 3_000


def test_truncation_is_a_bias_and_a_full_window_has_none():
    errors = taught.truncation_bias(0.9, (1, 4, 16), n=4, T=16, delay=3)
    assert errors[-1] == 0
    assert errors[0] > errors[1] > 0


def test_the_cost_of_length_counts_each_storage_once():
    w = torch.ones((), requires_grad=True)

    def cell(x: torch.Tensor):
        return (torch.cat([x[:, :4] * w, x[:, 4:] * w], 1),)  # keeps two views of x, and for the square the result

    seconds, kept = taught.cost_of_length(cell, 10)
    assert kept == 2 * 16 * 10 * 32 * 4
    assert 0 < seconds < 60


# --- the character model ---


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_texts_of_one_length_have_total_probability_one(cell: type[nn.Module]):
    model = taught.CharRNN("abc", 5, 3, cell).eval()
    for length in (1, 4):
        texts = ["".join(t) for t in itertools.product("abc", repeat=length)]
        assert sum(np.exp(model.log_prob(t).sum()) for t in texts) == pytest.approx(1, abs=1e-5)


def test_log_prob_is_causal_and_independent_of_chunks():
    model = taught.CharRNN("abcd", 6, 3).eval()
    text = "abcdabbdcaabcd" * 3
    whole = model.log_prob(text)
    np.testing.assert_allclose(model.log_prob(text, chunk=5), whole, atol=1e-5)
    np.testing.assert_allclose(model.log_prob(text[:9] + "d" * 30)[:9], whole[:9], atol=1e-6)
    np.testing.assert_allclose(model.log_prob(text[10:], before=text[:10]), whole[10:], atol=1e-5)
    assert model.nll(text) == pytest.approx(-whole.mean())
    logits = model(F.pad(model.encode(text), (1, 0), value=model.start)[None, :-1])[0][0]
    assert model.nll(text) == pytest.approx(F.cross_entropy(logits, model.encode(text)).item(), rel=1e-5)


def test_log_prob_has_the_form_of_lecture_02():
    text = "abracadabra"
    counted = lecture("02").NGramModel(2, "abcdr").fit(text)
    model = taught.CharRNN("abcdr", 6).eval()
    ours, theirs = (m.log_prob(text[4:], text[:4]) for m in (model, counted))
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert model.log_prob("").shape == (0,)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_tempered_conditionals(temperature: float):
    model = taught.CharRNN("abc", 5, 3).eval()
    with torch.no_grad():
        model.readout.weight.mul_(5)
        logits = model(torch.tensor([[model.start, 1, 0]]))[0][0, -1]
    p = (logits / temperature).softmax(0).numpy()
    drawn = [text[0] for text in model.sample(20_000, 1, temperature, before="ba")]
    observed = np.array([drawn.count(c) for c in "abc"])
    chi2 = ((observed - 20_000 * p) ** 2 / (20_000 * p)).sum()
    assert chi2 < 2 + 5 * 2  # mean 2, standard deviation 2


def test_sampling_hands_its_state_on():
    """At a very low temperature the draws are the greedy text, found by reading all again at each step."""
    model = taught.CharRNN("abcde", 12, 6).eval()
    with torch.no_grad():
        model.core.weight_hh_l0.mul_(8)  # a state that matters
        model.readout.weight.mul_(20)

    def most_likely(text: str) -> str:
        x = F.pad(model.encode(text), (1, 0), value=model.start)
        return "abcde"[model(x[None])[0][0, -1].argmax()]

    greedy = "c"
    for _ in range(30):
        greedy += most_likely(greedy)
    assert any(most_likely(greedy[i - 1]) != greedy[i] for i in range(1, 31))  # one character is not enough
    assert model.sample(2, 30, 1e-4, before="c") == [greedy[1:]] * 2
    assert model.sample(2, 0) == ["", ""]


def test_bad_input_is_named():
    model = taught.CharRNN("abc", 4)
    with pytest.raises(ValueError, match="'z'"):
        model.log_prob("abz")
    with pytest.raises(ValueError, match="empty"):
        model.nll("")
    with pytest.raises(ValueError, match="temperature=0"):
        model.sample(1, 1, temperature=0)
    with pytest.raises(ValueError, match="abca"):
        taught.CharRNN("abca", 4)
    with pytest.raises(ValueError, match="too few"):
        next(taught.train_text(model, "abc" * 10, epochs=1))


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
def test_training_learns_a_rule_that_needs_memory(cell: type[nn.Module]):
    """The text repeats each random letter after two more: a third of a coin's entropy, with a state; log 2 without."""
    rng = np.random.default_rng(0)
    text = "".join(c + "-" + c for c in rng.choice(list("ab"), 3_000))
    model = taught.CharRNN("-ab", 12, 4, cell)
    losses = list(taught.train_text(model, text, epochs=8, n_streams=8, window=24, lr=3e-2))
    assert len(losses) == 8
    assert not model.training
    assert losses[-1] < losses[0]
    fresh = "".join(c + "-" + c for c in rng.choice(list("ab"), 500))
    assert model.nll(fresh) == pytest.approx(math.log(2) / 3, abs=0.03)


def test_training_carries_the_state_over_windows_but_not_the_gradient():
    """With a window of one the gradient never passes a step, but the state still does."""
    seen = []

    class Spy(taught.CharRNN):
        def forward(self, x, state=None):
            if self.training:
                seen.append(state)
            return super().forward(x, state)

    list(taught.train_text(Spy("ab", 3), "ab" * 100, epochs=2, n_streams=2, window=20))
    per_epoch = len(seen) // 2
    assert seen[0] is None
    assert seen[per_epoch] is None
    carried = [s for s in seen if s is not None]
    assert len(carried) == len(seen) - 2
    assert all(not part.requires_grad and part.abs().sum() > 0 for state in carried for part in state)


def test_recurrent_weights_are_dropped_anew_for_each_window_and_only_while_training():
    used, rng = [], np.random.default_rng(0)

    class Spy(taught.CharRNN):
        def forward(self, x, state=None):
            used.append(self.core.weight_hh_l0.detach().clone())
            return super().forward(x, state)

    model, text = Spy("ab", 24), "".join(rng.choice(list("ab"), 400))
    before = model.core.weight_hh_l0.detach().clone()
    list(taught.train_text(model, text, epochs=1, n_streams=2, window=20, drop_recurrent=0.3))
    zeros = torch.stack([W == 0 for W in used])
    n = zeros.numel()
    assert zeros.double().mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / n))
    assert (zeros[0] != zeros[1]).any()
    torch.testing.assert_close(used[0], torch.where(zeros[0], 0, before / 0.7))  # the first window: no step yet
    assert (model.core.weight_hh_l0 != 0).all()
    assert not torch.equal(model.core.weight_hh_l0, before)
    model.log_prob("abba")
    assert torch.equal(used[-1], model.core.weight_hh_l0)


def test_passes_begin_at_different_characters_and_read_the_text_in_order():
    seen = []

    class Spy(taught.CharRNN):
        def forward(self, x, state=None):
            seen.append(x)
            return super().forward(x, state)

    alphabet = "".join(chr(k) for k in range(40, 440))
    list(taught.train_text(Spy(alphabet, 2), alphabet, epochs=4, n_streams=2, window=20))
    passes = [torch.cat(seen[k : k + len(seen) // 4], 1) for k in range(0, len(seen), len(seen) // 4)]
    starts = {int(x[0, 1]) for x in passes}
    assert len(starts) > 1
    for x in passes:
        assert (x[:, 0] == len(alphabet)).all()  # the start mark
        assert (x[:, 1:].diff(dim=1) == 1).all()
        assert x[1, 1] - x[0, 1] == x.shape[1]  # the streams follow one another


def test_the_step_size_rises_and_falls(monkeypatch: pytest.MonkeyPatch):
    rates, norms = [], []

    class Spy(torch.optim.Adam):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            gradients = [p.grad for p in self.param_groups[0]["params"]]
            norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
            super().step()
            for g in gradients:
                g.fill_(math.nan)  # the next step must not add to these

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    model = taught.CharRNN("ab", 5)
    with torch.no_grad():
        model.readout.weight.mul_(1e4)  # large gradients
    list(taught.train_text(model, "abba" * 200, epochs=3, n_streams=2, window=20, lr=0.01))
    top = int(np.argmax(rates))
    assert max(rates) == pytest.approx(0.01, rel=0.1)
    assert 0 < top < len(rates) / 5
    assert np.all(np.diff(rates[: top + 1]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)
    assert rates[-1] < 1e-3 * max(rates)
    assert np.max(norms) == pytest.approx(1, abs=1e-3)  # clipped, and without what the step before left


def test_shipping_chooses_the_pass_on_training_text_and_measures_what_is_stored(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    plays = {name: "".join(rng.choice(list("abc \n"), n)) for name, n in (("train", 6_000), ("valid", 500))}
    shipped, rows = {}, []

    def save(model: nn.Module, name: str, card: dict):
        shipped.update({key: w.clone() for key, w in model.state_dict().items()}, card=card, name=name)

    monkeypatch.setattr(taught, "load", lambda name: plays)
    monkeypatch.setattr(taught, "save_weights", save)
    monkeypatch.setattr(taught, "record", lambda *a, **more: rows.append((a, more)))
    kept = []
    for text in (plays["valid"], plays["valid"][::-1] + "z"):
        plays["valid"] = text
        torch.manual_seed(0)
        model = taught.CharRNN(taught.SHAKESPEARE, 6, 4)
        taught.train_and_ship(model, 3)
        kept.append(shipped["core.weight_hh_l0"])
        stored = {key: w.float() for key, w in shipped.items() if isinstance(w, torch.Tensor)}
        assert shipped["core.weight_hh_l0"].dtype == torch.float16
        model.load_state_dict(stored)
        nll = model.eval().nll(text, before=plays["train"][-1_000:])
        assert shipped["card"]["nll"] == rows[-1][0][4] == pytest.approx(nll, abs=1e-6)
        cut = 6_000 * 19 // 20
        chosen = model.nll(plays["train"][cut:], before=plays["train"][cut - 1_000 : cut])
        assert shipped["card"]["chosen at"] == pytest.approx(chosen, abs=2e-3)  # half precision came after
    assert torch.equal(*kept)  # the held-out text has no say

    def passes(model: taught.CharRNN, text: str, **_):
        assert text == plays["train"][:cut]
        for wrong in (5.0, 0.0, 9.0):  # uniform in the second pass only, and best there
            nn.init.zeros_(model.readout.weight)
            model.readout.bias.data = wrong * torch.arange(65.0).flip(0)
            yield 1.0

    monkeypatch.setattr(taught, "train_text", passes)
    taught.train_and_ship(taught.CharRNN(taught.SHAKESPEARE, 6, 4), 3)
    assert (shipped["readout.bias"] == 0).all()
    assert shipped["card"]["nll"] == pytest.approx(math.log(65), abs=1e-6)


def test_the_target_of_the_truncation_task_is_the_symbol_of_some_steps_ago(monkeypatch: pytest.MonkeyPatch):
    seen, own = [], taught.bptt

    def spy(*call):
        seen.append(call)
        return own(*call)

    monkeypatch.setattr(taught, "bptt", spy)
    taught.truncation_bias(0.9, (4,), n=3, T=20, delay=3)
    assert [call[-1] for call in seen] == [None, 4] * 3
    for call in seen:
        x, y = call[5:7]
        assert (y[3:] == x.argmax(1)[:-3]).all()
        assert np.abs(np.linalg.eigvals(call[0].numpy())).max() == pytest.approx(0.9)


def test_the_shipped_model_knows_words():
    model = taught.shakespeare_model()
    card = load_weights(model, "16_lstm_tinyshakespeare")
    assert (WEIGHTS / "16_lstm_tinyshakespeare.safetensors").stat().st_size < 1_500_000
    line = "To be, or not to be: that is the question:\n"
    assert model.nll(line, before="\n\n") < 2.5 < model.nll(line[::-1], before="\n\n")
    rows = table("full").query("lecture == '16' and dataset == 'tinyshakespeare'")
    assert rows["value"].item() == pytest.approx(card["nll"], abs=1e-5)
