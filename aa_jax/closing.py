"""Context managers of things that have a `close`."""

import types
from typing import Self


class Closing:
    """`with` gives the thing itself, and closes it at the end."""

    def close(self) -> None:
        """End."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        self.close()
