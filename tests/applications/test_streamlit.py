"""Streamlit's own chat recipe, run by Streamlit's own test runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from llm_dispatcher.testing import Continuing, Cut, Reply

from .conftest import TEXT, Vendors, needs, run

pytestmark = [needs("streamlit"), pytest.mark.found("N-A3")]

CHAT: Final = """
import json
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("streamlit_app.py", default_timeout=60).run()
app.chat_input[0].set_value("Count to six.").run()
assert not app.exception, app.exception
print(json.dumps([[message.name, *(part.value for part in message.markdown)] for message in app.chat_message]))
"""
STOPPED: Final = """
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("streamlit_app.py", default_timeout=60).run()
try:
    app.chat_input[0].set_value("Go on and on.").run(timeout=1.5)
except RuntimeError as error:
    print(error)
"""


def test_a_broken_stream_is_whole_in_a_chat(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply(TEXT, fault=Cut(3)), Continuing(TEXT))
    shown = json.loads(run(folder, "-c", CHAT).splitlines()[-1])
    assert shown == [["user", "Count to six."], ["assistant", TEXT]]
    assert [request.wait_until_over() for request in vendors.second.requests] == ["served"]


def test_a_script_that_is_stopped_closes_the_connection(folder: Path, vendors: Vendors) -> None:
    vendors.say(Reply("word " * 5_000, pace=0.01))
    assert "timed out" in run(folder, "-c", STOPPED)
    assert vendors.first.requests[0].wait_until_over() == "left"
