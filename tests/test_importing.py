"""A fork waits until no thread of ours imports anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FORK = """
import importlib, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
from llm_dispatcher._importing import importing
begun = threading.Event()
sys.modules["told"] = begun
thread = threading.Thread(target=importing, args=(importlib.import_module, "slowly"))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    import slowly
    os._exit(0 if slowly.done else 1)
_, status = os.waitpid(child, 0)
thread.join()
print(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.found("N-A7")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_waits_for_an_import_that_is_under_way(tmp_path: Path) -> None:
    """Else the child waits for ever for the lock of that import: `gunicorn --preload` forks at such a moment."""
    (tmp_path / "slowly.py").write_text("import told, time\ntold.set()\ntime.sleep(0.3)\ndone = True\n")
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


CLIENT = """
import sys
from importlib.util import find_spec
from llm_dispatcher._log import write
from llm_dispatcher._providers.openai.provider import make_client
from llm_dispatcher.provider import ProviderSettings, Secret
make_client(ProviderSettings(name="a", kind="openai", api_key=Secret("test-key")), write)
print("httpx" in sys.modules, find_spec("httpx") is not None)
"""


def test_openais_client_is_made_with_httpx_loaded() -> None:
    """OpenAI's SDK looks for `httpx` in `sys.modules` at each request, and takes it for complete while another thread
    still imports it: the first request to Google would have ended streams that OpenAI was answering. If `httpx` is not
    installed, nobody imports it.
    """
    done = subprocess.run([sys.executable, "-c", CLIENT], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    is_loaded, is_installed = done.stdout.split()
    assert is_loaded == is_installed
