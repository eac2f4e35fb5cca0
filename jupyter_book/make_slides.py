"""Turn an executed notebook into static reveal.js slides that load nothing from elsewhere."""

from __future__ import annotations

import copy
import hashlib
import math
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from pybtex.database import parse_file

ROOM = 620  # pixels for the content of a slide; what follows is measured with slides.css
LINE, CHARACTERS = 27, 96  # of a line of code: its height, and how many characters fit
FIGURE = 320  # the least height of a figure: slides.js gives it the room that is left


def _labels(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Return (authors, year) of every entry, by key."""
    labels = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        names = [" ".join(map(str, person.rich_last_names)) for person in entry.persons.get("author", [])]
        short = " and ".join(names) if len(names) <= 2 and "others" not in names else f"{names[0]} et al."
        labels[key] = (short, entry.fields["year"])
    return labels


def _prepare(notebook: nbformat.NotebookNode, bibliography: Path) -> nbformat.NotebookNode:
    """Write citations out, point links at the site's pages, and drop notes to the formatter."""
    labels = _labels(bibliography)

    def cite(match: re.Match) -> str:
        cited = [labels[key.strip()] for key in match[2].split(",")]
        if match[1] == "t":
            return "; ".join(f"{authors} ({year})" for authors, year in cited)
        return "(" + "; ".join(f"{authors}, {year}" for authors, year in cited) + ")"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\{cite:([pt])\}`([^`]+)`", cite, cell.source)
            cell.source = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](../notebooks/\1.html", cell.source)
            cell.source = re.sub(r"\]\(\.\./(\w+)\.md", r"](../\1.html", cell.source)
        else:
            cell.source = re.sub(r" *# fmt: skip$", "", cell.source, flags=re.MULTILINE)
    return notebook


def _text_height(text: str) -> int:
    """Return about how many pixels a block of code or of printed text takes."""
    return 34 + LINE * sum(max(1, math.ceil(len(line) / CHARACTERS)) for line in text.splitlines())


def _height(cell: nbformat.NotebookNode) -> int:
    """Return about how many pixels a cell takes on a slide."""
    if cell.cell_type == "markdown":
        text, formulas = re.subn(r"\$\$.*?\$\$", "", cell.source, flags=re.DOTALL)
        lines = sum(math.ceil(len(line) / 85) for line in text.splitlines())
        return 90 * formulas + 38 * lines + 12 * text.count("\n\n") + 30 * text.startswith("#")
    height = 0 if "hide-input" in cell.metadata.get("tags", []) else _text_height(cell.source)
    for output in cell.outputs:
        html = output.get("data", {}).get("text/html", "")
        if "<img" in html:
            height += FIGURE
        elif "<tr" in html:
            height += 40 * html.count("<tr")
        else:
            height += _text_height(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return height


def _pieces(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Cut a code cell that is too tall for one slide between its paragraphs; its outputs come last."""
    if cell.cell_type != "code" or _height(cell) <= ROOM or "hide-input" in cell.metadata.get("tags", []):
        return [cell]
    most = (ROOM - 34) // LINE
    blocks = [block.splitlines() for block in re.split(r"\n\s*\n", cell.source)]
    blocks = [block[i : i + most] for block in blocks for i in range(0, len(block), most)]
    pages = [blocks[0]]
    for block in blocks[1:]:
        joined = [*pages[-1], "", *block]
        if _text_height("\n".join(joined)) <= ROOM:
            pages[-1] = joined
        else:
            pages.append(block)
    pieces = [copy.deepcopy(cell) for _ in pages]
    for piece, page in zip(pieces, pages, strict=True):
        piece.source, piece.outputs = "\n".join(page), []
    if cell.outputs:
        shown = copy.deepcopy(cell)
        shown.source, shown.metadata.tags = "", ["hide-input"]
        pieces.append(shown)
    for number, piece in enumerate(pieces):
        piece.id = f"{cell.id}-{number}"
    return pieces


def paginate(notebook: nbformat.NotebookNode) -> None:
    """Begin a new slide below wherever the author's slide would run over the edge of the screen."""
    cells, used = [], 0
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind in ("skip", "notes") or "solution" in cell.metadata.get("tags", []):
            cells.append(cell)
            continue
        for piece in _pieces(cell):
            height = _height(piece)
            if kind in ("slide", "subslide"):
                used = 0
            elif used and used + height > ROOM:
                kind, used = "subslide", 0
            used += height
            piece.metadata["slideshow"] = {"slide_type": kind}
            cells.append(piece)
            kind = "-"
    notebook.cells = cells


def export_slides(notebook: nbformat.NotebookNode, name: str, folder: Path, target: Path, bibliography: Path) -> None:
    """Write the slides of an executed notebook, unless the same ones are there.

    Args:
        notebook: the executed notebook; its slideshow metadata says what is a slide.
        name: of the page, without `.html`.
        folder: holds the template, the style sheet and the script.
        target: the site's folder for slides.
        bibliography: the BibTeX file that citations are looked up in.
    """
    target.mkdir(parents=True, exist_ok=True)
    for asset in (folder / "slides.css", folder / "slides.js"):
        shutil.copy(asset, target)
    title = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown").partition("\n")[0].lstrip("# ")
    made_with = [bibliography, folder / "index.html.j2", folder / "conf.json", Path(__file__)]
    depends = nbformat.writes(notebook).encode() + b"".join(path.read_bytes() for path in made_with)
    stamp = hashlib.sha256(depends).hexdigest()[:16]
    page = target / f"{name}.html"
    if page.exists() and f'content="{stamp}"' in page.read_text(encoding="utf-8"):
        return
    exporter = SlidesExporter(template_name=folder.name, extra_template_basedirs=[str(folder.parent)])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    paginate(notebook)
    resources = {"course": {"title": title, "name": name, "stamp": stamp}}
    html, _ = exporter.from_notebook_node(_prepare(notebook, bibliography), resources=resources)
    page.write_text(html, encoding="utf-8")
