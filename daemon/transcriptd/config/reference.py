"""The reference of the configuration: every key by its name, and what is generated from it.

The commented example and the JSON schema in `config/` are written here. Reads the declarations in
`settings`; knows nothing of where values come from.
"""

from __future__ import annotations

import difflib
import json
import textwrap
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import msgspec

from transcriptd.config import suggested
from transcriptd.config.agents import NAME, SHARED, SHIPPED, Others
from transcriptd.config.settings import MIB, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transcriptd.config.kinds import Expand

_WIDTH = 96
_LONGEST_SHOWN = 60
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS |= {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key: what the reference says about it and what a value is checked against."""

    key: str
    type: Any  # with bounds
    kind: Any  # without: int, float, bool, str, Path, tuple, Literal
    default: Any
    description: str
    default_text: str
    example: Any
    expected: str
    secret: bool
    is_size: bool
    is_path: bool
    each: Callable[[str, Expand], str] | None  # what becomes of each text of a list

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def table(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def variable(self) -> str:
        return "TRANSCRIPTD_" + self.key.upper().replace(".", "__")


def _leaves(struct: type[msgspec.Struct], table: str = "") -> Iterator[Leaf]:
    for entry in msgspec.structs.fields(struct):
        if entry.type == Others:
            continue  # tables of the file, each with keys of its own
        key = f"{table}{entry.encode_name}"
        kind, *metas = get_args(entry.type) or (entry.type,)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from _leaves(kind, f"{key}.")
            continue
        extra: dict[str, Any] = {}
        for meta in metas:
            extra |= meta.extra or {}
        derived = entry.default is msgspec.NODEFAULT
        examples = [example for meta in metas for example in meta.examples or ()]
        yield Leaf(
            key=key,
            type=entry.type,
            kind=get_origin(kind) or kind,
            default=None if derived else entry.default,
            description=next(meta.description for meta in metas if meta.description),
            default_text=extra.get("default", ""),
            example=examples[0] if examples else entry.default,
            expected=extra.get("expected", _expected(kind)),
            secret="secret" in extra,
            is_size="size" in extra,
            is_path=kind is Path or "path" in extra,
            each=extra.get("each"),
        )


def _tables(
    struct: type[msgspec.Struct], prefix: str = ""
) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for entry in msgspec.structs.fields(struct):
        if isinstance(entry.type, type) and issubclass(entry.type, msgspec.Struct):
            yield f"{prefix}{entry.name}", entry.type
            yield from _tables(entry.type, f"{prefix}{entry.name}.")


def _expected(kind: Any) -> str:  # noqa: ANN401 - a type, or a form such as Literal[...]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(repr(word) for word in get_args(kind) if word)
    return {bool: "true or false", Path: "a path"}.get(kind, "a text")


LEAVES = types.MappingProxyType({leaf.key: leaf for leaf in _leaves(Settings)})
"""Every key, by its dotted name."""

TABLES = types.MappingProxyType(dict(_tables(Settings)))
"""Every table, by its dotted name."""


def parse_size(text: str) -> int:
    """Read `64MiB`, `64M`, `1.5 GiB`, `500kB` or a plain number of bytes. Raises `ValueError`."""
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text.strip()[len(number) :].lower()
    if unit not in _UNITS or not number.strip().replace(".", "", 1).isdigit():
        raise ValueError(text)
    return int(float(number) * _UNITS[unit])


def unknown(name: str, known: Iterable[str]) -> str:
    """Say that there is no such name, and which was probably meant."""
    known = tuple(known)
    close = difflib.get_close_matches(name, known, n=1)
    close += [key for key in known if key.endswith(f".{name}")]
    return f"unknown; did you mean {close[0]}?" if close else "unknown"


def shown(value: object) -> str:
    """Repeat a value that was not expected, as much of it as helps."""
    said = "a table" if isinstance(value, dict) else repr(value)
    return f"{said[:_LONGEST_SHOWN]}…" if len(said) > _LONGEST_SHOWN else said


def literal(leaf: Leaf, value: Any) -> str:  # noqa: ANN401 - any value a key can have
    """Write a value as TOML, sizes in the largest unit that divides them."""
    if leaf.is_size:
        for unit, factor in (("GiB", 1 << 30), ("MiB", MIB), ("KiB", 1 << 10)):
            if value and value % factor == 0:
                return f'"{value // factor}{unit}"'
        return str(value)
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)


def example() -> str:
    """Write the commented example configuration: every key, its explanation and its default."""
    lines = [
        "# transcriptd: every key, what it means and its default. All of them are optional.",
        "# Written by `transcriptd config example`; nothing reads this file where it lies. Copy it",
        "# to ~/.config/transcriptd/config.toml, or name it with --config or TRANSCRIPTD_CONFIG.",
        "# Each key is also a variable, which goes before this file: TRANSCRIPTD_ and the key in",
        "# capitals, `__` for a dot, and with _FILE behind it the name of a file with the value.",
    ]
    table = ""
    for leaf in LEAVES.values():
        if leaf.table != table:
            table = leaf.table
            lines += ["", f"[{table}]"]
        else:
            lines.append("")
        default = leaf.default_text or literal(leaf, leaf.default)
        if leaf.default in {"", ()}:
            default = "none"
        lines += textwrap.wrap(
            leaf.description, _WIDTH, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(f"# Default: {default}.")
        lines.append(f"# {leaf.name} = {literal(leaf, leaf.example)}")
    lines += ["", *suggested.commented(), "", *_RULES]
    return "\n".join(lines) + "\n"


_RULES = (
    "# What else is a secret: a name that stands in the mask, and a pattern as RE2 has them. The",
    "# first group of the pattern, if it has one, is what is masked. As often as needed.",
    "# [[rules]]",
    '# name = "intranet-token"',
    "# pattern = 'intra_[0-9a-f]{32}'",
)


def schema() -> dict[str, Any]:
    """Describe the configuration file as a JSON schema."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of transcriptd",
    } | _object()
    for leaf in LEAVES.values():
        table = root
        for part in filter(None, leaf.table.split(".")):
            table = table["properties"].setdefault(part, _object())
        table["properties"][leaf.name] = _described(leaf)
    root["properties"]["sources"] = _either_spelling(root["properties"]["sources"])
    root["properties"]["rules"] = {"type": "array", "items": _rule()}
    return root


