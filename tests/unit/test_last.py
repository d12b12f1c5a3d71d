"""The most recent session of a workspace is found without looking at all of them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import compact, conversation, document, history, message, save
from tests.machine import Machine
from tests.memory_store import MemoryStore
from transcriptd.digest import digest
from transcriptd.errors import NotFound
from transcriptd.journal import Journal
from transcriptd.last import Found, last_archived, last_here, last_lines, newest_known
from transcriptd.layout import Meta, SegmentMeta, document_key, history_key, segment_key
from transcriptd.model import Session, Stat, State
from transcriptd.sources.codetether import CodeTether

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PREFIX = "history/"
KEY = history_key(PREFIX, "s")
MIB = 1 << 20


class Here:
    """A user's home with two workspaces, and CodeTether's shared directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.app, self.site = home / "app", home / "site"
        for workspace in (self.app, self.site):
            (workspace / ".git").mkdir(parents=True)
        self.shared = home / ".local" / "share" / "codetether-agent" / "sessions"
        self.shared.mkdir(parents=True)
        self.source = CodeTether([], {"HOME": str(home)})
        self.known: list[Session] = []
        self.opened = 0

    def save(self, name: str, workspace: Path, at: int, root: Path | None = None) -> Path:
        metadata = {"directory": str(workspace)}
        root = root or self.shared
        root.mkdir(parents=True, exist_ok=True)
        path = save(root, document(conversation(2), name, metadata=metadata))
        os.utime(path, (at, at))
        self.known.insert(0, Session("codetether", name, str(root), f"{name}.json"))
        return path

    def index(self, workspace: Path, name: str, root: Path | None = None) -> None:
        entries = {"entries": {str(workspace): name}}
        ((root or self.shared) / ".workspace_index.json").write_bytes(compact(entries))

    def newest(self, root: str | None, limit: int) -> Iterable[Session]:
        rows = [session for session in self.known if root in {None, session.root}]
        return rows[:limit]

    def last(self, workspace: Path) -> str | None:
        found = last_here(self.source, workspace, self.newest, max_document=MIB)
        return found.session_id if found else None


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path / "home")


