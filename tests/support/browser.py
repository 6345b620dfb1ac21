"""A headless browser that opens one page: what it says in its console, and what the page asks the network for."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRED = "CI_BROWSER"
"""Set to 1 where a browser must be there: then its absence fails a test, and does not skip it."""

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser's own calls go nowhere
    "--enable-logging=stderr",
    "--v=0",
)
_BY_THE_BROWSER = "not an origin"


@dataclass(frozen=True)
class Visit:
    """What happened when a page was opened.

    Args:
        content: the document after loading.
        console: lines of the console, errors among them.
        requests: addresses that the page itself asked the network for.
    """

    content: str
    console: list[str]
    requests: list[str]


def browser() -> str:
    """Return a browser's path; skip the test, or fail where one is required, if there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"expected {', '.join(NAMES)} on PATH (Debian: apt-get install chromium), found none"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def visit(page: Path) -> Visit:
    """Open a file."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "net.json"
        files = [f"--user-data-dir={folder}/profile", f"--log-net-log={log}"]
        done = subprocess.run(
            [browser(), *OPTIONS, *files, "--dump-dom", page.as_uri()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return Visit(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], _requests(log))


def _requests(log: Path) -> list[str]:
    document = json.loads(log.read_text())
    started = document["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [event.get("params", {}) for event in document["events"] if event["type"] == started]
    return [p["url"] for p in begun if "url" in p and p.get("initiator", _BY_THE_BROWSER) != _BY_THE_BROWSER]
