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

_TITLES = {"axes.titlelocation": "left", "axes.titleweight": "bold", "axes.titlesize": 12, "axes.labelsize": 11}
_FIGURE = {"figure.figsize": (WIDTH, 3.6), "figure.constrained_layout.use": True, "legend.frameon": False}
sns.set_theme(style="whitegrid", palette=PALETTE, rc={**_TITLES, **_FIGURE, "image.cmap": "cividis"})


class Shown:
    """A figure as it is displayed: HTML with alt text, the alt text alone where HTML cannot be shown, or a widget."""

    def __init__(self, html_text: str, alt: str, widget: dict[str, object] | None = None):
        self._bundle = {**(widget or {}), "text/html": html_text, "text/plain": f"[figure] {alt}"}

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, object]:
        return self._bundle


def picture(fig: Figure, alt: str) -> str:
    """Return the figure as an HTML image, sharp on high-density screens, and close it.

    Raises:
        ValueError: if `alt` is empty: every figure says in words what is seen.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt={alt!r}: say what the figure shows, e.g. alt='The loss falls with the epochs.'")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="webp", dpi=150, facecolor="white", pil_kwargs={"quality": 88, "method": 4})
    plt.close(fig)
    source = base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * 100) for inches in fig.get_size_inches())
    size = f'width="{width}" height="{height}"'
    return f'<img src="data:image/webp;base64,{source}" alt="{html.escape(alt.strip())}" {size}>'


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its alt text (one or two sentences for those who do not see it), then close it.

    Raises:
        ValueError: if `alt` is empty.
    """
    from IPython.display import display

    display(Shown(f'<figure class="course-figure">{picture(fig, alt)}</figure>', alt))


def _tile(images: torch.Tensor | np.ndarray, ncols: int) -> np.ndarray:
    """Lay images [n, channels, h, w] out in rows of `ncols`, one pixel apart; rows are filled in order.

    Returns [height, width] for one channel, NaN between images, and [height, width, 4] for three, transparent between.
    """
    images = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images, dtype=float)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images have shape {images.shape}; expected [n, 1 or 3, height, width] with n ≥ 1")
    if images.shape[1] == 3:
        planes = [_tile(images[:, k : k + 1], ncols) for k in range(3)]
        opaque = np.isfinite(planes[0])
        return np.dstack([*(np.where(opaque, plane, 0) for plane in planes), opaque])
    n, _, height, width = images.shape
    ncols = min(ncols, n)
    cells = np.full((-(-n // ncols) * ncols, height + 1, width + 1), np.nan)
    cells[:n, :height, :width] = images[:, 0]
    rows = cells.reshape(-1, ncols, height + 1, width + 1).swapaxes(1, 2).reshape(-1, ncols * (width + 1))
    return rows[:-1, :-1]


def _draw_tiles(ax: plt.Axes, tiles: np.ndarray, title: str | None) -> None:
    cmap = plt.get_cmap("gray").with_extremes(bad="#b8c4d6")  # the lines between images: neither black nor white
    ax.imshow(tiles, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title or "")
    ax.set_axis_off()


def image_grid(images: torch.Tensor | np.ndarray, ncols: int = 10, title: str | None = None) -> Figure:
    """Draw images [n, 1 or 3, height, width], gray or RGB in [0, 1] (0 is black), in rows of `ncols`, in their order.

    Raises:
        ValueError: if the shape is another one.
    """
    tiles = _tile(images, ncols)
    width = min(WIDTH, max(2.5, tiles.shape[1] / 12))
    fig, ax = plt.subplots(figsize=(width, width * tiles.shape[0] / tiles.shape[1] + (0.35 if title else 0)))
    _draw_tiles(ax, tiles, title)
    return fig


def beside(
    left: torch.Tensor | np.ndarray, right: torch.Tensor | np.ndarray, titles: tuple[str, str] = ("data", "samples"),
    ncols: int = 8,
) -> Figure:  # fmt: skip
    """Draw two sets of images [n, 1 or 3, height, width] side by side, so that samples are never seen without data.

    Raises:
        ValueError: if a shape is another one.
    """
    tiles = [_tile(images, ncols) for images in (left, right)]
    height = max(WIDTH / 2 * t.shape[0] / t.shape[1] for t in tiles) + 0.35
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, height))
    for ax, t, title in zip(axes, tiles, titles, strict=True):
        _draw_tiles(ax, t, title)
    return fig


def loss_curves(history: History, unit: str = "nats per example", title: str = "Loss while training") -> Figure:
    """Draw training and validation loss of a `History` against epochs; a dot marks the weights that were kept."""
    fig, ax = plt.subplots()
    epochs = np.arange(1, len(history.train) + 1)
    ax.plot(epochs, history.train, label="train", color=PALETTE[0])
    if history.valid:
        ax.plot(epochs, history.valid, label="validation", color=PALETTE[1], linestyle="--")
        ax.plot(history.best_epoch, history.best, "o", color=PALETTE[1], label="kept")
    ax.set(xlabel="epoch", ylabel=f"loss ({unit})", title=title)
    ax.legend()
    return fig


def density_2d(
    log_prob: Callable[[torch.Tensor], torch.Tensor], bounds: tuple[float, float, float, float],
    samples: torch.Tensor | np.ndarray | None = None, title: str = "", ax: plt.Axes | None = None,
) -> Figure:  # fmt: skip
    """Draw a density on the plane (in `ax`, or a new figure), and points [n, 2] drawn from it if given.

    `log_prob` maps points [m, 2] to log-densities [m] in nats; `bounds` is (left, right, bottom, top).
    """
    import torch

    left, right, bottom, top = bounds
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    with torch.no_grad():
        density = log_prob(torch.tensor(np.column_stack([x.ravel(), y.ravel()]), dtype=torch.float32)).exp()
    ax = ax or plt.subplots(figsize=(4.2, 4.2))[1]
    ax.imshow(density.reshape(x.shape).cpu().numpy(), extent=bounds, origin="lower", aspect="equal")
    ax.grid(False)
    if samples is not None:
        ax.scatter(*np.asarray(samples).T, s=3, color="white", alpha=0.6, linewidths=0)
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel="$x_1$", ylabel="$x_2$", title=title)
    return ax.figure
