"""Which sessions never leave: by their place, their age, and the project they are about."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.agents import record, write
from transcriptd.config import Excludes, OtherSource
from transcriptd.errors import Unreadable, Vanished
from transcriptd.exclude import INDEX, OLD, PATH, PROJECT, UNKNOWN, why
from transcriptd.model import Session, Stat
from transcriptd.remap import project_name
from transcriptd.sources.claude import Claude
from transcriptd.sources.codetether import CodeTether
from transcriptd.sources.codex import Codex
from transcriptd.sources.other import Other
from transcriptd.sources.zeroclaw import ZeroClaw

if TYPE_CHECKING:
    from transcriptd.sources import Source

NOW = 1_000_000_000.0
DAY_S = 86_400
MIB = 1 << 20
UUID = "0f0e7a52-6c1d-4b8e-9a57-3d2c1b0a9f8e"


class Home:
    """A home with the four agents in it."""

    def __init__(self, path: Path) -> None:
        environ = {"HOME": str(path)}
        self.path = path
        self.projects = path / ".claude" / "projects"
        self.rollouts = path / ".codex" / "sessions"
        self.documents = path / "documents"
        self.claude: Source = Claude((), environ)
        self.codex: Source = Codex((), environ)
        self.codetether: Source = CodeTether([str(self.documents)], environ)
        self.zeroclaw: Source = ZeroClaw((), environ)

    def transcript(self, project: str, *lines: bytes, name: str = f"{UUID}.jsonl") -> Session:
        return self.of_claude(write(self.projects / project / name, *(x + b"\n" for x in lines)))

    def of_claude(self, path: Path) -> Session:
        return session_of(self.claude, self.projects, path)

    def rollout(self, *lines: bytes, ending: bytes = b"\n") -> Session:
        path = self.rollouts / "2026" / "02" / "03" / f"rollout-2026-02-03T12-00-00-{UUID}.jsonl"
        write(path, *(line + ending for line in lines))
        return session_of(self.codex, self.rollouts, path)

    def document(self, data: bytes | dict[str, object], name: str = "s.json") -> Session:
        path = self.documents / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return session_of(self.codetether, self.documents, path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def session_of(source: Source, root: Path, path: Path) -> Session:
    session = source.session(root, str(path.relative_to(root)))
    assert session is not None
    return session


def asked(source: Source, session: Session, excludes: Excludes, now: float = NOW) -> str:
    stat = source.stat(session)
    assert stat is not None
    return why(excludes, source, session, stat, now)


def by_path(*paths: Path | str) -> Excludes:
    return Excludes(paths=tuple(map(str, paths)))


def by_glob(*globs: str) -> Excludes:
    return Excludes(globs=globs)


def about(*projects: Path | str) -> Excludes:
    return Excludes(projects=tuple(map(str, projects)))


def said(cwd: object, **fields: object) -> bytes:
    return record(type="user", cwd=cwd, **fields)


def meta(cwd: object, **fields: object) -> bytes:
    return record(type="session_meta", payload={"id": UUID, "cwd": cwd, **fields})


def test_with_nothing_excluded_no_file_is_asked_for(home: Home) -> None:
    gone = Session("claude", "x", str(home.projects), "p/x.jsonl")
    assert why(Excludes(), home.claude, gone, Stat(0, 0, 0, 0, 0), NOW) == ""


# By place


def test_a_file_or_all_below_a_directory_is_excluded_by_its_name(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    for place in (session.path, session.path.parent, home.projects, home.path, Path("/")):
        assert asked(home.claude, session, by_path("/elsewhere", place)) == PATH


def test_a_name_that_only_begins_like_another_is_another(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    beside = [home.projects / "-srv-sho", session.path.with_suffix(""), home.path / "other"]
    assert asked(home.claude, session, by_path(*beside)) == ""


def test_a_place_is_found_behind_links_on_either_side(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    link = home.path / "link"
    link.symlink_to(home.projects)
    assert asked(home.claude, session, by_path(link / "-srv-shop")) == PATH
    linked = Session("claude", session.id, str(link), session.name)
    assert asked(home.claude, linked, by_path(home.projects / "-srv-shop")) == PATH
    assert asked(home.claude, linked, by_path(link)) == PATH


def test_a_place_with_steps_up_is_the_one_they_lead_to(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    assert asked(home.claude, session, by_path(home.projects / "x" / ".." / "-srv-shop")) == PATH


@pytest.mark.parametrize("glob", ["*", "-srv-*", "-srv-shop", "-srv-shop/**", "**/*.jsonl", "*/0*"])
def test_a_glob_is_about_the_path_below_the_agents_directory(glob: str, home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    assert asked(home.claude, session, by_glob("nothing", glob)) == PATH


@pytest.mark.parametrize("glob", ["srv-shop", "*.jsonl", ".claude/**", "*/*.json", "-SRV-shop"])
def test_a_glob_that_does_not_match_excludes_nothing(glob: str, home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    assert asked(home.claude, session, by_glob(glob)) == ""


def test_a_glob_of_codex_is_about_the_path_in_its_home(home: Home) -> None:
    session = home.rollout(meta("/srv/shop"))
    assert asked(home.codex, session, by_glob("sessions/2026/**")) == PATH
    assert asked(home.codex, session, by_glob("2026/**")) == ""


def test_what_belongs_to_a_transcript_is_excluded_with_it(home: Home) -> None:
    main = home.transcript("-srv-shop", said("/srv/shop"))
    for name in ("subagents/agent-1.jsonl", "subagents/agent-1.meta.json", "tool-results/t.txt"):
        part = home.of_claude(write(home.projects / "-srv-shop" / UUID / name, b"{}\n"))
        assert asked(home.claude, part, by_path(main.path)) == PATH
        assert asked(home.claude, part, by_glob(f"*/{UUID}.jsonl")) == PATH
        assert asked(home.claude, part, by_glob("*/another.jsonl")) == ""


def test_the_sessions_of_another_agent_are_excluded_by_place(tmp_path: Path) -> None:
    source = Other(OtherSource("pi", (str(tmp_path),)))
    session = session_of(source, tmp_path, write(tmp_path / "a" / "b.jsonl", b"{}\n"))
    assert asked(source, session, by_glob("a/**")) == PATH
    assert asked(source, session, by_path(tmp_path / "a")) == PATH
    assert asked(source, session, by_path(tmp_path / "b")) == ""


@pytest.mark.parametrize("excludes", [by_path("/x"), by_glob("x"), about("/x")])
def test_titles_of_all_sessions_stay_where_one_does(excludes: Excludes, home: Home) -> None:
    base = home.path / ".codex"
    index = session_of(home.codex, base, write(base / "session_index.jsonl", b"{}\n"))
    assert asked(home.codex, index, excludes) == INDEX
    assert asked(home.codex, index, Excludes(older_s=1e12)) == ""


# By age


def test_what_did_not_change_for_so_long_is_excluded(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    os.utime(session.path, (NOW, NOW - 30 * DAY_S))
    assert asked(home.claude, session, Excludes(older_s=29 * DAY_S)) == OLD
    assert asked(home.claude, session, Excludes(older_s=31 * DAY_S)) == ""
    assert asked(home.claude, session, Excludes(globs=("x",))) == "", "0 stands for any age"


def test_a_session_in_a_database_is_as_old_as_its_file(home: Home) -> None:
    root = home.path / ".zeroclaw" / "data" / "sessions"
    root.mkdir(parents=True)
    with closing(sqlite3.connect(root / "sessions.db")) as database, database:
        database.execute(
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT,"
            " role TEXT, content TEXT, created_at TEXT)"
        )
        database.execute("INSERT INTO sessions (session_key, role, content) VALUES ('a', 'u', 'x')")
    inside = home.zeroclaw.inner(root, "sessions.db")
    assert inside
    session = home.zeroclaw.session(root, inside[0][0])
    assert session is not None
    os.utime(root / "sessions.db", (NOW, NOW - 2 * DAY_S))
    assert asked(home.zeroclaw, session, Excludes(older_s=DAY_S)) == OLD
    assert asked(home.zeroclaw, session, Excludes(older_s=3 * DAY_S)) == ""
    wal = write(root / "sessions.db-wal", b"")
    os.utime(wal, (NOW, NOW - 60))
    (session_stat,) = (stat for name, stat in inside if name == session.name)
    assert why(Excludes(older_s=DAY_S), home.zeroclaw, session, session_stat, NOW) == ""


# By project: Claude Code


def test_a_project_and_those_below_are_excluded(home: Home) -> None:
    session = home.transcript("-srv-shop-web", said("/srv/shop/web"))
    assert asked(home.claude, session, about("/elsewhere", "/srv/shop/web")) == PROJECT
    assert asked(home.claude, session, about("/srv/shop")) == PROJECT
    assert asked(home.claude, session, about("/")) == PROJECT
    assert asked(home.claude, session, about("/srv/shop/web/x", "/srv/sho")) == ""


def test_of_projects_with_one_name_only_the_one_that_is_meant_is_excluded(home: Home) -> None:
    dashed = home.transcript("-srv-my-shop", said("/srv/my-shop"), name="a.jsonl")
    nested = home.transcript("-srv-my-shop", said("/srv/my/shop"), name="b.jsonl")
    assert asked(home.claude, dashed, about("/srv/my")) == ""
    assert asked(home.claude, nested, about("/srv/my")) == PROJECT
    assert asked(home.claude, dashed, about("/srv/my-shop")) == PROJECT
    assert asked(home.claude, nested, about("/srv/my-shop")) == ""


def test_where_the_agent_went_to_is_not_what_the_session_is_about(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/secret"), said("/srv/shop"))
    assert asked(home.claude, session, about("/srv/shop")) == PROJECT
    assert asked(home.claude, session, about("/srv/secret")) == ""


def test_what_only_the_directorys_name_says_is_excluded_rather_than_sent(home: Home) -> None:
    session = home.transcript("-srv-shop-web", said("/tmp/elsewhere"))
    assert asked(home.claude, session, about("/srv/shop")) == PROJECT
    assert asked(home.claude, session, about("/srv/shop/web")) == PROJECT
    assert asked(home.claude, session, about("/tmp")) == PROJECT
    assert asked(home.claude, session, about("/srv/shop/web/x")) == ""


def test_a_project_behind_a_link_is_excluded_by_either_name(home: Home) -> None:
    real, link = home.path / "real", home.path / "link"
    real.mkdir(parents=True)
    link.symlink_to(real)
    session = home.transcript(project_name(str(real)), said(str(real)), name="a.jsonl")
    former = home.transcript(project_name(str(link)), said(str(link)), name="b.jsonl")
    for each in (session, former):
        assert asked(home.claude, each, about(link)) == PROJECT
        assert asked(home.claude, each, about(real)) == PROJECT


def test_a_name_that_claude_code_cut_is_read_for(home: Home) -> None:
    deep = "/srv/" + "d" * 220
    session = home.transcript(project_name(deep)[:200] + "-1x2y3z", said(deep))
    assert asked(home.claude, session, about(deep)) == PROJECT
    assert asked(home.claude, session, about("/srv")) == PROJECT
    assert asked(home.claude, session, about(deep + "x")) == ""


@pytest.mark.parametrize("line", [b"", b'{"type":"user","cwd":"/srv/sh', b'{"type":"summary"}\n'])
def test_while_the_records_say_nothing_only_a_name_that_cannot_be_it_is_sent(
    line: bytes, home: Home
) -> None:
    session = home.of_claude(write(home.projects / "-srv-shop-web" / "a.jsonl", line))
    assert asked(home.claude, session, about("/srv/shop")) == UNKNOWN
    assert asked(home.claude, session, about("/srv/shop/web")) == PROJECT
    assert asked(home.claude, session, about("/srv/other")) == ""


def test_records_beyond_the_first_mebibyte_are_not_read(home: Home) -> None:
    head = record(type="file-history-snapshot", text="x" * MIB)
    session = home.transcript("-srv-shop-web", head, said("/srv/shop/web"))
    assert asked(home.claude, session, about("/srv/shop")) == UNKNOWN


def test_what_belongs_to_a_transcript_follows_its_project(home: Home) -> None:
    home.transcript("-srv-my-shop", said("/srv/my/shop"))
    below = home.projects / "-srv-my-shop" / UUID
    agent = home.of_claude(write(below / "subagents" / "agent-1.jsonl", said("/srv/my-shop")))
    result = home.of_claude(write(below / "tool-results" / "t.jsonl", said("/srv/my-shop")))
    for part in (agent, result):
        assert asked(home.claude, part, about("/srv/my")) == PROJECT
        assert asked(home.claude, part, about("/srv/my-shop")) == ""


def test_what_belongs_to_a_transcript_that_is_gone_says_it_itself_or_waits(home: Home) -> None:
    below = home.projects / "-srv-my-shop" / UUID
    agent = home.of_claude(write(below / "subagents" / "agent-1.jsonl", said("/srv/my/shop")))
    result = home.of_claude(write(below / "tool-results" / "t.txt", b"output"))
    assert asked(home.claude, agent, about("/srv/my")) == PROJECT
    assert asked(home.claude, result, about("/srv/my")) == UNKNOWN
    assert asked(home.claude, result, about("/srv/other")) == ""


@pytest.mark.parametrize("cwd", ["", "shop", 5, None, "/srv/\0", "/srv/\ud800", ["/srv"]])
def test_a_directory_that_is_none_says_nothing(cwd: object, home: Home) -> None:
    line = json.dumps({"type": "user", "cwd": cwd}).encode()
    session = home.transcript("-srv-shop-web", line)
    assert asked(home.claude, session, about("/srv/shop")) == UNKNOWN
    home.transcript("-srv-shop-web", said("/srv/shop/web"))
    assert asked(home.claude, session, about("/srv/shop")) == PROJECT
    assert asked(home.claude, session, about("/srv/shop/w")) == ""


def test_a_link_in_the_place_of_a_transcript_is_not_followed(home: Home) -> None:
    session = home.transcript("-srv-shop", said("/srv/shop"))
    target = session.path.rename(home.path / "target.jsonl")
    session.path.symlink_to(target)
    with pytest.raises(Unreadable):
        asked(home.claude, session, about("/srv/other"))


# By project: Codex


def test_a_rollout_says_its_project_at_its_head(home: Home) -> None:
    session = home.rollout(meta("/srv/shop", instructions="i" * 100_000), meta("/elsewhere"))
    assert asked(home.codex, session, about("/srv")) == PROJECT
    assert asked(home.codex, session, about("/elsewhere")) == ""


def test_a_rollout_that_is_compressed_says_it_too(home: Home) -> None:
    plain = home.rollout(meta("/srv/shop"))
    packed = plain.path.with_name(f"{plain.path.name}.zst")
    packed.write_bytes(zstandard.ZstdCompressor().compress(plain.path.read_bytes()))
    plain.path.unlink()
    session = session_of(home.codex, home.rollouts, packed)
    assert asked(home.codex, session, about("/srv/shop")) == PROJECT
    assert asked(home.codex, session, about("/srv/other")) == ""


@pytest.mark.parametrize("line", [b"", b'{"type":"session_meta","payload":{"cwd":"/sr', b"{}"])
def test_a_rollout_that_says_no_project_yet_waits(line: bytes, home: Home) -> None:
    session = home.rollout(line, ending=b"")
    assert asked(home.codex, session, about("/srv/shop")) == UNKNOWN


def test_a_rollout_that_goes_while_it_is_asked_has_vanished(home: Home) -> None:
    session = home.rollout(meta("/srv/shop"))
    stat = home.codex.stat(session)
    assert stat is not None
    session.path.unlink()
    with pytest.raises(Vanished):
        why(about("/srv"), home.codex, session, stat, NOW)


# By project: CodeTether


def test_a_document_says_its_project(home: Home) -> None:
    session = home.document({"id": "s", "messages": [], "metadata": {"directory": "/srv/shop"}})
    assert asked(home.codetether, session, about("/srv")) == PROJECT
    assert asked(home.codetether, session, about("/srv/other")) == ""


def test_a_document_in_a_workspace_that_says_none_is_about_that(tmp_path: Path) -> None:
    workspace = tmp_path / "shop"
    root = workspace / ".codetether-agent" / "sessions"
    source = CodeTether([str(root)], {"HOME": str(tmp_path / "home")})
    session = session_of(source, root, write(root / "s.json", b'{"id":"s","messages":[]}'))
    assert asked(source, session, about(workspace)) == PROJECT
    assert asked(source, session, about(tmp_path / "other")) == ""
    session.path.write_bytes(b'{"id":"s","messages":[],"metadata":{"dir')
    assert asked(source, session, about(tmp_path / "other")) == UNKNOWN


@pytest.mark.parametrize(
    "data", [b"", b'{"metadata":{"directory":"/srv/shop"', b'{"id":"s","metadata":{}}', b"[]"]
)
def test_a_document_that_says_no_project_waits(data: bytes, home: Home) -> None:
    assert asked(home.codetether, home.document(data), about("/srv/other")) == UNKNOWN


def test_of_a_large_document_the_head_is_enough(home: Home) -> None:
    decoy = '{"metadata":{"directory":"/srv/decoy"}}'
    messages = [{"role": "user", "content": decoy + "x" * MIB, "metadata": {"directory": "/x"}}]
    told = {"title": decoy, "metadata": {"model": None, "directory": "/srv/shop"}}
    session = home.document({**told, "messages": messages})
    assert asked(home.codetether, session, about("/srv/shop")) == PROJECT
    assert asked(home.codetether, session, about("/srv/decoy", "/x")) == ""


@pytest.mark.parametrize(
    "data",
    [
        b'{"messages":["' + b"x" * MIB + b'"],"metadata":{"directory":"/srv/shop"}}',
        b'"metadata":{"directory":"/srv/shop"}' + b"x" * MIB,
        b'}]]"metadata":' + b"x" * MIB,
        b'{"messages":["' + b'\\"metadata\\":{\\"directory\\":\\"/srv/shop\\"}' * 40_000,
        b"\0" * (2 * MIB),
    ],
)
def test_a_large_document_that_does_not_say_it_at_its_head_waits(data: bytes, home: Home) -> None:
    assert asked(home.codetether, home.document(data), about("/srv/other")) == UNKNOWN
