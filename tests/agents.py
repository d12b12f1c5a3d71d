"""Agents at work: files written, moved and removed as Claude Code, Codex and ZeroClaw do it.

What they do is written down in the design ("What the agents write on disk"); nothing here knows the
code under test.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA = Path(__file__).parent / "data" / "mirrors"
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
PROJECT = "-srv-shop"


def record(**fields: object) -> bytes:
    """Return a record as an agent writes it: compact, not escaped, without its line feed."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def write(path: Path, *pieces: bytes) -> Path:
    """Append in place, each piece by a write of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        for piece in pieces:
            os.write(descriptor, piece)
    finally:
        os.close(descriptor)
    return path


def rewrite(path: Path, data: bytes) -> Path:
    """Write a temporary file beside it and rename that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    return temporary.rename(path)


@dataclass(frozen=True, slots=True)
class Claude:
    """Claude Code in a home directory."""

    home: Path

    @property
    def projects(self) -> Path:
        return self.home / ".claude" / "projects"

    def says(self, text: str, *, uuid: str = UUID, project: str = PROJECT) -> Path:
        """Append a record and its line feed in one write."""
        line = record(type="user", sessionId=uuid, cwd="/srv/shop", message={"content": text})
        return write(self.projects / project / f"{uuid}.jsonl", line + b"\n")

    def delegates(self, agent: str, *below: str, text: str = "go") -> Path:
        """Let a subagent append, and describe it in a file beside its own."""
        directory = self.projects.joinpath(PROJECT, UUID, "subagents", *below)
        path = write(directory / f"agent-{agent}.jsonl", record(agentId=agent, text=text) + b"\n")
        rewrite(directory / f"agent-{agent}.meta.json", record(agentType="explore"))
        return path

    def keeps(self, name: str, output: bytes) -> Path:
        """Keep large output of a tool."""
        return write(self.projects / PROJECT / UUID / "tool-results" / name, output)

    def keeps_for(self, days: object) -> None:
        """Say after how many days transcripts are deleted."""
        rewrite(self.home / ".claude" / "settings.json", record(cleanupPeriodDays=days))


@dataclass(frozen=True, slots=True)
class Codex:
    """Codex in a home directory."""

    home: Path

    def rollout(self, uuid: str = UUID, day: str = "2026/02/03") -> Path:
        name = f"rollout-{day.replace('/', '-')}T12-00-00-{uuid}.jsonl"
        return self.home / ".codex" / "sessions" / day / name

    def says(self, text: str, *, uuid: str = UUID) -> Path:
        """Append a record, and its line feed in a second write."""
        line = record(timestamp="2026-02-03T12:00:00Z", payload={"text": text})
        return write(self.rollout(uuid), line, b"\n")

    def archives(self, path: Path) -> Path:
        """Move a rollout flat into the archive; its name stays."""
        archived = self.home / ".codex" / "archived_sessions" / path.name
        archived.parent.mkdir(exist_ok=True)
        return path.rename(archived)

    def compresses(self, path: Path) -> Path:
        """Compress an idle rollout; the plain file is there until `removes`."""
        packed = zstandard.ZstdCompressor().compress(path.read_bytes())
        return rewrite(path.with_name(f"{path.name}.zst"), packed)

    def expands(self, packed: Path) -> Path:
        """Bring a compressed rollout back, before it is appended to."""
        data = zstandard.ZstdDecompressor().decompress(packed.read_bytes())
        return rewrite(packed.with_suffix(""), data)


@dataclass(frozen=True, slots=True)
class ZeroClaw:
    """ZeroClaw with files in a sessions directory."""

    sessions: Path

    def path(self, key: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "_-" else "_" for c in key)
        return self.sessions / f"{safe}.jsonl"

    def says(self, key: str, content: str, role: str = "user") -> Path:
        """Append a line as two writes: its body, and the line feed."""
        return write(self.path(key), record(role=role, content=content), b"\n")

    def forgets_last(self, key: str) -> Path:
        """Rewrite without the last message."""
        return self._rewrites(key, self._lines(key)[:-1])

    def updates_last(self, key: str, content: str) -> Path:
        """Rewrite with another last message."""
        return self._rewrites(
            key, [*self._lines(key)[:-1], record(role="assistant", content=content)]
        )

    def compacts(self, key: str) -> Path:
        """Rewrite with those lines alone that can be read."""
        return self._rewrites(key, [line for line in self._lines(key) if line.startswith(b"{")])

    def clears(self, key: str) -> Path:
        return self._rewrites(key, [])

    def begins_to_migrate(self, key: str) -> Path:
        """Rename a file for the time that the database takes it in."""
        path = self.path(key)
        return path.rename(path.with_name(f"{path.name}.importing"))

    def has_migrated(self, importing: Path) -> Path:
        return importing.rename(importing.with_suffix(".migrated"))

    def _lines(self, key: str) -> list[bytes]:
        return self.path(key).read_bytes().splitlines()

    def _rewrites(self, key: str, lines: Iterable[bytes]) -> Path:
        return rewrite(self.path(key), b"".join(line + b"\n" for line in lines))


@dataclass(frozen=True, slots=True)
class ZeroClawStore:
    """ZeroClaw with its database, in a sessions directory."""

    sessions: Path

    @property
    def path(self) -> Path:
        return self.sessions / "sessions.db"

    def says(self, key: str, content: str, role: str = "user") -> None:
        self.does("INSERT INTO sessions VALUES (NULL, ?, ?, ?, '')", key, role, content)

    def does(self, statement: str, *values: str) -> None:
        """Run one statement as the agent does, in WAL mode."""
        self.sessions.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY AUTOINCREMENT,"
                " session_key TEXT, role TEXT, content TEXT, created_at TEXT)"
            )
            connection.execute(statement, values)
