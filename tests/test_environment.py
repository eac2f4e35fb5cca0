"""Versions stand in one place, requirements.txt; everything else agrees with it, and what is installed too."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_utils import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD_TOOLS = {"setuptools", "wheel"}  # come with pip, whichever version the machine has
ELSEWHERE = [
    *(ROOT / name for name in ("pyproject.toml", "environment.yml", "Makefile", ".pre-commit-config.yaml", ".ci/run")),
    *sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    *sorted(ROOT.glob("*.md")),
]


def lines_of_requirements() -> list[Requirement]:
    lines = (line.partition(" #")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def active(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


PINS = {canonicalize_name(line.name): line for line in lines_of_requirements() if active(line)}


def other_versions(text: str) -> list[str]:
    """Return the places where a text gives a version, or a range of versions, to a package that is pinned."""
    names = "|".join(re.escape(name).replace(r"\-", "[-_.]") for name in sorted(PINS, key=len, reverse=True))
    return [match[0] for match in re.finditer(rf"(?i)(?<![\w.-])(?:{names})\s*(?:[=<>~!]=?=?|@)\s*v?\d[\w.]*", text)]


def test_every_line_pins_one_version_once():
    for line in lines_of_requirements():
        assert re.fullmatch(r"==\d[\w.]*", str(line.specifier)), f"{line}: write an exact version, name==1.2.3"
    names = [canonicalize_name(line.name) for line in lines_of_requirements() if active(line)]
    assert sorted(names) == sorted(set(names))


def test_what_is_installed_is_what_is_pinned():
    installed = {name: Version(version(name)).public for name in PINS}  # public: a local build, 2.13.0+cpu, is 2.13.0
    assert installed == {name: str(line.specifier).removeprefix("==") for name, line in PINS.items()}


def test_what_the_pinned_packages_need_is_pinned_too():
    needed = {
        canonicalize_name(line.name): name
        for name in PINS.keys() - {"torch"}  # what torch needs beyond them depends on the build, and torch pins it
        for line in map(Requirement, requires(name) or [])
        if active(line)
    }
    assert {name: by for name, by in needed.items() if name not in PINS.keys() | BUILD_TOOLS} == {}


def test_the_package_takes_its_dependencies_from_requirements_txt():
    assert PROJECT["project"]["dynamic"] == ["dependencies"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    declared = {str(line) for line in map(Requirement, requires("course_utils")) if active(line)}
    assert declared == {str(line) for line in PINS.values()}, "install again: make env"


def test_conda_installs_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["--editable ."]}
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["project"]["requires-python"])


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_names_a_version(path: Path):
    assert other_versions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ["torch==2.12", "pip install 'numpy>=2'", "Scikit_Learn ~= 1.9", "- ruff@v0.17", "pytest<9"]
)
def test_a_version_elsewhere_is_found(text: str):
    assert len(other_versions(text)) == 1


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows_run_a_python_that_the_course_supports(path: Path):
    text = path.read_text(encoding="utf-8")
    for found in re.findall(r"(?:python-version: *[\"']?|image: *python:)([\d.]+)", text):
        assert Version(found) in SpecifierSet(PROJECT["project"]["requires-python"])
    assert "pip install" not in text, "let make install what requirements.txt pins"


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_helper_is_quick_because_it_imports_nothing_heavy():
    modules = modules_after("import course_utils, course_utils.datasets, course_utils.run")
    assert {"course_utils.datasets", "course_utils.run"} <= modules
    assert {"torch", "matplotlib", "sklearn", "pandas", "scipy", "nbformat"} & modules == set()


def test_a_heavy_import_is_seen():
    assert "matplotlib" in modules_after("import course_utils.plotting")
