"""Core Foundation of macOS: the texts, bytes and tables that its other C interfaces are asked with.

Contract: a ``Pool`` makes objects and owns them: at its end every one of them is released, whatever happened. What it
is given to own (by the "create rule": functions with Create or Copy in their name) is released too; what it hands out
from inside of another object is borrowed, and dies with that. Objects are addresses; 0 is none.

Raises OSError where the frameworks cannot be loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple, Self

from keychain_auth.native import library

_UTF8 = 0x08000100  # kCFStringEncodingUTF8
_ADDRESS, _LONG, _ENCODING, _BOOLEAN = ctypes.c_void_p, ctypes.c_long, ctypes.c_uint32, ctypes.c_ubyte


class _Calls(NamedTuple):
    string: Callable[..., int | None]
    data: Callable[..., int | None]
    table: Callable[..., int | None]
    text_bytes: Callable[..., int | None]
    data_length: Callable[..., int]
    data_bytes: Callable[..., int | None]
    array_length: Callable[..., int]
    array_item: Callable[..., int | None]
    table_item: Callable[..., int | None]
    type_of: Callable[..., int]
    string_type: int
    data_type: int
    release: Callable[..., None]
    key_callbacks: int
    value_callbacks: int
    true: int


@cache
def calls() -> _Calls:
    """The functions of Core Foundation that are used here. Raises OSError."""
    core = library.framework("CoreFoundation")

    def bound(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        return library.bind(core, name, result, *arguments)

    return _Calls(
        string=bound("CFStringCreateWithBytes", _ADDRESS, _ADDRESS, ctypes.c_char_p, _LONG, _ENCODING, _BOOLEAN),
        data=bound("CFDataCreate", _ADDRESS, _ADDRESS, ctypes.c_char_p, _LONG),
        table=bound("CFDictionaryCreate", _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _LONG, _ADDRESS, _ADDRESS),
        text_bytes=bound("CFStringCreateExternalRepresentation", _ADDRESS, _ADDRESS, _ADDRESS, _ENCODING, _BOOLEAN),
        data_length=bound("CFDataGetLength", _LONG, _ADDRESS),
        data_bytes=bound("CFDataGetBytePtr", _ADDRESS, _ADDRESS),
        array_length=bound("CFArrayGetCount", _LONG, _ADDRESS),
        array_item=bound("CFArrayGetValueAtIndex", _ADDRESS, _ADDRESS, _LONG),
        table_item=bound("CFDictionaryGetValue", _ADDRESS, _ADDRESS, _ADDRESS),
        type_of=bound("CFGetTypeID", ctypes.c_ulong, _ADDRESS),
        string_type=bound("CFStringGetTypeID", ctypes.c_ulong)(),
        data_type=bound("CFDataGetTypeID", ctypes.c_ulong)(),
        release=bound("CFRelease", None, _ADDRESS),
        key_callbacks=ctypes.addressof(ctypes.c_char.in_dll(core, "kCFTypeDictionaryKeyCallBacks")),
        value_callbacks=ctypes.addressof(ctypes.c_char.in_dll(core, "kCFTypeDictionaryValueCallBacks")),
        true=constant(core, "kCFBooleanTrue"),
    )  # fmt: skip


def constant(loaded: ctypes.CDLL, name: str) -> int:
    """The object that the framework exports as ``name``. Raises ValueError if it exports none."""
    return ctypes.c_void_p.in_dll(loaded, name).value or 0


class Pool:
    """Objects that live as long as its ``with`` block."""

    def __init__(self) -> None:
        self._calls = calls()
        self._owned: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._owned:
            self._calls.release(self._owned.pop())

    def own(self, made: int | None) -> int:
        """Release ``made`` at the end. Raises MemoryError for none."""
        if not made:
            raise MemoryError("Core Foundation made no object")
        self._owned.append(made)
        return made

    @property
    def true(self) -> int:
        """The constant for yes."""
        return self._calls.true

    def text(self, text: str) -> int:
        """A CFString. Raises UnicodeEncodeError."""
        content = text.encode()
        return self.own(self._calls.string(None, content, len(content), _UTF8, 0))

    def data(self, content: bytes) -> int:
        """A CFData with a copy of ``content``."""
        return self.own(self._calls.data(None, content, len(content)))

    def table(self, entries: Mapping[int, int]) -> int:
        """A CFDictionary, which keeps its keys and values alive by itself."""
        count = len(entries)
        keys, values = (ctypes.c_void_p * count)(*entries), (ctypes.c_void_p * count)(*entries.values())
        callbacks = self._calls.key_callbacks, self._calls.value_callbacks
        return self.own(self._calls.table(None, keys, values, count, *callbacks))

    def item(self, table: int, key: int) -> int:
        """What a CFDictionary has under ``key``, borrowed; 0 if nothing."""
        return self._calls.table_item(table, key) or 0

    def each(self, array: int) -> Iterator[int]:
        """What a CFArray holds, borrowed."""
        for number in range(self._calls.array_length(array)):
            yield self._calls.array_item(array, number) or 0

    def bytes_of(self, data: int) -> bytes | None:
        """A copy of what a CFData holds; None if it is none."""
        if not data or self._calls.type_of(data) != self._calls.data_type:
            return None
        length = self._calls.data_length(data)
        return ctypes.string_at(self._calls.data_bytes(data) or 0, length) if length else b""

    def text_of(self, string: int) -> str | None:
        """The text of a CFString; None if it is none, or cannot be written in UTF-8."""
        if not string or self._calls.type_of(string) != self._calls.string_type:
            return None
        made = self._calls.text_bytes(None, string, _UTF8, 0)
        content = self.bytes_of(self.own(made)) if made else None
        return None if content is None else content.decode(errors="replace")


__all__ = ["Pool", "calls", "constant"]
