"""What becomes of a change: awaited as any future, or told at once to who waits without a task.

Why: a future tells who awaits it in the next round of the event loop, and a task takes a round to begin and one to say
that it ended. Of a durable write these rounds were a fifth of the daemon's work. Who drives a coroutine by hand
(``daemon.serving.eager``) is called back instead, in the moment when the outcome is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Outcome(asyncio.Future[None]):
    """Done when the change was made, or failed. Belongs to one event loop."""

    then: Callable[[], None] | None = None
    """Called once, when it is done. Who sets it does not await it too."""

    def settle(self, error: BaseException | None) -> None:
        """It is done; a second time says nothing. Raises nothing: who settles has others to tell."""
        if self.done():
            return
        if error is None:
            self.set_result(None)
        else:
            self.set_exception(error)
        then, self.then = self.then, None
        if then is not None:
            try:
                then()
            except Exception as fault:  # noqa: BLE001 - as the loop treats a callback
                self.get_loop().call_exception_handler({"message": "an outcome was not heard", "exception": fault})
