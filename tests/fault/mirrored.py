"""Mirrors that something befalls: what agents write, and what an archive holds of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.agents import PROJECT, UUID, Claude, Codex, write
from tests.daemon import eventually
from tests.kept import stream_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.home import Home
    from tests.kept import Kept

RAW = "history/m1/raw/"
TAIL = "history/.tail/m1/raw/"
FINISHED = "history/.generations/m1/raw/"
CONFLICTS = "history/.conflicts/"
SEGMENT = r"/\d{6}-\d{20}\.jsonl$"
SESSION = f"claude/{PROJECT}/{UUID}.jsonl"
LINE = b'{"type":"user","message":{"role":"user","content":"%06d"}}\n'

# Base and change together are more than what makes a base be put anew: the change is a tail.
FIRST_LINES, MORE_LINES, MOST_LINES = 400, 450, 500


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(LINE % number for number in range(first, first + count))


FIRST, MORE, MOST = lines(FIRST_LINES), lines(MORE_LINES), lines(MOST_LINES)
REWRITTEN = lines(300, 1_000)


def session(home: Home, name: str = f"{UUID}.jsonl", project: str = PROJECT) -> Path:
    """Return the path of a file of Claude Code; its directory is there."""
    path = Claude(home.path).projects / project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def rollout(home: Home) -> Path:
    """Return the path of a rollout of Codex; its directory and that of the archive are there."""
    path = Codex(home.path).rollout()
    path.parent.mkdir(parents=True, exist_ok=True)
    (home.path / ".codex" / "archived_sessions").mkdir(exist_ok=True)
    return path


def grow(path: Path, whole: bytes) -> Path:
    """Append to a file what is missing of its content to be."""
    return write(path, whole[path.stat().st_size if path.exists() else 0 :])


def mirrored(kept: Kept, path: str = SESSION) -> bytes | None:
    """Return a mirror's current generation, its tail included."""
    return stream_of(kept, RAW + path)


async def comes_to_mirror(kept: Kept, content: bytes, path: str = SESSION) -> None:
    await eventually(lambda: mirrored(kept, path) == content)


def finished_of(kept: Kept, path: str = SESSION) -> list[bytes]:
    """Return a mirror's finished generations, the first one first."""
    found = map(kept.look, kept.listing(f"{FINISHED}{path}/"))
    return [each.body for each in found if each]


def segments_of(kept: Kept, path: str = SESSION) -> list[str]:
    """Return the keys of a mirror's tail segments that hold something."""
    keys = [key for key in kept.listing(f"{TAIL}{path}/") if re.search(SEGMENT, key)]
    return [key for key in keys if (segment := kept.look(key)) and segment.body]


def everything(kept: Kept) -> list[bytes]:
    """Return every generation of every mirror, the current ones with their tails."""
    current = (stream_of(kept, key) for key in kept.listing(RAW))
    closed = (found.body for key in kept.listing(FINISHED) if (found := kept.look(key)))
    return [body for body in (*current, *closed) if body is not None]


def still_holds(kept: Kept, before: list[bytes]) -> bool:
    """Whether all that was archived before is there now, if longer."""
    now = everything(kept)
    return all(any(body.startswith(each) for body in now) for each in before)
