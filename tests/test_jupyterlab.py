"""JupyterLab itself, in a browser: a lecture runs, its figure follows the slider, and its slides open.

Chromium is the system's, or else Playwright's own.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from playwright.sync_api import Page, expect, sync_playwright

from course_utils import ROOT

LECTURE = "08_variational_autoencoders"
SECONDS = 300  # for a whole lecture, on a busy machine
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]
SETTINGS = {  # all cells stay on the page; no question about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

pytestmark = pytest.mark.timeout(SECONDS + 120)


class Lab(NamedTuple):
    address: str
    token: str
    notebook: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Start JupyterLab on a copy of the notebooks, untouched by the settings of this machine."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    for name, values in SETTINGS.items():
        path = Path(own["JUPYTER_CONFIG_DIR"], "lab", "user-settings", "@jupyterlab", f"{name}.jupyterlab-settings")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, token = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--notebook-dir={folder}/notebooks"]
    with (folder / "log").open("w") as log:
        environment = os.environ | own | {"OMP_NUM_THREADS": "1", "COURSE_STATIC": ""}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        else:
            pytest.fail("JupyterLab does not answer\n" + (folder / "log").read_text())
        yield Lab(address, token, folder / "notebooks" / f"{LECTURE}.ipynb")
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def addresses() -> list[str]:
    """Collect the addresses that the browser asks for something."""
    return []


@pytest.fixture(scope="module")
def page(lab: Lab, addresses: list[str]) -> Iterator[Page]:
    """Open the lecture in a browser and wait for its kernel."""
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(60_000)
        context.on("request", lambda request: addresses.append(request.url))
        page = context.new_page()
        page.goto(f"{lab.address}/lab/tree/{lab.notebook.name}?token={lab.token}&reset")
        expect(page.locator(".jp-NotebookPanel h1").first).to_be_visible(timeout=60_000)
        expect(page.get_by_text(re.compile(r"\| Idle$")).first).to_be_visible(timeout=60_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def executed(lab: Lab, page: Page) -> list[NotebookNode]:
    """Run all cells from the menu; return the code cells, as JupyterLab saves them after the last one has run."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        page.wait_for_timeout(2000)
        page.locator("[data-command='docmanager:save']").first.click()
        page.wait_for_timeout(1000)
        notebook = nbformat.read(lab.notebook, as_version=4)
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        failed = any(output.output_type == "error" for cell in cells for output in cell.outputs)
        if failed or all(cell.execution_count for cell in cells):
            return cells
    pytest.fail(f"the lecture has not run in {SECONDS} s")


def test_all_cells_run_without_errors_and_warnings(executed: list[NotebookNode]):
    found = []
    for cell in executed:
        for output in cell.outputs:
            if output.output_type == "error":
                found.append("\n".join([cell.source, "→", output.ename, output.evalue]))
            elif output.get("name") == "stderr" and "Warning" in output.text:
                found.append(output.text)
    assert not found, "\n\n".join(found)


@pytest.mark.usefixtures("executed")
def test_the_figure_follows_the_slider(page: Page):
    control = page.locator(".jp-OutputArea .widget-vbox:has(.noUi-handle)").first
    handle, picture = control.locator(".noUi-handle").first, control.locator("img")
    source, alt = picture.get_attribute("src"), picture.get_attribute("alt")
    handle.focus()
    page.keyboard.press("ArrowRight")
    expect(picture).not_to_have_attribute("src", source, timeout=60_000)
    expect(picture).not_to_have_attribute("alt", alt)


@pytest.mark.usefixtures("executed")
def test_the_slides_open_at_the_title_and_turn(lab: Lab, page: Page):
    page.locator(".jp-NotebookPanel h1").first.click()  # the slides start at the selected cell
    page.locator("[data-command='RISE:preview']").first.click()
    slides = page.frame_locator("iframe[src*='/rise/']")
    title = slides.locator(".reveal h1")
    expect(title).to_be_visible(timeout=60_000)
    source = nbformat.read(lab.notebook, as_version=4).cells[0].source
    assert source.startswith("# " + title.text_content().rstrip("¶"))
    expect(slides.locator("section.present h1").first).to_be_visible()
    slides.locator("button.navigate-right").click()
    expect(slides.locator("section.present h1")).to_have_count(0)
    assert page.locator(".jp-Dialog").count() == 0


def test_nothing_is_asked_of_another_host(lab: Lab, addresses: list[str]):
    own = (lab.address, "data:", "blob:")
    assert len(addresses) > 10
    assert [address for address in addresses if not address.startswith(own)] == []
