"""What agentsview, a reader that does not know transcriptd, shows of an archive's mirrors.

It reads twice: the directories that the agents write, and the bucket. It is to show the same.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.home import Home
from tests.servers import Missing, create_bucket
from tests.servers.agentsview import AgentsView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool, Server
    from tests.servers.agentsview import Session

SAMPLES = Path(__file__).parents[1] / "data" / "mirrors"
MACHINE, OTHER = "m1", "build-box.lan"
PARENT = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"
SUBAGENTS = {"agent-a1b2c3d", "agent-e4f5a6b"}
NOTES = "7d3b9c40-1e2f-4a5b-8c6d-9e0f1a2b3c4d"
LIVE = "codex:0194c9aa-3e10-7a30-8f51-6a2b7c8d9e0f"
CHILD = "codex:0194c9ab-51d2-7c44-9b13-1f2e3d4c5b6a"
ARCHIVED = "codex:0194a011-0b2c-7d3e-8f40-5a6b7c8d9e1f"
SESSIONS = {PARENT, *SUBAGENTS, NOTES, LIVE, CHILD, ARCHIVED}


@dataclass(frozen=True, slots=True)
class Laptop:
    """A home where Claude Code and Codex have been at work, and the bucket it is archived in."""

    home: Home
    server: Server
    machine: str = MACHINE

    @classmethod
    def make(cls, place: Path, server: Server, machine: str = MACHINE) -> Laptop:
        home = Home.make(place)
        shutil.copytree(SAMPLES / "claude", place / ".claude" / "projects")
        shutil.copytree(SAMPLES / "codex", place / ".codex")
        for path in place.rglob("*.jsonl"):
            written = path.read_bytes()
            path.write_bytes(written.replace(b"/home/ada/.claude", bytes(place / ".claude")))
        return cls(home, server, machine)

    @property
    def projects(self) -> Path:
        return self.home.path / ".claude" / "projects"

    @property
    def codex(self) -> Path:
        return self.home.path / ".codex"

    def rollout(self, session_id: str) -> Path:
        (path,) = self.codex.glob(f"sessions/*/*/*/*{session_id.removeprefix('codex:')}.jsonl")
        return path

    def put_away(self, session_id: str) -> None:
        """Move a rollout to where Codex keeps the archived ones."""
        path = self.rollout(session_id)
        path.rename(self.codex / "archived_sessions" / path.name)

    def archive(self) -> None:
        """Archive all that is there, into bases that hold the whole."""
        self.home.use(self.server)
        self.home.environ["TRANSCRIPTD_MACHINE"] = self.machine
        outcome = self.home.run("sync", "--seal")
        assert outcome.status == 0, outcome.out + outcome.err

    def shown(self) -> dict[str, Session]:
        """Return what agentsview shows of the agents' own directories, by id."""
        with tempfile.TemporaryDirectory() as place:
            reader = AgentsView.of_home(Path(place), self.home.path)
            reader.sync()
            return {session.id: session for session in reader.sessions()}


def reader_of(place: Path, server: Server, *machines: str) -> AgentsView:
    roots = [f"history/{machine}/raw/" for machine in machines or (MACHINE,)]
    return AgentsView.of_bucket(place, server, roots)


def read(reader: AgentsView) -> dict[str, Session]:
    """Let it read what is new, and return all that it shows, by id."""
    reader.sync()
    return {session.id: session for session in reader.sessions()}


@pytest.fixture(scope="module")
def server(servers: Pool) -> Server:
    """The server that people read from; where it is missing, one that needs nothing but pip."""
    try:
        AgentsView.program()
    except Missing as missing:
        pytest.skip(str(missing))
    try:
        return servers.get("minio")
    except Missing:
        return servers.get("ministack")


@pytest.fixture
def laptop(server: Server) -> Iterator[Laptop]:
    # A short path, because that of a daemon's socket below it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="td-") as place:
        yield Laptop.make(Path(place, "home"), create_bucket(server))


@dataclass(frozen=True, slots=True)
class Shown:
    """What it shows, by id: of the agents' own directories, and of the archive."""

    here: dict[str, Session]
    archived: dict[str, Session]


@pytest.fixture(scope="module")
def shown(server: Server) -> Iterator[Shown]:
    with tempfile.TemporaryDirectory(prefix="td-") as place:
        laptop = Laptop.make(Path(place, "home"), create_bucket(server))
        laptop.archive()
        yield Shown(laptop.shown(), read(reader_of(Path(place, "reader"), laptop.server)))


