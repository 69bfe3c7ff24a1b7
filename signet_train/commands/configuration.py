"""signet-train config: what can be set."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from signet_runtime.errors import ConfigError


@click.command()
@click.option("--explain", is_flag=True, help="Tell what KEY is, or every setting.")
@click.argument("key", required=False)
def config(explain: bool, key: str | None) -> None:
    """Explain the settings of a run: what each is called, its type, its default, and where the paper has it.

    KEY is a setting or a section, as they stand in a TOML file and after --set.

    \b
    Example: signet-train config --explain
    Example: signet-train config --explain optimisation
    Example: signet-train config --explain model.fusion.top_k
    """  # noqa: D301
    from signet_train.config import all_settings, nearest

    if not explain and key is None:
        raise click.UsageError("say --explain, and which KEY if not all")
    settings = dict(all_settings())
    chosen = [name for name in settings if key is None or name == key or name.startswith(f"{key}.")]
    if not chosen:
        raise ConfigError(f"{key}: there is no such setting{nearest(str(key))}")
    for name in chosen:
        field = settings[name]
        description = " ".join((field.description or "").split())
        if any(other.startswith(f"{name}.") for other in settings):
            click.echo(f"[{name}]\n" + textwrap.fill(description, 100, initial_indent="  ", subsequent_indent="  "))
            continue
        default = "needed" if field.is_required() else f"default {_toml(field.get_default(call_default_factory=True))}"
        click.echo(f"{name}  ({_kind(field.annotation, field.metadata)}; {default})")
        click.echo(textwrap.fill(description, 100, initial_indent="  ", subsequent_indent="  "))


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return a type as people call it; numbers with their range."""
    from types import NoneType, UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    from signet_train.ranges import Real, Whole

    for ranged in metadata:
        if isinstance(ranged, (Whole, Real)):
            return str(ranged).partition(" ")[2]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], arguments[1:])
    if origin is Literal:
        return " or ".join(_toml(argument) for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(argument) for argument in arguments if argument is not NoneType)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    names = {str: "text", Path: "path", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _toml(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f"{value:.12g}" if isinstance(value, float) else str(value)
