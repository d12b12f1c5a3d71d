"""What an archive holds, read without the code under test: a local directory, or a bucket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.servers.request import send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

_KEY = re.compile(rb"<Key>([^<]*)</Key>")


class Kept(Protocol):
    """An archive with the default prefix."""

    def get(self, key: str) -> bytes | None: ...

    def listing(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class KeptInBucket:
    """At most 1,000 objects."""

    server: Server

    def get(self, key: str) -> bytes | None:
        status, body = send(self.server, "GET", f"/{self.server.bucket}/{key}")
        return body if status == 200 else None

    def listing(self) -> list[str]:
        _, body = send(self.server, "GET", f"/{self.server.bucket}?list-type=2")
        return sorted(key.decode() for key in _KEY.findall(body))


@dataclass(frozen=True, slots=True)
class KeptInDirectory:
    """Objects and, apart from them, what is said about them."""

    path: Path

    def get(self, key: str) -> bytes | None:
        try:
            return (self.path / key).read_bytes()
        except FileNotFoundError:
            return None

    def listing(self) -> list[str]:
        files = (path for path in self.path.rglob("*") if path.is_file())
        names = (path.relative_to(self.path).as_posix() for path in files)
        return sorted(name for name in names if name.startswith("history/"))


def history_of(kept: Kept, session_id: str) -> bytes | None:
    """Return what a reader who knows nothing of generations gets."""
    return kept.get(f"history/{session_id}/history.jsonl")


def finished(kept: Kept, session_id: str) -> list[bytes]:
    """Return a session's finished generations, the first one first."""
    prefix = f"history/.generations/{session_id}/history.jsonl/"
    bodies = [kept.get(key) for key in kept.listing() if key.startswith(prefix)]
    return [body for body in bodies if body is not None]
