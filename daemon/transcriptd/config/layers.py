"""Where the values of the configuration are given, from the command line down to the file.

Each layer maps keys to what was said, unread: types and bounds are checked in `config`. A key or
variable that does not exist is a problem here, with the name that was probably meant.
"""

from __future__ import annotations

import os
import pwd
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transcriptd.config import others, rules
from transcriptd.config.reference import LEAVES, TABLES, unknown
from transcriptd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SINK = "CODETETHER_HISTORY_S3_"
_SINK_REQUIRED = {
    "s3.endpoint": f"{SINK}ENDPOINT",
    "s3.bucket": f"{SINK}BUCKET",
    "s3.access_key": f"{SINK}ACCESS_KEY",
    "s3.secret_key": f"{SINK}SECRET_KEY",
}
_SINK_IMPLIED = {
    "prefix": "history/",
    "s3.region": "us-east-1",
    "s3.path_style": True,
    "s3.session_token": "",
    "s3.profile": "",
}
SINK_OWNED = frozenset(_SINK_REQUIRED | _SINK_IMPLIED) - {"prefix"}
"""What the sink's variables say as one unit: none of it is taken from anywhere else."""

_VARIABLES = {leaf.variable: leaf.key for leaf in LEAVES.values()}
_OURS = "TRANSCRIPTD_"
_CONFIG = f"{_OURS}CONFIG"
_NOT_CONFIGURATION = re.compile(
    rf"{_OURS}(TEST_.*|FAILPOINT.*"
    # Kubernetes tells each pod about the services beside it: here, one that is named like us.
    r"|(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))"
)


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given. `is_text` where it has no type of its own: a variable.

    A relative path counts from `base`.
    """

    value: Any
    origin: str
    base: Path
    is_text: bool = True


Layer = dict[str, Given]


@dataclass(frozen=True, slots=True)
class OfFile:
    """What only the file can say: agents that are not known by name, and rules of its own."""

    origin: str = ""
    others: tuple[others.Entry, ...] = ()
    rules: tuple[rules.OwnRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Layers:
    """Every layer, and what could not be read. `missing` names the sink's unset variables."""

    cli: Layer
    variables: Layer
    sink: Layer
    credentials: Layer
    file: Layer
    of_file: OfFile
    missing: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def has_sink(self) -> bool:
        return bool(self.sink) and not self.missing


def read(cli: Mapping[str, object], environ: Mapping[str, str], file: Path | None) -> Layers:
    """Collect all layers. A `cli` value of `None` was not given."""
    problems: list[Problem] = []
    sink, missing = _sink(environ)
    file_layer, of_file = _file(file, environ, problems)
    return Layers(
        cli=_command_line(cli, problems),
        variables=_variables(environ, problems),
        sink=sink,
        credentials=_credentials(environ, problems),
        file=file_layer,
        of_file=of_file,
        missing=missing,
        problems=tuple(problems),
    )


def home(environ: Mapping[str, str]) -> Path | None:
    """Return the home directory; `None` for a user that has none (a container)."""
    if named := environ.get("HOME"):
        return Path(named)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def xdg(environ: Mapping[str, str], variable: str, otherwise: str) -> Path | None:
    """Return a base directory of the XDG specification, which has relative ones ignored."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    base = home(environ)
    return base / otherwise if base else None


def expand(value: str, base: Path, environ: Mapping[str, str]) -> Path:
    """Make a path absolute: `~` is the home directory, a relative one counts from `base`."""
    if value == "~" or value.startswith("~/"):
        return (home(environ) or Path("/")) / value[2:]
    return base / os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises for ~nobody


def _command_line(cli: Mapping[str, object], problems: list[Problem]) -> Layer:
    layer: Layer = {}
    for key, value in cli.items():
        if key not in LEAVES:
            problems.append(Problem(key, unknown(key, LEAVES), "command line"))
        elif value is not None:
            layer[key] = Given(value, "command line", Path.cwd(), is_text=isinstance(value, str))
    return layer


def _variables(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    layer: Layer = {}
    for name, value in environ.items():
        if not name.startswith(_OURS) or name == _CONFIG or _NOT_CONFIGURATION.fullmatch(name):
            continue
        names_a_file = name.endswith("_FILE")
        key = _VARIABLES.get(name.removesuffix("_FILE"))
        if key is None:
            problems.append(Problem(name, unknown(name, _VARIABLES), "environment"))
        elif not value.strip():
            continue
        elif not names_a_file:
            layer[key] = Given(value, name, Path.cwd())
        elif environ.get(name.removesuffix("_FILE"), "").strip():
            problems.append(Problem(key, f"{name.removesuffix('_FILE')} is set as well", name))
        elif said := _content(Path(value), key, name, problems):
            layer[key] = said
    return layer


def _sink(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Read CodeTether's variables as one unit: all of the required ones, or none at all."""
    trimmed = {name: environ.get(name, "").strip() for name in _SINK_REQUIRED.values()}
    missing = tuple(name for name, value in trimmed.items() if not value)
    if len(missing) == len(trimmed):
        return {}, ()
    base = Path.cwd()
    layer = {key: Given(value, f"{SINK}*", base, False) for key, value in _SINK_IMPLIED.items()}
    layer |= {key: Given(trimmed[name], name, base) for key, name in _SINK_REQUIRED.items()}
    if prefix := environ.get(f"{SINK}PREFIX", "").strip():
        layer["prefix"] = Given(prefix, f"{SINK}PREFIX", base)
    return layer, missing


def _credentials(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    """Read what systemd hands over in `$CREDENTIALS_DIRECTORY`; other names are not ours."""
    directory = environ.get("CREDENTIALS_DIRECTORY", "").strip()
    layer: Layer = {}
    for key in LEAVES if directory else ():
        path = Path(directory, key)
        if path.exists() and (said := _content(path, key, str(path), problems)):
            layer[key] = said
    return layer


def _content(path: Path, key: str, origin: str, problems: list[Problem]) -> Given | None:
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(key, f"cannot read {path}: {_why(error)}", origin))
        return None
    if not text.strip():
        problems.append(Problem(key, f"{path} is empty", origin))
        return None
    return Given(text, origin, path.parent)


def _file(
    file: Path | None, environ: Mapping[str, str], problems: list[Problem]
) -> tuple[Layer, OfFile]:
    named_by = "--config"
    if file is None and (named := environ.get(_CONFIG, "").strip()):
        file, named_by = Path(named), _CONFIG
    if file is None:
        directory = xdg(environ, "XDG_CONFIG_HOME", ".config")
        file, named_by = directory and directory / "transcriptd" / "config.toml", ""
    if file is None:
        return {}, OfFile()
    path = expand(str(file), Path.cwd(), environ)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if named_by or not isinstance(error, FileNotFoundError | NotADirectoryError):
            problems.append(Problem("config", f"cannot read {path}: {_why(error)}", named_by))
        return {}, OfFile()
    split = others.split(document.get("sources", {}), str(path), path.parent)
    own = rules.read(document.pop("rules", []))
    found = (*split.problems, *own.problems)
    problems += [Problem(key, message, str(path)) for key, message in found]
    layer: Layer = {}
    for key, value in _flat(document | {"sources": split.tables}):
        if key in LEAVES:
            layer[key] = Given(value, str(path), path.parent, is_text=False)
        elif key in TABLES:
            problems.append(Problem(key, "expected a table", str(path)))
        else:
            known = TABLES if isinstance(value, dict) else LEAVES
            problems.append(Problem(key, unknown(key, known), str(path)))
    return layer, OfFile(str(path), split.entries, own.rules)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in TABLES and isinstance(value, dict):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
