"""Archive format 1: where things lie in the archive and what is said about them.

The contract stands in the README, "Archive format". This module knows keys and metadata; it does
not know how they are written, nor any store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
META_PREFIX = "td-"
MAX_KEY = 900
_KEPT_OF_A_LONG_SEGMENT = 64
_SHORTENED = _KEPT_OF_A_LONG_SEGMENT + len("~") + 32
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_SUFFIX = re.compile(r"(\.jsonl|\.json)$")
_CLOSED = re.compile(r"/(\d{6,})(?:\.\w+)?$")
_ETAG_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_SEGMENT = re.compile(r"(\d{6,})-(\d{20})\.jsonl")
_MIRROR = re.compile(r"(?!\.)([A-Za-z0-9._-]+)/raw/(?!\.)([A-Za-z0-9._-]+)/([A-Za-z0-9._%~/-]+)")
_CLAIM = "writer-"
NO_RULES = "0"
MASKED = "mask"
"""The mode in which what the rules find does not leave."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What was done about secrets when something was written: the mode and the rules' version.

    `plain` is the keyed digest of what the source had up to there (`masks.Secret`), where some of
    that may be masked.
    """

    mode: str = "off"
    rules: str = NO_RULES
    plain: str = ""

    def encode(self) -> dict[str, str]:
        """Give it as part of an object's metadata."""
        plain = {f"{META_PREFIX}plain": self.plain} if self.plain else {}
        said = {f"{META_PREFIX}redaction": self.mode, f"{META_PREFIX}rules": self.rules}
        return said | plain

    @staticmethod
    def decode(said: Mapping[str, str]) -> Redaction:
        """Read it back, from metadata with names in lower case. Raises `KeyError`."""
        return Redaction(
            said[f"{META_PREFIX}redaction"],
            said[f"{META_PREFIX}rules"],
            said.get(f"{META_PREFIX}plain", ""),
        )


@dataclass(frozen=True, slots=True)
class Meta:
    """What every base says about itself, in the object's metadata.

    `length` in bytes, `digest` the chained digest in hex, `writer` as `machine.id`.
    """

    generation: int
    records: int
    length: int
    digest: str
    writer: str
    source: str
    redaction: Redaction = Redaction()

    def encode(self) -> dict[str, str]:
        """Give the metadata as header values: lower-case names without `_`, ASCII values."""
        return {
            f"{META_PREFIX}format": str(FORMAT),
            f"{META_PREFIX}generation": str(self.generation),
            f"{META_PREFIX}records": str(self.records),
            f"{META_PREFIX}length": str(self.length),
            f"{META_PREFIX}digest": self.digest,
            f"{META_PREFIX}writer": self.writer,
            f"{META_PREFIX}source": self.source,
            **self.redaction.encode(),
        }

    @staticmethod
    def decode(metadata: Mapping[str, str]) -> Meta | None:
        """Read metadata back; `None` where it is not ours or not whole.

        Servers change the case of names, so names are compared in lower case.
        """
        said = {name.lower(): value for name, value in metadata.items()}
        try:
            if int(said[f"{META_PREFIX}format"]) != FORMAT:
                return None
            return Meta(
                generation=int(said[f"{META_PREFIX}generation"]),
                records=int(said[f"{META_PREFIX}records"]),
                length=int(said[f"{META_PREFIX}length"]),
                digest=said[f"{META_PREFIX}digest"],
                writer=said[f"{META_PREFIX}writer"],
                source=said[f"{META_PREFIX}source"],
                redaction=Redaction.decode(said),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class SegmentMeta:
    """What a tail segment says about itself.

    `pre` is the digest of the stream up to its start, in hex: a segment is never joined to bytes
    that do not match it.
    """

    writer: str
    pre: str
    redaction: Redaction = Redaction()

    def encode(self) -> dict[str, str]:
        return {
            f"{META_PREFIX}format": str(FORMAT),
            f"{META_PREFIX}writer": self.writer,
            f"{META_PREFIX}pre": self.pre,
            **self.redaction.encode(),
        }

    @staticmethod
    def decode(metadata: Mapping[str, str]) -> SegmentMeta | None:
        """Read metadata back; `None` where it is not ours, not whole or of a later format."""
        said = {name.lower(): value for name, value in metadata.items()}
        try:
            if int(said[f"{META_PREFIX}format"]) != FORMAT:
                return None
            # The first segments of this format were written without.
            has_redaction = f"{META_PREFIX}redaction" in said
            return SegmentMeta(
                said[f"{META_PREFIX}writer"],
                said[f"{META_PREFIX}pre"],
                Redaction.decode(said) if has_redaction else Redaction(),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names we write: the prefix of all keys, and who we are."""

    prefix: str
    writer: str

    @property
    def machine(self) -> str:
        return machine_of(self.writer)


def machine_of(writer: str) -> str:
    """Return the machine a writer belongs to: `machine.id` → `machine`."""
    return writer.rpartition(".")[0]


def history_key(prefix: str, session_id: str) -> str:
    """Return the base key of a CodeTether session."""
    return f"{prefix}{session_id}/history.jsonl"


def document_key(prefix: str, session_id: str) -> str:
    """Return the key of what a restore needs besides the lines."""
    return f"{prefix}{session_id}/session.json"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirror's base key says: whose file it is and where it stands below the agent's root.

    A segment of `path` that was shortened is as it stands in the key, with its `~`.
    """

    machine: str
    agent: str
    path: str
    is_shortened: bool


def mirrored(prefix: str, key: str) -> Mirrored | None:
    """Say which mirrored file has this base key; `None` where no file can have it.

    Somebody else may have put any object there: a path that climbs, or a key that we would have
    spelt otherwise, is none of ours.
    """
    match = _MIRROR.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
    if match is None:
        return None
    machine, agent, spelt = match.groups()
    path = unquote_to_bytes(spelt)
    try:
        ours = mirror_key(prefix, machine, agent, path)
    except ValueError:
        return None
    is_shortened = "~" in spelt
    if b"\0" in path or not (is_shortened or ours == key):
        return None
    return Mirrored(machine, agent, path.decode("utf-8", "surrogateescape"), is_shortened)


def mirror_key(prefix: str, machine: str, agent: str, path: bytes) -> str:
    """Return the base key of a mirrored file; `path` is its path below the agent's root.

    Every byte outside `[A-Za-z0-9._-]` becomes `%XX`, which is reversible. A key above 900 bytes is
    shortened at its longest segments; where there are too many of them, the directories become one
    mark. Raises `ValueError` for a path that could climb.
    """
    segments = path.split(b"/")
    if any(segment in {b"", b".", b".."} for segment in segments):
        message = f"not a path below a root: {path!r}"
        raise ValueError(message)
    head = [*prefix.rstrip("/").split("/"), machine, "raw", agent]
    names = [_UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], s).decode() for s in segments]
    return "/".join([*head, *_shorten(names, MAX_KEY - len("/".join(head)) - 1)])


