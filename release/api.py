"""The reference of the Python interface, as Markdown, from signatures and docstrings of what the package exports."""

from __future__ import annotations

import inspect
import re

import keychain_auth

_ROLE = re.compile(r"``([^`]+)``")


def markdown() -> str:
    """One page: the clients, what they return, and the errors."""
    classes = {name: getattr(keychain_auth, name) for name in sorted(keychain_auth.__all__)}
    clients = {name: each for name, each in sorted(classes.items(), reverse=True) if name.endswith("Client")}
    errors = {name: each for name, each in classes.items() if inspect.isclass(each) and issubclass(each, Exception)}
    others = {name: each for name, each in classes.items() if name not in clients and name not in errors}
    parts = ["# Python API", "`from keychain_auth import …`. All errors are `RuntimeError`s. Times are in seconds."]
    for name, client in clients.items():
        parts += [f"## {name}", _code(f"{name}{_signature(client)}"), _text(client)]
        for method, function in inspect.getmembers(client, inspect.isfunction):
            if not method.startswith("_"):
                kind = "async " if inspect.iscoroutinefunction(function) else ""
                parts += [f"### {name}.{method}", _code(f"{kind}{method}{_signature(function)}"), _text(function)]
    parts.append("## What they return")
    for name, other in others.items():
        parts += [f"### {name}", _code(f"{name}{_signature(other)}") if callable(other) else "", _text(other)]
    parts.append("## Errors")
    for name, error in errors.items():
        bases = ", ".join(f"`{base.__name__}`" for base in error.__bases__)
        word = getattr(error, "reason", None)
        reason = f" Reason on the wire: `{word}`." if word else ""
        code = f" Exit code of commands: {error.exit_code}." if hasattr(error, "exit_code") else ""
        parts += [f"### {name}", f"A {bases}.{reason}{code}", _text(error)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _signature(thing: object) -> str:
    try:
        text = str(inspect.signature(thing))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(…)"
    # Annotations are text here; addresses of objects would differ from build to build.
    return re.sub(r"(?:self, |self)", "", text, count=1).replace("'", "").replace("Ellipsis", "...")


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _text(thing: object) -> str:
    """The docstring, with its code in Markdown's way."""
    return _ROLE.sub(r"`\1`", inspect.cleandoc(thing.__doc__ or ""))
