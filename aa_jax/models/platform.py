"""The platform that a function is traced for, by which algorithms are chosen: JAX's own, or that of another machine."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar("target", default=None)


def platform() -> str:
    """By JAX's names: "cpu", "gpu", "tpu"."""
    return _TARGET.get() or jax.default_backend()


@contextlib.contextmanager
def traced_for(target: str) -> Iterator[None]:
    """What is traced inside is for that platform. A function that `jax.jit` has traced before stays as it was."""
    token = _TARGET.set(target)
    try:
        yield
    finally:
        _TARGET.reset(token)
