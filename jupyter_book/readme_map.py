"""Draw the picture of README.md, `_static/map.svg`: the site's map with its colors inside, so that it stands alone.

python jupyter_book/readme_map.py
"""

from __future__ import annotations

from pathlib import Path

import yaml
from course_map import draw_svg

BOOK = Path(__file__).absolute().parent
COLORS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#56b4e9", "#949494"]
STYLE = """
text { fill: #222; font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.map-region { fill-opacity: 0.14; stroke-width: 1.5; }
.map-region.map-again { fill: none; stroke-width: 1; opacity: 0.6; }
.map-trail { fill: none; stroke: #222; stroke-width: 3; stroke-linecap: round; stroke-dasharray: 1 9; opacity: 0.55; }
.map-part { font-size: 14px; font-weight: 700; font-style: italic; }
.map-number { font-size: 17px; font-weight: 700; text-anchor: middle; }
.map-title { font-size: 14.5px; text-anchor: middle; }
.map-stop { fill: #fff; stroke-width: 2.5; }
.map-planned .map-stop { stroke-dasharray: 5 4; }
.map-written .map-title { font-weight: 700; }
"""


def draw() -> str:
    """Return the map as one SVG file, on a white ground, for light and dark pages alike."""
    course = yaml.safe_load((BOOK / "course.yml").read_text(encoding="utf-8"))
    for lecture in (lecture for part in course["parts"] for lecture in part["lectures"]):
        lecture["written"] = (BOOK.parent / "notebooks" / f"{lecture['slug']}.ipynb").exists()
    style = STYLE
    for number, color in enumerate(COLORS, 1):
        style += f".part-{number} {{ stroke: {color}; }} .part-{number} text {{ stroke: none; }}\n"
        style += f".map-region.part-{number}, .map-written.part-{number} .map-stop {{ fill: {color}; }}\n"
    drawing = draw_svg(course["parts"], 4)
    start = drawing.index(">") + 1
    return (
        drawing[:start]
        + f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        + drawing[start:]
        + "\n"
    )


if __name__ == "__main__":
    (BOOK / "_static" / "map.svg").write_text(draw(), encoding="utf-8")
