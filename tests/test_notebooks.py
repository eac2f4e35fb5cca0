"""The anatomy of every notebook: each rule is a function from a notebook to its problems.

A rule that cannot fail is worth nothing: below, each is shown a notebook that breaks it and nothing else.
"""

import ast
import copy
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat import NotebookNode

from course_utils import ROOT
from course_utils.run import parse_knobs

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SLIDE_TYPES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
SLIDE_WORDS = 100  # of one markdown cell: what a projector screen holds in readable letters
CODE_LINES = 20
ALT_LETTERS = 20
KEEP = {"nbval-check-output", "keep_output"}  # compared by nbval, kept by nbstripout: only together
MAKE_FIGURES = {"subplots", "subplot_mosaic", "figure", "image_grid", "beside", "loss_curves", "density_2d"}
DRAW = re.compile(r"\w*plot\w*|imshow|matshow|hist|hist2d|bar|barh|scatter|contourf?|pcolormesh|heatmap|fill_between")
UNIT = r"(?:nats?|bits?|s|ms|sec|seconds?|minutes?|kB|KB|MB|GB|%|percent)(?![\w])"
MEASURED = re.compile(rf"(?<![\w.,-])\d+(?:\.\d+\s*{UNIT}|\s*(?:s|ms|sec|seconds?|kB|KB|MB|GB)(?!\w))")


