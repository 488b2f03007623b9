"""A file of variables for ``run`` and ``inject``: dotenv, or a template's text."""

from __future__ import annotations

from keychain_auth.errors import KeychainAuthError, NotFound, UsageError

LARGEST = 16 * 1024 * 1024  # bytes


def read(file: str) -> dict[str, str]:
    """The variables of a dotenv file, in order. Raises UsageError that names the line, NotFound, KeychainAuthError."""
    from keychain_auth.cli.interchange import parse  # noqa: PLC0415 - csv, json and re, which most do without

    try:
        return {secret.target: secret.value for secret in parse("dotenv", text_of(file))}
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None


def text_of(file: str) -> str:
    """The text of ``file``. Raises NotFound, UsageError, KeychainAuthError."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(LARGEST + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise KeychainAuthError(f"cannot read {file}: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UsageError(f"{file} is larger than {LARGEST} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:  # its text would show some of the file: raised below, outside of the handler
        pass
    raise UsageError(f"{file} is not UTF-8 text")
