"""Context managers of things that have a `close`."""

import types
from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """`with` gives the thing itself, and closes it at the end."""

    @abstractmethod
    def close(self) -> None:
        """End."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: types.TracebackType | None
    ) -> None:
        self.close()
