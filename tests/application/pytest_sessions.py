"""Starts pytest in a process of its own, with an application and its tests, and reads what a user sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from msgspec import Struct

APPLICATION = """
from llm_dispatcher import llm_stream

@llm_stream
def story(topic: str) -> str:
    return f"Tell a short story about {topic}."
"""

IMPORTS = """
import asyncio
import functools
import random
import socket
import threading
import time
import unittest
import warnings

import pytest

from llm_dispatcher import get_global_switch, set_global_switch
from llm_dispatcher.testing import Continuing, Cut, HttpError, Reply, Stall
from story_app import story

TALE = "Once upon a time there was a fox."
"""

REPORTER = """
import json, os

def pytest_runtest_logreport(report):
    with open("reports.jsonl", "a") as file:
        line = [report.nodeid.partition("::")[2], report.when, report.outcome, report.longreprtext, report.sections]
        print(json.dumps(line), file=file)
"""


class Report(Struct, frozen=True):
    """What pytest reports of one test: its outcome, what it prints of a failure, and the sections below that."""

    outcome: str
    text: str
    sections: dict[str, str]


class Session(Struct, frozen=True):
    """A session of pytest."""

    code: int
    output: str
    reports: dict[str, Report]

    @property
    def outcomes(self) -> dict[str, str]:
        return {name: report.outcome for name, report in self.reports.items()}


def session(folder: Path, tests: str, *options: str) -> Session:
    """Run these tests with pytest in a process of its own."""
    (folder / "story_app.py").write_text(APPLICATION)
    (folder / "conftest.py").write_text(REPORTER)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_story.py").write_text(IMPORTS + dedent(tests))
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "random"}
    without = [
        option for name in ("cacheprovider", "timeout", "faker", "hypothesispytest") for option in ("-p", f"no:{name}")
    ]
    command = [sys.executable, "-m", "pytest", *without, "-q", *options]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    reports: dict[str, Report] = {}
    lines = folder / "reports.jsonl"
    for line in lines.read_text().splitlines() if lines.exists() else ():
        name, when, outcome, text, sections = json.loads(line)
        if when == "call" or outcome != "passed":
            reports[name] = Report("error" if when != "call" and outcome == "failed" else outcome, text, dict(sections))
    lines.unlink(missing_ok=True)
    return Session(done.returncode, done.stdout + done.stderr, reports)


AUTO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
STRICT = ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")
ALONE = ("-p", "no:asyncio", "-p", "no:anyio")
