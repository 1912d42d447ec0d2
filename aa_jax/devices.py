"""Independent pieces of work on all devices of this machine, each device one at a time."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax

Tool = TypeVar("Tool")
Piece = TypeVar("Piece")


def on_devices(
    todo: Sequence[Piece], open_tool: Callable[[], Tool], work: Callable[[Tool, Piece], object]
) -> Iterator[None]:
    """Run `work` on all pieces, one thread a device; yields as each is done.

    Args:
      open_tool: what a thread works with, a model say, made on its device.

    Raises:
      Exception: the first that `work` or `open_tool` raised, after the pieces under way.
    """
    waiting: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    for each in todo:
        waiting.put(each)
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def run(device: jax.Device) -> None:
        try:
            with jax.default_device(device):
                tool = open_tool()
                while not stop.is_set():
                    try:
                        each = waiting.get_nowait()
                    except queue.Empty:
                        return
                    work(tool, each)
                    done.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            done.put(error)

    threads = [threading.Thread(target=run, args=(device,)) for device in jax.local_devices()[: len(todo)]]
    for thread in threads:
        thread.start()
    try:
        for _ in todo:
            error = done.get()
            if error is not None:
                raise error
            yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
