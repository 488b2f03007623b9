"""What failed among thousands of tests side by side, by itself: each must pass three times in a row.

A few tests speak to other people's programs - etcd, Wine, a browser - on a machine that two hundred processes share.
One that fails there and not alone is a fault of the test, to be mended; it is printed, and does not hold up the rest.
More than three that failed are no chance: then nothing is run again. Nor after a run that did not come to its end, for
some tests were not tried then. Ends with 0 only if all passed each time; one that is skipped alone did not pass.

A plugin of pytest as well (``conftest.py`` has it): it notes how a run ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_TOP = Path(__file__).parent.parent
_CACHE = ".pytest_cache"
_ENDED = "keychain-auth/ended"  # in pytest's cache: the code that the last run ended with, null while it goes on
_SOME_FAILED = 1  # pytest.ExitCode.TESTS_FAILED: the others were tried
_MOST = 3
_TIMES = 3


def pytest_sessionstart(session: pytest.Session) -> None:
    _note(session, None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    _note(session, int(exitstatus))


def _note(session: pytest.Session, code: int | None) -> None:
    cache = getattr(session.config, "cache", None)  # there is none where its plugin is turned off
    if cache is not None and not hasattr(session.config, "workerinput"):  # a worker of xdist is a part of a run
        cache.set(_ENDED, code)


def again(top: Path) -> int:
    """Run what the last run of pytest in ``top`` noted as failed; the code to exit with."""
    if _cached(top, f"v/{_ENDED}") != _SOME_FAILED:
        print("The last run did not come to its end, or no test of it failed: nothing to run again.", file=sys.stderr)
        return 1
    failed = sorted(_cached(top, "v/cache/lastfailed") or ())  # by pytest's own cache plugin: {test: true}
    if not failed:
        print("No test is noted as failed, so the run itself went wrong: nothing to run again.", file=sys.stderr)
        return 1
    if len(failed) > _MOST:
        print(f"{len(failed)} tests failed: that is no chance, nothing is run again.", file=sys.stderr)
        return 1
    for turn in range(_TIMES):
        print(f"Alone, {turn + 1} of {_TIMES}: {' '.join(failed)}", flush=True)
        if code := _alone(top, failed):
            return code
    (top / _CACHE / "v/cache/lastfailed").unlink()  # so that the next command that fails is not taken for these
    print("UNSTEADY, to be mended: failed among the others, passed alone:", *failed, sep="\n  ", flush=True)
    return 0


def _cached(top: Path, name: str) -> Any:
    try:
        return json.loads((top / _CACHE / name).read_text())
    except (OSError, ValueError):
        return None


def _alone(top: Path, failed: list[str]) -> int:
    """The code of one run of these; not 0 if one of them was skipped."""
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        # Without its cache: what is noted as failed stays as it was.
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *failed]
        done = subprocess.run(words, check=False, cwd=top)
        if done.returncode:
            return done.returncode
        counts = xml.etree.ElementTree.parse(report).getroot()[0].attrib  # noqa: S314 - pytest wrote it just now
    if int(counts["skipped"]) or int(counts["tests"]) < len(failed):
        print("Not all of them were run: that one failed and cannot be tried is no pass.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(again(_TOP))
