"""README.md and CONTRIBUTING.md tell the truth: the map of the course, the links, the commands, the citation."""

import re
import shutil
import subprocess
import sys
import tomllib
from xml.etree import ElementTree

import pytest
import yaml

from course_utils import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PARTS = yaml.safe_load((ROOT / "jupyter_book" / "course.yml").read_text(encoding="utf-8"))["parts"]
DOCUMENTS = ["README.md", "CONTRIBUTING.md"]


def course_map() -> str:
    """Return the list of lectures as README.md should have it."""
    lines = []
    for number, part in enumerate(PARTS, start=1):
        lines += [f"**Part {number} · {part['title']}**", ""]
        for lecture in part["lectures"]:
            written = (ROOT / "notebooks" / f"{lecture['slug']}.ipynb").exists()
            name = (
                f"[{lecture['title']}](notebooks/{lecture['slug']}.ipynb)"
                if written
                else f"{lecture['title']} *(planned)*"
            )
            lines.append(f"- {lecture['slug'][:2]} · {name} — {lecture['line']}")
        lines.append("")
    return "\n".join(lines)


def test_readme_lists_the_lectures_of_the_course():
    section = README.partition("## The course\n\n")[2].partition("## ")[0]
    assert section.strip().split("\n") == course_map().strip().split("\n")


def test_the_picture_shows_the_course_as_it_is(tmp_path):
    shutil.copytree(ROOT / "jupyter_book", tmp_path / "jupyter_book")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    subprocess.run([sys.executable, tmp_path / "jupyter_book" / "readme_map.py"], check=True)
    drawn, committed = (
        [
            "".join(text.itertext()).split()
            for text in ElementTree.parse(root / "jupyter_book/_static/map.svg").iter()
            if "text" in text.tag
        ]
        for root in (tmp_path, ROOT)
    )
    assert len(drawn) > 2 * 24
    assert committed == drawn, "draw it again: .venv/bin/python jupyter_book/readme_map.py"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str):
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets
    assert [target for target in targets if not target.startswith("https:") and not (ROOT / target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_of_make_exist(name: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    commands = re.findall(r"(?:^|`)make((?: [a-z]+)+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands
    assert {target for command in commands for target in command.split()} - targets == set()


def test_the_citation_names_the_course_its_version_and_its_licenses():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["title"].startswith(README.partition("\n")[0].removeprefix("# "))
    assert citation["version"] == project["version"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert citation["license"] == [project["license"], "CC-BY-4.0"]
