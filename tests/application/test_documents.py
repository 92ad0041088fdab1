"""The code of the README and of docs/ runs and prints what the pages show. Everything that they name exists."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import io
import json
import logging
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import yaml
from msgspec import Struct
from typer.main import get_command

from llm_dispatcher import exceptions, testing
from llm_dispatcher._cli import app
from llm_dispatcher.pytest_plugin._fixtures import SimulatedSwitch
from llm_dispatcher.testing import SimulatedVendor

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK: Final = re.compile(
    r"^(?P<fence>```+|~~~+)(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL
)
_VENDORS: Final = re.compile(r"<!-- vendors: (?P<words>[^\n]*) -->\s*\Z")
_FAILS: Final = re.compile(r"<!-- fails -->\s*\Z")
_PEER: Final = re.compile(r"<!-- pydantic-ai: (?P<script>[^\n]*) -->\s*\Z")
_NOT_IN_A_NOTEBOOK: Final = re.compile(r"<!-- not in a notebook -->\s*\Z")
_RUN: Final = re.compile(r"asyncio\.run\((?P<what>.+)\)  # in a notebook: await (?P=what)$", re.MULTILINE)
_TITLE: Final = re.compile(r'title="(?P<title>[^"]+)"')
TALE: Final = "Once upon a time."
SIMULATED: Final = {name: getattr(testing, name) for name in testing.__all__}
IPYTHON: Final = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel="a kernel"))
COMMANDS: Final = {
    "uvicorn",
    "gunicorn",
    "marimo",
    "streamlit",
    "curl",
    "pytest",
    "export",
    "cd",
    "git",
    "sqlite3",
    "printf",
}
"""Commands of other projects, which pages may name. Our own commands are looked up."""


class Block(Struct, frozen=True):
    """One block of code. Comments before it set some fields.

    `vendors` configures the simulated vendors. `is_a_cell` is false if the block behaves differently in a notebook, and
    `fails` is true if the tests in it fail. `peer` is the script of the simulated OpenAI that a block of pydantic-ai
    asks.
    """

    language: str
    body: str
    line: int
    title: str | None = None
    vendors: str | None = None
    is_a_cell: bool = True
    fails: bool = False
    peer: str | None = None

    def as_a_cell(self) -> str:
        """The block as a cell of a notebook: the comment beside `asyncio.run` says what to write instead."""
        return _RUN.sub(r"await \g<what>", self.body)


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    blocks: list[Block] = []
    for match in _BLOCK.finditer(text):
        vendors, title = _VENDORS.search(text[: match.start()]), _TITLE.search(match["info"])
        peer = _PEER.search(text[: match.start()])
        blocks.append(
            Block(
                language=match["info"].strip().partition(" ")[0],
                body=match["body"],
                line=text.count("\n", 0, match.start()) + 2,
                title=title["title"] if title else None,
                vendors=vendors["words"] if vendors else None,
                is_a_cell=_NOT_IN_A_NOTEBOOK.search(text[: match.start()]) is None,
                fails=_FAILS.search(text[: match.start()]) is not None,
                peer=peer["script"] if peer else None,
            )
        )
    return blocks


class Reader:
    """Runs the blocks of a page from top to bottom, in one session, in an empty folder: as a script, or as a notebook.

    A script runs unchanged. In a notebook an event loop is running, and a cell may await or block.
    """

    def __init__(self, page: Path, folder: Path, simulated_switch: SimulatedSwitch) -> None:
        self._page = page
        self._folder = folder
        self._put = simulated_switch
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._printed: str | None = None
        self._report: str | None = None
        self._output = (
            io.StringIO()
        )  # one for the whole page: a log handler that one block sets up still writes there in the next

    def read_into_a_script(self) -> None:
        for block in blocks_of(self._page):
            if block.language != "python":
                self._check_or_configure(block)
            elif block.peer is not None:
                self._printed = None  # `read_the_blocks_of_pydantic_ai` runs them
            elif block.title is not None:
                self._write(block)
                self._printed = None
            else:
                code = compile(self._source(block, block.body), self._place(block), "exec", dont_inherit=True)
                with self._recording(block):
                    exec(code, self._names)

    async def read_into_a_notebook(self) -> None:
        for block in blocks_of(self._page):
            if block.language != "python":
                self._check_or_configure(block)
            elif block.title is not None:
                (self._folder / block.title).write_text(block.body)
                self._printed = None
            elif block.peer is not None or not block.is_a_cell:
                self._printed = None
            else:
                cell = self._source(block, block.as_a_cell())
                code = compile(
                    cell, self._place(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
                )
                with self._recording(block):
                    if code.co_flags & inspect.CO_COROUTINE:
                        await eval(code, self._names)
                    else:
                        exec(code, self._names)

    def read_the_blocks_of_pydantic_ai(self) -> None:
        """Run only these blocks, each as a script of its own that asks a simulated OpenAI.

        Each has a process of its own, because pydantic-ai leaves its connections open.
        """
        for block in blocks_of(self._page):
            if block.language == "python" and block.peer is not None:
                with SimulatedVendor("openai-responses", eval(block.peer, dict(SIMULATED))) as vendor:
                    address = {"OPENAI_BASE_URL": vendor.base_url, "OPENAI_API_KEY": "test-key"}
                    run = subprocess.run(
                        [sys.executable, "-c", block.body],
                        cwd=self._folder, env={**os.environ, **address}, capture_output=True, text=True, check=False,
                    )  # fmt: skip
                assert run.returncode == 0, f"{self._place(block)}\n{run.stderr}"
                self._printed = run.stdout
            elif block.language == "text":
                self._check_or_configure(block)
            else:
                self._printed = None

    def _check_or_configure(self, block: Block) -> None:
        """A block that is not Python: output is compared, and a configuration is put in force."""
        match block.language:
            case "text":
                if self._printed is not None:
                    assert self._printed.strip() == block.body.strip(), self._place(block)
                elif self._report is not None:
                    self._check_report(block)
            case "yaml":
                self._configure(block)
            case "json":
                json.loads(block.body)
            case "toml":
                tomllib.loads(block.body)
            case _:
                pass  # other tests look up the commands of shell blocks
        self._printed = None

    def _place(self, block: Block) -> str:
        return f"{self._page.relative_to(ROOT)}:{block.line}"

    def _source(self, block: Block, code: str) -> str:
        """Configure the simulated vendors as the block's comment says, and move the code to its line of the page."""
        vendors = block.vendors or "openai=Reply(TALE), anthropic=Continuing(TALE), google=Continuing(TALE)"
        eval(f"put({vendors})", {**SIMULATED, "put": self._put, "TALE": TALE})
        return "\n" * (block.line - 1) + code

    @contextlib.contextmanager
    def _recording(self, block: Block) -> Iterator[None]:
        """Record what a block prints, to compare it with the output that the page shows after it."""
        before = self._output.tell()
        with contextlib.redirect_stdout(self._output):
            yield
        self._printed = self._output.getvalue()[before:]

    def _write(self, block: Block) -> None:
        """Write a block into the file that its title names. If it is a file of tests, run it."""
        assert block.title is not None
        self._source(block, block.body)
        (self._folder / block.title).write_text(block.body)
        self._report = None
        if block.fails:
            self._fail_with_pytest(block)
        elif block.title.startswith("test_"):
            self._test(block)

    def _fail_with_pytest(self, block: Block) -> None:
        """Run a file of tests that fail on purpose, and keep the report for the blocks that show parts of it."""
        assert block.title is not None
        options = ["-c", os.devnull, "--rootdir", ".", "-p", "no:asyncio", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *options, block.title]
        environment = {**os.environ, "PYTHONPATH": str(self._folder), "COLUMNS": "80"}
        run = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 1, f"{self._place(block)}\n{run.stdout}{run.stderr}"
        self._report = run.stdout

    def _check_report(self, block: Block) -> None:
        """Each line that a page shows of a report is in it, in this order. `…` stands for lines that are left out."""
        assert self._report is not None
        lines = iter(map(str.strip, self._report.splitlines()))
        for line in map(str.strip, block.body.splitlines()):
            assert line == "…" or line in lines, f"{self._place(block)}: {line}\n{self._report}"

    def _test(self, block: Block) -> None:
        """Run each test of a file with the fixtures that it asks for."""
        names: dict[str, Any] = {"__name__": block.title}
        exec(compile(block.body, self._place(block), "exec", dont_inherit=True), names)
        tests = [value for name, value in names.items() if name.startswith("test_")]
        assert tests, self._place(block)
        for test in tests:
            call = partial(test, **dict.fromkeys(inspect.signature(test).parameters, self._put))
            if any(mark.name == "simulated" for mark in getattr(test, "pytestmark", ())):
                testing.simulate(call, seeds=20)
                continue
            called = call()
            if inspect.isawaitable(called):
                asyncio.run(_awaited(called))

    def _configure(self, block: Block) -> None:
        """Load a policy, or a part of one, and make it the switch of the following blocks."""
        path = self._folder / (block.title or "llm_dispatcher.yaml")
        path.write_text(block.body)
        self._put(path)


