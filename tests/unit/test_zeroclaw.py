"""ZeroClaw's sessions: files under all their names, and each session of its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import agents
from tests.agents import record
from transcriptd.errors import SourceError, Unreadable, Vanished
from transcriptd.files import UNTOLD
from transcriptd.layout import Names, mirrored
from transcriptd.mirror import look_at
from transcriptd.model import Cursor
from transcriptd.places import Places
from transcriptd.sources import session_id
from transcriptd.sources.zeroclaw import ZeroClaw

if TYPE_CHECKING:
    from pathlib import Path

    from transcriptd.model import Session

NAMES = Names("history/", "m1.abc")
MAX_BYTES = 1 << 20
KEYS = ["", " ", ".", "..", "/", "%", "%2F", "\0", "é", "e\u0301", "𠀀", "a/b", "a_b", "a-b", "A_B",
        "a\nb", "\\", "sessions.db/a", ".jsonl", "a.jsonl", "a" * 300, "a" * 299 + "b"]  # fmt: skip
keys = st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".zeroclaw" / "data" / "sessions"


@pytest.fixture
def zeroclaw(tmp_path: Path) -> ZeroClaw:
    return ZeroClaw((), {"HOME": str(tmp_path)})


@pytest.fixture
def store(root: Path) -> agents.ZeroClawStore:
    return agents.ZeroClawStore(root)


def session(source: ZeroClaw, root: Path, name: str) -> Session:
    found = source.session(root, name)
    assert found is not None
    return found


def inside(source: ZeroClaw, root: Path) -> list[str]:
    return [name for name, _ in source.inner(root, "sessions.db") or ()]


def content(source: ZeroClaw, root: Path, name: str) -> bytes:
    seen = look_at(source, session(source, root, name), None, max_bytes=MAX_BYTES)
    return seen.snapshot.content.read(0, seen.snapshot.content.size)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("telegram_1.jsonl", "telegram_1"),
        ("telegram_1.jsonl.importing", "telegram_1"),
        ("telegram_1.jsonl.migrated", "telegram_1"),
        (".jsonl", ".jsonl"),
        (".jsonl.migrated", ".jsonl.migrated"),
        ("sessions.db/telegram_1.jsonl", "sessions.db/telegram_1"),
        ("sessions.db/.jsonl", "sessions.db/.jsonl"),
    ],
)
def test_these_are_sessions_under_this_id(
    zeroclaw: ZeroClaw, root: Path, name: str, expected: str
) -> None:
    assert zeroclaw.counts(root, name)
    assert session(zeroclaw, root, name).id == session_id("zeroclaw", name) == expected


@pytest.mark.parametrize(
    "name",
    ["sessions.db", "sessions.db-wal", "sessions.db-shm", "a.json", ".a.jsonl.tmp", "a.jsonl.bak",
     "a/b.jsonl", "sessions.db/a", "sessions.db/a/b.jsonl"],
)  # fmt: skip
def test_these_are_not(zeroclaw: ZeroClaw, root: Path, name: str) -> None:
    assert not zeroclaw.counts(root, name)
    assert zeroclaw.session(root, name) is None


@pytest.mark.parametrize(
    ("environ", "first"),
    [
        ({}, "~/.zeroclaw/data/sessions"),
        ({"ZEROCLAW_DATA_DIR": "~/d"}, "~/d/sessions"),
        ({"ZEROCLAW_DATA_DIR": " ", "ZEROCLAW_WORKSPACE": "~/w"}, "~/w/sessions"),
        ({"ZEROCLAW_DATA_DIR": "~/d", "ZEROCLAW_WORKSPACE": "~/w"}, "~/d/sessions"),
    ],
)
def test_sessions_are_where_the_agent_and_its_older_builds_keep_them(
    tmp_path: Path, environ: dict[str, str], first: str
) -> None:
    home = str(tmp_path)
    said = {name: value.replace("~", home) for name, value in environ.items()}
    roots = ZeroClaw([f"{home}/more"], {"HOME": home, **said}).places(Places(())).roots
    assert str(roots[0]) == first.replace("~", home)
    wanted = {tmp_path / ".zeroclaw" / each / "sessions" for each in ("data", "workspace", ".")}
    assert wanted | {tmp_path / "more"} <= {*roots}


class TestAFileGoesBack:
    def test_where_it_stands_also_where_an_earlier_root_exists(
        self, zeroclaw: ZeroClaw, tmp_path: Path
    ) -> None:
        data, workspace = (tmp_path / ".zeroclaw" / e / "sessions" for e in ("data", "workspace"))
        for root in (data, workspace):
            root.mkdir(parents=True, exist_ok=True)
        (workspace / "a.jsonl").touch()
        assert zeroclaw.destination("a.jsonl") == (workspace, "a.jsonl")
        assert zeroclaw.destination("b.jsonl") == (data, "b.jsonl")
        assert zeroclaw.destination("b.jsonl", [workspace]) == (workspace, "b.jsonl")
        assert zeroclaw.destination("b.jsonl", [tmp_path]) == (data, "b.jsonl")

    def test_into_a_root_that_exists_else_into_the_agents_own(self, tmp_path: Path) -> None:
        zeroclaw = ZeroClaw((), {"HOME": str(tmp_path)})
        data, workspace = (tmp_path / ".zeroclaw" / e / "sessions" for e in ("data", "workspace"))
        assert zeroclaw.destination("a.jsonl", [workspace]) == (data, "a.jsonl")
        workspace.mkdir(parents=True)
        assert zeroclaw.destination("a.jsonl") == (workspace, "a.jsonl")


def test_no_directory_is_gone_into(zeroclaw: ZeroClaw) -> None:
    assert not zeroclaw.enters("archive")


class TestFiles:
    @pytest.mark.parametrize("key", KEYS[:-2])
    def test_a_file_is_mirrored_under_its_name_and_a_destination_leads_back(
        self, zeroclaw: ZeroClaw, root: Path, key: str
    ) -> None:
        path = agents.ZeroClaw(root).says(key, "hello")
        said = mirrored("history/", zeroclaw.key(NAMES, session(zeroclaw, root, path.name)))
        assert said is not None
        assert (said.machine, said.agent, said.path) == ("m1", "zeroclaw", path.name)
        assert zeroclaw.destination(said.path) == (root, path.name)
        assert content(zeroclaw, root, path.name) == path.read_bytes()

    def test_all_names_of_a_migration_are_archived_each_under_its_own(
        self, zeroclaw: ZeroClaw, root: Path
    ) -> None:
        agent = agents.ZeroClaw(root)
        path = agent.says("k", "hello")
        data, seen = path.read_bytes(), {}
        for step in (lambda p: p, lambda _: agent.begins_to_migrate("k"), agent.has_migrated):
            path = step(path)
            found = session(zeroclaw, root, path.name)
            seen[zeroclaw.key(NAMES, found)] = found.id
            assert content(zeroclaw, root, path.name) == data
        assert [*seen.values()] == ["k"] * 3

    def test_a_file_is_cut_at_lines(self, zeroclaw: ZeroClaw, root: Path) -> None:
        assert zeroclaw.has_lines(session(zeroclaw, root, "a.jsonl"))
        assert not zeroclaw.has_lines(session(zeroclaw, root, "sessions.db/a.jsonl"))


class TestDatabase:
    def test_each_session_is_the_lines_that_its_file_would_have(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        for key in ("b", "a", "b"):
            store.says(key, f"to {key} é")
        assert inside(zeroclaw, root) == ["sessions.db/a.jsonl", "sessions.db/b.jsonl"]
        line = record(role="user", content="to b é") + b"\n"
        assert content(zeroclaw, root, "sessions.db/b.jsonl") == line * 2

    def test_all_keys_are_kept_apart(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        for key in KEYS:
            store.says(key, f"I am {key!r}")
        names = inside(zeroclaw, root)
        keys = {zeroclaw.key(NAMES, session(zeroclaw, root, name)) for name in names}
        assert len(keys) == len(names) == len(KEYS)
        assert names == sorted(names)
        seen = {content(zeroclaw, root, name) for name in names}
        assert seen == {record(role="user", content=f"I am {key!r}") + b"\n" for key in KEYS}

    @settings(max_examples=25, deadline=None)
    @given(st.sets(keys, min_size=1, max_size=4))
    def test_any_key_leads_to_its_own_rows(
        self, tmp_path_factory: pytest.TempPathFactory, said: set[str]
    ) -> None:
        root = tmp_path_factory.mktemp("keys")
        source, store = ZeroClaw([str(root)], {"HOME": "/nonexistent"}), agents.ZeroClawStore(root)
        for key in said:
            store.says(key, key)
        names = inside(source, root)
        assert len({source.key(NAMES, session(source, root, name)) for name in names}) == len(said)
        seen = {content(source, root, name) for name in names}
        assert seen == {record(role="user", content=key) + b"\n" for key in said}

    def test_a_session_of_it_is_no_file_of_the_same_key(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("k", "in the database")
        agents.ZeroClaw(root).says("k", "in a file")
        found = [session(zeroclaw, root, name) for name in ("k.jsonl", "sessions.db/k.jsonl")]
        assert len({zeroclaw.key(NAMES, each) for each in found}) == 2
        assert len({each.id for each in found}) == 2

    def test_it_is_never_written(self, zeroclaw: ZeroClaw) -> None:
        assert zeroclaw.destination("sessions.db/k.jsonl") is None

    @pytest.mark.parametrize(
        "change",
        [
            "INSERT INTO sessions VALUES (NULL, 'k', 'user', 'more', '')",
            "UPDATE sessions SET content = 'HELLO' WHERE id = 1",
            "UPDATE sessions SET content = 'swapped' WHERE id = 2",
            "UPDATE sessions SET role = 'rseu' WHERE id = 1",
            "DELETE FROM sessions WHERE id = 1",
            "UPDATE sessions SET id = 9 WHERE id = 1",
        ],
    )
    def test_any_change_of_a_session_changes_what_stands_of_it(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore, change: str
    ) -> None:
        for text in ("hello", "changed"):
            store.says("k", text)
        store.says("other", "hello")
        names = ("sessions.db/k.jsonl", "sessions.db/other.jsonl")
        before = [zeroclaw.stat(session(zeroclaw, root, name)) for name in names]
        store.does(change)
        after = [zeroclaw.stat(session(zeroclaw, root, name)) for name in names]
        assert after[0] != before[0]
        assert after[1] == before[1]

    def test_what_stands_of_it_fits_the_journal(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("k", "x")
        store.does("UPDATE sessions SET id = 9223372036854775806")
        stat = zeroclaw.stat(session(zeroclaw, root, "sessions.db/k.jsonl"))
        assert stat is not None
        assert max(stat) < 1 << 63

    def test_a_session_that_is_gone_from_it_has_vanished(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("k", "x")
        gone = session(zeroclaw, root, "sessions.db/gone.jsonl")
        assert zeroclaw.stat(gone) is None
        with pytest.raises(Vanished):
            zeroclaw.content(gone, MAX_BYTES)
        store.path.unlink()
        with pytest.raises(SourceError):
            zeroclaw.content(session(zeroclaw, root, "sessions.db/k.jsonl"), MAX_BYTES)

    def test_one_that_is_too_large_is_refused_and_the_others_are_not(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("large", "x" * MAX_BYTES)
        store.says("small", "x")
        with pytest.raises(Unreadable) as caught:
            content(zeroclaw, root, "sessions.db/large.jsonl")
        assert caught.value.reason == "too_large"
        assert content(zeroclaw, root, "sessions.db/small.jsonl")

    def test_only_the_database_and_its_parts_say_that_sessions_may_have_changed(
        self, zeroclaw: ZeroClaw, root: Path
    ) -> None:
        for name in ("sessions.db", "sessions.db-wal", "sessions.db-journal"):
            assert zeroclaw.is_store(name)
        assert not zeroclaw.is_store("a.jsonl")
        assert zeroclaw.inner(root, "sessions.db-wal") is None

    def test_it_is_read_once_as_long_as_nothing_changes(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("k", "x")
        first = zeroclaw.inner(root, "sessions.db")
        assert zeroclaw.inner(root, "sessions.db") is first
        store.says("k", "y")
        assert zeroclaw.inner(root, "sessions.db") != first

    def test_a_row_that_is_changed_far_back_in_a_long_session_is_seen_at_once(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        for text in "abcd":
            store.says("k", text * 600_000)
        found = session(zeroclaw, root, "sessions.db/k.jsonl")
        first = look_at(zeroclaw, found, None, max_bytes=4 * MAX_BYTES)
        size, records = first.snapshot.content.size, first.snapshot.records
        cursor = Cursor("k", 0, records, size, first.digest, "e", "m.0")
        store.says("k", "more")
        again = look_at(zeroclaw, found, cursor, first.guard, max_bytes=4 * MAX_BYTES)
        assert again.extends
        store.does("UPDATE sessions SET content = upper(content) WHERE id = 2")
        again = look_at(zeroclaw, found, cursor, first.guard, max_bytes=4 * MAX_BYTES)
        assert not again.extends

    def test_a_session_of_one_that_cannot_be_read_now_is_not_gone(
        self, zeroclaw: ZeroClaw, root: Path, store: agents.ZeroClawStore
    ) -> None:
        store.says("chat", "hello")
        held = session(zeroclaw, root, "sessions.db/chat.jsonl")
        store.path.rename(root / "elsewhere")
        store.path.write_bytes(b"no database" * 100)
        assert zeroclaw.stat(held) == UNTOLD
        store.path.unlink()
        assert zeroclaw.stat(held) is None
