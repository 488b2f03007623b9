"""Start files of launched shells: what a shell reads before its script, from a home that its caller names."""

from __future__ import annotations

import os

import pytest

from attacks.launch_lab import declared, launch, output, registered
from support.daemon import Daemon
from support.world import World


@pytest.mark.parametrize(
    ("shell", "start_file"), [("/usr/bin/zsh", ".zshenv"), ("/usr/bin/fish", ".config/fish/config.fish")]
)
def test_a_start_file_in_a_home_of_the_callers_choice(
    world: World, keeper: Daemon, shell: str, start_file: str
) -> None:
    """These two read one before any script (zsh(1), "STARTUP/SHUTDOWN FILES"; fish(1))."""
    if not os.access(shell, os.X_OK):
        pytest.skip(f"there is no {shell} on this machine")
    interpreter = os.path.realpath(shell)
    world.write(f"evil/{start_file}", "echo evil\n")
    evil = {"HOME": world.path("evil"), "XDG_CONFIG_HOME": world.path("evil/.config")}
    script = registered(world, world.write("app", "echo honest $argv\n"), interpreter=interpreter)
    assert output(declared(world, script, "word", env=evil, interpreter=interpreter)).split() == [
        "evil",
        "honest",
        "word",
    ]
    assert output(launch(world, script, "word", env=evil)).split() == ["honest", "word"]
