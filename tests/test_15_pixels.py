"""What lecture 15 teaches, imported from its notebook, against enumeration, plain loops and PyTorch."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch import nn

from course_utils.results import load_weights
from course_utils.reuse import lecture

taught = lecture("15")
MODELS = {
    "PixelCNN": lambda size, levels: taught.PixelCNN(size, levels, 6, 8, (1, 2)),
    "PixelCNN, stride 2": lambda size, levels: taught.PixelCNN(size, levels, 6, 8, (1, 2), stride=2),
    "PixelCNN, stride 4": lambda size, levels: taught.PixelCNN(size, levels, 6, 8, (2,), stride=4),
    "PixelRNN": lambda size, levels: taught.PixelRNN(size, levels, hidden=6),
}
named = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def uneven(model: nn.Module) -> nn.Module:
    """Enlarge the last weights: conditionals far from uniform."""
    with torch.no_grad():
        model.head[-1].weight.mul_(60)
    return model.eval()


# --- masks and convolutions ---


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_masks_keep_what_comes_before_in_raster_order(kernel: int):
    index, center = torch.arange(kernel**2).view(kernel, kernel), kernel**2 // 2
    assert torch.equal(taught.MaskedConv2d("A", 1, 1, kernel).mask, (index < center).float())
    assert torch.equal(taught.MaskedConv2d("B", 1, 1, kernel).mask, (index <= center).float())


def test_masked_convolution_is_a_loop_over_earlier_pixels():
    conv, x = taught.MaskedConv2d("B", 2, 3, 3).double(), torch.randn(1, 2, 4, 5).double()
    expected = conv.bias.view(3, 1, 1).repeat(1, 4, 5).detach()
    for r, c, dr, dc in itertools.product(range(4), range(5), (-1, 0, 1), (-1, 0, 1)):
        if (dr, dc) <= (0, 0) and 0 <= r + dr < 4 and 0 <= c + dc < 5:
            expected[:, r, c] += conv.weight[:, :, dr + 1, dc + 1].detach() @ x[0, :, r + dr, c + dc]
    torch.testing.assert_close(conv(x)[0].detach(), expected)


def test_masked_weights_stay_out_after_training():
    conv, x = taught.MaskedConv2d("A", 1, 4, 3), torch.randn(8, 1, 6, 6)
    optimizer = torch.optim.SGD(conv.parameters(), 0.1, weight_decay=0.5)  # moves every weight
    for _ in range(5):
        optimizer.zero_grad()
        ((conv(x) - x) ** 2).mean().backward()
        optimizer.step()
    field = taught.receptive_field(conv.double(), (6, 6), (3, 3))
    assert {tuple(rc) for rc in field.nonzero().tolist()} == {(2, 2), (2, 3), (2, 4), (3, 2)}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize(("direction", "kernel"), [("vertical", (2, 3)), ("vertical", (3, 1)), ("horizontal", (1, 3))])
def test_causal_convolution_sees_just_its_rectangle(direction: str, kernel: tuple, dilation: int, strict: bool):
    conv = taught.CausalConv(direction, 1, 2, kernel, strict, dilation).double()
    height, width = kernel
    found = taught.receptive_field(conv, (12, 13), (9, 8)).nonzero().tolist()
    if direction == "vertical":
        rows = [9 - strict - dilation * k for k in range(height)]
        columns = range(8 - width // 2, 8 + width // 2 + 1)
    else:
        rows, columns = [9], [8 - strict - dilation * k for k in range(width)]
    assert sorted(map(tuple, found)) == sorted(itertools.product(rows, columns))


def test_blind_spot_of_one_stack():
    """What 15 layers miss in 9×9, for the pixel in the middle: 4 rows above, 4 columns to the right."""
    field = taught.receptive_field(taught.masked_stack(15).double(), (9, 9), (4, 4))
    missed = taught.earlier((9, 9), (4, 4)) & ~field
    assert {(4 - r, c - 4) for r, c in missed.nonzero().tolist()} == {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)}


# --- order ---


@named
@pytest.mark.parametrize(("size", "levels"), [((4, 5), 3), ((8, 8), 17), ((28, 28), 2)])
def test_no_pixel_sees_itself_or_a_later_one(make, size: tuple[int, int], levels: int):
    """Change all pixels from i on: the logits up to pixel i stay as they were, bit for bit or nearly."""
    model = make(size, levels).double().eval()
    d = size[0] * size[1]
    x = torch.randint(levels, (1, 1, *size)).double() / (levels - 1)
    with torch.no_grad():
        before = model.logits(x).flatten(2)
        for i in range(0, d, max(1, d // 64)):
            changed = x.clone().view(-1)
            changed[i:] = 1 - changed[i:] + 0.3
            after = model.logits(changed.view_as(x)).flatten(2)
            torch.testing.assert_close(after[..., : i + 1], before[..., : i + 1], rtol=0, atol=1e-12)
            if i + 1 < d:
                assert (after[..., i + 1 :] != before[..., i + 1 :]).any()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_two_stacks_see_all_earlier_pixels(stride: int):
    model = taught.PixelCNN((6, 7), 2, 6, 6, (1, 2, 1, 2, 1, 1), stride=stride).double()
    for pixel in itertools.product(range(6), range(7)):
        field = taught.receptive_field(model.logits, (6, 7), pixel)
        assert torch.equal(field, taught.earlier((6, 7), pixel)), pixel


def test_row_lstm_sees_a_triangle():
    model = taught.PixelRNN((6, 9), hidden=5).double()
    field = taught.receptive_field(model.logits, (6, 9), (3, 4))
    rows = {r: sorted(c for q, c in field.nonzero().tolist() if q == r) for r in range(6)}
    assert rows == {0: list(range(8)), 1: [1, 2, 3, 4, 5, 6], 2: [2, 3, 4, 5], 3: [3], 4: [], 5: []}


def test_every_pixel_reaches_some_state_of_the_row_lstm():
    """The last pixel of a row has no state to its right: only the row below can read it."""
    model = taught.PixelRNN((4, 5), hidden=5).double()
    fields = [taught.receptive_field(model.logits, (4, 5), pixel) for pixel in itertools.product(range(4), range(5))]
    assert int(torch.stack(fields).any(0).sum()) == 4 * 5 - 1  # all but the last pixel of the image


def test_row_lstm_is_a_plain_loop_over_rows_and_columns():
    model, x = taught.PixelRNN((3, 4), 2, hidden=3).double(), torch.rand(2, 1, 3, 4).double()
    z = model.inputs(x)
    kernel, bias, across = model.input_to_state.weight, model.input_to_state.bias, model.state_to_state.weight
    h = {(r, c): torch.zeros(2, 3).double() for r in range(-1, 3) for c in range(-1, 5)}
    cell = dict(h)
    for r, c in itertools.product(range(3), range(4)):
        a = bias.expand(2, -1)
        for up, column in ((1, c - 1), (1, c), (1, c + 1), (0, c - 1)):
            if r >= up and 0 <= column < 4:
                a = a + z[:, :, r - up, column] @ kernel[:, :, 1 - up, column - c + 1].T
        for k in range(3):
            a = a + h[r - 1, c - 1 + k] @ across[:, :, k].T
        o, f, i, g = a.chunk(4, dim=1)
        cell[r, c] = f.sigmoid() * cell[r - 1, c] + i.sigmoid() * g.tanh()
        h[r, c] = o.sigmoid() * cell[r, c].tanh()
    states = torch.stack([h[r, c] for r in range(3) for c in range(4)], dim=2).view(2, 3, 3, 4)
    torch.testing.assert_close(model.logits(x), model.head(states))


# --- probabilities ---


@named
@pytest.mark.parametrize(("size", "levels"), [((2, 4), 2), ((3, 2), 3), ((1, 5), 2), ((4, 1), 4)])
def test_the_probabilities_of_all_images_add_up_to_one(make, size: tuple[int, int], levels: int):
    model = uneven(make(size, levels))
    with torch.no_grad():
        log_p = model.log_prob(taught.all_images(size, levels))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert log_p.exp().max() > 2 / len(log_p)  # and not because all are alike


@named
@pytest.mark.parametrize(("size", "levels"), [((8, 8), 17), ((28, 28), 2)])
def test_log_prob_is_the_cross_entropy_of_the_logits(make, size: tuple[int, int], levels: int):
    model = make(size, levels).eval()
    k = torch.randint(levels, (3, *size))
    x = k[:, None] / (levels - 1)
    with torch.no_grad():
        expected = -F.cross_entropy(model.logits(x), k, reduction="none").sum((1, 2))
        found = model.log_prob(x)
    assert found.shape == (3,)
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-3)


def test_nll_is_of_each_image_in_order():
    model = taught.PixelCNN((2, 2), 2, 4, 4, (1,)).eval()
    images = taught.all_images((2, 2), 2).repeat(40, 1, 1, 1)  # more than one batch
    with torch.no_grad():
        torch.testing.assert_close(taught.nll(model, images), -model.log_prob(images))


def test_gate():
    a = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(taught.gate(a), a[:, :3].tanh() / (1 + (-a[:, 3:]).exp()))


def test_inputs_are_the_image_and_the_place():
    z = taught.PixelCNN((3, 5)).inputs(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 3, 5))
    assert z.shape == (2, 3, 3, 5)
    assert z[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [-1, 1]
    torch.testing.assert_close(z[1, 1], torch.tensor([-1.0, 0, 1])[:, None].expand(3, 5))
    torch.testing.assert_close(z[1, 2], torch.tensor([-1, -0.5, 0, 0.5, 1]).expand(3, 5))


def test_the_layers_are_the_formulas():
    """Residual in both stacks, the link inside the gate, a skip from each layer to the head."""
    model, x = taught.PixelCNN((5, 6), 3, 4, 6, (1, 2)).eval(), torch.rand(2, 1, 5, 6)
    z, skips = model.inputs(x), []
    v, h = model.vertical_in(z), model.horizontal_in(z)
    for layer in range(2):
        a = model.vertical[layer](v)
        v = v + model.vertical_out[layer](a[:, :6].tanh() * a[:, 6:].sigmoid())
        b = model.horizontal[layer](h) + model.links[layer](v)
        skips.append(b[:, :4].tanh() * b[:, 4:].sigmoid())
        h = h + model.horizontal_out[layer](skips[-1])
    torch.testing.assert_close(model.logits(x), model.head(torch.cat(skips, 1)))


def test_packing_is_undone_by_unpacking_and_never_mixes_rows():
    model, x = taught.PixelCNN((3, 7), 2, 4, 4, (1,), stride=3), torch.randn(2, 5, 3, 7)
    packed = model.pack(x)
    assert packed.shape == (2, 15, 3, 3)
    torch.testing.assert_close(model.unpack(packed), x)
    torch.testing.assert_close(packed[:, :5, 1, 2], x[:, :, 1, 6])


# --- drawing ---


@named
@pytest.mark.parametrize(("size", "levels"), [((8, 8), 17), ((5, 7), 3)])
def test_samples_are_images_and_completions_keep_what_is_known(make, size: tuple[int, int], levels: int):
    model = make(size, levels).eval()
    x = model.sample(4)
    assert x.shape == (4, 1, *size)
    model.check(x)
    before, done = x.clone(), model.complete(x, 3)
    assert torch.equal(x, before)
    assert torch.equal(done[:, :, :3], x[:, :, :3])
    assert not torch.equal(done[:, :, 3:], x[:, :, 3:])
    assert torch.equal(model.complete(x, size[0]), x)


def test_a_sample_of_28_by_28():
    x = taught.PixelCNN((28, 28), 2, 4, 4, (1,), stride=2).eval().sample(2)
    assert x.shape == (2, 1, 28, 28)
    assert set(x.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_drawing_row_by_row_gives_the_images_of_the_plain_way(stride: int):
    model = uneven(taught.PixelCNN((6, 6), 3, 6, 6, (1, 2), stride=stride).double())
    drawn = []
    for complete in (taught.PixelModel.complete, taught.PixelCNN.complete):
        torch.manual_seed(1)
        drawn.append(complete(model, torch.zeros(50, 1, 6, 6).double(), 0))
    assert torch.equal(*drawn)


@named
def test_draws_follow_the_exact_distribution(make):
    model, images = uneven(make((2, 3), 2)), taught.all_images((2, 3), 2)
    with torch.no_grad():
        p = model.log_prob(images).exp()
    assert taught.pearson(model.sample(10_000), images, p) > 1e-4
    given = images[11:12]
    same = (images[:, :, :1] == given[:, :, :1]).flatten(1).all(1)
    draws = model.complete(given.expand(10_000, -1, -1, -1), 1)
    assert taught.pearson(draws, images, p * same / p[same].sum()) > 1e-4
    assert taught.pearson(draws, images, p) < 1e-6


def test_known_rows_do_not_depend_on_what_stood_below_them():
    model, x = taught.PixelCNN((4, 4), 2, 4, 4, (1,)).eval(), torch.zeros(3, 1, 4, 4)
    draws = []
    for below in (0.0, 1.0, math.nan):
        x[:, :, 2:] = below
        torch.manual_seed(2)
        draws.append(model.complete(x, 2))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


# --- training, uncertainty ---


def test_training_finds_the_distribution_of_tiny_images():
    images = taught.all_images((2, 2), 2)
    p = torch.tensor([4.0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 3, 0, 2, 0, 0, 4]) / 16
    data = images.repeat_interleave((16 * p).long(), dim=0)
    model = taught.train(taught.PixelCNN((2, 2), 2, 8, 8, (1,)), data, 150, 16, 2e-2)
    entropy = -(p[p > 0] * p[p > 0].log()).sum().item()
    assert not model.training
    assert entropy - 1e-5 < taught.nll(model, data).mean().item() < entropy + 0.05


class Slope(nn.Module):
    """log p(x) = w: with a gradient of constant size, AdamW moves w by its step size."""

    def __init__(self):
        super().__init__()
        self.w, self.path, self.seen = nn.Parameter(torch.zeros(1, dtype=torch.float64)), [], []

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        assert self.training
        self.path.append(self.w.item())
        self.seen.append(x.flatten().tolist())
        return self.w.expand(len(x))


def test_training_keeps_its_schedule_and_sees_each_image_once_an_epoch():
    model, steps = Slope(), 200
    taught.train(model, torch.arange(10.0), steps, 3, 0.01)
    w = torch.tensor([*model.path, model.w.item()], dtype=torch.float64)
    moved = (w[1:] - w[:-1]) / (1 - 0.05 * w[:-1])  # without the decay of the weights
    expected = [0.01 * min(1, (k + 1) / 50, (1 - k / steps) / 0.6) for k in range(steps)]
    torch.testing.assert_close(moved.tolist(), expected, rtol=1e-4, atol=1e-9)
    assert len(model.seen) == steps
    for k in range(0, steps - 2, 3):  # nine of ten images, then a new order
        assert len({*model.seen[k], *model.seen[k + 1], *model.seen[k + 2]}) == 9
    assert len({tuple(batch) for batch in model.seen}) > steps / 2


@pytest.mark.parametrize("bf16", [False, True])
def test_training_in_half_precision_only_when_asked(bf16: bool):
    class Watch(Slope):
        def log_prob(self, x: torch.Tensor) -> torch.Tensor:
            assert torch.is_autocast_enabled("cpu") == bf16
            return super().log_prob(x)

    taught.train(Watch(), torch.arange(4.0), 2, 2, 0.01, bf16=bf16)


def test_dropout_is_in_both_stacks():
    """With all gates dropped, the vertical stack is its first layer, and the head gets nothing."""
    model, x = taught.PixelCNN((4, 4), 3, 4, 6, (1, 1), dropout=1.0).train(), torch.rand(2, 1, 4, 4)
    z = model.inputs(x)
    for out in model.vertical_out:
        nn.init.zeros_(out.bias)
    for link, told in zip(model.links, model.context(z), strict=True):
        torch.testing.assert_close(told, link(model.vertical_in(z)))
    torch.testing.assert_close(model.logits(x), model.head(torch.zeros(2, 8, 4, 4)))


def test_the_average_of_the_weights_follows_the_recursion():
    """Two updates without noise: after step s, keep s/(s + 20) of the average."""
    torch.manual_seed(3)
    model, x = taught.PixelCNN((2, 2), 2, 4, 4, (1,)), torch.zeros(4, 1, 2, 2)
    seen = [[p.detach().clone() for p in model.parameters()]]
    averaged = taught.train(
        model, x, 2, 4, 1e-2, report=lambda step, _: seen.append([p.detach().clone() for p in model.parameters()])
    )
    for start, one, two, mean in zip(*seen, averaged.parameters(), strict=True):
        first = start * (1 / 21) + one * (20 / 21)
        torch.testing.assert_close(mean.detach(), first * (2 / 22) + two * (20 / 22))


def test_marginals_are_averages_of_conditionals():
    model, x = taught.PixelCNN((3, 3), 4, 4, 4, (1,)).eval(), torch.zeros(2, 1, 3, 3)
    x[1] = 1
    drawn, p = taught.marginals(model, x, 1, 6)
    assert (drawn[0, :, 0] == 0).all()
    assert (drawn[1, :, 0] == 1).all()
    assert drawn.shape == (2, 6, 3, 3)
    assert p.shape == (2, 4, 3, 3)
    torch.testing.assert_close(p.sum(1), torch.ones(2, 3, 3).double())
    with torch.no_grad():
        one = model.log_conditionals(drawn[1][:, None]).exp().mean(0)
    torch.testing.assert_close(p[1], one)
    assert drawn[1].std(0)[1:].min() > 0


def test_transform_is_uniform_on_the_step_of_the_distribution_function():
    """Level 1 of (0.2, 0.5, 0.3): the step runs from 0.2 to 0.7, whatever the pixel next to it holds."""
    p = torch.tensor([0.2, 0.5, 0.3]).double().view(1, 3, 1, 1).expand(4000, 3, 1, 2)
    k = torch.tensor([1, 2]).view(1, 1, 2).expand(4000, 1, 2)
    u = taught.transform(p, k)
    assert u.shape == (4000, 1, 2)
    for column, (low, high) in enumerate([(0.2, 0.7), (0.7, 1.0)]):
        found = (u[:, 0, column] - low) / (high - low)
        assert found.min() >= 0
        assert found.max() <= 1
        assert kstest(found.numpy(), "uniform").pvalue > 1e-4


def test_coverage_is_the_share_in_the_middle_and_its_error_counts_images():
    u = torch.tensor([[0.04, 0.5, 0.7, 0.96], [0.2, 0.3, 0.4, 0.9]]).double()
    assert taught.coverage(u, 0.9) == pytest.approx((0.75, 0.25))
    assert taught.coverage(u.view(2, 2, 2), 0.5) == pytest.approx((0.5, 0.0))


def test_coverage_is_nominal_when_the_forecast_is_the_truth():
    p = torch.rand(300, 5, 8, 8).double()
    p = p / p.sum(1, keepdim=True)
    k = torch.multinomial(p.movedim(1, 3).reshape(-1, 5), 1).view(300, 8, 8)
    for nominal in (0.5, 0.9):
        share, error = taught.coverage(taught.transform(p, k), nominal)
        assert abs(share - nominal) < 4 * error
    assert taught.coverage(taught.transform(p, (k + 2) % 5), 0.5)[0] < 0.48


# --- errors, shipped weights ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: taught.MaskedConv2d("C", 1, 1), "kind='C'"),
        (lambda: taught.MaskedConv2d("A", 1, 1, 4), "odd kernel"),
        (lambda: taught.CausalConv("diagonal", 1, 1, (1, 3)), "diagonal"),
        (lambda: taught.CausalConv("vertical", 1, 1, (2, 4)), "odd width"),
        (lambda: taught.CausalConv("horizontal", 1, 1, (2, 3)), "height 1"),
        (lambda: taught.PixelCNN((4, 4), 1), "levels=1"),
        (lambda: taught.PixelCNN((4, 4), 2, stride=0), "stride=0"),
        (lambda: taught.PixelCNN((4, 4), 2, dilations=()), "dilations"),
        (lambda: taught.PixelCNN((4, 4)).eval().sample(0), "n=0"),
        (lambda: taught.PixelCNN((4, 4)).eval().log_prob(torch.zeros(2, 16)), r"\(2, 16\)"),
        (lambda: taught.PixelCNN((4, 4)).eval().log_prob(torch.full((1, 1, 4, 4), 0.5)), "2 levels"),
        (lambda: taught.PixelCNN((4, 4), 3).eval().log_prob(torch.full((1, 1, 4, 4), 1.5)), "3 levels"),
        (lambda: taught.PixelCNN((4, 4)).eval().complete(torch.zeros(1, 1, 4, 4), 5), "known_rows=5"),
        (lambda: taught.PixelCNN((4, 4)).complete(torch.zeros(1, 1, 4, 4), 2), "eval"),
        (lambda: taught.PixelRNN((4, 4)).eval().sample(-1), "n=-1"),
    ],
)
def test_errors_name_the_bad_value(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_shipped_weights_are_better_than_the_published_pixelcnn():
    model = taught.PixelCNN((28, 28), 2, **taught.FULL)
    card = load_weights(model, taught.NAME)
    assert card["dataset"] == "binarized_mnist"
    assert card["nll"] < 81.30
    assert math.isfinite(card["spread"])
    empty = torch.zeros(1, 1, 28, 28)
    with torch.no_grad():
        assert model.eval().log_conditionals(empty)[0, 0, 0, 0].exp() > 0.99  # the corner is black