def _described(leaf: Leaf) -> dict[str, Any]:
    described = msgspec.json.schema(leaf.type, schema_hook=lambda _path: {"type": "string"})
    if leaf.is_size:
        described |= {"type": ["integer", "string"], "pattern": "^ *[0-9.]+ *[A-Za-z]* *$"}
    if not leaf.default_text:
        described["default"] = [] if leaf.default == () else leaf.default
    return described


def _rule() -> dict[str, Any]:
    rule = _object() | {"required": ["name", "pattern"]}
    rule["properties"] = {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,39}$"},
        "pattern": {"type": "string", "minLength": 1},
    }
    return rule


def _either_spelling(known: dict[str, Any]) -> dict[str, Any]:
    """Describe `sources` as tables by name, or as an array of entries with a name in each."""
    name = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    text = {"type": "string", "minLength": 1}
    texts = {"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]}
    other = _object() | {"required": ["root"]}
    other["properties"] = {"root": texts, "glob": texts, "enabled": {"type": "boolean"}}
    other["properties"] |= {
        key: known["properties"][SHIPPED[-1]]["properties"][key] for key in SHARED
    }
    entries = [_named(other, name | {"not": {"enum": list(SHIPPED)}})]
    entries += [_named(known["properties"][agent], {"const": agent}) for agent in SHIPPED]
    tables = known | {"propertyNames": name, "additionalProperties": other}
    return {"anyOf": [tables, {"type": "array", "items": {"anyOf": entries}}]}


def _named(table: dict[str, Any], name: dict[str, Any]) -> dict[str, Any]:
    required = ["name", *table.get("required", ())]
    return table | {"required": required, "properties": {"name": name} | table["properties"]}


def _object() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}
