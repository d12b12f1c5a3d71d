"""ZeroClaw's database is read as it stands, and nothing beside it shows that it was.

The agent is a real SQLite writer in a process of its own that never waits for a lock.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing, contextmanager
from itertools import count, pairwise
from typing import TYPE_CHECKING, Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transcriptd.errors import Changing, Unreadable, Vanished
from transcriptd.sources import zeroclaw_store as store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGE = 1 << 40
SCHEMA = """
    CREATE TABLE IF NOT EXISTS sessions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT NOT NULL, role TEXT NOT NULL,
        content TEXT NOT NULL, created_at TEXT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS idx_sessions_key_id ON sessions(session_key, id);
"""
INSERT = "INSERT INTO sessions (session_key, role, content, created_at) VALUES (?, ?, ?, 'now')"
AGENT = """
    import json, sqlite3, sys
    path, before, schema = sys.argv[1:]
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    connection.executescript(before)
    connection.executescript(schema)
    print("ready", flush=True)
    for line in sys.stdin:
        connection.execute(*json.loads(line))
        print("done", flush=True)
    connection.close()
"""
WAL = "PRAGMA journal_mode = WAL"


class Agent:
    """ZeroClaw, as far as SQLite can tell."""

    def __init__(self, db: Path, before: str = WAL) -> None:
        command = [sys.executable, "-c", textwrap.dedent(AGENT), str(db), before, SCHEMA]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._heard() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def do(self, sql: str, *values: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([sql, values]) + "\n")
        self._process.stdin.flush()
        assert self._heard() == "done\n"

    def say(self, key: str, content: str, role: str = "user") -> None:
        self.do(INSERT, key, role, content)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


Traces = dict[str, tuple[int, int, int, bytes]]


def traces(directory: Path) -> Traces:
    def trace(path: Path) -> tuple[int, int, int, bytes]:
        stat = path.stat()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, path.read_bytes()

    return {path.name: trace(path) for path in directory.iterdir()}


def write(db: Path, *rows: tuple[object, object, object], schema: str = SCHEMA) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executescript(schema)
        if rows:
            connection.executemany(INSERT, rows)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    (tmp_path / "agent").mkdir()
    return tmp_path / "agent" / "sessions.db"


def beside(db: Path, suffix: str) -> Path:
    return db.with_name(db.name + suffix)


def running(agent: Agent, db: Path) -> None:
    assert beside(db, "-wal").stat().st_size


def ended(agent: Agent, db: Path) -> None:
    agent.end()
    assert not beside(db, "-wal").exists()


def killed(agent: Agent, db: Path) -> None:
    agent.kill()
    assert beside(db, "-wal").stat().st_size
    assert beside(db, "-shm").stat().st_size


def killed_without_shm(agent: Agent, db: Path) -> None:
    killed(agent, db)
    beside(db, "-shm").unlink()


def killed_with_empty_shm(agent: Agent, db: Path) -> None:
    killed(agent, db)
    os.truncate(beside(db, "-shm"), 0)


def killed_with_nonsense_in_shm(agent: Agent, db: Path) -> None:
    killed(agent, db)
    with beside(db, "-shm").open("r+b") as file:
        file.write(b"\xff" * 1000)


def killed_with_empty_wal(agent: Agent, db: Path) -> None:
    agent.do("PRAGMA wal_checkpoint(TRUNCATE)")
    agent.kill()
    assert beside(db, "-wal").stat().st_size == 0


def killed_in_a_transaction(agent: Agent, db: Path) -> None:
    agent.do("PRAGMA cache_size = 1")
    agent.do("BEGIN")
    agent.do("UPDATE sessions SET content = 'undone' || hex(zeroblob(20000))")
    agent.kill()


def with_a_journal_to_undo(agent: Agent, db: Path) -> None:
    killed_in_a_transaction(agent, db)
    assert beside(db, "-journal").stat().st_size
    assert b"undone" in db.read_bytes()


def without_the_wal_it_needs_not(agent: Agent, db: Path) -> None:
    ended(agent, db)
    beside(db, "-wal").write_bytes(b"left by another tool")


ROLLBACK = "PRAGMA journal_mode = DELETE"
SITUATIONS = [
    (WAL, running),
    (WAL, ended),
    (WAL, killed),
    (WAL, killed_without_shm),
    (WAL, killed_with_empty_shm),
    (WAL, killed_with_nonsense_in_shm),
    (WAL, killed_with_empty_wal),
    (WAL, killed_in_a_transaction),
    ("PRAGMA locking_mode = EXCLUSIVE;" + WAL, running),
    (ROLLBACK, lambda agent, db: None),
    (ROLLBACK, lambda agent, db: agent.end()),
    (ROLLBACK, with_a_journal_to_undo),
    (ROLLBACK, without_the_wal_it_needs_not),
    ("PRAGMA journal_mode = PERSIST", lambda agent, db: None),
    ("PRAGMA journal_mode = TRUNCATE", lambda agent, db: agent.end()),
]
NAMES = [
    "running", "ended", "killed", "killed, -shm removed", "killed, -shm empty",
    "killed, -shm nonsense", "killed, -wal empty", "killed in a transaction",
    "running in exclusive mode", "rollback, running", "rollback, ended",
    "rollback, killed in a transaction", "rollback, a -wal of nobody's", "persistent journal",
    "truncated journal",
]  # fmt: skip
Situation = tuple[str, "Callable[[Agent, Path], None]"]
in_every_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=NAMES)
ROWS = 60


@contextmanager
def placed(db: Path, situation: Situation) -> Iterator[Agent]:
    mode, happens = situation
    with Agent(db, mode) as agent:
        for n in range(ROWS):
            agent.say("k", f"{n}" * 100)
        happens(agent, db)
        yield agent


EXPECTED = b"".join(b'{"role":"user","content":"%s"}\n' % (b"%d" % n * 100) for n in range(ROWS))


@in_every_situation
def test_all_that_was_committed_is_read(db: Path, situation: Situation) -> None:
    with placed(db, situation):
        assert store.lines(db, "k", LARGE) == EXPECTED
        [found] = store.sessions(db)
        assert (found.key, found.rows, found.last_id) == ("k", ROWS, ROWS)


@in_every_situation
def test_reading_changes_nothing_beside_the_database(db: Path, situation: Situation) -> None:
    with placed(db, situation):
        before = traces(db.parent)

        def look_meanwhile(connection: sqlite3.Connection) -> dict[str, tuple[int, ...]]:
            connection.execute("SELECT * FROM sessions").fetchone()
            # No file is opened here: closing it would give up the locks that are being tested.
            found = ((path.name, path.stat()) for path in db.parent.iterdir())
            return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found}

        during = store._read(db, look_meanwhile)
        store.sessions(db)
        store.lines(db, "k", LARGE)
        assert traces(db.parent) == before
        assert during == {name: trace[:3] for name, trace in before.items()}


@in_every_situation
def test_an_agent_that_starts_and_writes_while_we_read_is_not_disturbed(
    db: Path, situation: Situation
) -> None:
    with placed(db, situation) as first:
        first.kill()
        started = False

        def start_meanwhile(connection: sqlite3.Connection) -> int:
            nonlocal started
            rows = connection.execute("SELECT id FROM sessions")
            rows.fetchone()
            if not started:
                started = True
                with Agent(db, situation[0]) as agent:  # says by itself if it could not
                    for n in range(20):
                        agent.say("k", f"new {n}")
                    agent.end()
            return 1 + len(rows.fetchall())

        assert store._read(db, start_meanwhile) in {ROWS, ROWS + 20}
        assert store.sessions(db)[0].rows == ROWS + 20


def test_an_agent_that_ends_while_we_read_leaves_its_wal_for_the_next_one(db: Path) -> None:
    with placed(db, (WAL, running)) as agent:

        def end_meanwhile(connection: sqlite3.Connection) -> int:
            rows = connection.execute("SELECT id FROM sessions")
            rows.fetchone()
            agent.end()
            return 1 + len(rows.fetchall())

        assert store._read(db, end_meanwhile) == ROWS
    assert store.lines(db, "k", LARGE) == EXPECTED
    with Agent(db) as agent:
        agent.say("k", "one more")
        agent.end()
    assert not beside(db, "-wal").exists()
    assert store.sessions(db)[0].rows == ROWS + 1


def test_an_agent_that_ends_before_we_hold_the_lock_is_not_given_a_wal(db: Path) -> None:
    with placed(db, (WAL, ended)):
        before = traces(db.parent)
        descriptor = os.open(db, os.O_RDONLY)
        with pytest.raises(store._ChangedError):
            store._read_shared(db, descriptor, store._sessions)
        os.close(descriptor)
        assert traces(db.parent) == before


def test_an_agent_that_ends_between_our_lock_and_that_of_sqlite_keeps_its_wal(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with placed(db, (WAL, running)) as agent:
        before = traces(db.parent)
        connect = store._connect

        def connect_late(db: Path, options: str) -> sqlite3.Connection:
            agent.end()
            return connect(db, options)

        monkeypatch.setattr(store, "_connect", connect_late)
        assert store.lines(db, "k", LARGE) == EXPECTED
        assert traces(db.parent) == before


WRITER = """
    import itertools, select, sqlite3, sys
    path, before, schema, insert, rows = sys.argv[1:]
    refused = n = 0
    while not n or not select.select([sys.stdin], [], [], 0)[0]:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        statements = [(before, ()), *((s, ()) for s in schema.split(";"))]
        for n in range(n, n + int(rows)):
            statements.append((insert, ("k", "user", str(n))))
            statements.append((insert, ("other", "user", "x" * (n % 3000))))
        n += 1
        for statement, values in statements:
            try:
                connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                refused += 1
                print(error, file=sys.stderr)
        connection.close()
        if n == int(rows):
            print("ready", flush=True)
    print(refused, n, flush=True)