@contextlib.contextmanager
def fresh_logging() -> Iterator[None]:
    """Logging as a program finds it when it starts. It is restored afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("llm_dispatcher")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers[:] = []
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


async def _awaited(called: Any) -> None:
    await called


def commands_in(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's shell blocks, split into words."""
    for block in blocks_of(page):
        if block.language in ("", "sh", "shell", "console", "bash"):
            for line in block.body.replace("\\\n", " ").splitlines():
                words = line.partition("#")[0].strip().removeprefix("$ ").split()
                if words and (block.language or words[0] == "make"):
                    yield f"{page.name}:{block.line}", words


# ── the pages ────────────────────────────────────────────────────────────────────────────────────────────────────────


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(
    page: Path, simulated_switch: SimulatedSwitch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reader]:
    """A reader of the page in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Reader(page, tmp_path, simulated_switch)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def param_of(page: Path) -> Any:
    """The page as a parameter of a test, which is slow if the page runs pytest."""
    runs_pytest = any(block.fails for block in blocks_of(page))
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if runs_pytest else [])


@pytest.mark.found("N-C17")
@pytest.mark.parametrize("page", [param_of(page) for page in PAGES])
def test_the_code_of_a_page_is_a_script(page: Path, reader: Reader) -> None:
    with fresh_logging():
        reader.read_into_a_script()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=name_of)
async def test_the_code_of_a_page_runs_in_a_notebook(
    page: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As IPython runs it: cells in the loop of the kernel. tests/applications runs them in a real kernel."""
    monkeypatch.setitem(sys.modules, "IPython", IPYTHON)
    with fresh_logging():
        await reader.read_into_a_notebook()


