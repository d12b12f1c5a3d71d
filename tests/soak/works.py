"""Sessions being worked on, as chance has it; each keeps account of what was saved.

What a file says is read back from it. Knows nothing of the daemon.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

from tests import agents
from tests.agents import record
from tests.documents import compact, document, message, save
from tests.soak.account import Account, lines_of

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.documents import Message
    from tests.home import Home

_WORDS = (
    "parser",
    "reads",
    "a line",
    "twice,",
    "“naïve”",
    "caches → look",
    "日本",
    "😀",
    "\n",
    "\u2028",
)


class Work(Protocol):
    """One session. `works` does something to it and says what.

    `settles` leaves nothing half done, `ends` deletes its file.
    """

    account: Account

    def works(self) -> str: ...

    def settles(self) -> None: ...

    def ends(self) -> None: ...


class CodeTetherWork:
    """A document that is rewritten on each save."""

    def __init__(self, home: Home, chance: random.Random) -> None:
        self._chance = chance
        self._sessions = home.sessions
        self._messages: list[Message] = []
        self._title = "a soak"
        name = new_name(chance)
        self.account = Account(name, f"/{name}/history.jsonl")

    def works(self) -> str:
        what = _drawn(self._chance, says=20, undoes=1, compacts=0.5, saves_again=1)
        messages = self._messages
        if what == "undoes":
            del messages[-self._chance.randint(1, 4) :]
        elif what == "compacts":
            half = len(messages) // 2
            messages[:half] = [message("user", f"So far: {half} messages, {_text(self._chance)}")]
        elif what == "saves_again":
            self._title = _text(self._chance)[:60]
        if what == "says" or not messages:
            for _ in range(self._chance.randint(1, 3)):
                messages.append(message("assistant", _text(self._chance)))
        saved = document(messages, self.account.id, title=self._title)
        self._path = save(self._sessions, saved)
        self.account.becomes([compact(each) + b"\n" for each in messages])
        return what

    def settles(self) -> None:
        """Do nothing: each save is whole."""

    def ends(self) -> None:
        self._path.unlink()


class FileWork:
    """A file that is appended to, and of some agents rewritten."""

    path: Path

    def __init__(self, chance: random.Random, account: Account) -> None:
        self.account = account
        self._chance = chance

    def works(self) -> str:
        raise NotImplementedError

    def settles(self) -> None:
        """Do nothing, unless lines are torn."""

    def ends(self) -> None:
        self.settles()
        self.path.unlink()

    def _has_grown(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            file.seek(self.account.length)
            self.account.grows(lines_of(file.read()))

    def _has_changed(self, path: Path) -> None:
        self.path = path
        self.account.becomes(lines_of(path.read_bytes()))


class ClaudeWork(FileWork):
    """Transcripts, now and then torn for a moment; beside them subagents."""

    def __init__(self, home: Home, chance: random.Random) -> None:
        name = new_name(chance)
        super().__init__(chance, Account(name, f"/{name}.jsonl"))
        self._agent = agents.Claude(home.path)
        self._half = b""

    def works(self) -> str:
        if self._half:
            self.settles()
            return "mends"
        what = _drawn(self._chance, says=10, tears=1)
        if what == "tears" and self.account.length:
            line = record(type="assistant", message={"content": _text(self._chance)}) + b"\n"
            at = self._chance.randrange(1, len(line))
            agents.write(self.path, line[:at])
            self._half = line[at:]
        else:
            self._has_grown(self._agent.says(_text(self._chance), uuid=self.account.id))
        return what

    def settles(self) -> None:
        if self._half:
            self._has_grown(agents.write(self.path, self._half))
            self._half = b""


class CodexWork(FileWork):
    """Rollouts; in the end moved into the archive, or compressed and brought back."""

    long = False

    def __init__(self, home: Home, chance: random.Random) -> None:
        name = new_name(chance)
        self._agent = agents.Codex(home.path)
        super().__init__(chance, Account(name, f"/{self._agent.rollout(name).name}"))
        self._is_stored = False

    def works(self) -> str:
        if self._is_stored:
            return "rests"
        what = _drawn(self._chance, says=40, archives=0.5, compresses=1)
        if what == "says" or not self.account.length:
            self._expands()
            text = _text(self._chance) * (40 if self.long else 1)
            self._has_grown(self._agent.says(text, uuid=self.account.id))
            return "says at length" if self.long else "says"
        if what == "archives":
            self._expands()
            self.path = self._agent.archives(self.path)
            self._is_stored = True
        elif self.path.suffix != ".zst":
            packed = self._agent.compresses(self.path)
            self.path.unlink()
            self.path = packed
        return what

    def _expands(self) -> None:
        if self.account.length and self.path.suffix == ".zst":
            packed, self.path = self.path, self._agent.expands(self.path)
            packed.unlink()


class LongCodexWork(CodexWork):
    """A rollout that grows until its base is copied in parts."""

    long = True


class ZeroClawWork(FileWork):
    """Files that are appended to, and rewritten without their end, or with another one."""

    def __init__(self, home: Home, chance: random.Random) -> None:
        name = new_name(chance)
        super().__init__(chance, Account(name, f"/{name}.jsonl"))
        self._agent = agents.ZeroClaw(home.path / ".zeroclaw" / "data" / "sessions")

    def works(self) -> str:
        key = self.account.id
        what = _drawn(self._chance, says=20, forgets=1, updates=1, clears=0.2)
        if what == "says" or not self.account.length:
            path = self._agent.says(key, _text(self._chance))
        elif what == "forgets":
            path = self._agent.forgets_last(key)
        elif what == "updates":
            path = self._agent.updates_last(key, _text(self._chance))
        else:
            self._agent.clears(key)
            path = self._agent.says(key, _text(self._chance))
        self._has_changed(path)
        return what


class StoredWork:
    """A session inside ZeroClaw's database."""

    def __init__(self, home: Home, chance: random.Random) -> None:
        self._key = new_name(chance)
        self._chance = chance
        self._agent = agents.ZeroClawStore(home.path / ".zeroclaw" / "data" / "sessions")
        self._rows: list[bytes] = []
        self.account = Account(f"sessions.db/{self._key}", f"/sessions.db/{self._key}.jsonl")

    def works(self) -> str:
        what = _drawn(self._chance, says=15, forgets=1)
        if what == "says" or len(self._rows) < 2:
            content = _text(self._chance)
            self._agent.says(self._key, content)
            self._rows.append(record(role="user", content=content) + b"\n")
        else:
            self._agent.does(
                "DELETE FROM sessions WHERE id ="
                " (SELECT max(id) FROM sessions WHERE session_key = ?)",
                self._key,
            )
            del self._rows[-1]
        self.account.becomes([*self._rows])
        return what

    def settles(self) -> None:
        """Do nothing: rows are whole."""

    def ends(self) -> None:
        self._agent.does("DELETE FROM sessions WHERE session_key = ?", self._key)


def new_name(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _text(chance: random.Random) -> str:
    """Return some words: mostly few, sometimes thousands."""
    return " ".join(chance.choices(_WORDS, k=min(3000, int(chance.lognormvariate(4, 1.5)) + 1)))


def _drawn(chance: random.Random, **weights: float) -> str:
    (drawn,) = chance.choices([*weights], [*weights.values()])
    return drawn
