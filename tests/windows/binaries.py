"""Three small Windows binaries that no package brings: ``python.exe``, and two DLLs that only pass calls on.

Made with the assembler and the linker of ``binutils-mingw-w64-x86-64``; no compiler for Windows is needed.

* ``python.exe`` is what CPython's own is: it hands its arguments to ``Py_Main`` of ``python3XX.dll``. Its manifest
  names Windows 10, or Windows would tell Python that it is Windows 8 (GetVersionEx, "Application Manifests").
* ``python3.dll`` is the stable ABI: every function of it is one of ``python3XX.dll``.
* ``bcryptprimitives.dll`` is where programs in Rust take random bytes from; Wine 8 does not have it, and its one
  function is RtlGenRandom, which ``advapi32`` exports as SystemFunction036.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterable, Mapping

_TOOLS = "x86_64-w64-mingw32-"

# The Windows calling convention: 32 bytes of shadow space, the stack aligned to 16 (the call that came here took 8).
_START = """
    .intel_syntax noprefix
    .globl start
start:
    sub rsp, 40
    mov ecx, 1                              # _crt_argv_unexpanded_arguments: Python wants its words as they are
    call _configure_wide_argv
    call __p___wargv
    mov rsi, [rax]
    call __p___argc
    mov ecx, [rax]
    mov rdx, rsi
    call Py_Main
    mov ecx, eax
    call exit
"""
_NOTHING = """
    .intel_syntax noprefix
    .globl entry
entry:                                      # DllMain: TRUE
    mov eax, 1
    ret
"""
_MANIFEST = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
  <compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1">
    <application><supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/></application>
  </compatibility>
</assembly>
"""
_RT_MANIFEST = 24
_CALLED = {
    "ucrtbase": ("_configure_wide_argv", "__p___wargv", "__p___argc", "exit"),
}


def make_python(folder: str, work: str, minor: int) -> None:
    """``python.exe`` in ``folder``, for the ``python3MINOR.dll`` that lies there. ``work`` is for what is left over."""
    libraries = [_import_library(work, name, called) for name, called in _CALLED.items()]
    libraries.append(_import_library(work, f"python3{minor}", ("Py_Main",)))
    with open(os.path.join(work, "manifest.res"), "wb") as file:
        file.write(_resource(0, b"") + _resource(_RT_MANIFEST, _MANIFEST.encode()))
    _run("windres", "-J", "res", "-O", "coff", "manifest.res", "manifest.o", work=work)
    _assemble(work, "start", _START)
    executable = os.path.join(folder, "python.exe")
    _run("ld", "-s", "--subsystem", "console", "-e", "start", "start.o", "manifest.o", *libraries, "-o", executable,
         work=work)  # fmt: skip


def make_forwarders(folder: str, work: str, minor: int) -> None:
    """``python3.dll`` and ``bcryptprimitives.dll`` in ``folder``."""
    _assemble(work, "entry", _NOTHING)
    core = f"python3{minor}"
    names = _exports(os.path.join(folder, f"{core}.dll"), work)
    _forwarder(folder, work, "python3", {name: f"{core}.{name}" for name in names})
    _forwarder(folder, work, "bcryptprimitives", {"ProcessPrng": "advapi32.SystemFunction036"})


def _forwarder(folder: str, work: str, name: str, exports: Mapping[str, str]) -> None:
    _definition(work, name, (f"{ours} = {theirs}" for ours, theirs in exports.items()))
    _run("dlltool", "-d", f"{name}.def", "-e", f"{name}.exp", work=work)
    target = os.path.join(folder, f"{name}.dll")
    _run("ld", "-s", "--dll", "-e", "entry", "entry.o", f"{name}.exp", "-o", target, work=work)


def _import_library(work: str, name: str, functions: Iterable[str]) -> str:
    _definition(work, name, functions)
    _run("dlltool", "-d", f"{name}.def", "-l", f"{name}.a", work=work)
    return f"{name}.a"


def _definition(work: str, name: str, exports: Iterable[str]) -> None:
    with open(os.path.join(work, f"{name}.def"), "w", encoding="ascii") as file:
        file.write("\n".join((f"LIBRARY {name}.dll", "EXPORTS", *exports, "")))


def _assemble(work: str, name: str, source: str) -> None:
    with open(os.path.join(work, f"{name}.s"), "w", encoding="ascii") as file:
        file.write(source)
    _run("as", f"{name}.s", "-o", f"{name}.o", work=work)


def _resource(kind: int, content: bytes) -> bytes:
    """One entry of a .res file: the file begins with an empty one ("RESOURCEHEADER structure")."""
    names = struct.pack("<HHHH", 0xFFFF, kind, 0xFFFF, 1 if kind else 0)
    header = struct.pack("<LL", len(content), 32) + names + struct.pack("<LHHLL", 0, 0, 0x0409 if kind else 0, 0, 0)
    return header + content + b"\0" * (-len(content) % 4)


def _exports(path: str, work: str) -> list[str]:
    """The names that a DLL exports."""
    listing = _run("objdump", "-p", path, work=work)
    table = listing.partition("[Ordinal/Name Pointer] Table")[2].partition("\n\n")[0]
    return re.findall(r"^\s*\[ *\d+\].*?(\w+)\s*$", table, re.MULTILINE)


def _run(tool: str, *words: str, work: str) -> str:
    done = subprocess.run([_TOOLS + tool, *words], cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool} {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