PEERS: Final = [page for page in PAGES if any(block.peer is not None for block in blocks_of(page))]


needs_pydantic_ai = pytest.mark.skipif(
    importlib.util.find_spec("pydantic_ai") is None,
    reason="pydantic_ai is not installed; `sh scripts/venv.sh apps` installs it",
)


@pytest.mark.slow
@needs_pydantic_ai
@pytest.mark.parametrize("page", PEERS, ids=name_of)
def test_the_code_for_pydantic_ai_runs(page: Path, reader: Reader) -> None:
    reader.read_the_blocks_of_pydantic_ai()


_PRINTED_BY: Final = re.compile(r"<!-- begin: python (?P<script>\S+) -->\n\n(?P<table>.*?)\n\n<!-- end -->", re.DOTALL)
TABLES: Final = [
    pytest.param(match["script"], match["table"], id=f"{name_of(page)}-{match['script']}")
    for page in PEERS
    for match in _PRINTED_BY.finditer(page.read_text())
]


@pytest.mark.slow
@needs_pydantic_ai
@pytest.mark.parametrize(("script", "table"), TABLES)
def test_a_table_is_what_its_script_prints(script: str, table: str) -> None:
    run = subprocess.run([sys.executable, ROOT / script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == table.strip()


def test_two_blocks_say_that_a_notebook_behaves_otherwise() -> None:
    assert [name_of(page) for page in PAGES for block in blocks_of(page) if not block.is_a_cell] == [
        "docs/reading-a-stream.md",
        "docs/simulation.md",
    ]


TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
SUBCOMMANDS = set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    for place, (command, *words) in commands_in(page):
        match command:
            case "make":
                assert words[0] in TARGETS, place
            case "llm-dispatcher":
                assert words[0] in SUBCOMMANDS or words[0].startswith("-"), place
            case "python" | ".venv/bin/python":
                named = [word for word in words if not word.startswith("-")]
                assert words[0] == "-m" or (ROOT / named[0]).exists(), place
            case "pip":
                assert words[0] in ("install", "uninstall"), place
            case _:
                assert command in COMMANDS, f"{place}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_the_page_of_errors_names_every_one() -> None:
    page = re.sub(r"<!--.*?-->", "", (ROOT / "docs" / "errors.md").read_text())
    named = set(re.findall(r"\b[A-Z]\w+Error\b", page))
    ours = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, BaseException) and not name.startswith("_")
    }
    assert ours <= named
    assert named - ours <= {"TimeoutError", "TypeError", "ValueError", "RuntimeError"}


