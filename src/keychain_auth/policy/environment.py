"""Environment variables that a launched script must not have. Pure.

An interpreter, its loader and the libraries under it obey variables that name code, or places where code is looked
for. Whoever starts a script sets them. The front of ``launch`` removes these; the daemon looks again, before the first
instruction, and ends a process that has one of them.

What is here and why:

* loader and C library: preloaded and audited libraries, character set converters, tunables (``LD_``, ``GCONV_PATH``);
* interpreters: places of modules, options, files that run first (``PYTHON``, ``NODE_``, ``PERL``, ``BASH_ENV``, …), and
  functions that a shell takes from its environment (``BASH_FUNC_``);
* libraries with plug-ins: OpenSSL, Kerberos, GTK, Qt, GIO, Mesa, GStreamer.

What this does not promise: anything about variables that change what a program does by itself (PATH, HOME, a proxy).
A script that runs other programs by their bare name runs what its caller's PATH says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORBIDDEN = re.compile(
    r"""(?x)^(?:
      LD_.* | GCONV_PATH | GETCONF_DIR | GLIBC_TUNABLES | LOCPATH | MALLOC_.* | RESOLV_ADD_TRIM_DOMAINS |
      _?PYTHON.* | __PYVENV_LAUNCHER__ | PYPY.* |
      NODE_.* | DENO_.* | BUN_.* |
      PERL.* | RUBY.* | GEM_.* | BUNDLE_.* | PHPRC | PHP_INI_SCAN_DIR |
      BASH_.* | ENV | SHELLOPTS | BASHOPTS | PS4 | IFS | CDPATH | ZDOTDIR | FPATH | FPATH_.* |
      LUA_.* | LUA\w+_\d+_\d+ | TCLLIBPATH | TCL_LIBRARY | TK_LIBRARY | AWKPATH | AWKLIBPATH | GAWK.* |
      JAVA_TOOL_OPTIONS | JDK_JAVA_OPTIONS | _JAVA_OPTIONS | CLASSPATH | DOTNET_.* | COMPlus_.* | CORECLR_.* | MONO_.* |
      GUILE_.* | JULIA_.* | ERL_.* | ELIXIR_ERL_OPTIONS | R_.* | OCTAVE_.* | SBCL_HOME |
      OPENSSL_(?:CONF|MODULES|ENGINES) | OPENSSL_CONF_INCLUDE | KRB5_CONFIG | KRB5_TRACE | SSLKEYLOGFILE |
      GTK_PATH | GTK\d?_MODULES | GTK_EXE_PREFIX | GIO_EXTRA_MODULES | GIO_MODULE_DIR | GI_TYPELIB_PATH |
      GDK_PIXBUF_MODULE.* | GST_PLUGIN.* | QT_PLUGIN_PATH | QML\w*_PATH | QT_QPA_PLATFORM_PLUGIN_PATH |
      LIBGL_DRIVERS_PATH | LIBVA_DRIVERS_PATH | VK_.* | OCL_ICD_.* | MESA_.* | P11_KIT_.*
    )$"""
)


def is_forbidden(name: str) -> bool:
    """Must a launched script not have a variable of this name?"""
    return _FORBIDDEN.match(name) is not None


def forbidden_names(block: bytes) -> tuple[str, ...]:
    """The names of forbidden variables in an environment as the kernel shows it: ``NAME=value``, each ended by NUL."""
    names = (entry.partition(b"=")[0].decode("utf-8", "surrogateescape") for entry in block.split(b"\0"))
    return tuple(name for name in names if is_forbidden(name))


def allowed(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that a launched script may have."""
    return [name for name in names if not is_forbidden(name)]
