"""A TPM 2.0 in software (swtpm), of the user under test, in a world's home.

``missing()`` says what this machine lacks for it; tests skip with that text.
"""

from __future__ import annotations

import os
import shutil

from support.lines import until
from support.process import Process
from support.world import World

_PACKAGES = {"swtpm": "swtpm", "tpm2": "tpm2-tools"}


def missing() -> str:
    """What to install before there can be a Tpm here; empty if all is there."""
    packages = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    return f"needs a TPM in software: apt-get install {' '.join(packages)}" if packages else ""


class Tpm:
    """One chip. ``tcti`` is how tpm2-tools reach it."""

    def __init__(self, world: World, name: str = "tpm") -> None:
        self._world = world
        self._folder = world.path(name)
        os.mkdir(self._folder, 0o700)
        world.user.own(self._folder)
        self._socket = os.path.join(self._folder, "sock")
        self.tcti = f"swtpm:path={self._socket}"
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        """Switch it on; its PCRs are those of a fresh start."""
        self._process = self._world.spawn(
            ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}",
             "--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._socket}.ctrl",
             "--flags", "not-need-init,startup-clear"]
        )  # fmt: skip
        until(lambda: os.path.exists(f"{self._socket}.ctrl"), "the TPM listens")
        until(lambda: self._run("getrandom", "--hex", "8") == 0, "the TPM answers")

    def stop(self) -> None:
        """Switch it off."""
        assert self._process is not None
        self._process.kill()
        for path in (self._socket, f"{self._socket}.ctrl"):
            if os.path.exists(path):
                os.unlink(path)

    def extend(self, pcr: int) -> None:
        """Change a PCR, as another boot loader would."""
        assert self._run("pcrextend", f"{pcr}:sha256={'ab' * 32}") == 0

    def clear(self) -> None:
        """Make it forget its seed, as a reset in the firmware does."""
        assert self._run("clear", "-c", "p") == 0

    def _run(self, *words: str) -> int:
        done = self._world.spawn(["tpm2", *words], env={"TPM2TOOLS_TCTI": self.tcti})
        return done.wait()


__all__ = ["Tpm", "missing"]
