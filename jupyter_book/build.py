"""Build the course's website in `_build/html`: run the notebooks, draw the course map, run Sphinx, make the slides.

    python jupyter_book/build.py           the website, slides included
    python jupyter_book/build.py --slides  the slides alone

Everything works without a network. Notebooks run in parallel, one for each core, and again only when their code, the
code that they use, the shipped data or the pinned versions change. Any failing cell and any Sphinx warning fails the build.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import nbformat
import yaml
from course_map import draw_map, lecture_table
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from make_slides import export_slides
from nbclient import NotebookClient

BOOK = Path(__file__).absolute().parent
ROOT = BOOK.parent
OUT = ROOT / "_build"
SOURCE, HTML, CACHE = OUT / "source", OUT / "html", OUT / "jupyter_cache"
MOVED = {"../jupyter_book/": "../", "../data/README.md": "../data.md", "../README.md": "../index.md"}  # on the site
SECONDS = 240  # a notebook that takes longer fails: the quick budget is two minutes


def read_course() -> dict:
    """Read `course.yml`, mark the lectures that are written, and check that contents and notebooks agree.

    Raises:
        ValueError: naming the lectures or assignments that are missing on one side.
    """
    course = yaml.safe_load((BOOK / "course.yml").read_text(encoding="utf-8"))
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    lectures = [lecture for part in course["parts"] for lecture in part["lectures"]]
    pages = [Path(page["file"]) for part in toc["parts"] for page in part["chapters"]]
    for folder in ("notebooks", "notebooks/assignments"):
        written = {path.stem for path in (ROOT / folder).glob("*.ipynb")}
        listed = {page.name for page in pages if page.parent.name == Path(folder).name}
        for problem, names in (
            (f"in {folder}/ but not in jupyter_book/_toc.yml", written - listed),
            (f"in jupyter_book/_toc.yml but not in {folder}/", listed - written),
        ):
            if names:
                raise ValueError(f"{problem}: {', '.join(sorted(names))}")
    written = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    unknown = written - {lecture["slug"] for lecture in lectures}
    if unknown:
        raise ValueError(f"in notebooks/ but not in jupyter_book/course.yml: {', '.join(sorted(unknown))}")
    for lecture in lectures:
        lecture["written"] = lecture["slug"] in written
    return course


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already holds this text, so that Sphinx rebuilds only what changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def taught_code(path: Path) -> list[str]:
    """Return the code cells of a notebook and, after them, of every notebook that it imports from."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    numbers = {number for source in cells for number in re.findall(r"\blecture\([\"'](\d\d)[\"']\)", source)}
    for number in sorted(numbers - {path.name[:2]}):
        for imported in path.parent.glob(f"{number}_*.ipynb"):
            cells += taught_code(imported)
    return cells


def fingerprint(path: Path) -> str:
    """Hash all that the outputs of a notebook depend on: the cache runs it again when this changes."""
    digest = hashlib.sha256(json.dumps([*taught_code(path), sys.version]).encode())
    shipped = [path for path in (ROOT / "data").rglob("*") if path.is_file() and path.suffix != ".md"]
    for used in sorted([*(ROOT / "course_utils").glob("*.py"), *shipped, ROOT / "requirements.txt"]):
        digest.update(used.name.encode() + used.read_bytes())
    return digest.hexdigest()[:16]


def copy_sources(course: dict) -> list[Path]:
    """Lay out `_build/source` as Sphinx reads it; return the notebooks in it."""
    wanted = set()

    def put(relative: str, text: str) -> None:
        wanted.add(SOURCE / relative)
        write_if_changed(SOURCE / relative, text)

    for path in BOOK.rglob("*"):
        if path.suffix in {".md", ".yml", ".bib", ".css", ".js", ".html", ".svg"} and path.parent.name != "slides":
            put(str(path.relative_to(BOOK)), path.read_text(encoding="utf-8"))
    put("_generated/map.html", draw_map(course))
    put("_generated/lectures.md", lecture_table(course))
    put("_generated/versions.md", versions_table())
    put("registry.txt", (ROOT / "data" / "registry.txt").read_text(encoding="utf-8"))
    put("_generated/data.md", (ROOT / "data" / "README.md").read_text(encoding="utf-8").partition("\n")[2])
    notebooks = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})
        notebook.metadata.kernelspec["fingerprint"] = fingerprint(path)  # part of what the cache compares
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
            else:
                for there, here in MOVED.items():
                    cell.source = cell.source.replace(f"]({there}", f"]({here}")
        put(f"notebooks/{path.name}", nbformat.writes(notebook))
        notebooks.append(SOURCE / "notebooks" / path.name)
    for path in released_assignments():
        text = path.read_text(encoding="utf-8").replace("](../../jupyter_book/", "](../")
        put(f"assignments/{path.name}", re.sub(r"\]\(\.\./(?=\d\d_)", "](../notebooks/", text))
    for path in SOURCE.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    return notebooks


