"""What failed among thousands of tests side by side, by itself: each must pass three times in a row.

A few tests speak to other people's programs - etcd, Wine, a browser - on a machine that two hundred processes share.
One that fails there and not alone is a fault of the test, to be mended; it is printed, and does not hold up the rest.
More than three that failed are no chance: then nothing is run again. Ends with 0 only if all passed each time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_TOP = Path(__file__).parent.parent
_FAILED = Path(".pytest_cache/v/cache/lastfailed")  # by pytest's own cache plugin: {test: true}
_MOST = 3
_TIMES = 3


def again(top: Path) -> int:
    """Run what the last run of pytest in ``top`` noted as failed; the code to exit with."""
    try:
        failed = sorted(json.loads((top / _FAILED).read_text()))
    except (OSError, ValueError):
        failed = []
    if not failed:
        print("No test is noted as failed, so the run itself went wrong: nothing to run again.", file=sys.stderr)
        return 1
    if len(failed) > _MOST:
        print(f"{len(failed)} tests failed: that is no chance, nothing is run again.", file=sys.stderr)
        return 1
    for turn in range(_TIMES):
        print(f"Alone, {turn + 1} of {_TIMES}: {' '.join(failed)}", flush=True)
        # Without its cache: what is noted as failed stays as it was.
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *failed], check=False, cwd=top
        )
        if done.returncode:
            return done.returncode
    (top / _FAILED).unlink()  # so that the next command that fails is not taken for these
    print("UNSTEADY, to be mended: failed among the others, passed alone:", *failed, sep="\n  ", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(again(_TOP))
