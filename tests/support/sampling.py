"""Fewer cases of the same kind where tests run a second time, as Windows tests do under Wine.

The profile ``brief`` of hypothesis says so (``conftest.py``); what a test looks for must be found by either.
"""

from __future__ import annotations

import os

_EACH = 13  # a prime: no period of a file's format fits it


def sampled(values: range) -> list[int]:
    """All of ``values``; in the profile ``brief`` every thirteenth, and the last one."""
    if os.environ.get("HYPOTHESIS_PROFILE") != "brief":
        return list(values)
    return sorted({*values[::_EACH], *values[-1:]})