def released_assignments() -> list[Path]:
    """Make the students' copies of the assignments, without solutions and hidden tests; return them."""
    program, folder = ROOT / "notebooks" / "assignments" / "grade.py", OUT / "assignments"
    if program.exists():
        subprocess.run([sys.executable, program, "release", "--folder", folder], check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("release/*/*.ipynb"))


def versions_table() -> str:
    """Return the versions and the machine of this build as a Markdown table."""
    rows = [("Python", platform.python_version())]
    rows += [
        (name, version(name)) for name in ("torch", "numpy", "scikit-learn", "matplotlib", "jupyter-book", "Sphinx")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows += [("system", platform.system()), ("processor", platform.machine()), ("cores", os.cpu_count())]
    rows += [("memory", f"{memory:.0f} GiB")]
    return "| what | version or value |\n|:--|:--|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)


async def execute(path: Path, core: asyncio.Semaphore) -> str | None:
    """Run one notebook and put it in the cache; return what went wrong, if anything."""
    cache = get_cache(CACHE)
    notebook = nbformat.read(path, as_version=4)
    try:
        cache.match_cache_notebook(notebook)
        return None
    except KeyError:
        pass
    async with core:
        start = time.perf_counter()
        client = NotebookClient(
            notebook,
            timeout=None,
            record_timing=False,  # times in the cells' metadata would hide the notebook from the cache
            coalesce_streams=True,
            resources={"metadata": {"path": str(ROOT / "notebooks")}},
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            await asyncio.wait_for(client.async_execute(), SECONDS)
        except TimeoutError:
            return f"{path.name} takes longer than {SECONDS} s"
        except Exception as error:  # whatever a cell or its kernel raised: the other notebooks still run
            return f"{path.name} fails\n{error}"
        seconds = time.perf_counter() - start
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds}), overwrite=True)
    print(f"ran {path.name} in {seconds:.0f} s", flush=True)
    return None


async def execute_all(notebooks: list[Path]) -> None:
    """Run the notebooks that are not in the cache, one for each core; exit with every failure if there is one."""
    os.environ |= {"COURSE_STATIC": "1", "OMP_NUM_THREADS": "1"}
    core = asyncio.Semaphore(os.cpu_count() or 1)
    failures = await asyncio.gather(*(execute(path, core) for path in notebooks))
    if any(failures):
        sys.exit("\n\n".join(failure for failure in failures if failure))


def run_sphinx() -> None:
    """Make the website; every warning is an error."""
    from jupyter_book.sphinx import build_sphinx

    result = build_sphinx(
        SOURCE,
        HTML,
        path_config=SOURCE / "_config.yml",
        noconfig=True,
        confoverrides={
            "external_toc_path": "_toc.yml",
            "latex_individualpages": False,
            "nb_execution_cache_path": str(CACHE),
            "nitpicky": True,
        },
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    if result != 0:
        shutil.rmtree(OUT / ".doctrees", ignore_errors=True)  # or the next build would not show its warnings again
        sys.exit("the website is not built: see the warnings above")


def copy_assets() -> None:
    """Copy MathJax and reveal.js from the installed packages to where the slides look for them."""
    packages = {"sphinx-mathjax-offline": "static/mathjax", "sphinx_revealjs": "_static/revealjs"}
    for name, folder in packages.items():
        installed = Path(importlib.util.find_spec(name).origin).parent / folder
        target = HTML / "_static" / installed.name
        if not target.exists():
            shutil.copytree(installed, target)


def main() -> None:
    """Build the website, or the slides alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slides", action="store_true", help="make the slides alone")
    slides_alone = parser.parse_args().slides
    start = time.perf_counter()
    notebooks = copy_sources(read_course())
    asyncio.run(execute_all(notebooks))
    if not slides_alone:
        run_sphinx()
    copy_assets()
    for path in notebooks:
        _, executed = get_cache(CACHE).merge_match_into_notebook(nbformat.read(path, as_version=4))
        export_slides(executed, path.stem, BOOK / "slides", HTML / "slides", BOOK / "references.bib")
    print(f"built {HTML.relative_to(ROOT)} in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
