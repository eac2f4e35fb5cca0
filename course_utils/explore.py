"""A figure with knobs: widgets in a live notebook, pre-rendered frames on a static page.

In JupyterLab `explore` makes an ipywidgets slider for each range and redraws. Where no kernel will answer (the book and
the slides are built with ``COURSE_STATIC=1``) it renders every combination once and writes plain HTML: native sliders,
which mouse, keyboard and screen readers already know, and a few lines of script that pick the frame. Nothing is loaded
from elsewhere.
"""

from __future__ import annotations

import hashlib
import html
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from course_utils.plotting import Shown, picture

MAX_FRAMES = 60
MAX_BYTES = 2_000_000  # of one figure's frames; a page stays under 3 MB

_SCRIPT = """
(() => {
  const {id, frames, labels} = DATA;
  const root = document.getElementById(id), figure = root.querySelector("figure");
  const sliders = [...root.querySelectorAll("input")], outputs = [...root.querySelectorAll("output")];
  const update = () => {
    let index = 0;
    sliders.forEach((slider, k) => {
      const label = labels[k][slider.valueAsNumber];
      index = index * labels[k].length + slider.valueAsNumber;
      outputs[k].textContent = label;
      slider.setAttribute("aria-valuetext", label);
    });
    figure.innerHTML = frames[index];
  };
  sliders.forEach((slider) => {
    slider.addEventListener("input", update);
    slider.addEventListener("keydown", (event) => event.stopPropagation());  // slides turn with the same keys
  });
  update();
})();
"""


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _static(draw: Callable[..., str], ranges: dict[str, list]) -> Shown:
    """Return all frames, in the order of the ranges' product, with native sliders that choose among them."""
    frames = [draw(**dict(zip(ranges, values, strict=True))) for values in itertools.product(*ranges.values())]
    if (size := sum(map(len, frames))) > MAX_BYTES:
        raise ValueError(f"the frames take {size:,} bytes, more than {MAX_BYTES:,}: use fewer or simpler frames")
    identifier = "explore-" + hashlib.sha256("".join(frames).encode()).hexdigest()[:12]
    labels = [[_label(value) for value in values] for values in ranges.values()]
    data = json.dumps({"id": identifier, "frames": frames, "labels": labels})
    script = _SCRIPT.replace("DATA", data.replace("</", "<\\/"), 1)  # "</" would end the script
    knobs = "".join(
        f'<label>{html.escape(name.replace("_", " "))} <input type="range" min="0" max="{len(texts) - 1}" value="0" '
        f'autocomplete="off"></label><output aria-live="polite">{html.escape(texts[0])}</output>'
        for name, texts in zip(ranges, labels, strict=True)
    )  # fmt: skip
    return Shown(
        f'<div class="course-explore" id="{identifier}" role="group" aria-label="Figure with sliders">'
        f'<div class="course-knobs">{knobs}</div><figure class="course-figure">{frames[0]}</figure>'
        f"<script>{script}</script></div>",
        "with sliders for " + ", ".join(ranges),
    )


def _live(draw: Callable[..., str], ranges: dict[str, list]) -> Shown:
    """Return ipywidgets sliders over a picture that follows them; where widgets cannot be shown, the first frame."""
    import ipywidgets as widgets

    sliders = {
        name: widgets.SelectionSlider(
            options=[(_label(value), value) for value in values], description=name.replace("_", " "),
            continuous_update=False, style={"description_width": "initial"},
        )
        for name, values in ranges.items()
    }  # fmt: skip
    frame = widgets.HTML()

    def update(_=None) -> None:
        frame.value = draw(**{name: slider.value for name, slider in sliders.items()})

    for slider in sliders.values():
        slider.observe(update, names="value")
    update()
    box = widgets.VBox([*sliders.values(), frame])
    return Shown(frame.value, "with sliders for " + ", ".join(ranges), box._repr_mimebundle_())


def explore(plot: Callable[..., Figure], alt: str | Callable[..., str], **ranges: Sequence) -> None:
    """Show a figure with a slider for each range.

    Args:
        plot: called with one keyword argument per range; returns a new figure. It must not depend on anything that
            changes between calls: a frame must look the same live and on the page.
        alt: what is seen: a template such as ``"Loss at width {width}."``, or a function of the ranges' values.
        ranges: name = values to choose from, in order, at least two each and at most 60 combinations in total.

    Raises:
        ValueError: if a range has fewer than two values, if there are too many frames or bytes for a page, or if the
            alt text is empty.

    Example:
        ``explore(draw, "Ten digits drawn at temperature {temperature}.", temperature=[0.5, 0.7, 1.0])``
    """
    from IPython.display import display

    ranges = {name: list(values) for name, values in ranges.items()}
    sizes = {name: len(values) for name, values in ranges.items()}
    if not sizes or min(sizes.values()) < 2:
        raise ValueError(
            f"values per range: {sizes}; explore needs at least one range, and at least two values in each"
        )
    if (count := math.prod(sizes.values())) > MAX_FRAMES:
        raise ValueError(f"{count} frames (values per range: {sizes}) are too many for a page: at most {MAX_FRAMES}")

    def draw(**values) -> str:
        return picture(plot(**values), alt(**values) if callable(alt) else alt.format(**values))

    display((_static if os.environ.get("COURSE_STATIC") == "1" else _live)(draw, ranges))