"""
FAST = "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 20"


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("rows", [500, 25], ids=["long", "restarting"])
def test_a_writer_that_never_waits_is_never_refused(db: Path, mode: str, rows: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(db)]
    command += [f"PRAGMA journal_mode = {mode}", f"{SCHEMA};{FAST}", INSERT, str(rows)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        last, wanted = b"", 5
        while wanted:
            try:
                found = store.lines(db, "k", LARGE)
                store.sessions(db)
            except Changing:
                wanted -= mode == "DELETE"  # where a change at each try is how it should be
            else:
                wanted -= 1
                assert found.startswith(last)
                last = found
        writer.stdin.close()
        refused, written = map(int, writer.stdout.read().split())
    assert refused == 0
    assert store.lines(db, "k", LARGE) == b"".join(
        b'{"role":"user","content":"%d"}\n' % n for n in range(written)
    )


@pytest.mark.parametrize("mode", [WAL, f"{ROLLBACK}; PRAGMA synchronous = OFF"])
def test_every_change_is_seen_by_state_and_by_the_sessions(db: Path, mode: str) -> None:
    with Agent(db, mode) as agent:
        agent.say("k", "first")
        states, found = [store.state(db)], [store.sessions(db)]
        for n in range(10):
            agent.say("k", f"{n}")
            states.append(store.state(db))
            agent.do("UPDATE sessions SET content = ? WHERE id = ?", f"{n + 1}", n + 2)
            states.append(store.state(db))
            found.append(store.sessions(db))
        agent.do("DELETE FROM sessions WHERE id = 11")
        states.append(store.state(db))
        found.append(store.sessions(db))
        assert len(set(states)) == len(states)
        assert all(before != after for before, after in pairwise(found))
        store.lines(db, "k", LARGE)
        assert store.state(db) == states[-1]


def test_a_last_message_that_is_replaced_by_one_of_the_same_length_is_noticed(db: Path) -> None:
    write(db, ("a", "user", "yes"), ("b", "user", "same"))
    before = store.sessions(db)
    assert store.lines(db, "a", LARGE) == b'{"role":"user","content":"yes"}\n'
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE sessions SET content = 'no!' WHERE session_key = 'a'")
    after = store.sessions(db)
    assert store.lines(db, "a", LARGE) == b'{"role":"user","content":"no!"}\n'
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBERS = count()


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=20))
@example(rows=[(key, "r", key) for key in ["", "a/b", "a\0b", "a\0c", "a", "A", "é", "e\u0301"]])
@example(rows=[("k", "".join(map(chr, range(256))), '\u2028\U0001f600\ufffd/\\"')])
def test_any_keys_and_texts_are_kept_apart_and_spelled_as_the_agent_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    db = tmp_path_factory.getbasetemp() / f"texts-{next(NUMBERS)}.db"
    write(db, *rows)
    keys = sorted({key for key, _, _ in rows})
    found = store.sessions(db)
    assert [stored.key for stored in found] == keys
    for stored in found:
        own = [(role, content) for key, role, content in rows if key == stored.key]
        assert stored.rows == len(own)
        assert stored.chars == sum(len(text.encode()) for row in own for text in row)
        assert store.lines(db, stored.key, LARGE).decode().split("\n") == [
            *(spelled(role, content) for role, content in own),
            "",
        ]


def spelled(role: str, content: str) -> str:
    record = {"role": role, "content": content}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def test_more_than_is_allowed_is_refused_for_that_session_alone(db: Path) -> None:
    write(db, *[("long", "user", "x" * 1000)] * 10, ("short", "user", "x"))
    write(db, ("wide", "user", "x" * (3 << 20)))
    size = len(store.lines(db, "long", LARGE))
    assert store.lines(db, "long", size)
    for key, allowed in [("long", size - 1), ("long", 10), ("wide", 1000), ("wide", 2 << 20)]:
        with pytest.raises(Unreadable) as raised:
            store.lines(db, key, allowed)
        assert raised.value.reason == "too_large"
    assert store.lines(db, "short", 100)
    assert len(store.sessions(db)) == 3


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x'00ff'", "wrong_type"),
        ("NULL", "wrong_type"),
        ("CAST(x'61ff' AS TEXT)", "invalid_utf8"),
    ],
)
@pytest.mark.parametrize("column", ["role", "content"])
def test_a_value_that_is_no_text_blocks_its_own_session_only(
    db: Path, column: str, value: str, reason: str
) -> None:
    write(db, ("bad", "user", "a"), ("good", "user", "b"), schema=SCHEMA.replace(" NOT NULL", ""))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(f"UPDATE sessions SET {column} = {value} WHERE session_key = 'bad'")
    assert [stored.key for stored in store.sessions(db)] == ["bad", "good"]
    assert store.lines(db, "good", LARGE) == b'{"role":"user","content":"b"}\n'
    with pytest.raises(Unreadable) as raised:
        store.lines(db, "bad", LARGE)
    assert raised.value.reason == reason


def test_rows_whose_key_is_no_text_are_left_out(db: Path) -> None:
    write(db, ("good", "user", "b"), (b"blob", "user", "c"))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(INSERT.replace("(?, ?, ?", "(CAST(x'ff' AS TEXT), 'user', 'd'"))
    assert [stored.key for stored in store.sessions(db)] == ["good"]


def test_a_session_without_rows_is_vanished(db: Path) -> None:
    write(db, ("k", "user", "a"))
    with pytest.raises(Vanished):
        store.lines(db, "K", LARGE)


def damage_a_page(db: Path) -> None:
    write(db, *[("k", "user", "x" * 1000)] * 100)
    with db.open("r+b") as file:
        file.seek(db.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)


def cut(db: Path) -> None:
    write(db, *[("k", "user", "x" * 1000)] * 100)
    os.truncate(db, db.stat().st_size // 2)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda db: db.write_bytes(b"no database\n" * 1000), "damaged_db"),
        (damage_a_page, "damaged_db"),
        (cut, "damaged_db"),
        (lambda db: db.touch(), "no_table"),
        (lambda db: write(db, schema=SCHEMA.replace(" role ", " roll ")), "no_table"),
        (lambda db: db.mkdir(), "not_a_file"),
        (lambda db: db.symlink_to("/etc/hosts"), "not_a_file"),
        (os.mkfifo, "not_a_file"),
    ],
)
def test_what_cannot_be_read_says_why(db: Path, make: Callable[[Path], None], reason: str) -> None:
    make(db)
    for read in (store.sessions, lambda db: store.lines(db, "k", LARGE)):
        with pytest.raises(Unreadable) as raised:
            read(db)
        assert raised.value.reason == reason


def test_what_is_not_there_is_vanished(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for db in (tmp_path / "sessions.db", tmp_path / "none" / "s.db", tmp_path / "file" / "s.db"):
        assert store.state(db) is None
        with pytest.raises(Vanished):
            store.sessions(db)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it reads as somebody else")
def test_a_store_of_somebody_else_is_denied(db: Path) -> None:
    write(db, ("k", "user", "a"))
    os.seteuid(65534)
    try:
        for read in (store.state, store.sessions):
            with pytest.raises(Unreadable) as raised:
                read(db)
            assert raised.value.reason == "denied"
    finally:
        os.seteuid(0)


def test_a_database_that_is_locked_is_changing(db: Path) -> None:
    with placed(db, (WAL, running)) as agent:
        agent.do("PRAGMA locking_mode = EXCLUSIVE")
        agent.say("k", "locked")
        with pytest.raises(Changing):
            store.sessions(db)
        agent.do("PRAGMA locking_mode = NORMAL")
        agent.say("k", "unlocked")
        assert store.sessions(db)[0].rows == ROWS + 2


def test_a_database_that_changes_each_time_it_is_read_is_changing(db: Path) -> None:
    write(db, ("k", "user", "a"))

    def change_meanwhile(connection: sqlite3.Connection) -> None:
        write(db, ("k", "user", "b"))
        connection.execute("SELECT no_such_column FROM sessions")

    with pytest.raises(Changing):
        store._read(db, change_meanwhile)


def test_a_private_copy_is_for_our_eyes_only_and_goes(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with placed(db, (WAL, killed_without_shm)):
        modes: list[int] = []
        store._read(db, lambda _: modes.extend(p.stat().st_mode for p in temporary.iterdir()))
        assert [oct(mode & 0o777) for mode in modes] == ["0o700"]
        assert not list(temporary.iterdir())
        monkeypatch.setattr(store, "_LARGEST_COPY", 1000)
        with pytest.raises(Unreadable) as raised:
            store.sessions(db)
        assert raised.value.reason == "too_large"


def test_a_name_of_any_characters_is_a_file(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"a?b#c%20 d\xff")
    directory.mkdir()
    with Agent(directory / "sessions.db") as agent:
        agent.say("k", "a")
        assert store.lines(directory / "sessions.db", "k", LARGE)
        agent.end()
    assert store.lines(directory / "sessions.db", "k", LARGE)
