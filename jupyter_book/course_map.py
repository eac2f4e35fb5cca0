"""Draw the map of the course from `course.yml`: a trail past every lecture, through one region for each part."""

from __future__ import annotations

import html
import math
import textwrap
from itertools import pairwise
from random import Random

CELL_WIDTH, CELL_HEIGHT, RADIUS = 196, 150, 21


def _path(points: list[tuple[float, float]], pen: Random, shake: float, closed: bool = False) -> str:
    """Return the SVG path of a curve through points, each moved a little, as a hand would draw it."""
    moved = [(x + pen.uniform(-shake, shake), y + pen.uniform(-shake, shake)) for x, y in points]
    if closed:
        moved = [*moved, *moved[:3]]
    middles = [((x + u) / 2, (y + v) / 2) for (x, y), (u, v) in pairwise(moved)]
    if not closed:
        middles[0], middles[-1] = moved[0], moved[-1]
    curve = "".join(
        f" Q{x:.1f} {y:.1f} {u:.1f} {v:.1f}" for (x, y), (u, v) in zip(moved[1:], middles[1:], strict=False)
    )
    return f"M{middles[0][0]:.1f} {middles[0][1]:.1f}{curve}"


def _box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    """Return points round a rectangle, close together at its corners."""
    r = 16
    steps = max(2, round((right - left) / 90))
    along = [left + r + i * (right - left - 2 * r) / steps for i in range(steps + 1)]
    down = [top + r, (top + bottom) / 2, bottom - r]
    points = [(x, top) for x in along] + [(right, y) for y in down]
    return points + [(x, bottom) for x in reversed(along)] + [(left, y) for y in reversed(down)]


def _circle(x: float, y: float) -> list[tuple[float, float]]:
    return [(x + RADIUS * math.cos(turn * math.pi / 4), y + RADIUS * math.sin(turn * math.pi / 4)) for turn in range(8)]


def draw_svg(parts: list[dict], columns: int) -> str:
    """Return one drawing of the map: rows of `columns` lectures, read to and fro as the trail winds."""
    pen = Random(1948)
    stops = [(number, lecture) for number, part in enumerate(parts, 1) for lecture in part["lectures"]]
    cells = []  # (row, column) of each lecture
    for index in range(len(stops)):
        row, place = divmod(index, columns)
        cells.append((row, place if row % 2 == 0 else columns - 1 - place))
    centers = [((column + 0.5) * CELL_WIDTH, row * CELL_HEIGHT + 62) for row, column in cells]

    regions, names = "", ""
    for number, part in enumerate(parts, 1):
        own = [cell for cell, (owner, _) in zip(cells, stops, strict=True) if owner == number]
        for row in sorted({row for row, _ in own}):
            across = [column for its_row, column in own if its_row == row]
            left, right = min(across) * CELL_WIDTH + 5, (max(across) + 1) * CELL_WIDTH - 5
            top, bottom = row * CELL_HEIGHT + 5, (row + 1) * CELL_HEIGHT - 5
            for kind in ("region", "region map-again"):  # the outline twice, as with a pencil
                outline = _path(_box(left, top, right, bottom), pen, 3.2, closed=True)
                regions += f'<path class="map-{kind} part-{number}" d="{outline}"/>'
            names += (
                f'<text class="map-part" x="{left + 20}" y="{top + 21}">{number} · {html.escape(part["title"])}</text>'
            )

    trail = [centers[0]]
    for (x, y), (u, v) in pairwise(centers):
        if y == v:
            trail.append(((x + u) / 2, y + pen.choice([-12, 12])))
        else:  # down to the next row, outside the words
            edge = x + 86 if x > CELL_WIDTH else x - 86
            trail += [(edge, y + 6), (edge, (y + v) / 2), (edge, v - 6)]
        trail.append((u, v))

    marks = ""
    for (number, lecture), (x, y) in zip(stops, centers, strict=True):
        state = "written" if lecture["written"] else "planned"
        lines = textwrap.wrap(lecture["title"], 20) + ([] if lecture["written"] else ["(planned)"])
        label = "".join(
            f'<tspan x="{x:g}" dy="{17 if i else 0}">{html.escape(line)} </tspan>' for i, line in enumerate(lines)
        )
        mark = (
            f'<path class="map-stop" d="{_path(_circle(x, y), pen, 1.5, closed=True)}"/>'
            f'<text class="map-number" x="{x:g}" y="{y + 6:g}">{lecture["slug"][:2]} </text>'
            f'<text class="map-title" x="{x:g}" y="{y + 42:g}">{label}</text>'
        )
        if lecture["written"]:
            mark = f'<a href="notebooks/{lecture["slug"]}.html">{mark}</a>'
        marks += f'<g class="map-{state} part-{number}">{mark}</g>'

    width, height = columns * CELL_WIDTH, (cells[-1][0] + 1) * CELL_HEIGHT
    return (
        f'<svg class="map-{columns}" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">'
        f'{regions}<path class="map-trail" d="{_path(trail, pen, 2)}"/>{names}{marks}</svg>'
    )


def draw_map(course: dict) -> str:
    """Return the map as HTML: drawn once for wide screens and once for phones; the style sheet shows one of them."""
    drawings = "".join(draw_svg(course["parts"], columns) for columns in (4, 2))
    return f'<nav class="course-map" aria-label="Map of the course">{drawings}</nav>\n'


def lecture_table(course: dict) -> str:
    """Return all lectures, one line each, as Markdown."""
    text = ""
    for number, part in enumerate(course["parts"], 1):
        text += f"\n**Part {number} · {part['title']}**\n\n"
        for lecture in part["lectures"]:
            title = lecture["title"]
            name = f"[{title}](notebooks/{lecture['slug']}.ipynb)" if lecture["written"] else f"{title} *(planned)*"
            text += f"- {lecture['slug'][:2]} · {name}: {lecture['line'][0].lower()}{lecture['line'][1:]}\n"
    return text
