"""What lecture 18 teaches, imported from its notebook, against torch's modules, autograd and closed forms."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils.reuse import lecture

taught = lecture("18")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def doubles(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# --- attention ---


@pytest.mark.parametrize("lead", [(), (3,), (2, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_that_of_torch(lead: tuple, masked: bool):
    q, k, v = doubles(*lead, 5, 8), doubles(*lead, 7, 8), doubles(*lead, 7, 3)
    mask = torch.rand(*lead, 5, 7) < 0.6 if masked else None
    if masked:
        mask[..., 0] = True
    out, weights = taught.attention(q, k, v, mask)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, mask), rtol=1e-12, atol=1e-12)
    assert weights.shape == (*lead, 5, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(*lead, 5, dtype=torch.float64))
    assert not masked or (weights[~mask] == 0).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 5), st.floats(0.01, 100), st.integers(0, 999))
def test_rows_are_distributions_and_values_stay_between_their_extremes(T, S, d, scale, seed):
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (scale * torch.randn(n, d, generator=rng, dtype=torch.float64) for n in (T, S, S))
    out, weights = taught.attention(q, k, v)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(T, dtype=torch.float64))
    slack = 1e-9 * scale
    assert (out <= v.amax(0) + slack).all()
    assert (out >= v.amin(0) - slack).all()


def test_huge_scores_do_not_overflow():
    q = torch.full((1, 4), 1e4)
    out, weights = taught.attention(q, torch.stack([q[0], -q[0]]), torch.tensor([[1.0], [2.0]]))
    assert out.item() == 1
    assert weights.tolist() == [[1, 0]]


def test_scores_are_divided_by_the_root_of_the_width_of_the_queries():
    q, k = torch.ones(1, 16), torch.stack([torch.ones(16), torch.zeros(16)])
    weights = taught.attention(q, k, torch.eye(2))[1]  # scores 16/4 and 0; the values have another width
    assert weights[0, 0].item() == pytest.approx(1 / (1 + math.exp(-4)), abs=1e-6)


def test_keys_and_values_may_be_reordered_together():
    q, k, v, order = doubles(4, 6), doubles(9, 6), doubles(9, 2), torch.randperm(9)
    torch.testing.assert_close(taught.attention(q, k[order], v[order])[0], taught.attention(q, k, v)[0])


def test_a_float_mask_and_a_blind_query_are_refused():
    q = torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match=r"float32.*torch\.bool"):
        taught.attention(q, q, q, torch.zeros(3, 3))
    blind = torch.ones(3, 3, dtype=torch.bool)
    blind[1] = False
    with pytest.raises(ValueError, match="at least one"):
        taught.attention(q, q, q, blind)


def test_the_gradient_reaches_queries_keys_and_values():
    q, k, v = (doubles(n, 3).requires_grad_() for n in (2, 4, 4))
    mask = torch.tensor([[True, False, True, True], [True, True, True, False]])
    assert torch.autograd.gradcheck(lambda *inputs: taught.attention(*inputs, mask)[0], (q, k, v))


# --- positions ---


def test_sinusoids_equal_the_formula():
    P, width = taught.sinusoids(50, 12), 12
    for t, i in itertools.product((0, 1, 17, 49), range(width // 2)):
        angle = t / 10_000 ** (2 * i / width)
        assert P[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert P[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert P.shape == (50, 12)
    assert P.dtype == torch.get_default_dtype()
    assert not P.requires_grad


def test_far_positions_are_computed_in_double_precision():
    assert taught.sinusoids(100_001, 2)[100_000, 0].item() == pytest.approx(math.sin(100_000), abs=1e-6)


@pytest.mark.parametrize("width", [2, 8, 64])
@pytest.mark.parametrize("k", [-4, 0, 1, 30])
def test_an_offset_is_a_rotation(width: int, k: int):
    P, R = taught.sinusoids(100, width).double(), taught.rotation(k, width)
    t = torch.arange(max(0, -k), 100 - max(0, k))
    torch.testing.assert_close(P[t] @ R.T, P[t + k], rtol=0, atol=1e-6)
    torch.testing.assert_close(R.T @ R, torch.eye(width, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(R @ taught.rotation(-k, width), torch.eye(width, dtype=torch.float64))
    assert torch.det(R).item() == pytest.approx(1)


def test_likeness_of_positions_depends_on_their_distance_only():
    P = taught.sinusoids(60, 32).double()
    products = P @ P.T
    for k in range(60):
        torch.testing.assert_close(products.diagonal(k), products[0, k].expand(60 - k), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("length", "width"), [(0, 4), (5, 0), (5, 3), (-1, 4)])
def test_sizes_without_positions_are_refused(length: int, width: int):
    with pytest.raises(ValueError, match=f"length={length}, width={width}"):
        taught.sinusoids(length, width)


# --- heads ---


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("kind", ["self", "cross, 5 keys", "cross, 7 keys"])  # there are 5 queries
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_heads_equal_those_of_torch(heads: int, kind: str, masked: bool, dtype: torch.dtype):
    ours = taught.MultiHeadAttention(16, heads).to(dtype)
    theirs = nn.MultiheadAttention(16, heads, batch_first=True, dtype=dtype)
    taught.give_weights(ours, theirs)
    x = torch.randn(3, 5, 16, dtype=dtype, requires_grad=True)
    context = x if kind == "self" else torch.randn(3, int(kind.split()[1]), 16, dtype=dtype)
    S = context.shape[1]
    mask = torch.rand(5, S) < 0.5 if masked else None
    if masked:
        mask[:, 0] = True
    out, weights = ours(x, None if kind == "self" else context, mask)
    hide = None if mask is None else ~mask
    expected, expected_weights = theirs(x, context, context, attn_mask=hide, average_attn_weights=False)
    assert weights.shape == (3, heads, 5, S)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(out, expected, **tolerance)
    torch.testing.assert_close(weights, expected_weights, **tolerance)
    (g,), (h,) = (torch.autograd.grad(y.square().sum(), [x]) for y in (out, expected))
    torch.testing.assert_close(g, h, rtol=1e-4, atol=1e-5)


def test_masks_of_two_three_and_four_dimensions():
    layer, x = taught.MultiHeadAttention(8, 2).double(), doubles(2, 4, 8)  # as many heads as texts: a mix-up would show
    mask = torch.rand(2, 4, 4) < 0.5
    mask[..., 0] = True
    out, weights = layer(x, mask=mask)
    for b in range(2):
        torch.testing.assert_close(out[b], layer(x[b : b + 1], mask=mask[b])[0][0])
        assert (weights[b][:, ~mask[b]] == 0).all()
    torch.testing.assert_close(layer(x, mask=mask[:, None])[0], out)
    by_head = torch.stack([taught.causal_mask(4), taught.causal_mask(4).T])
    weights = layer(x, mask=by_head[None])[1]
    assert (weights[:, 0].triu(1) == 0).all()
    assert (weights[:, 1].tril(-1) == 0).all()


def test_heads_see_their_own_part_of_the_vectors():
    layer = taught.MultiHeadAttention(6, 3)
    x = torch.arange(12.0).reshape(1, 2, 6)
    assert layer.split(x)[0, 1].tolist() == [[2, 3], [8, 9]]  # head 1, both positions
    with torch.no_grad():
        layer.out.weight.copy_(torch.eye(6)), layer.out.bias.zero_()
    assert torch.equal(layer.merge(layer.split(x)), x)


@pytest.mark.parametrize(("width", "heads"), [(10, 3), (8, 0), (0, 1), (4, 8), (8, -2)])
def test_uneven_heads_are_refused(width: int, heads: int):
    with pytest.raises(ValueError, match=f"width={width}.*heads={heads}"):
        taught.MultiHeadAttention(width, heads)


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)))
def test_self_attention_is_permutation_equivariant_without_positions(order: list[int]):
    torch.manual_seed(0)
    block, x, order = taught.TransformerBlock(8, 2).double(), doubles(1, 6, 8), torch.tensor(order)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order], rtol=1e-10, atol=1e-10)
    P = taught.sinusoids(6, 8).double()
    if order.tolist() != list(range(6)):
        assert (block(x[:, order] + P) - block(x + P)[:, order]).abs().max() > 1e-4


# --- masks ---


def test_causal_mask():
    assert taught.causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert taught.causal_mask(1).tolist() == [[True]]
    assert taught.causal_mask(2).dtype == torch.bool


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_behind_a_causal_mask_the_gradient_by_the_future_is_exactly_zero(norm: str):
    blocks = [taught.TransformerBlock(8, 2, norm).double() for _ in range(2)]

    def stack(x: torch.Tensor) -> torch.Tensor:
        for block in blocks:
            x = block(x, taught.causal_mask(6))
        return x

    found, past = taught.influence(stack, doubles(2, 6, 8)), taught.causal_mask(6)
    for b, c in itertools.product(range(2), repeat=2):
        assert (found[b, :, c][~past] == 0).all()
        assert (found[b, :, c][past] > 0).all() if b == c else (found[b, :, c] == 0).all()


def test_influence_is_the_largest_absolute_derivative():
    mixing = torch.tensor([[-2.0, 0, 0], [1, -3, 0], [0, 0.5, 0]]).double()  # of positions; texts do not meet
    found = taught.influence(lambda x: mixing @ x, doubles(2, 3, 4))
    assert torch.equal(found, torch.einsum("bc,ts->btcs", torch.eye(2).double(), mixing.abs()))


def test_padding_mask_hides_the_filling():
    mask = taught.padding_mask(torch.tensor([1, 3, 2]), 3)
    assert mask.shape == (3, 1, 3)
    assert mask.sum((1, 2)).tolist() == [1, 3, 2]
    assert mask[:, 0, 0].all()
    layer, x = taught.MultiHeadAttention(8, 2).double(), doubles(3, 3, 8)
    out = layer(x, mask=mask)[0]
    for i, n in enumerate((1, 3, 2)):
        torch.testing.assert_close(out[i, :n], layer(x[i : i + 1, :n])[0][0])
    both = mask & taught.causal_mask(3)
    assert both.shape == (3, 3, 3)
    assert torch.isfinite(layer(x, mask=both)[0]).all()


@pytest.mark.parametrize("lengths", [[0, 2], [2, 5]])
def test_lengths_outside_the_text_are_refused(lengths: list[int]):
    with pytest.raises(ValueError, match=f"lengths {lengths[0]} to {lengths[1]}; expected 1 to 4"):
        taught.padding_mask(torch.tensor(lengths), 4)


# --- norms and the block ---


def test_norms_equal_those_of_torch():
    x = 3 + 2 * doubles(4, 5, 6)
    torch.testing.assert_close(taught.layer_norm(x), F.layer_norm(x, (6,)))
    torch.testing.assert_close(taught.batch_norm(x), F.batch_norm(x.mT, None, None, training=True).mT)
    image = doubles(3, 2, 8, 8)
    torch.testing.assert_close(
        lecture("04").normalize(image, (0, 2, 3)), F.batch_norm(image, None, None, training=True), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_equal_those_of_torch(norm: str, cross: bool, dtype: torch.dtype):
    block = taught.random_block(norm, cross).to(dtype)
    theirs = taught.same_by_torch(block)
    x, context = torch.randn(3, 6, 32, dtype=dtype, requires_grad=True), torch.randn(3, 4, 32, dtype=dtype)
    mask, padding = taught.causal_mask(6), taught.padding_mask(torch.tensor([4, 1, 2]), 4)
    if cross:
        out = block(x, mask, context, padding)
        expected = theirs(x, context, tgt_mask=~mask, memory_key_padding_mask=~padding[:, 0])
    else:
        out, expected = block(x, mask), theirs(x, src_mask=~mask)
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12  # entries reach 10 and more
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    (g,), (h,) = (torch.autograd.grad(y.square().sum(), [x]) for y in (out, expected))
    torch.testing.assert_close(g, h, rtol=1e-3 if dtype == torch.float32 else 1e-9, atol=10 * tolerance)


def test_the_activation_can_be_exchanged_for_the_original_one():
    block = taught.random_block("post", cross=False)
    theirs = taught.same_by_torch(block)
    block.feed_forward[1], theirs.activation = nn.ReLU(), F.relu
    theirs.activation_relu_or_gelu = 1
    x = doubles(2, 5, 32)
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-12, atol=1e-12)


def test_a_post_norm_block_ends_normalized_and_a_pre_norm_block_starts_near_its_input():
    x = 5 * doubles(2, 5, 16)
    post = taught.TransformerBlock(16, 4, "post").double()(x)
    assert post.mean(2).abs().max() < 1e-10
    assert (post.var(2, correction=0) - 1).abs().max() < 1e-3
    pre = taught.TransformerBlock(16, 4, "pre").double()
    nn.init.zeros_(pre.self_attention.out.weight), nn.init.zeros_(pre.self_attention.out.bias)
    nn.init.zeros_(pre.feed_forward[2].weight), nn.init.zeros_(pre.feed_forward[2].bias)
    assert torch.equal(pre(x), x)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_feed_forward_part_and_the_norms_treat_each_position_alone(norm: str):
    block, x = taught.TransformerBlock(8, 2, norm).double(), doubles(2, 4, 8)
    found = taught.influence(lambda u: block(u, torch.eye(4, dtype=torch.bool)), x)  # each looks at itself
    alone = torch.eye(8, dtype=torch.bool).reshape(2, 4, 2, 4)
    assert (found[~alone] == 0).all()
    assert (found[alone] > 0).all()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_dropout_acts_in_training_only(norm: str):
    block, x = taught.TransformerBlock(8, 2, norm, dropout=0.5), torch.randn(2, 3, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
    still = taught.TransformerBlock(8, 2, norm, dropout=1.0)  # nothing is added
    assert torch.equal(still(x), x if norm == "pre" else still.feed_norm(still.self_norm(x)))


def test_the_inner_layer_is_four_times_as_wide_unless_told():
    assert taught.TransformerBlock(8, 2).feed_forward[0].out_features == 32
    assert taught.TransformerBlock(8, 2, hidden=5).feed_forward[0].out_features == 5


def test_errors_of_the_block():
    with pytest.raises(ValueError, match="norm='middle'; expected 'pre' or 'post'"):
        taught.TransformerBlock(8, 2, norm="middle")
    x = torch.randn(1, 3, 8)
    with pytest.raises(ValueError, match="cross=True"):
        taught.TransformerBlock(8, 2, cross=True)(x)
    with pytest.raises(ValueError, match="cross=False"):
        taught.TransformerBlock(8, 2)(x, context=x)


# --- the task ---


def test_repeats_repeat_distinct_letters():
    x, period = taught.repeats(200, torch.Generator().manual_seed(3))
    assert x.shape == (200, taught.LENGTH)
    assert sorted(period.unique().tolist()) == list(range(5, 13))
    for text, p in zip(x.tolist(), period.tolist(), strict=True):
        assert len(set(text[:p])) == p
        assert text[p:] == text[:-p]
    again = taught.repeats(200, torch.Generator().manual_seed(3))
    assert torch.equal(again[0], x)
    assert torch.equal(again[1], period)


def test_questions_have_the_answers_that_the_text_determines():
    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.one_hot(x, len(taught.LETTERS)).float()

    x, period = taught.repeats(50, torch.Generator().manual_seed(4))
    logits, answers = taught.ask(Echo(), x, period)
    expected = [
        (text[t - 1], text[t])
        for text, p in zip(x.tolist(), period.tolist(), strict=True)
        for t in range(p, taught.LENGTH)
    ]
    assert list(zip(logits.argmax(1).tolist(), answers.tolist(), strict=True)) == expected


def test_the_network_does_not_see_the_letter_that_it_predicts():
    model, x = taught.NextLetter(2).eval(), taught.repeats(4, torch.Generator().manual_seed(5))[0]
    changed = x.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % len(taught.LETTERS)
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert (before[:, 10:] - after[:, 10:]).abs().max() > 1e-3
    torch.testing.assert_close(model(x[:, :7]), before[:, :7], rtol=1e-4, atol=1e-5)


def test_attention_maps_collects_the_weights_of_each_module_and_leaves_no_hooks():
    model = nn.ModuleDict({"a": taught.TransformerBlock(8, 2), "b": taught.TransformerBlock(8, 4, cross=True)})
    x, context = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    model.forward = lambda x, context: model["b"](model["a"](x), context=context)
    maps = taught.attention_maps(model, x, context=context)
    assert {name: tuple(w.shape) for name, w in maps.items()} == {
        "a.self_attention": (2, 2, 3, 3),
        "b.self_attention": (2, 4, 3, 3),
        "b.cross_attention": (2, 4, 3, 5),
    }
    torch.testing.assert_close(maps["a.self_attention"], model["a"].self_attention(model["a"].self_norm(x))[1].detach())
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(TypeError):
        taught.attention_maps(model, x)
    assert not any(module._forward_hooks for module in model.modules())