# --- reading a notebook ---


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def codes(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def proses(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def trees(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, ast.Module]]:
    """Yield each code cell with its syntax tree; a cell that is not plain Python is the business of `rule_code`."""
    for cell in codes(notebook):
        try:
            yield cell, ast.parse(cell.source)
        except SyntaxError:
            continue


def words_only(text: str) -> str:
    """Return prose without fenced code, code spans, display and inline mathematics."""
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"(?<!\})`[^`\n]+`", r"(?<!\\)\$[^$]+?(?<!\\)\$"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return text


def headings(notebook: NotebookNode) -> list[tuple[int, str]]:
    """Return (level, text) of each heading, in order."""
    found = []
    for cell in proses(notebook):
        text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
        found += [(len(marks), title) for marks, title in re.findall(r"^(#+) +(.+?) *$", text, flags=re.MULTILINE)]
    return found


def opening(notebook: NotebookNode) -> str:
    """Return the text before the first code cell."""
    cells = itertools.takewhile(lambda cell: cell.cell_type == "markdown", notebook.cells)
    return "\n\n".join(cell.source for cell in cells)


def short(cell: NotebookNode) -> str:
    return repr(cell.source.strip().partition("\n")[0][:70])


def known_keys() -> set[str]:
    """Return the keys of the bibliography."""
    text = (ROOT / "jupyter_book" / "references.bib").read_text(encoding="utf-8")
    return set(re.findall(r"^@\w+\{\s*([^,\s]+)", text, flags=re.MULTILINE))


def call_name(node: ast.AST) -> str:
    """Return the last part of the name that a call calls: "subplots" of `plt.subplots(…)`."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


# --- the rules ---


def rule_title(notebook: NotebookNode) -> Iterator[str]:
    levels = [level for level, _ in headings(notebook)]
    if not re.match(r"# \S", notebook.cells[0].source) or levels.count(1) != 1:
        yield "the first cell starts with `# Title`, the only heading of level 1"
    for before, after in itertools.pairwise(levels):
        if after > before + 1:
            yield f"a heading of level {after} follows one of level {before}: a screen reader's outline has a hole"


def rule_opening(notebook: NotebookNode) -> Iterator[str]:
    text = opening(notebook)
    hook = re.sub(r"^#.*$", "", text.partition("**You will")[0], flags=re.MULTILINE)
    if "?" not in hook:
        yield "a hook between the title and **You will** poses the question that the notebook answers"
    objectives = re.search(r"\*\*You will\W*\*\*(.*?)(?=\*\*Before this|\Z)", text, flags=re.DOTALL)
    count = len(re.findall(r"^(?:[-*]|\d\.) ", objectives[1], flags=re.MULTILINE)) if objectives else 0
    if not 3 <= count <= 5:
        yield f"**You will** lists three to five objectives, not {count}"
    for name in ("Before this", "Time"):
        if not re.search(rf"\*\*{name}\W*\*\*", text):
            yield f"**{name}** is missing before the first code cell"


def rule_imports(notebook: NotebookNode) -> Iterator[str]:
    for k, (cell, tree) in enumerate(trees(notebook)):
        imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body]
        if k == 0 and not (imports and all(imports)):
            yield f"the first code cell holds the imports and nothing else, not {short(cell)}"
        if k > 0 and any(imports) and "solution" not in tags(cell):
            yield f"imports belong in the first code cell, not in {short(cell)}"


def rule_parameters(notebook: NotebookNode) -> Iterator[str]:
    cells = codes(notebook)
    if [k for k, cell in enumerate(cells) if "parameters" in tags(cell)] != [1]:
        yield "the second code cell, and no other, is tagged parameters"
    for cell in cells:
        if "parameters" in tags(cell):
            try:
                parse_knobs(cell.source)
            except ValueError as error:
                yield str(error)


def rule_checks(notebook: NotebookNode) -> Iterator[str]:
    checks = [(cell, tree) for cell, tree in trees(notebook) if "check" in tags(cell)]
    if len(checks) < 3:
        yield f"{len(checks)} cells are tagged check; at least three claims are tested"
    for cell, tree in checks:
        nodes = list(ast.walk(tree))
        asserts = [node for node in nodes if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)]
        if not asserts and not any(call_name(node).startswith("assert_") for node in nodes):
            yield f"a check asserts something: {short(cell)}"
        if not any(call_name(node) in {"print", "display"} for node in nodes):
            yield f"a check prints what it compares: {short(cell)}"
        before = notebook.cells[notebook.cells.index(cell) - 1]
        if not re.search(r"^#+ .*Check|\*\*Check", before.source, flags=re.MULTILINE):
            yield f"the text before a check says **Check**: {short(cell)}"


def rule_exercises(notebook: NotebookNode) -> Iterator[str]:
    pattern = re.compile(r"^### Exercise (\d) — .+ \((warm-up|standard|challenge|open)\)$", flags=re.MULTILINE)
    heads = [k for k, cell in enumerate(notebook.cells) if cell.source.startswith("### Exercise")]
    found = [pattern.match(notebook.cells[k].source) for k in heads]
    numbers = [int(match[1]) for match in found if match]
    if not 3 <= len(heads) <= 5 or numbers != list(range(1, len(heads) + 1)):
        yield "three to five exercises, headed `### Exercise 1 — title (warm-up|standard|challenge|open)`, in order"
    if "Exercises" not in [title for level, title in headings(notebook) if level == 2]:
        yield "the exercises stand under `## Exercises`"
    for k in heads:
        if k + 1 == len(notebook.cells) or "solution" not in tags(notebook.cells[k + 1]):
            yield f"a cell tagged solution follows {short(notebook.cells[k])}"
    solutions = [cell for cell in notebook.cells if "solution" in tags(cell)]
    if all(cell.cell_type == "markdown" for cell in solutions):
        yield "at least one exercise asks to change the code, and has code in its solution"
    for cell in solutions:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden") and "hide-cell" in tags(cell)
        if cell.cell_type == "code" and not hidden:
            yield f"a solution's code is tagged hide-cell and has jupyter.source_hidden: {short(cell)}"
        if cell.cell_type == "markdown" and not re.match(
            r"<details>\s*<summary>Solution.*</details>$", cell.source, re.S
        ):
            yield f"a solution in words is folded by <details><summary>Solution</summary> … </details>: {short(cell)}"


def rule_ending(notebook: NotebookNode) -> Iterator[str]:
    if [title for level, title in headings(notebook) if level == 2][-2:] != ["Recap", "Going further"]:
        yield "the last two sections are `## Recap` and `## Going further`"
    elif "{cite:" not in "\n".join(cell.source for cell in proses(notebook)).rpartition("## Going further")[2]:
        yield "## Going further cites what to read next"


def rule_citations(notebook: NotebookNode) -> Iterator[str]:
    for cell in proses(notebook):
        for keys in re.findall(r"\{cite:[pt]\}`([^`]+)`", cell.source):
            for key in {key.strip() for key in keys.split(",")} - known_keys():
                yield f"{key!r} is cited, but is not in references.bib"


def rule_outputs(notebook: NotebookNode) -> Iterator[str]:
    if "widgets" in notebook.metadata:
        yield "the notebook stores the state of its widgets"
    for cell in codes(notebook):
        kept = KEEP & tags(cell)
        if kept and kept != KEEP:
            yield f"{sorted(KEEP)} go together: {short(cell)}"
        if kept and not (cell.outputs and cell.execution_count):
            yield f"an output that nbval compares is stored, with its execution count: {short(cell)}"
        if not kept and cell.outputs:
            yield f"an output is stored (run nbstripout): {short(cell)}"
        if any(set(output.get("data", {"text/plain": ""})) != {"text/plain"} for output in cell.outputs if kept):
            yield f"a stored output is plain text: {short(cell)}"


def rule_absolute_paths(notebook: NotebookNode) -> Iterator[str]:
    absolute = re.compile(r"(?:/[\w.-]+){2,}/?|~/.*|[A-Za-z]:\\.*|file:.*")
    for cell, tree in trees(notebook):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and absolute.fullmatch(node.value):
                yield f"{node.value!r} is a path on one machine: {short(cell)}"
    for cell in notebook.cells:
        if re.search(r"/(?:home|Users|root)/|\]\(/", cell.source):
            yield f"a path on one machine: {short(cell)}"


def rule_figures(notebook: NotebookNode) -> Iterator[str]:
    shows = []
    for cell, tree in trees(notebook):
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        shows += [node for node in calls if isinstance(node.func, ast.Name) and node.func.id in {"show", "explore"}]
        if any(isinstance(node.func, ast.Attribute) and node.func.attr == "show" for node in calls):
            yield f"show(fig, alt=…) shows a figure, no other show: {short(cell)}"
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            if isinstance(last.value, ast.Name) and last.value.id in {"fig", "figure", "ax", "axes"}:
                yield f"a figure at the end of a cell has no alt text, show(fig, alt=…) has: {short(cell)}"
            if DRAW.fullmatch(call_name(last.value)):
                yield f"a cell that ends in a drawing command shows its figure without alt text: {short(cell)}"
        outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
        inner = [call_name(node) for statement in outside for node in ast.walk(statement)]
        if MAKE_FIGURES & set(inner) and not {"show", "explore"} & set(inner):
            yield f"a figure is made, but not given to show(fig, alt=…): {short(cell)}"
    for node in shows:
        alt = next((word.value for word in node.keywords if word.arg == "alt"), (*node.args, None, None)[1])
        if alt is None or len(letters(alt)) < ALT_LETTERS:
            yield f"alt says what is seen, in {ALT_LETTERS} letters or more: {ast.unparse(node)[:90]}"
    if not any(node.func.id == "explore" for node in shows):
        yield "one figure has knobs to turn: explore(plot, alt=…, …)"


def letters(alt: ast.expr) -> str:
    """Return the fixed letters of a text in code; a text that only the run knows counts as long enough."""
    if isinstance(alt, ast.Constant):
        return str(alt.value).strip()
    if isinstance(alt, ast.JoinedStr):
        return "".join(part.value for part in alt.values if isinstance(part, ast.Constant)).strip()
    return "…" * ALT_LETTERS


def rule_measured_numbers(notebook: NotebookNode) -> Iterator[str]:
    """A number with a unit is printed by a cell, or cited; theory stands in $…$, and the reading time under **Time**."""
    for cell in proses(notebook):
        text = re.sub(r"^.*\*\*Time\b.*$", "", words_only(cell.source), flags=re.MULTILINE)
        blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) ?)", text)
        for sentence in itertools.chain.from_iterable(re.split(r"(?<=[.!?;])\s+(?=[A-Z*])", block) for block in blocks):
            number = MEASURED.search(sentence)
            if number and "{cite" not in sentence and "](" not in sentence:
                yield f"{number[0]!r} is typed into prose, without a source: {' '.join(sentence.split())[:90]!r}"


def rule_slides(notebook: NotebookNode) -> Iterator[str]:
    if notebook.cells[0].metadata.get("slideshow", {}).get("slide_type") != "slide":
        yield "the first cell is a slide"
    if notebook.metadata.get("rise", {}).get("theme") != "white":
        yield 'the metadata of the notebook has "rise": {"theme": "white"}: the default loads fonts from the network'
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type")
        if kind not in SLIDE_TYPES:
            yield f"slideshow.slide_type is {kind!r}, none of {sorted(SLIDE_TYPES)}: {short(cell)}"
        count = len(words_only(cell.source).split()) if cell.cell_type == "markdown" else 0
        if kind in {"slide", "subslide", "fragment", "-"} and count > SLIDE_WORDS:
            yield f"{count} words do not fit on a slide, {SLIDE_WORDS} do; split it, or make it notes: {short(cell)}"


def rule_code(notebook: NotebookNode) -> Iterator[str]:
    for cell in codes(notebook):
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            yield f"plain Python only, no magics: {short(cell)}"
            continue
        count = sum(bool(line.strip()) for line in cell.source.splitlines())
        longer = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef  # what may take more lines
        if (
            count > CODE_LINES
            and not any(isinstance(node, longer) for node in tree.body)
            and not {"hide-input", "solution"} & tags(cell)
        ):
            yield f"{count} lines: cut it, or fold what is not the lesson by hide-input: {short(cell)}"
        if "hide-input" in tags(cell) and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield f"hide-input and jupyter.source_hidden go together: {short(cell)}"
    for before, after in itertools.pairwise(notebook.cells):
        if before.cell_type == after.cell_type == "code" and not {"parameters", "solution"} & tags(after):
            yield f"prose stands between two code cells: {short(after)}"


def rule_portable_markdown(notebook: NotebookNode) -> Iterator[str]:
    for cell in proses(notebook):
        if re.search(r"^\s*(?:`{3,}|~{3,}|:{3,})\s*\{", cell.source, flags=re.MULTILINE):
            yield f"a directive that only the book can read: {short(cell)}"
        for role in re.findall(r"\{([\w:.+-]+)\}`", re.sub(r"\$[^$]+\$", "", cell.source)):
            if role not in {"cite:p", "cite:t"}:
                yield f"the role {role!r}, that only the book can read: {short(cell)}"


def rule_links(notebook: NotebookNode) -> Iterator[str]:
    for cell in proses(notebook):
        for target in re.findall(r"\]\(([^)\s]+)\)", words_only(cell.source)):
            if target.startswith("http:"):
                yield f"{target} is not encrypted: use https"
            elif not re.match(r"\w+:|#", target) and not (ROOT / "notebooks" / target.partition("#")[0]).exists():
                yield f"{target} does not exist"


def rule_format(notebook: NotebookNode) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        yield "cells have no ids before format 4.5"
    identifiers = [cell.get("id") for cell in notebook.cells]
    if None in identifiers or len(set(identifiers)) < len(identifiers):
        yield "each cell has an id of its own"
        return  # nbformat repairs this with a warning
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {error.message}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is python3, which every machine has"


RULES = {name: rule for name, rule in globals().items() if name.startswith("rule_")}


# --- every notebook, every rule ---


def read(path: Path) -> NotebookNode:
    with path.open(encoding="utf-8") as file:
        return nbformat.reads(file.read(), as_version=nbformat.NO_CONVERT)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path: Path, rule: str):
    problems = list(RULES[rule](read(path)))
    assert not problems, f"\n{path.name}, {rule}:\n" + "\n".join(f"- {problem}" for problem in problems)


def test_every_notebook_is_a_lecture_of_the_course():
    course = yaml.safe_load((ROOT / "jupyter_book" / "course.yml").read_text(encoding="utf-8"))
    slugs = [lecture["slug"] for part in course["parts"] for lecture in part["lectures"]]
    assert [path.name for path in NOTEBOOKS if path.stem not in slugs] == []


def ruff(*paths: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(ROOT / "pyproject.toml")]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)


def test_ruff_finds_nothing():
    result = ruff(*(ROOT / name for name in ("course_utils", "notebooks", "tests")))
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_an_unused_import_in_a_notebook(good: NotebookNode, tmp_path: Path):
    path = tmp_path / "01_bad.ipynb"
    nbformat.write(good, path)
    assert ruff(path).returncode == 0, ruff(path).stdout
    good.cells[1].source = "import math\n" + good.cells[1].source
    nbformat.write(good, path)
    assert "`math` imported but unused" in ruff(path).stdout


# --- each rule can fail ---


def prose(text: str, slide: str = "slide", **metadata) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": slide}, **metadata})


def code(text: str, *names: str) -> NotebookNode:
    hidden = {"jupyter": {"source_hidden": True}} if {"hide-input", "hide-cell"} & set(names) else {}
    return nbformat.v4.new_code_cell(text, metadata={"slideshow": {"slide_type": "-"}, "tags": [*names], **hidden})


@pytest.fixture
def good(monkeypatch: pytest.MonkeyPatch) -> NotebookNode:
    """Return a small notebook that keeps all the rules."""
    monkeypatch.setitem(globals(), "known_keys", lambda: {"tosser1900"})
    cells = [
        prose(
            "# A coin\n\nHow often must you toss a coin to know it?\n\n**You will**\n\n- toss\n- count\n- check\n\n"
            "**Before this** — nothing. **Time** — about 5 minutes to read, 2 s to run."
        ),
        code("from course_utils.explore import explore\nfrom course_utils.plotting import loss_curves, show"),
        code("tosses = 3  # full: 9 — tosses of the coin", "parameters"),
        prose("## Tosses\n\nA fair coin has an entropy of $1.0$ bits; a bent one has less."),
        code("show(loss_curves(tosses), alt='The loss falls from one to zero.')", "hide-input"),
    ]
    for k in range(3):
        cells += [prose("**Check.** Two ways to count agree."), code(f"print(tosses)\nassert tosses == {k}", "check")]
    cells += [
        prose("The loss is 1.47 nats {cite:p}`tosser1900`. `0.5 s` is code."),
        code("explore(loss_curves, alt='The loss with {order} letters.', order=[1, 2])"),
        prose("## Exercises"),
    ]
    for k, level in enumerate(("warm-up", "standard", "open"), start=1):
        cells += [
            prose(f"### Exercise {k} — Coins ({level})\n\nToss."),
            prose("<details><summary>Solution</summary>\n\nTossed.\n\n</details>", "skip", tags=["solution"]),
            code("tosses = 4", "solution", "hide-cell"),
        ]
    cells += [prose("## Recap\n\nCoins."), prose("## Going further\n\n- {cite:t}`tosser1900` tosses.")]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "rise": {"theme": "white"}})


@pytest.mark.parametrize("rule", RULES)
def test_a_good_notebook_has_no_problems(good: NotebookNode, rule: str):
    assert list(RULES[rule](good)) == []


def edit(k: int, old: str, new: str) -> Callable[[NotebookNode], None]:
    """Return a change that replaces a text in the source of the k-th cell."""

    def change(notebook: NotebookNode) -> None:
        assert old in notebook.cells[k].source
        notebook.cells[k].source = notebook.cells[k].source.replace(old, new)

    return change


def put(k: int, *cells: NotebookNode) -> Callable[[NotebookNode], None]:
    """Return a change that inserts cells before the k-th one."""
    return lambda notebook: notebook.cells.__setitem__(slice(k, k), copy.deepcopy(list(cells)))


def drop(k: int) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells.pop(k)


def tag(k: int, *names: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[k].metadata.update(tags=[*names])


def store(*names: str, data: str = "text/plain") -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        notebook.cells[6].metadata.tags += names
        notebook.cells[6].outputs = [nbformat.v4.new_output("display_data", data={data: "3"})]

    return change


LONG = "\n".join(f"print({k})" for k in range(CODE_LINES + 1))
BAD = {
    ("rule_title", "no title"): edit(0, "# A coin", "A coin"),
    ("rule_title", "two titles"): edit(3, "## Tosses", "# Tosses"),
    ("rule_title", "a level is skipped"): edit(3, "## Tosses", "### Tosses"),
    ("rule_opening", "no question"): edit(0, "?", "."),
    ("rule_opening", "no objectives"): edit(0, "**You will**", "You will"),
    ("rule_opening", "two objectives"): edit(0, "- toss\n", ""),
    ("rule_opening", "nothing before this"): edit(0, "**Before this**", "Before"),
    ("rule_opening", "no time"): edit(0, "**Time** — about 5 minutes to read, 2 s to run.", ""),
    ("rule_imports", "work among the imports"): edit(
        1, "from course_utils.explore", "x = 3\nfrom course_utils.explore"
    ),
    ("rule_imports", "a late import"): put(4, code("import math"), prose("More.")),
    ("rule_parameters", "no parameters"): drop(2),
    ("rule_parameters", "twice"): tag(4, "parameters", "hide-input"),
    ("rule_parameters", "a knob without a meaning"): edit(2, " — tosses of the coin", ""),
    ("rule_checks", "two checks"): tag(6),
    ("rule_checks", "nothing asserted"): edit(6, "assert tosses == 0", "tosses"),
    ("rule_checks", "nothing that can fail"): edit(6, "assert tosses == 0", "assert True"),
    ("rule_checks", "nothing printed"): edit(6, "print(tosses)", ""),
    ("rule_checks", "not announced"): edit(5, "**Check.** ", ""),
    ("rule_exercises", "two exercises"): lambda notebook: notebook.cells.__delitem__(slice(20, 23)),
    ("rule_exercises", "wrong order"): edit(17, "Exercise 2", "Exercise 3"),
    ("rule_exercises", "no level"): edit(17, "(standard)", "(hard)"),
    ("rule_exercises", "no section"): edit(13, "## Exercises", "Exercises"),
    ("rule_exercises", "no solution"): lambda notebook: notebook.cells.__delitem__(slice(21, 23)),
    ("rule_exercises", "words only"): lambda notebook: [notebook.cells.pop(k) for k in (22, 19, 16)],
    ("rule_exercises", "an open solution"): edit(15, "<details>", ""),
    ("rule_exercises", "open code"): tag(16, "solution"),
    ("rule_ending", "no recap"): drop(-2),
    ("rule_ending", "no references"): edit(-1, "{cite:t}", ""),
    ("rule_citations", "an unknown key"): edit(-1, "{cite:t}`", "{cite:t}`nobody1900, "),
    ("rule_outputs", "a stored output"): store(),
    ("rule_outputs", "kept but not compared"): store("keep_output"),
    ("rule_outputs", "a stored picture"): store(*KEEP, data="image/png"),
    ("rule_outputs", "nothing to compare"): tag(6, "check", *KEEP),
    ("rule_outputs", "widgets"): lambda notebook: notebook.metadata.update(widgets={}),
    ("rule_absolute_paths", "in a string"): edit(16, "tosses = 4", "open('/data/coins.txt')"),
    ("rule_absolute_paths", "of a user"): edit(16, "tosses = 4", "print(f'in /home/{tosses}')"),
    ("rule_figures", "plt.show"): edit(4, "show(loss", "plt.show(loss"),
    ("rule_figures", "no alt text"): edit(4, ", alt='The loss falls from one to zero.'", ""),
    ("rule_figures", "an empty alt text"): edit(4, "The loss falls from one to zero.", "Loss"),
    ("rule_figures", "an alt text of values only"): edit(4, "'The loss falls from one to zero.'", "f'{tosses}'"),
    ("rule_figures", "a figure at the end"): edit(16, "tosses = 4", "fig = tosses\nfig"),
    ("rule_figures", "a drawing at the end"): edit(16, "tosses = 4", "ax.plot(tosses)"),
    ("rule_figures", "not shown"): edit(16, "tosses = 4", "fig = loss_curves(tosses)"),
    ("rule_figures", "no knobs"): edit(12, "explore(", "print("),
    ("rule_measured_numbers", "no source"): edit(11, " {cite:p}`", " `"),
    ("rule_measured_numbers", "seconds"): edit(3, "A fair coin", "Tossing takes 12 s on two cores. A fair coin"),
    ("rule_measured_numbers", "in a list"): edit(-2, "Coins.", "- 95.3 % are heads."),
    ("rule_slides", "a theme with remote fonts"): lambda notebook: notebook.metadata.pop("rise"),
    ("rule_slides", "no slide type"): lambda notebook: notebook.cells[3].metadata.pop("slideshow"),
    ("rule_slides", "an unknown slide type"): lambda notebook: notebook.cells[3].metadata.slideshow.update(
        slide_type="x"
    ),
    ("rule_slides", "too many words"): edit(3, "bits", "bits " * (SLIDE_WORDS + 1)),
    ("rule_slides", "starts with notes"): lambda notebook: notebook.cells[0].metadata.slideshow.update(
        slide_type="notes"
    ),
    ("rule_code", "a magic"): put(4, code("%timeit toss()"), prose("More.")),
    ("rule_code", "a long cell"): put(4, code(LONG), prose("More.")),
    ("rule_code", "half hidden"): lambda notebook: notebook.cells[4].metadata.pop("jupyter"),
    ("rule_code", "no prose between"): put(4, code("tosses")),
    ("rule_portable_markdown", "a directive"): edit(3, "A fair", "```{note}\nA note.\n```\nA fair"),
    ("rule_portable_markdown", "a colon directive"): edit(3, "A fair", ":::{note}\nA note.\n:::\nA fair"),
    ("rule_portable_markdown", "a role"): edit(3, "A fair", "See {ref}`coins`. A fair"),
    ("rule_links", "to nowhere"): edit(3, "A fair", "[This](99_nowhere.ipynb#coins). A fair"),
    ("rule_links", "not encrypted"): edit(3, "A fair", "[This](http://example.org). A fair"),
    ("rule_format", "the same id twice"): lambda notebook: notebook.cells[1].update(id=notebook.cells[0].id),
    ("rule_format", "another kernel"): lambda notebook: notebook.metadata.kernelspec.update(name="mine"),
    ("rule_format", "an old format"): lambda notebook: notebook.update(nbformat_minor=4),
    ("rule_format", "an unknown field"): lambda notebook: notebook.cells[0].update(note="x"),
}


@pytest.mark.parametrize(("rule", "flaw"), BAD, ids=map(" — ".join, BAD))
def test_a_bad_notebook_breaks_its_rule_and_no_other(good: NotebookNode, rule: str, flaw: str):
    BAD[rule, flaw](good)
    assert [name for name in RULES if list(RULES[name](good))] == [rule]


def test_every_rule_is_shown_a_bad_notebook():
    assert {rule for rule, _ in BAD} == set(RULES)
