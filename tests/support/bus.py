"""The configuration of a private bus, on which everybody may do everything (dbus-daemon(1))."""

from __future__ import annotations

_TEXT = """<busconfig>
<type>{kind}</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>{services}
<policy context="default">
<allow user="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy>
</busconfig>"""


def configuration(kind: str, socket: str, services: str = "") -> str:
    """Of a bus of ``kind`` (session, system). ``services``: a folder with files of services that it starts; else it
    knows none, so that nothing comes back behind a test's back."""
    folder = f"<servicedir>{services}</servicedir>" if services else ""
    return _TEXT.format(kind=kind, socket=socket, services=folder)
