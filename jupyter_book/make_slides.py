"""Turn an executed notebook into static reveal.js slides that load nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from pybtex.database import parse_file


def _labels(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Return (authors, year) of every entry, by key."""
    labels = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        names = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
        short = " and ".join(names) if len(names) <= 2 else f"{names[0]} et al."
        labels[key] = (re.sub(r"[{}\\]", "", short), entry.fields["year"])
    return labels


def _prepare(notebook: nbformat.NotebookNode, bibliography: Path) -> nbformat.NotebookNode:
    """Write citations out, and point links at the site's pages."""
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
    return notebook


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
    depends = nbformat.writes(notebook).encode() + bibliography.read_bytes() + (folder / "index.html.j2").read_bytes()
    stamp = hashlib.sha256(depends).hexdigest()[:16]
    page = target / f"{name}.html"
    if page.exists() and f'content="{stamp}"' in page.read_text(encoding="utf-8"):
        return
    exporter = SlidesExporter(template_name=folder.name, extra_template_basedirs=[str(folder.parent)])
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    resources = {"course": {"title": title, "name": name, "stamp": stamp}}
    html, _ = exporter.from_notebook_node(_prepare(notebook, bibliography), resources=resources)
    page.write_text(html, encoding="utf-8")
