"""Simulated agents: they save CodeTether sessions as CodeTether does, and remember what they saved.

For the demonstration. Documents are compact, whole, and rewritten on every save, by a temporary
file and a rename. Knows nothing of the daemon.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TASKS = (
    "Fix the flaky login test",
    "Add a dark mode",
    "Why is the build slow?",
    "Port the parser to Rust",
    "Review the retry logic",
    "Translate the manual → 日本語",
    "Upgrade the database driver",
    "Find the memory leak",
    "Write the release notes",
    "Split the billing module",
    "Make the CLI faster",
    "Explain this stack trace",
)
_TOOLS = ("bash", "read_file", "edit_file", "grep", "run_tests")
_TEXT = (
    "the change is small but the test waits for a timer that never fires so I look at the clock "
    "first then at the queue “done” means written and read back naïve caches hide it"
)
_WORDS = _TEXT.split()
_SESSIONS, _POINTERS = "sessions", "session-locations"
_SHORTEST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.6


@dataclass(frozen=True, slots=True)
class Save:
    """One save: how many messages, how many bytes as history lines, when (Unix nanoseconds)."""

    records: int
    length: int
    at_ns: int


def prepare(data_dir: Path) -> None:
    """Make the directories that agents save in, as they lie on a machine where agents worked."""
    for name in (_SESSIONS, _POINTERS):
        (data_dir / name).mkdir(parents=True)


class Agent(Thread):
    """Works on one session until `stop` is set. `lines` are its messages as they were saved."""

    def __init__(self, number: int, data_dir: Path, stop: Event) -> None:
        super().__init__(name=f"agent {number}", daemon=True)
        self._random = random.Random(number)  # noqa: S311 - the same demonstration every time
        self.id = str(UUID(int=self._random.getrandbits(128), version=4))
        self.title = _TASKS[number % len(_TASKS)]
        self.lines: list[bytes] = []
        self.saves: list[Save] = []
        self.error: OSError | None = None
        self._length = 0
        self._created = _now()
        self._ended = stop
        self._path = data_dir / _SESSIONS / f"{self.id}.json"
        self._pointer = data_dir / _POINTERS / f"{self.id}.path"

    def run(self) -> None:
        """Talk, and save before and after every tool call."""
        try:
            for messages in self._conversation():
                added = [_compact(message) for message in messages]
                self.lines += added
                self._length += sum(len(line) + 1 for line in added)
                self._save()
                if self._ended.wait(self._random.uniform(_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S)):
                    return
        except OSError as error:
            self.error = error

    def _save(self) -> None:
        temporary = self._path.with_suffix(".json.tmp")
        temporary.write_bytes(self._document())
        at_ns = time.time_ns()
        temporary.replace(self._path)
        self.saves.append(Save(len(self.lines), self._length, at_ns))
        self._pointer.write_text(str(self._path))

    def _document(self) -> bytes:
        before = {
            "id": self.id,
            "title": self.title,
            "created_at": self._created,
            "updated_at": _now(),
            "metadata": {"directory": "/workspace", "model": "simulated", "temperature": 1.0},
            "agent": "build",
        }
        after = {
            "pages": ["Conversation"] * len(self.lines),
            "summary_index": {},
            "tool_uses": [],
            "usage": {"input_tokens": self._length // 4, "output_tokens": self._length // 9},
        }
        messages = b"[" + b",".join(self.lines) + b"]"
        return _compact(before)[:-1] + b',"messages":' + messages + b"," + _compact(after)[1:]

    def _conversation(self) -> Iterator[list[dict[str, Any]]]:
        """Yield what is new at each save, without end: a question, tool calls, an answer."""
        yield [_message("system", {"type": "text", "text": "You are a simulated agent."})]
        while True:
            yield [_message("user", {"type": "text", "text": f"{self.title}. {self._said(12)}"})]
            for _ in range(self._random.randint(1, 4)):
                calls = [self._tool_call(number) for number in range(self._random.randint(1, 3))]
                thinking = {"type": "thinking", "text": self._said(30), "signature": "c2ln"}
                yield [_message("assistant", thinking, *calls)]
                yield [_message("tool", self._tool_result(call["id"])) for call in calls]
            yield [_message("assistant", {"type": "text", "text": self._said(60)})]

    def _tool_call(self, number: int) -> dict[str, Any]:
        arguments = json.dumps({"command": self._said(5), "timeout": 1.50})
        call_id, tool = f"call_{len(self.lines)}_{number}", self._random.choice(_TOOLS)
        return {"type": "tool_call", "id": call_id, "name": tool, "arguments": arguments}

    def _tool_result(self, call_id: str) -> dict[str, Any]:
        output = "\n".join(self._said(9) for _ in range(self._random.randint(1, 40)))
        return {"type": "tool_result", "tool_call_id": call_id, "content": output}

    def _said(self, words: int) -> str:
        return " ".join(self._random.choices(_WORDS, k=words))


def _message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