@pytest.mark.found("N-B16", "H-7")
def test_the_navigation_lists_each_page_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    entries = [entry for section in nav for entry in section.items()]
    assert sorted(title for title, _ in entries) == sorted({title for title, _ in entries})
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert sorted(target for _, target in entries if target != "decisions") == sorted(pages)


DECISIONS: Final = sorted((ROOT / "docs" / "decisions").glob("*.md"))


def test_each_decision_has_a_number_of_its_own_a_date_and_a_status() -> None:
    numbers = [page.name[:4] for page in DECISIONS]
    assert sorted(set(numbers)) == numbers
    for page in DECISIONS:
        assert re.match(r"# .+\n\n\*Decided on \d{4}-\d\d-\d\d\. .+\*\n\n", page.read_text()), page.name


def test_each_decision_that_the_code_names_is_there() -> None:
    numbers = {page.name[:4] for page in DECISIONS}
    for path in (ROOT / "llm_dispatcher").rglob("*.py"):
        assert set(re.findall(r"docs/decisions/(\d{4})", path.read_text())) <= numbers, path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_source_file_that_a_page_names_is_there(page: Path) -> None:
    for named in re.findall(r"`((?:[\w.]+/)+\w+\.(?:py|ya?ml|toml|md))[:`]", page.read_text()):
        folder = named.partition("/")[0]
        roots = [root for root in (ROOT, ROOT / "llm_dispatcher") if (root / folder).is_dir()]
        assert not roots or any((root / named).exists() for root in roots), f"{name_of(page)}: {named}"


@pytest.mark.slow
@pytest.mark.found("N-B16")
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="`make docs` installs mkdocs")
def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = {page.name: page.read_text() for page in tmp_path.glob("*.html")}
    documented = set(re.findall(r'<h\d id="llm_dispatcher\.(?:[^"]*\.)?(\w+)"', read["reference.html"]))
    for name in ("", ".cache", ".provider", ".provider.kit", ".pytest_plugin", ".streaming", ".tasks", ".testing"):
        public = importlib.import_module(f"llm_dispatcher{name}").__all__
        assert {each for each in public if not each.startswith("pytest_")} <= documented, name  # those are hooks
    assert {"TextDelta", "TargetGivenUp", "CacheError", "Stall"} <= documented
    fetched = re.findall(r'(?:src|<link[^>]* href)="(https?://[^"]+)"', "".join(read.values()))
    assert fetched == [], "a page fetches nothing from elsewhere"
    # On the disk a browser reads no JSON and starts no worker: the index is a script, and the search runs in a frame.
    assert (tmp_path / "search" / "search_index.js").exists()
    assert 'src="javascripts/iframe-worker.js"' in read["index.html"]
    assert (tmp_path / "javascripts" / "iframe-worker.js").exists()