class TestLastHere:
    def test_the_agents_own_index_is_believed_where_it_is_right(self, here: Here) -> None:
        here.save("one", here.app, 100)
        here.known.clear()
        here.index(here.app, "one")
        assert here.last(here.app) == "one"

    def test_a_session_in_the_workspaces_own_directory_counts(self, here: Here) -> None:
        own = here.app / ".codetether-agent" / "sessions"
        here.save("one", here.app, 100, own)
        here.index(here.app, "one", own)
        here.known.clear()
        assert here.last(here.app) == here.last(here.app / ".git") == "one"

    @pytest.mark.parametrize("wrong", ["gone", "other", "../../x", "damaged"])
    def test_an_index_that_is_wrong_is_not_believed(self, here: Here, wrong: str) -> None:
        here.save("one", here.app, 100)
        here.save("other", here.site, 200)
        (here.shared / "damaged.json").write_text("{")
        here.index(here.app, wrong)
        assert here.last(here.app) == "one"

    def test_an_index_that_cannot_be_read_is_none(self, here: Here) -> None:
        here.save("one", here.app, 100)
        (here.shared / ".workspace_index.json").write_text('{"entries": 5')
        assert here.last(here.app) == "one"

    def test_a_newer_session_than_the_index_names_comes_first(self, here: Here) -> None:
        here.save("stale", here.app, 100)
        here.save("fresh", here.app, 300)
        here.index(here.app, "stale")
        assert here.last(here.app) == "fresh"

    def test_another_workspaces_session_is_not_ours(self, here: Here) -> None:
        here.save("other", here.site, 100)
        assert here.last(here.app) is None
        assert here.last(here.home) is None

    def test_a_link_to_a_workspace_is_that_workspace(self, here: Here) -> None:
        here.save("one", here.app, 100)
        (here.home / "link").symlink_to(here.app)
        assert here.last(here.home / "link") == "one"

    def test_few_files_are_opened_however_many_there_are(
        self, here: Here, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(300):
            here.save(f"s{number}", here.site, 100 + number)
        opened = 0
        real = os.open

        def counting(path: Any, *arguments: Any, **more: Any) -> int:  # noqa: ANN401 - as `os.open`
            nonlocal opened
            opened += str(path).endswith(".json")
            return real(path, *arguments, **more)

        monkeypatch.setattr(os, "open", counting)
        assert here.last(here.app) is None
        assert opened < 200


class TestNewestKnown:
    async def test_the_journal_gives_the_newest_of_a_root_and_of_all(self, tmp_path: Path) -> None:
        path = tmp_path / "journal.db"
        async with Journal(path) as journal:
            for number, root in enumerate(["/a", "/b", "/a", "/a"]):
                session = Session("codetether", f"s{number}", root, f"s{number}.json")
                await journal.note(session, Stat(1, 100 + number, 1, 1, 1), State.CURRENT)
            await journal.note(Session("codetether", "gone", "/a", "g.json"), None, State.PENDING)
            await journal.note(
                Session("claude", "c", "/a", "c.jsonl"), Stat(1, 999, 1, 1, 1), State.CURRENT
            )
        newest = newest_known(path, "codetether")
        assert [session.id for session in newest(None, 2)] == ["s3", "s2"]
        assert [session.id for session in newest("/b", 9)] == ["s1"]
        assert [session.id for session in newest("/a", 9)] == ["s3", "s2", "s0"]

    def test_no_journal_knows_nothing(self, tmp_path: Path) -> None:
        assert list(newest_known(tmp_path / "none.db", "codetether")(None, 9)) == []


class TestLastArchived:
    async def test_what_only_the_archive_has_is_found_by_the_index(self, here: Here) -> None:
        store = MemoryStore()
        here.index(here.app, "gone")
        rest = compact({"id": "gone", "metadata": {"directory": str(here.app)}})
        store.remote.overwrite(document_key(PREFIX, "gone"), rest)

        async def last(workspace: Path) -> Found | None:
            return await last_archived(
                here.source, workspace, store, lambda name: document_key(PREFIX, name)
            )

        assert await last(here.app) == Found("gone", str(here.app))
        here.index(here.site, "gone")
        assert await last(here.site) is None


def archived(store: MemoryStore, content: bytes, base: int, *ends: int) -> None:
    """Archive content as a base of so many bytes and segments up to each end."""
    meta = Meta(0, content[:base].count(b"\n"), base, digest(content[:base]), "m.0", "codetether")
    store.remote.write(KEY, content[:base], meta.encode())
    start = base
    for end in ends:
        said = SegmentMeta("m.0", digest(content[:start])).encode()
        store.remote.write(segment_key(PREFIX, KEY, 0, start), content[start:end], said)
        start = end


class TestLastLines:
    @pytest.mark.parametrize("count", [1, 2, 5, 100])
    @pytest.mark.parametrize("window", [1, 37, 4096])
    async def test_the_last_lines_are_those_of_the_whole_stream(
        self, count: int, window: int
    ) -> None:
        content = history(conversation(12))
        store = MemoryStore()
        cut = content.index(b"\n", len(content) // 2) + 1
        archived(store, content, cut, content.rindex(b"\n", cut, -1) + 1, len(content))
        lines = await last_lines(store, PREFIX, KEY, count, window=window)
        assert b"".join(lines) == b"".join(content.splitlines(keepends=True)[-count:])

    async def test_the_rest_is_not_read(self) -> None:
        content = history([message("user", "x" * 1000)] * 1000)
        store = MemoryStore()
        archived(store, content, len(content))
        served: list[int] = []
        chunks = store._chunks

        async def counted(body: bytes) -> Any:  # noqa: ANN401 - an iterator of chunks
            async for chunk in chunks(body):
                served.append(len(chunk))
                yield chunk

        store._chunks = counted  # type: ignore[method-assign]  # the edge: counts what is served
        assert len(await last_lines(store, PREFIX, KEY, 3)) == 3
        assert sum(served) <= 64 << 10

    async def test_an_empty_stream_has_no_lines_and_a_missing_one_is_an_error(self) -> None:
        store = MemoryStore()
        with pytest.raises(NotFound):
            await last_lines(store, PREFIX, KEY, 3)
        archived(store, b"", 0)
        assert await last_lines(store, PREFIX, KEY, 3) == []


async def test_what_the_worker_archived_ends_as_the_session_does(tmp_path: Path) -> None:
    messages = conversation(9)
    async with Machine(tmp_path) as machine:
        await machine.turn(machine.save(messages))
        lines = await last_lines(machine.store, PREFIX, KEY, 2)
    assert [json.loads(line) for line in lines] == messages[-2:]
