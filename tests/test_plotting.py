"""Figures: alt text is never missing, grids keep order, nothing is left open."""

import base64
import io

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course_utils import plotting
from course_utils.training import History


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


def test_show_carries_the_alt_text_and_closes_the_figure(displayed):
    before = plt.get_fignums()
    fig, _ = plt.subplots()
    plotting.show(fig, alt='A line that says "<rises>".')
    bundle = displayed[0]._repr_mimebundle_()
    assert 'alt="A line that says &quot;&lt;rises&gt;&quot;."' in bundle["text/html"]
    assert bundle["text/plain"] == '[figure] A line that says "<rises>".'
    assert plt.get_fignums() == before


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_show_refuses_a_figure_without_alt_text(displayed, alt):
    fig, _ = plt.subplots()
    with pytest.raises(ValueError, match="say what the figure shows"):
        plotting.show(fig, alt=alt)
    assert not displayed
    plt.close(fig)


def test_a_shown_figure_is_a_picture(displayed):
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    plotting.show(fig, alt="A line from 0 to 1.")
    encoded = displayed[0]._repr_mimebundle_()["text/html"].split("base64,")[1].split('"')[0]
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert picture.format == "WEBP"
    assert picture.width == round(fig.get_figwidth() * 150)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 30), ncols=st.integers(1, 12), height=st.integers(1, 5), width=st.integers(1, 5))
def test_tiles_keep_the_order_of_the_images(n, ncols, height, width):
    images = torch.arange(n, dtype=torch.float32)[:, None, None, None].expand(n, 1, height, width)
    tiled = plotting._tile(images, ncols)
    ncols = min(ncols, n)
    corners = tiled[:: height + 1, :: width + 1].ravel()[:n]
    assert corners.tolist() == list(range(n))
    assert np.isfinite(tiled).sum() == n * height * width  # every pixel once, nothing else


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 2, 8, 8), (3, 4, 8, 8), (0, 1, 8, 8), (0, 3, 8, 8)])
def test_image_grid_names_the_shape_it_wants(shape):
    with pytest.raises(ValueError, match=r"expected \[n, 1 or 3, height, width\]"):
        plotting.image_grid(torch.zeros(shape))


def test_color_images_keep_their_colors_and_order():
    red, green, blue = torch.eye(3)
    images = torch.stack([red, green, blue])[:, :, None, None].expand(3, 3, 2, 2)
    tiled = plotting._tile(images, ncols=2)
    assert tiled.shape == (5, 5, 4)
    assert [tiled[0, 0].tolist(), tiled[0, 3].tolist(), tiled[3, 0].tolist()] == [
        [1, 0, 0, 1],
        [0, 1, 0, 1],
        [0, 0, 1, 1],
    ]
    assert tiled[..., 3].sum() == 12  # opaque at every pixel of the images, transparent between and where none is
    for fig in (plotting.image_grid(images), plotting.beside(images, images)):
        assert fig.axes[0].images[0].get_array().shape[2] == 4
        plt.close(fig)


def test_beside_draws_both_sets():
    fig = plotting.beside(torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2), titles=("black", "white"), ncols=2)
    arrays = [np.asarray(ax.images[0].get_array().filled(np.nan)) for ax in fig.axes]
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["black", "white"]
    assert np.nanmax(arrays[0]) == 0
    assert np.nanmin(arrays[1]) == 1
    plt.close(fig)


def test_loss_curves_mark_the_kept_epoch():
    fig = plotting.loss_curves(History(train=[3.0, 2.0, 1.0], valid=[3.0, 1.5, 2.0], best_epoch=2), unit="nats")
    dot = fig.axes[0].lines[-1]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (2, 1.5)
    assert "nats" in fig.axes[0].get_ylabel()
    plt.close(fig)


def test_density_2d_puts_the_peak_where_it_is():
    target = torch.distributions.MultivariateNormal(torch.tensor([1.0, -2.0]), 0.1 * torch.eye(2))
    fig = plotting.density_2d(target.log_prob, (-4.0, 4.0, -4.0, 4.0))
    image = fig.axes[0].images[0]
    row, column = np.unravel_index(np.argmax(image.get_array()), (200, 200))
    grid = np.linspace(-4, 4, 200)
    assert abs(grid[column] - 1) < 0.05
    assert abs(grid[row] + 2) < 0.05
    assert image.origin == "lower"
    plt.close(fig)


def test_the_palette_is_safe_for_color_blind_readers():
    assert len(set(plotting.PALETTE)) == 10
    assert plotting.PALETTE[:3] == ["#0173b2", "#de8f05", "#029e73"]  # seaborn's "colorblind"
