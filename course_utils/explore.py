"""A figure with knobs: widgets in a live notebook, pre-rendered frames on a static page.

`explore(plot, alt, **ranges)` is all there is. In JupyterLab it makes an ipywidgets slider for each range and redraws.
Where no kernel will answer (the book and the slides are built with ``COURSE_STATIC=1``) it renders every combination
once and writes plain HTML: native sliders, which mouse, keyboard and screen readers already know, and a few lines of
script that pick the frame. Nothing is loaded from elsewhere.
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

from course_utils.plotting import Shown, check_alt, data_uri

MAX_FRAMES = 60  # keeps a page under 3 MB
MAX_BYTES = 2_000_000  # of one explore figure on the page

_SCRIPT = """
(() => {
  const {id, frames, labels} = DATA;
  const root = document.getElementById(id);
  const sliders = [...root.querySelectorAll("input")], outputs = [...root.querySelectorAll("output")];
  const image = root.querySelector("img");
  const update = () => {
    let index = 0;
    sliders.forEach((slider, k) => {
      const label = labels[k][slider.valueAsNumber];
      index = index * labels[k].length + slider.valueAsNumber;
      outputs[k].textContent = label;
      slider.setAttribute("aria-valuetext", label);
    });
    [image.src, image.alt] = frames[index];
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


def _checked(ranges: dict[str, Sequence]) -> dict[str, list]:
    if not ranges:
        raise ValueError("explore needs at least one range, e.g. explore(plot, alt='…', order=[1, 2, 3])")
    ranges = {name: list(values) for name, values in ranges.items()}
    for name, values in ranges.items():
        if len(values) < 2:
            raise ValueError(f"the range {name}={values} has {len(values)} value(s); a knob needs at least two")
    count = math.prod(len(values) for values in ranges.values())
    if count > MAX_FRAMES:
        sizes = " × ".join(f"{name}: {len(values)}" for name, values in ranges.items())
        raise ValueError(f"{count} frames ({sizes}) are too many for a page: at most {MAX_FRAMES}; use fewer values")
    return ranges


def _static(plot: Callable[..., Figure], alt: Callable[..., str], ranges: dict[str, list]) -> Shown:
    frames, width = [], 0
    for values in itertools.product(*ranges.values()):
        chosen = dict(zip(ranges, values, strict=True))
        fig = plot(**chosen)
        width = max(width, round(fig.get_figwidth() * 100))
        frames.append((data_uri(fig), alt(**chosen)))
    size = sum(len(source) for source, _ in frames)
    if size > MAX_BYTES:
        raise ValueError(f"the frames take {size:,} bytes, more than {MAX_BYTES:,}: use fewer or simpler frames")
    identifier = "explore-" + hashlib.sha256(repr(frames).encode()).hexdigest()[:12]
    labels = [[_label(value) for value in values] for values in ranges.values()]
    knobs = "".join(
        f"<label>{html.escape(name.replace('_', ' '))} "
        f'<input type="range" min="0" max="{len(values) - 1}" step="1" value="0" autocomplete="off"></label>'
        f'<output aria-live="polite">{html.escape(_label(values[0]))}</output>'
        for name, values in ranges.items()
    )
    data = json.dumps({"id": identifier, "frames": frames, "labels": labels})
    script = _SCRIPT.replace("DATA", data.replace("</", "<\\/"), 1)  # "</" would end the script
    source, text = frames[0]
    return Shown(
        f'<div class="course-explore" id="{identifier}" role="group" aria-label="Figure with sliders">'
        f'<div class="course-knobs">{knobs}</div>'
        f'<figure class="course-figure"><img src="{source}" alt="{html.escape(text)}" width="{width}"></figure>'
        f"<script>{script}</script></div>",
        text,
    )


def _live(plot: Callable[..., Figure], alt: Callable[..., str], ranges: dict[str, list]) -> object:
    import ipywidgets as widgets

    sliders = {
        name: widgets.SelectionSlider(
            options=[(_label(value), value) for value in values],
            description=name.replace("_", " "),
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for name, values in ranges.items()
    }
    picture = widgets.HTML()

    def update(_=None) -> None:
        chosen = {name: slider.value for name, slider in sliders.items()}
        fig = plot(**chosen)
        width = round(fig.get_figwidth() * 100)
        picture.value = f'<img src="{data_uri(fig)}" alt="{html.escape(alt(**chosen))}" width="{width}">'

    for slider in sliders.values():
        slider.observe(update, names="value")
    update()
    return widgets.VBox([*sliders.values(), picture])


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

    ranges = _checked(ranges)
    template = alt

    def describe(**values) -> str:
        return check_alt(template(**values) if callable(template) else template.format(**values))

    static = os.environ.get("COURSE_STATIC") == "1"
    display((_static if static else _live)(plot, describe, ranges))
