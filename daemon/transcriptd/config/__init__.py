"""The configuration: read once, checked as a whole, frozen.

Precedence: command line, `TRANSCRIPTD_*`, `CODETETHER_HISTORY_S3_*` (one unit, never mixed with
other credentials), `$CREDENTIALS_DIRECTORY`, the file, defaults. Every problem is reported at once.
What a key means stands in `settings`, where values come from in `layers`, and which values fit
together in `consistency`. Knows no store and no network.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from transcriptd.config import consistency, layers, others
from transcriptd.config.agents import SHIPPED, Excludes, OtherSource
from transcriptd.config.consistency import LONGEST_SOCKET, NOWHERE
from transcriptd.config.reference import LEAVES, TABLES
from transcriptd.config.rules import OwnRule
from transcriptd.config.settings import S3Credentials, Settings
from transcriptd.config.values import parsed, unfit
from transcriptd.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transcriptd.config.agents import AgentSettings
    from transcriptd.config.kinds import Redaction
    from transcriptd.config.layers import Layer, Layers

__all__ = [
    "Config",
    "Excludes",
    "OtherSource",
    "OwnRule",
    "S3Credentials",
    "Store",
    "load",
    "machine_name",
]

Store: TypeAlias = Literal["s3", "local", "disabled"]
_SOCKET = Path("transcriptd") / "transcriptd.sock"


class Config(Settings, frozen=True, kw_only=True):
    """Every key with its final value, and what follows from all of them.

    `store` is where the archive lives; where it is `disabled`, `missing` names the variables that
    CodeTether's sink lacks. `sink` says that the archive is the one of those variables. `origin`
    says for each key who gave its value, those of `sources.NAME` and `rules.NAME` included.
    """

    store: Store
    missing: tuple[str, ...]
    origin: dict[str, str]
    sink: bool
    rules: tuple[OwnRule, ...]
    _reread: Callable[[], Config]

    def redaction_of(self, source: str) -> Redaction:
        """Return what is done about secrets in a source's sessions."""
        said = self._of(source)
        return said.redaction if said else self.redaction

    def excludes_of(self, source: str) -> Excludes:
        """Return which of a source's sessions never leave the machine."""
        said = self._of(source)
        return said.excludes if said else Excludes()

    def _of(self, source: str) -> AgentSettings | OtherSource | None:
        if source in SHIPPED:
            known: AgentSettings = getattr(self.sources, source)
            return known
        return next((each for each in self.sources.others if each.name == source), None)

    def reload_credentials(self) -> S3Credentials | None:
        """Read the static keys anew: a file that holds them may have been replaced.

        `None` means the AWS credential chain. Keys for another archive, or ones that cannot be read
        now, are not taken: then these are the keys there were.
        """
        try:
            again = self._reread()
        except ConfigError:
            return self.s3.credentials
        if (again.s3.endpoint, again.s3.bucket) != (self.s3.endpoint, self.s3.bucket):
            return self.s3.credentials
        return again.s3.credentials


def load(cli: Mapping[str, object], environ: Mapping[str, str], file: Path | None) -> Config:
    """Read the configuration. `cli` maps dotted keys to values, `file` is what `--config` names.

    Raises `ConfigError` with every problem.
    """
    cli, environ = dict(cli), dict(environ)
    given = layers.read(cli, environ, file)
    problems = list(given.problems)
    store, sink, merged = _choose(given)
    expand = partial(layers.expand, environ=environ)
    values: dict[str, Any] = {}
    for key, said in merged.items():
        leaf = LEAVES[key]
        try:
            values[key] = parsed(leaf, said.value, said.base, expand, is_text=said.is_text)
        except ValueError:
            problems.append(Problem(key, unfit(leaf, said.value), said.origin))
    for entry in given.of_file.others:
        problems += [Problem(*found, entry.origin) for found in others.problems(entry, expand)]
    broken = {problem.key for problem in problems}
    _fill(values, environ)
    problems += [
        Problem(key, message, merged[key].origin if key in merged else "")
        for key, message in consistency.problems(values, store, frozenset(merged))
        if key not in broken
    ]
    if problems:
        raise ConfigError(problems)
    values["sources.others"] = tuple(
        others.made(entry, expand, values["redaction"]) for entry in given.of_file.others
    )
    return Config(
        **_tables(values),
        store=store,
        missing=given.missing if store == "disabled" else (),
        origin=_origin(given, merged),
        sink=sink,
        rules=given.of_file.rules,
        _reread=lambda: load(cli, environ, file),
    )


