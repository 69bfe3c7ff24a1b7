"""From a TOML file to settings that pydantic has checked; what is wrong with one is a line that names file and key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from signet_runtime.boundary import parse_toml, read_text
from signet_runtime.errors import ConfigError, SignetError
from signet_runtime.printable import printable

Kind = TypeVar("Kind", bound=BaseModel)

_TOLD = 3  # faults of a file that are told; the others are counted
_SHOWN = 60  # characters of a value that are shown

# What pydantic calls by Python's names.
_SAID = {"model_type": "has to be a section", "dict_type": "has to be a section", "tuple_type": "has to be a list"}
_SAID |= {"too_short": "has to name one at least", "string_type": "has to be a text, in quotes"}


def read_settings(path: Path, advice: str = "") -> dict[str, Any]:
    """Read a TOML file.

    Args:
        advice: what to do where there is none.

    Raises:
        ConfigError: no such file, or no TOML.
    """
    if not os.path.exists(path):  # noqa: PTH110 - Path's raises where the name is too long
        raise ConfigError(f"{path}: no such file{advice}")
    return parse_toml(read_text(path, "settings_bytes", ConfigError), path, ConfigError)


def changed(settings: Mapping[str, Any], change: str) -> dict[str, Any]:
    """Return settings with another one, ``section.key=value`` with a value as in TOML, or as it stands.

    Raises:
        ConfigError: the change is not of this form, or a section is a setting.
    """
    key, equals, value = change.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise ConfigError(f"--set {change}: is not section.key=value, as optimisation.epochs=3")
    new = dict(settings)
    inner = new
    for section in sections:
        found = inner.get(section, {})
        if not isinstance(found, dict):
            raise ConfigError(f"--set {change}: {section} is a setting and no section")
        inner[section] = dict(found)
        inner = inner[section]
    try:
        inner[name] = parse_toml(f"value = {value}", "--set", ConfigError)["value"]
    except ConfigError:  # a word or a path that nobody put between quotes
        inner[name] = value.strip()
    return new


def validated(
    kind: type[Kind], settings: Mapping[str, Any], where: str | Path, failure: type[SignetError] = ConfigError
) -> Kind:
    """Return settings as ``kind``.

    Args:
        where: what the settings are of: a file.
        failure: what is raised.

    Raises:
        ConfigError: or ``failure``: settings that are unknown, wrong, or do not fit one another; in one line, each
            with its value, what it may be, and why.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        raise failure(f"{where}: {faults(error, kind)}") from None


def faults(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return in one line what is wrong with the settings of a ``kind``."""
    found = error.errors(include_url=False)
    told = "; ".join(_fault(fault, kind) for fault in found[:_TOLD])
    return told + (f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else "")


def _fault(fault: Any, kind: type[BaseModel]) -> str:
    key = _short(".".join(map(str, fault["loc"])))
    if fault["type"] == "extra_forbidden":
        return f"{key}: there is no such setting{nearest_of(kind, key)}"
    if fault["type"] == "missing":
        return f"{key}: is missing"
    said = _SAID.get(fault["type"]) or str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "value_error":  # of several settings together, which are named
        return f"{key}: {said}" if key else said
    return f"{key} is {shown(fault['input'])}: {said[0].lower()}{said[1:]}"


def shown(value: Any) -> str:
    """Return a setting's value as it can stand in a line: shortened, without what controls a terminal."""
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to write one of thousands of digits
        return f"a number of some {int(value.bit_length() * 0.30103):,} digits"
    text = _short(str(value))
    return f'"{text}"' if isinstance(value, (str, Path)) else text


def _short(text: str) -> str:
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def nearest_of(kind: type[BaseModel], key: str) -> str:
    """Return a question for whoever misspelled a key: the settings that it may be, dotted; empty where none is near."""
    known = [name for name, _ in settings_of(kind)]
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(key, known, n=2, cutoff=0.75)
    close += [last[name] for name in difflib.get_close_matches(key.rpartition(".")[2], last, n=2, cutoff=0.75)]
    return f"; did you mean {' or '.join(dict.fromkeys(close[:2]))}?" if close else ""


def settings_of(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting by its dotted key, sections before what is in them."""
    for name, field in kind.model_fields.items():
        yield f"{prefix}{name}", field
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from settings_of(part, f"{prefix}{name}.")
