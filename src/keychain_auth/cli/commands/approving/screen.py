"""``keychain-auth watch``: a screen with everybody who asks right now, and keys to answer.

Contract: what a program chose (its name, its arguments, the names that it asks for) is shown as text, never as markup,
and without control characters. The daemon is asked in a thread of its own, and nothing that takes long is done in the
loop that draws. A key counts only for the program that the person has had time to look at, and for what it asked for
then: whoever can start the same program can add a wish at any moment. A passphrase is asked for
each time, on this screen, and kept no longer than the one answer takes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Header, Input, Label, ListItem, ListView, Static

from keychain_auth.cli.commands.approving.answering import answer, look_into, now, who_waits
from keychain_auth.cli.commands.approving.asking import Asked, Choice, Fact, Looked, facts, permissions, why_not
from keychain_auth.cli.report import printable
from keychain_auth.cli.shared import config_file
from keychain_auth.client import passphrase
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError

_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 0.4  # nobody reads faster: a key that comes sooner was meant for what stood here before
_GREW_SECONDS = 2.0  # what is asked for beside it has to be noticed first
_GREW = "what it asks for, while it was shown here"
_MOST_LINES = 200
_STYLES = {"verified": "green", "asked": "bold", "claimed": "yellow"}
_MARKS = {"verified": "✓ verified", "asked": "▸ asked", "claimed": "? claimed"}
NOBODY = "Nobody waits. Who asks, and waits, appears here; who was refused at once: keychain-auth list-pending"


class PassphraseScreen(ModalScreen[str]):
    """Asks for the passphrase; "" if the person thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def compose(self) -> ComposeResult:
        """A label and a field that shows nothing."""
        with Vertical(id="passphrase"):
            yield Label("Passphrase of the vault, to approve this:", markup=False)
            yield Input(password=True, id="words")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter."""
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss("")


class Watch(App[None]):
    """The whole screen."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "keychain-auth: who asks right now"
    CSS = """
    #list { width: 38%; min-width: 24; border-right: solid $panel; }
    #facts { padding: 0 1; }
    #done { height: 4; border-top: solid $panel; padding: 0 1; color: $text-muted; }
    #state { padding: 0 1; }
    #passphrase { width: 60; height: 7; border: thick $primary; background: $surface; padding: 1 2; }
    PassphraseScreen { align: center middle; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(choice.key, f"choose('{choice.name}')", choice.label) for choice in Choice),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, places: Places, look: Callable[[Places, Asked], Looked] = look_into) -> None:
        super().__init__()
        self._places = places
        self._look = look
        self._waiting: list[Asked] = []
        self._looked: dict[str, Looked] = {}
        self._shown = ""
        self._counts_from = 0.0  # of time.monotonic: when a key counts
        self._shown_wants: tuple[dict[str, Any], ...] = ()
        self._grew = False
        self._done: list[str] = []
        self._busy = False
        self._filling = False
        self._showing = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """Who asks on the left, what is known of it on the right, what was answered below."""
        yield Header()
        yield Static(NOBODY, id="state", markup=False)
        with Horizontal():
            yield ListView(id="list")
            with VerticalScroll():
                yield Static("", id="facts", markup=False)
        yield Static("", id="done", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask the daemon."""
        threading.Thread(target=self._follow, name="watch", daemon=True).start()

    # --- the daemon's news, in a thread -----------------------------------------------------------

    def _follow(self) -> None:
        version = -1
        while self.is_running:
            try:
                version, waiting = who_waits(self._places, version)
                looked = {one.id: self._looked.get(one.id) or self._look(self._places, one) for one in waiting}
                problem = ""
            except (KeychainAuthError, OSError) as error:
                version, waiting, looked, problem = -1, [], {}, str(error)
            try:
                self.call_from_thread(self._news, waiting, looked, problem)
            except RuntimeError:  # the screen was closed meanwhile
                return
            if problem:
                time.sleep(_AGAIN_SECONDS)

    def _news(self, waiting: list[Asked], looked: dict[str, Looked], problem: str) -> None:
        # Not "exclusive": that cancels the one before, and a list that is cancelled while it is cleared never ends.
        self.run_worker(self._take(waiting, looked, problem))

    async def _take(self, waiting: list[Asked], looked: dict[str, Looked], problem: str) -> None:
        try:
            async with self._showing:
                await self._show(waiting, looked, problem)
        except (NoMatches, ScreenStackError):  # the screen was closed meanwhile
            return

    async def _show(self, waiting: list[Asked], looked: dict[str, Looked], problem: str) -> None:
        """Show the list as it is now. Whom the person looks at stays chosen.

        If he is gone, nobody is chosen: the key under the finger was meant for him. Only the first one of an empty
        list is chosen without being asked for.
        """
        before, first = self._shown, not self._waiting
        self._waiting, self._looked = waiting, looked
        many = f"{len(waiting)} program{'' if len(waiting) == 1 else 's'} asking"
        self._base.query_one("#state", Static).update(printable(problem) or (many if waiting else NOBODY))
        view = self._base.query_one("#list", ListView)
        self._filling = True
        try:
            await view.clear()
            await view.extend(ListItem(Label(_line(one), markup=False)) for one in waiting)
        finally:
            self._filling = False
        other = 0 if waiting and first else None
        view.index = next((index for index, one in enumerate(waiting) if one.id == before), other)
        self._draw()
        if self.screen is self._base:
            view.focus()

    @property
    def _base(self) -> Screen[object]:
        """The screen itself, whatever is asked on top of it. Raises ScreenStackError once it is closed."""
        if not self.screen_stack:
            raise ScreenStackError("closed")
        return self.screen_stack[0]

    # --- what is shown ----------------------------------------------------------------------------

    def on_list_view_highlighted(self, event: ListView.Highlighted) -> None:
        """Another one was chosen."""
        if not self._filling:
            self._draw()

    def _chosen(self) -> Asked | None:
        index = self._base.query_one("#list", ListView).index
        return self._waiting[index] if index is not None and index < len(self._waiting) else None

    def _draw(self) -> None:
        chosen = self._chosen()
        shown = chosen.id if chosen else ""
        wants = chosen.wants if chosen else ()
        if shown != self._shown or wants != self._shown_wants:
            self._grew = shown == self._shown
            self._counts_from = time.monotonic() + (_GREW_SECONDS if self._grew else _LOOK_SECONDS)
            self._shown, self._shown_wants = shown, wants
        text = Text()
        if chosen is not None:
            if self._grew:
                _append(text, Fact("changed", _GREW, "asked"))
            looked = self._looked[chosen.id]
            for fact in facts(chosen, looked):
                _append(text, fact)
            text.append("\n")
            for choice in Choice:
                objection = why_not(choice, chosen, looked)
                text.append(f"[{choice.key}] ", style="dim" if objection else "bold")
                said = f"{choice.label}: {printable(objection or choice.means(chosen))}\n"
                text.append(said, style="dim" if objection else "")
        self._base.query_one("#facts", Static).update(text)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that cannot be used now are greyed out."""
        if action != "choose":
            return True
        chosen = self._chosen()
        if chosen is None or self._busy:
            return None
        return None if why_not(Choice[str(parameters[0])], chosen, self._looked[chosen.id]) else True

    # --- answers ----------------------------------------------------------------------------------

    def action_choose(self, name: str) -> None:
        """A key was pressed: do it, after the passphrase where one is set."""
        asked, choice = self._chosen(), Choice[name]
        if asked is None or self._busy or time.monotonic() < self._counts_from:
            return
        if (asked.id, asked.wants) != (self._shown, self._shown_wants):  # the list is being filled anew
            return
        self._busy = True
        if choice is Choice.NOT_NOW:
            self._start(asked, choice, "")
        else:
            threading.Thread(target=self._ask_first, args=(asked, choice), daemon=True).start()

    def _ask_first(self, asked: Asked, choice: Choice) -> None:
        try:
            sealed = config_file.accepted_text(self._places) is not None
        except (KeychainAuthError, OSError) as error:
            self.call_from_thread(self._finished, str(error))
            return
        if not sealed:
            self.call_from_thread(self._start, asked, choice, "")
            return

        def typed(words: str | None) -> None:
            if words:
                self._start(asked, choice, words)
            else:
                self._finished("nothing was approved")

        self.call_from_thread(self.push_screen, PassphraseScreen(), typed)

    def _start(self, asked: Asked, choice: Choice, words: str) -> None:
        threading.Thread(target=self._carry_out, args=(asked, choice, words), daemon=True).start()

    def _carry_out(self, asked: Asked, choice: Choice, words: str) -> None:
        try:
            if words:
                passphrase.use(words)
            said = answer(self._places, asked, self._looked.get(asked.id, Looked()), choice)
        except (KeychainAuthError, OSError) as error:
            hint = f" Next: {error.hint}" if isinstance(error, KeychainAuthError) and error.hint else ""
            said = f"NOT done: {error}{hint}"
        finally:
            passphrase.forget()
        self.call_from_thread(self._finished, said)

    def _finished(self, said: str) -> None:
        self._busy = False
        self._done = [*self._done, f"{now()}  {printable(said)}"][-_MOST_LINES:]
        self._base.query_one("#done", Static).update("\n".join(self._done[-3:]))
        self._draw()


def _line(asked: Asked) -> str:
    services = ", ".join(each.service for each in permissions(asked))
    return printable(f"{asked.entry.path.rpartition('/')[2]}  wants {services}")


def _append(text: Text, fact: Fact) -> None:
    text.append(f"{_MARKS[fact.standing]:<11}", style=_STYLES[fact.standing])
    text.append(f"{fact.name}: ", style="dim")
    text.append(f"{printable(fact.text)}\n", style="bold" if fact.standing == "asked" else "")
