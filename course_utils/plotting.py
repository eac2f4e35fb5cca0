"""The figures of the course: one style, color-blind-safe, each shown with its alt text.

Functions that draw return a `matplotlib.figure.Figure`; `show(fig, alt)` is the one way to display it.
Importing this module sets the style.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import torch

    from course_utils.training import History

PALETTE = sns.color_palette("colorblind").as_hex()  # ten colors that stay apart for color-blind readers
WIDTH = 7.2  # inches: the width of the book's text column

sns.set_theme(
    style="whitegrid",
    palette=PALETTE,
    rc={
        "figure.figsize": (WIDTH, 3.6),
        "figure.constrained_layout.use": True,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 12,
        "axes.labelsize": 11,
        "legend.frameon": False,
        "image.cmap": "cividis",
        "svg.hashsalt": "course",
    },
)


class Shown:
    """A figure as it is displayed: HTML with alt text, and the alt text itself where HTML cannot be shown."""

    def __init__(self, html_text: str, alt: str):
        self._html, self._alt = html_text, alt

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self._html, "text/plain": f"[figure] {self._alt}"}


def data_uri(fig: Figure) -> str:
    """Return the figure as the ``data:`` address of a WebP picture, sharp on high-density screens, and close it."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="webp", dpi=150, facecolor="white", pil_kwargs={"quality": 88, "method": 4})
    plt.close(fig)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def check_alt(alt: str) -> str:
    """Return `alt` without outer blanks.

    Raises:
        ValueError: if it is empty: every figure says in words what is seen.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt={alt!r}: say what the figure shows, e.g. alt='The loss falls with the epochs.'")
    return alt.strip()


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its alt text, then close it.

    Args:
        fig: the figure.
        alt: what is seen, in one or two sentences, for readers who do not see it.

    Raises:
        ValueError: if `alt` is empty.
    """
    from IPython.display import display

    alt = check_alt(alt)
    width = round(fig.get_figwidth() * 100)
    picture = f'<img src="{data_uri(fig)}" alt="{html.escape(alt)}" width="{width}">'
    display(Shown(f'<figure class="course-figure">{picture}</figure>', alt))


def _tile(images: torch.Tensor | np.ndarray, ncols: int) -> np.ndarray:
    """Lay images [n, 1, h, w] out in rows of `ncols`, one pixel apart, as one array; rows are filled in order."""
    images = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images, dtype=float)
    if images.ndim != 4 or images.shape[1] != 1 or len(images) == 0:
        raise ValueError(f"images have shape {images.shape}; expected [n, 1, height, width] with n ≥ 1")
    n, _, height, width = images.shape
    ncols = min(ncols, n)
    nrows = -(-n // ncols)
    tiled = np.full((nrows * (height + 1) - 1, ncols * (width + 1) - 1), np.nan)
    for i, image in enumerate(images[:, 0]):
        top, left = (i // ncols) * (height + 1), (i % ncols) * (width + 1)
        tiled[top : top + height, left : left + width] = image
    return tiled


def _draw_tiles(ax: plt.Axes, images: torch.Tensor | np.ndarray, ncols: int, title: str | None) -> None:
    cmap = plt.get_cmap("gray").copy()
    cmap.set_bad("#b8c4d6")  # the lines between images: neither black nor white
    ax.imshow(_tile(images, ncols), cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title or "")
    ax.set_axis_off()


def image_grid(images: torch.Tensor | np.ndarray, ncols: int = 10, title: str | None = None) -> Figure:
    """Draw images in rows, left to right, top to bottom.

    Args:
        images: [n, 1, height, width], values in [0, 1], 0 is black.
        ncols: images in a row.
        title: the message of the figure.

    Raises:
        ValueError: if the shape is another one.
    """
    rows, columns = _tile(images, ncols).shape
    width = min(WIDTH, max(2.5, columns / 12))
    fig, ax = plt.subplots(figsize=(width, width * rows / columns + (0.35 if title else 0)))
    _draw_tiles(ax, images, ncols, title)
    return fig


def beside(
    left: torch.Tensor | np.ndarray,
    right: torch.Tensor | np.ndarray,
    titles: tuple[str, str] = ("data", "samples"),
    ncols: int = 8,
) -> Figure:
    """Draw two sets of images [n, 1, height, width] side by side, so that samples are never seen without data.

    Raises:
        ValueError: if a shape is another one.
    """
    rows, columns = _tile(left, ncols).shape
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2 * rows / columns + 0.35))
    for ax, images, title in zip(axes, (left, right), titles, strict=True):
        _draw_tiles(ax, images, ncols, title)
    return fig


def loss_curves(history: History, unit: str = "nats per example", title: str | None = None) -> Figure:
    """Draw the training and validation loss of a `History` against epochs; a dot marks the weights that were kept."""
    fig, ax = plt.subplots()
    epochs = np.arange(1, len(history.train) + 1)
    ax.plot(epochs, history.train, label="train", color=PALETTE[0])
    if history.valid:
        ax.plot(epochs, history.valid, label="validation", color=PALETTE[1], linestyle="--")
        ax.plot(history.best_epoch, min(history.valid), "o", color=PALETTE[1], label="kept")
    ax.set(xlabel="epoch", ylabel=f"loss ({unit})", title=title or "Loss while training")
    ax.legend()
    return fig


def density_2d(
    log_prob: Callable[[torch.Tensor], torch.Tensor],
    bounds: tuple[float, float, float, float],
    samples: torch.Tensor | np.ndarray | None = None,
    title: str | None = None,
    ax: plt.Axes | None = None,
) -> Figure:
    """Draw a density on the plane, with points drawn from it if given.

    Args:
        log_prob: maps points [m, 2] to log-densities [m], in nats.
        bounds: (left, right, bottom, top).
        samples: points [n, 2] to draw over it.
        title: the message of the figure.
        ax: where to draw; a new figure if not given.
    """
    import torch

    left, right, bottom, top = bounds
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    points = torch.tensor(np.column_stack([x.ravel(), y.ravel()]), dtype=torch.float32)
    with torch.no_grad():
        density = log_prob(points).exp().reshape(x.shape).cpu().numpy()
    if ax is None:
        _, ax = plt.subplots(figsize=(4.2, 4.2))
    ax.imshow(density, extent=(left, right, bottom, top), origin="lower", aspect="equal")
    ax.grid(False)
    if samples is not None:
        ax.scatter(*np.asarray(samples).T, s=3, color="white", alpha=0.6, linewidths=0)
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="$x_1$", ylabel="$x_2$", title=title or "")
    return ax.figure