def _shorten(names: list[str], room: int) -> list[str]:
    names = list(names)
    for index in sorted(range(len(names)), key=lambda i: -len(names[i])):
        if len("/".join(names)) <= room:
            break
        name = names[index]
        if len(name) <= _SHORTENED:
            break
        names[index] = f"{name[:_KEPT_OF_A_LONG_SEGMENT]}~{_mark(name)}"
    if len("/".join(names)) > room:  # many that are not long: what is kept is the file's name
        names = [f"~{_mark('/'.join(names[:-1]))}", names[-1]]
    return names


def _mark(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def tail_prefix(prefix: str, base_key: str) -> str:
    """Return the prefix below which a stream's tail segments and claims lie."""
    return f"{prefix}.tail/{base_key.removeprefix(prefix)}/"


def segment_key(prefix: str, base_key: str, generation: int, start: int) -> str:
    """Return the key of the tail segment that begins at byte `start` of a generation."""
    return f"{tail_prefix(prefix, base_key)}{generation:06}-{start:020}.jsonl"


def segment_place(name: str) -> tuple[int, int] | None:
    """Return (generation, start) of a segment by its name below the tail prefix."""
    match = _SEGMENT.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def claim_key(prefix: str, base_key: str, writer: str) -> str:
    """Return the key of a writer's claim: who writes here."""
    return f"{tail_prefix(prefix, base_key)}{_CLAIM}{writer}"


def claimed_by(name: str) -> str | None:
    """Return the writer whose claim has this name below the tail prefix."""
    return (name.removeprefix(_CLAIM) or None) if name.startswith(_CLAIM) else None


def generations_prefix(prefix: str, base_key: str) -> str:
    """Return the prefix below which a stream's finished generations lie."""
    return f"{prefix}.generations/{base_key.removeprefix(prefix)}/"


def generation_key(prefix: str, base_key: str, generation: int) -> str:
    """Return the key of one finished generation."""
    return f"{generations_prefix(prefix, base_key)}{generation:06}{_suffix(base_key)}"


def closed_generation(key: str) -> int | None:
    """Return the number of the finished generation that lies under this key, if it is one."""
    match = _CLOSED.search(key)
    return int(match[1]) if match else None


def conflict_key(prefix: str, base_key: str, writer: str) -> str:
    """Return the base key of a second writer's stream."""
    return f"{prefix}.conflicts/{base_key.removeprefix(prefix)}/{writer}{_suffix(base_key)}"


def copy_key(prefix: str, base_key: str, writer: str, root: str) -> str:
    """Return the base key of a second file of one session id: a copy below another root."""
    mark = sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return conflict_key(prefix, base_key, f"{writer}~{mark}")


def document_digest(document: bytes) -> str:
    """Return the SHA-256 by which a changed `session.json` is recognised, in hex."""
    return sha256(document).hexdigest()


def foreign_key(prefix: str, base_key: str, etag: str) -> str:
    """Return where a base that somebody wrote without our metadata is kept."""
    token = _ETAG_UNSAFE.sub("", etag) or "none"
    return f"{prefix}.conflicts/{base_key.removeprefix(prefix)}/foreign-{token}{_suffix(base_key)}"


def probe_prefix(prefix: str) -> str:
    """Return where the capability probe keeps its scratch objects."""
    return f"{prefix}.tail/.probe/"


def _suffix(base_key: str) -> str:
    match = _SUFFIX.search(base_key)
    return match[1] if match else ""
