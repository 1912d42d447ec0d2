"""One at a time, in the order of arrival, with a limit to how many wait."""

import threading
from types import TracebackType


class Turns:
    """Those whose turn it is, or will be.

    Attributes:
      most: how many may wait.
    """

    def __init__(self, most: int):
        self.most = most
        self.changed = threading.Condition()
        self.line: list[Turn] = []

    def join(self) -> "Turn":
        """A place at the end of the line, to be left by the end of a `with` block.

        Raises:
          ValueError: `most` are waiting.
        """
        with self.changed:
            if len(self.line) > self.most:
                raise ValueError(
                    f"{self.most} animation{'s are' if self.most > 1 else ' is'} waiting, and there is no place for "
                    "more: try again later"
                )
            turn = Turn(self)
            self.line.append(turn)
            return turn


class Turn:
    """A place in a line."""

    def __init__(self, turns: Turns):
        self._turns = turns

    @property
    def ahead(self) -> int:
        """How many come before; 0: it is this one's turn."""
        return self._turns.line.index(self)

    def wait(self, seconds: float) -> int:
        """How many come before, as soon as that changes, or after so long."""
        with self._turns.changed:
            if self.ahead:
                self._turns.changed.wait(seconds)
            return self.ahead

    def __enter__(self) -> "Turn":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._turns.changed:
            self._turns.line.remove(self)
            self._turns.changed.notify_all()
