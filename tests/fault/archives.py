"""Archives that daemons die over: what was sent to them, and what the journal says of that."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.documents import document, save
from tests.kept import KeptInBucket
from tests.servers.request import send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.documents import Message
    from tests.home import Home
    from tests.kept import Kept
    from tests.proxy import FaultProxy
    from tests.servers import Server

BASES = r"^history/[^.][^/]*/history\.jsonl$"
CONTENT = r"^history/(?!\.tail/)"
SEGMENTS = r"^history/\.tail/[^.].*/\d{6}-\d{20}\.jsonl$"
HISTORY = f"{BASES}|{SEGMENTS}"

over_a_bucket = pytest.mark.parametrize("archive", ["ministack"], indirect=True)
over_copies = pytest.mark.parametrize("archive", ["minio"], indirect=True)


@dataclass(frozen=True, slots=True)
class Archive:
    """Where a daemon archives. A local one has no proxy."""

    kept: Kept
    proxy: FaultProxy | None = None

    def content(self) -> list[str]:
        """Return the keys of all that is neither a tail nor a claim."""
        return [key for key in self.kept.listing() if re.search(CONTENT, key)]

    def sent(self, key: str = CONTENT) -> int:
        """Return how many bytes of bodies were sent by PUT."""
        return sum(seen.body_bytes for seen in self.proxy.seen("PUT", key)) if self.proxy else 0

    def uploads(self, session_id: str = "one") -> int:
        """Return how many multipart uploads of a session's base were begun and never ended."""
        assert isinstance(self.kept, KeptInBucket)
        server = self.kept.server
        query = f"prefix={quote(f'history/{session_id}/history.jsonl', safe='')}&uploads="
        status, body = send(server, "GET", f"/{server.bucket}?{query}")
        assert status == 200, body
        return body.count(b"<UploadId>")


def put(home: Home, messages: list[Message], session_id: str = "one") -> None:
    save(home.sessions, document(messages, session_id))


def overwrite(server: Server, key: str, body: bytes) -> None:
    """Put an object as somebody does who keeps no rules: no condition, no metadata."""
    status, said = send(server, "PUT", f"/{server.bucket}/{key}", body)
    assert status == 200, said


def journal_of(home: Home) -> Path:
    return home.state / "journal.db"


def phases(home: Home) -> list[str]:
    """Return what became of each transaction, in order."""
    with closing(sqlite3.connect(f"file:{journal_of(home)}?mode=ro", uri=True)) as journal:
        return [phase for (phase,) in journal.execute("SELECT phase FROM entries ORDER BY seq")]