class TestOneMachine:
    def test_the_same_sessions_are_shown(self, shown: Shown) -> None:
        assert set(shown.archived) == set(shown.here) == SESSIONS

    @pytest.mark.parametrize("session_id", sorted(SESSIONS))
    def test_the_same_messages_are_shown(self, shown: Shown, session_id: str) -> None:
        assert shown.archived[session_id].messages == shown.here[session_id].messages
        assert shown.archived[session_id].messages

    @pytest.mark.parametrize("session_id", sorted(SESSIONS))
    def test_the_same_is_said_of_a_session(self, shown: Shown, session_id: str) -> None:
        assert shown.archived[session_id].said == shown.here[session_id].said

    def test_subagents_are_shown_below_their_parents(self, shown: Shown) -> None:
        parents = {session.id: session.parent for session in shown.archived.values()}
        assert {child for child, parent in parents.items() if parent == PARENT} == SUBAGENTS
        assert parents[CHILD] == LIVE
        assert {child for child, parent in parents.items() if not parent} == (
            SESSIONS - SUBAGENTS - {CHILD}
        )

    def test_each_session_is_of_the_machine_that_wrote_it(self, shown: Shown) -> None:
        assert {session.machine for session in shown.archived.values()} == {MACHINE}

    def test_a_session_has_the_name_that_its_agent_gave_it(self, shown: Shown) -> None:
        assert shown.archived[LIVE].name == shown.here[LIVE].name == "A faster import"

    def test_large_output_comes_from_the_file_beside_the_session(self, shown: Shown) -> None:
        (output,) = SAMPLES.glob("claude/*/*/tool-results/*")
        assert output.read_text() in shown.archived[PARENT].results
        assert output.read_text() in shown.here[PARENT].results


def test_the_same_session_of_two_machines_is_shown_once_for_each(
    laptop: Laptop, tmp_path: Path
) -> None:
    laptop.archive()
    with tempfile.TemporaryDirectory(prefix="td-") as place:
        Laptop.make(Path(place, "home"), laptop.server, OTHER).archive()
    reader = reader_of(tmp_path / "reader", laptop.server, MACHINE, OTHER)
    reader.sync()
    sessions = [(session.machine, session.id) for session in reader.sessions()]
    assert sorted(sessions) == sorted((m, each) for m in (MACHINE, OTHER) for each in SESSIONS)


def test_what_is_archived_later_is_shown_after_the_next_look(
    laptop: Laptop, tmp_path: Path
) -> None:
    (path,) = laptop.projects.glob(f"*/{NOTES}.jsonl")
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    laptop.archive()
    reader = reader_of(tmp_path / "reader", laptop.server)
    before = read(reader)[NOTES].messages
    path.write_bytes(whole)
    laptop.archive()
    after = read(reader)[NOTES].messages
    assert (len(after), after) == (len(before) + 1, laptop.shown()[NOTES].messages)


def test_what_its_agent_deleted_is_still_shown(laptop: Laptop, tmp_path: Path) -> None:
    laptop.archive()
    here = laptop.shown()
    shutil.rmtree(laptop.projects)
    laptop.archive()
    archived = read(reader_of(tmp_path / "reader", laptop.server))
    assert {each: archived[each].messages for each in SESSIONS} == {
        each: here[each].messages for each in SESSIONS
    }


def test_a_rollout_that_codex_moves_to_its_archive_stays_one_session(
    laptop: Laptop, tmp_path: Path
) -> None:
    laptop.archive()
    reader = reader_of(tmp_path / "reader", laptop.server)
    read(reader)
    laptop.put_away(LIVE)
    laptop.archive()
    another = reader_of(tmp_path / "another", laptop.server)
    assert set(read(reader)) == set(read(another)) == SESSIONS


def test_a_rollout_that_grew_and_moved_is_shown_whole(laptop: Laptop, tmp_path: Path) -> None:
    path = laptop.rollout(LIVE)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    laptop.archive()
    path.write_bytes(whole)
    laptop.put_away(LIVE)
    laptop.archive()
    archived = read(reader_of(tmp_path / "reader", laptop.server))
    assert archived[LIVE].messages == laptop.shown()[LIVE].messages


def test_a_session_whose_directory_has_an_unusual_name_is_shown_the_same(
    laptop: Laptop, tmp_path: Path
) -> None:
    (project,) = laptop.projects.glob(f"*/{PARENT}")
    project.parent.rename(laptop.projects / "caf\u00e9 @ 100% [1]")
    for path in laptop.projects.rglob("*.jsonl"):
        written = path.read_bytes()
        path.write_bytes(written.replace(b"/-srv-shop/", "/caf\u00e9 @ 100% [1]/".encode()))
    laptop.archive()
    archived, here = read(reader_of(tmp_path / "reader", laptop.server)), laptop.shown()
    assert set(archived) == SESSIONS
    assert archived[PARENT] == here[PARENT].on(MACHINE)
