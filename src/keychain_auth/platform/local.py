"""The system that the daemon runs on. This file chooses; ``base.Platform`` is the contract."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from keychain_auth.platform.elsewhere import keep_mapped_code
    from keychain_auth.platform.windows.hardening import harden_process, key_memory
    from keychain_auth.platform.windows.stopping import watch_stop
    from keychain_auth.platform.windows.windows import WindowsPlatform as LocalPlatform
elif sys.platform == "darwin":
    from keychain_auth.platform.elsewhere import keep_mapped_code
    from keychain_auth.platform.macos.hardening import harden_process, key_memory
    from keychain_auth.platform.macos.macos import MacosPlatform as LocalPlatform
    from keychain_auth.platform.posix.stopping import watch_stop
else:
    from keychain_auth.platform.linux.hardening import harden_process, key_memory
    from keychain_auth.platform.linux.linux import LinuxPlatform as LocalPlatform
    from keychain_auth.platform.linux.own_pages import keep_mapped_code
    from keychain_auth.platform.posix.stopping import watch_stop

__all__ = ["LocalPlatform", "harden_process", "keep_mapped_code", "key_memory", "watch_stop"]
