"""A run's configuration with fields changed by the command line."""

import dataclasses
import types
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from aa_jax.models.config import require
from aa_jax.training.config import TrainConfig, from_dict, to_dict


def override(config: TrainConfig, arguments: Sequence[str]) -> TrainConfig:
    """The configuration with fields changed as `--optimizer.learning-rate 2e-5` says.

    "none" is None; a tuple is written "a,b". A part that is none gets its defaults where a field of it is set.

    Raises:
      ValueError: there is no such field, the value does not fit it, or the whole cannot be.
    """
    data = to_dict(config)
    words = iter(arguments)
    for word in words:
        name, given, value = word.partition("=")
        require(name.startswith("--") and len(name) > 2, f"{word!r} is no option, expected --FIELD VALUE")
        if not given:
            value = next(words, None)  # type: ignore[assignment]
            require(value is not None, f"{name} has no value, expected --FIELD VALUE")
        _set(data, name[2:].replace("-", "_"), value)
    return from_dict(data)


def fields(cls: type = TrainConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field that can be set, with its type, in order."""
    for name, hint in get_type_hints(cls).items():
        inner, _ = _inner(hint)
        if dataclasses.is_dataclass(inner):
            yield from fields(inner, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{name}", _type_name(hint)


def _inner(hint: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it has one."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    (inner,) = [option for option in get_args(hint) if option is not type(None)]
    return inner, True


def _type_name(hint: Any) -> str:
    inner, optional = _inner(hint)
    if optional:
        return f"{_type_name(inner)} or none"
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if get_origin(hint) is tuple:
        return f"{_type_name(get_args(hint)[0])},..."
    return hint.__name__


def _set(data: dict[str, Any], path: str, value: str) -> None:
    hint: Any = TrainConfig
    where = ""
    *parents, last = path.split(".")
    for name in (*parents, last):
        cls, _ = _inner(hint)
        hints = get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
        holds = f"it has {', '.join(hints)}" if hints else f"it is {_type_name(cls)}"
        require(name in hints, f"there is no field {path}: {where or 'the configuration'} has no {name}, {holds}")
        where = f"{where}.{name}".lstrip(".")
        hint = hints[name]
    inner, optional = _inner(hint)
    if dataclasses.is_dataclass(inner) and not (optional and value.lower() == "none"):
        names = ", ".join(field.name for field in dataclasses.fields(inner))
        raise ValueError(f"{path} has fields of its own, set those: {names}")
    for name in parents:
        data[name] = data[name] or {}
        data = data[name]
    data[last] = _parse(value, hint)


def _parse(text: str, hint: Any) -> Any:
    """The value of a type; text that is none is left for `build` to tell of."""
    inner, optional = _inner(hint)
    if optional and text.lower() == "none":
        return None
    if get_origin(inner) is tuple:
        return tuple(_parse(part.strip(), get_args(inner)[0]) for part in text.split(",") if part.strip())
    if inner is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return inner(text) if inner in (int, float) else text
    except ValueError:
        return text
