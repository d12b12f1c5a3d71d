"""A user's home directory, and `transcriptd` run in it as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests import forked

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

VARIABLE = "CODETETHER_HISTORY_S3_"
PATIENCE_S = 60


@dataclass(slots=True)
class Home:
    """A user's home directory, and what is set in their environment."""

    path: Path
    environ: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, path: Path) -> Self:
        """Make a new one; it is a workspace of its own, so that none above it is looked at."""
        (path / ".git").mkdir(parents=True)
        return cls(path)

    @property
    def sessions(self) -> Path:
        directory = self.path / ".local" / "share" / "codetether-agent" / "sessions"
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def state(self) -> Path:
        return self.path / ".local" / "state" / "transcriptd"

    @property
    def archive(self) -> Path:
        return self.path / ".local" / "share" / "transcriptd" / "archive"

    def use(self, server: Server) -> None:
        said = {
            "ENDPOINT": server.endpoint,
            "BUCKET": server.bucket,
            "ACCESS_KEY": server.access_key,
            "SECRET_KEY": server.secret_key,
        }
        self.environ |= {f"{VARIABLE}{name}": value for name, value in said.items()}
        if server.ca_bundle:
            self.environ["TRANSCRIPTD_S3__CA_BUNDLE"] = server.ca_bundle

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "transcriptd", *arguments],
            env=self._environ(),
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> Outcome:
        ended = self.ended(*arguments)
        return Outcome(ended.status, ended.out.decode(), ended.err.decode())

    def ended(self, *arguments: str) -> forked.Ended:
        """Run it, for the bytes that it prints."""
        return forked.run(arguments, self._environ(), self.path, PATIENCE_S)

    def _environ(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in forked.INHERITED & set(os.environ)}
        return {**inherited, "HOME": str(self.path), **self.environ}

    def doctor(self) -> Outcome:
        return self.run("doctor", "--json")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended."""

    status: int
    out: str
    err: str

    def found(self, section: str, subject: str = "") -> list[dict[str, Any]]:
        findings: list[dict[str, Any]] = json.loads(self.out)["findings"]
        return [f for f in findings if f["section"] == section and subject in f["subject"]]

    def level(self, section: str, subject: str) -> str:
        (finding,) = self.found(section, subject)
        return str(finding["level"])

    @property
    def bad(self) -> list[tuple[str, str, str]]:
        findings = json.loads(self.out)["findings"]
        return [(f["level"], f["section"], f["subject"]) for f in findings if f["level"] != "ok"]
