"""`explore`: the same figure live and on the page; its slider in a real browser is tested with the site."""

import json
import re

import IPython.display
import ipywidgets
import matplotlib.pyplot as plt
import pytest

from course_utils import explore as module
from course_utils.explore import explore


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


def draw(**values):
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.set_title(" ".join(map(str, values.values())))
    return fig


def page(displayed) -> tuple[str, dict]:
    html = displayed[0]._repr_mimebundle_()["text/html"]
    data = re.search(r"= (\{.*\});", html)[1].replace("<\\/", "</")
    return html, json.loads(data)


def test_static_page_holds_every_combination_in_order(displayed, monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "1")
    explore(draw, alt="order {order}, smoothing {smoothing}", order=[1, 2, 3], smoothing=[0.5, 1.0])
    html, data = page(displayed)
    alts = [re.search('alt="(.*?)"', frame)[1] for frame in data["frames"]]
    assert alts == [f"order {o}, smoothing {s}" for o in (1, 2, 3) for s in (0.5, 1.0)]
    assert len({frame.split('"')[1] for frame in data["frames"]}) == 6
    assert data["labels"] == [["1", "2", "3"], ["0.5", "1"]]
    assert html.count('type="range"') == 2
    assert f'id="{data["id"]}"' in html
    assert "http" not in html
    assert not plt.get_fignums()


def test_live_slider_redraws_picture_and_alt_text(displayed, monkeypatch):
    monkeypatch.delenv("COURSE_STATIC", raising=False)
    explore(draw, alt=lambda order: f"Model of order {order}.", order=[1, 2, 3])
    bundle = displayed[0]._repr_mimebundle_()
    identifier = bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    slider, picture = ipywidgets.widgets.widget._instances[identifier].children
    assert isinstance(slider, ipywidgets.SelectionSlider)
    first = picture.value
    assert bundle["text/html"] == first  # what a viewer without widgets shows
    slider.value = 3
    assert picture.value != first
    assert 'alt="Model of order 3."' in picture.value


def test_a_text_that_would_end_the_script_does_not(displayed, monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "1")
    explore(draw, alt="</script><b>{tag}", tag=["</script>", "b"])
    html = displayed[0]._repr_mimebundle_()["text/html"]
    assert html.count("</script>") == 1
    assert "<b>" not in html.split("<script>")[0]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "at least one range"),
        ({"order": [1]}, "at least two"),
        ({"order": range(8), "width": range(8)}, r"64 frames .*'order': 8.* at most 60"),
    ],
)
def test_ranges_that_make_no_page_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        explore(draw, alt="a figure", **ranges)


def test_frames_too_heavy_for_a_page_are_refused(monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "1")
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100"):
        explore(draw, alt="a figure", order=[1, 2])


@pytest.mark.parametrize("static", ["0", "1"])
def test_an_empty_alt_text_is_refused(monkeypatch, static):
    monkeypatch.setenv("COURSE_STATIC", static)
    with pytest.raises(ValueError, match="say what the figure shows"):
        explore(draw, alt=lambda order: " ", order=[1, 2])
    plt.close("all")
