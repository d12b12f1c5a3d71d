"""The real agentsview, as a reader of agents' directories or of mirrors of them in a bucket.

It reads into a database of its own and answers over HTTP on 127.0.0.1; nothing leaves the machine.
Knows nothing of archives and of the package under test.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import urlopen

from tests.servers.process import free_port, program, running, wait_until_ready
from tests.servers.server import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.servers.server import Server

VERSION = "0.46.1"
SYNC_WITHIN = 60
QUIET = {
    "AGENTSVIEW_TELEMETRY_ENABLED": "0",
    "AGENTSVIEW_DISABLE_UPDATE_CHECK": "1",
    # Whatever it would still ask others finds no way; 127.0.0.1 needs none.
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
ALL = "include_children=true&include_one_shot=true&include_automated=true&limit=500"
APART = {"machine", "display_name", "created_at", "local_modified_at"}
"""What is a field of its own, and what depends on when it was read."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as agentsview shows it; `said` and `messages` are its own words.

    Ids of a mirror's sessions begin with the machine and `~`, which is taken off everywhere.
    """

    id: str
    machine: str
    name: str | None
    said: dict[str, Any]
    messages: list[dict[str, Any]]

    @property
    def parent(self) -> str | None:
        return self.said.get("parent_session_id")

    @property
    def results(self) -> list[str]:
        """What tools answered."""
        calls = (call for message in self.messages for call in message.get("tool_calls", ()))
        return [str(call.get("result_content")) for call in calls]

    def on(self, machine: str) -> Session:
        return replace(self, machine=machine)


@dataclass(frozen=True, slots=True)
class AgentsView:
    """One of its installations: what it knows lies in `place`."""

    place: Path
    environ: Mapping[str, str]

    @staticmethod
    def program() -> str:
        """Find its executable. Raises `Missing`."""
        return program("agentsview", f"pip install agentsview=={VERSION}")

    @classmethod
    def of_home(cls, place: Path, home: Path) -> AgentsView:
        """Let it read the directories that agents have by default below a home."""
        return cls(place, {"HOME": str(home)})

    @classmethod
    def of_bucket(cls, place: Path, server: Server, roots: Iterable[str]) -> AgentsView:
        """Let it read the mirrors below `roots`, keys that end in `/<machine>/raw/`."""
        place.mkdir(parents=True)
        uris = [f"s3://{server.bucket}/{root}" for root in roots]
        sections = (
            f"[agents.{agent}]\ndirs = {json.dumps([uri + agent for uri in uris])}\n"
            for agent in ("claude", "codex")
        )
        (place / "config.toml").write_text("".join(sections))
        environ = {
            "HOME": str(place),
            "AWS_S3_ENDPOINT": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_REGION": server.region,
        }
        return cls(place, environ)

    def sync(self) -> None:
        """Let it read what is new. Raises `StartError` where it fails."""
        done = subprocess.run(
            self._command("sync", AGENTSVIEW_NO_DAEMON="1"),
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SYNC_WITHIN, check=False,
        )  # fmt: skip
        if done.returncode:
            raise StartError(f"agentsview ended with {done.returncode}\n{done.stderr}")

    def sessions(self) -> list[Session]:
        """Return all that it has read."""
        port = free_port()
        options = ("--no-sync", "--no-browser", "--no-update-check", "--port", str(port))
        with running(self._command("serve", *options), self.place) as process:
            wait_until_ready(lambda: _answers(port), process)
            found = _asked(port, f"sessions?{ALL}")["sessions"]
            return [_session(said, _messages(port, said["id"])) for said in found]

    def _command(self, *arguments: str, **more: str) -> list[str]:
        """Nothing is inherited: who runs the tests may have agents and buckets of their own."""
        places = {"TMPDIR": str(self.place), "AGENTSVIEW_DATA_DIR": str(self.place)}
        settings = {**QUIET, **places, **self.environ, **more}
        given = (f"{name}={value}" for name, value in settings.items())
        return ["env", "-i", *given, self.program(), *arguments]


def _session(said: dict[str, Any], messages: list[dict[str, Any]]) -> Session:
    machine = str(said["machine"])
    plain = json.dumps([said, messages]).replace(f'"{machine}~', '"')
    said, messages = json.loads(plain)
    return Session(
        id=said["id"],
        machine=machine,
        name=said.get("display_name"),
        said={name: value for name, value in said.items() if name not in APART},
        messages=[{n: v for n, v in message.items() if n != "id"} for message in messages],
    )


def _messages(port: int, session_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    target = f"sessions/{quote(session_id, safe='')}/messages?limit=1000&from="
    # Numbers are left out: those of lines that it shows within the message before.
    while page := _asked(port, f"{target}{found[-1]['ordinal'] + 1 if found else 0}")["messages"]:
        found += page
    return found


def _asked(port: int, target: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/api/v1/{target}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _answers(port: int) -> bool:
    try:
        _asked(port, "sessions?limit=1")
    except (OSError, HTTPException):
        return False
    return True