def machine_name(host: str) -> str:
    """Make a machine name out of a host name: `[A-Za-z0-9._-]`, not beginning with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host).lstrip(".")[:63] or "machine"


def _origin(given: Layers, merged: Layer) -> dict[str, str]:
    origin = {key: merged[key].origin if key in merged else "default" for key in LEAVES}
    for entry in given.of_file.others:
        for name in others.KEYS:
            key = f"{entry.key}.{name}"
            origin[key] = entry.origin if name in entry.said else "default"
    return origin | {rule.key: given.of_file.origin for rule in given.of_file.rules}


def _choose(given: Layers) -> tuple[Store, bool, Layer]:
    """Find the archive, and merge the layers as that decides.

    The highest layer that names an archive has it; in one layer a bucket goes before a directory.
    """
    above: list[Layer] = [given.cli, given.variables]
    below: list[Layer] = [given.credentials, given.file]
    named = _archive_in(*above)
    if named is None and given.has_sink:
        return (
            "s3",
            True,
            _merge(*map(_without_unit, above), given.sink, *map(_without_unit, below)),
        )
    named = named or _archive_in(*below)
    if named is None and given.missing:
        return "disabled", False, _merge(*map(_without_unit, (*above, *below)))
    return named or "local", False, _merge(*above, *below)


def _archive_in(*highest_first: Layer) -> Store | None:
    for layer in highest_first:
        if "s3.bucket" in layer and layer["s3.bucket"].value != "":
            return "s3"
        if "local.path" in layer:
            return "local"
    return None


def _without_unit(layer: Layer) -> Layer:
    return {key: value for key, value in layer.items() if key not in layers.SINK_OWNED}


def _merge(*highest_first: Layer) -> Layer:
    merged: Layer = {}
    for layer in reversed(highest_first):
        merged |= layer
    return merged


def _fill(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Add the defaults, those that depend on the machine last."""
    for leaf in LEAVES.values():
        if not leaf.default_text:
            values.setdefault(leaf.key, leaf.default)
    state_home = layers.xdg(environ, "XDG_STATE_HOME", ".local/state")
    data_home = layers.xdg(environ, "XDG_DATA_HOME", ".local/share")
    has_endpoint = bool(values["s3.endpoint"])
    values.setdefault("machine", machine_name(socket.gethostname()))
    for name in SHIPPED:
        values.setdefault(f"sources.{name}.redaction", values["redaction"])
    values.setdefault("s3.path_style", has_endpoint)
    values.setdefault(
        "s3.region", "us-east-1" if has_endpoint else environ.get("AWS_REGION", "").strip()
    )
    if state_home:
        values.setdefault("state_dir", state_home / "transcriptd")
    state = values.get("state_dir", NOWHERE)
    archive = data_home / "transcriptd" / "archive" if data_home else state / "archive"
    values.setdefault("local.path", archive)
    values.setdefault("state_dir", NOWHERE)
    values.setdefault("health.socket", _socket(values["state_dir"], environ))


def _socket(state: Path, environ: Mapping[str, str]) -> Path:
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    path = Path(runtime) / _SOCKET if runtime.startswith("/") else state / "run" / _SOCKET.name
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    token = sha256(os.fsencode(state)).hexdigest()[:16]
    directory = Path(environ.get("TMPDIR") or tempfile.gettempdir())
    return directory / f"transcriptd-{os.getuid()}" / f"{token}.sock"


def _tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Make the structs of the tables, innermost first."""
    made = dict(values)
    for table, struct in sorted(TABLES.items(), key=lambda item: -item[0].count(".")):
        names = struct.__struct_fields__
        made[table] = struct(**{name: made.pop(f"{table}.{name}") for name in names})
    return made
