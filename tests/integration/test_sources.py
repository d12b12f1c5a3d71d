"""`transcriptd sources` as a person calls it: in a process of its own, on a home of its own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents import UUID, Claude, Codex, ZeroClaw, write
from tests.documents import conversation, document, save
from tests.home import PATIENCE_S, Home

if TYPE_CHECKING:
    from pathlib import Path

    from tests.home import Outcome

CANARY = "canary-91b5e1a0"
COUNTS = ("sessions", "archived", "waiting", "quarantined")
DAY_S = 86_400


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


def rows(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(outcome.out)["sources"]}


def asked(home: Home) -> dict[str, dict[str, Any]]:
    return rows(home.run("sources", "--json"))


def counts(row: dict[str, Any]) -> tuple[int, ...]:
    return tuple(row[name] for name in COUNTS)


def settle(home: Home, days: float = 1) -> None:
    """Let every file of every agent have been quiet for so long."""
    changed_at = time() - days * DAY_S
    for path in home.path.rglob("*"):
        if path.is_file():
            os.utime(path, (changed_at, changed_at))


def configure(home: Home, text: str) -> None:
    path = home.path / ".config" / "transcriptd" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text, "utf-8")


def test_an_empty_machine_is_told_where_sessions_would_be_looked_for(home: Home) -> None:
    outcome = home.run("sources")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("No agent keeps sessions here yet.")
    for place in (".claude/projects", ".codex/sessions", "codetether-agent/sessions"):
        assert re.search(rf"{re.escape(place)}  not there$", outcome.out, re.MULTILINE), place
    assert "transcriptd config example" in outcome.out
    assert {row["state"] for row in asked(home).values()} == {"absent"}


def test_each_agent_is_counted_with_its_companions_before_and_after_a_sync(home: Home) -> None:
    save(home.sessions, document(conversation(2), "one"))
    claude, codex = Claude(home.path), Codex(home.path)
    claude.says("x")
    claude.delegates("a1")
    claude.keeps("toolu_1.txt", b"output")
    codex.archives(codex.says("x"))
    settle(home)
    before = home.run("sources", "--json")
    assert before.status == 1, "nothing is archived yet"
    assert {name: counts(row) for name, row in rows(before).items()} == {
        "codetether": (1, 0, 1, 0),
        "claude": (4, 0, 4, 0),
        "codex": (1, 0, 1, 0),
        "zeroclaw": (0, 0, 0, 0),
    }
    assert home.run("sync").status == 0
    after = home.run("sources", "--json")
    assert after.status == 0
    found = rows(after)
    assert {name: row["archived"] for name, row in found.items()} == {
        "codetether": 1, "claude": 4, "codex": 1, "zeroclaw": 0,
    }  # fmt: skip
    length = sum(path.stat().st_size for path in claude.projects.rglob("*.*"))
    assert found["claude"]["archived_bytes"] == length
    assert found["zeroclaw"]["state"] == "absent"
    shown = home.run("sources").out
    assert re.search(r"^claude +on +4 +4 +\d+ B$", shown, re.MULTILINE)
    assert f"{claude.projects}  4 sessions" in shown


def test_what_changed_since_or_cannot_be_archived_is_counted(home: Home) -> None:
    claude = Claude(home.path)
    for name in ("one", "two"):
        claude.says("x", uuid=name)
    (home.sessions / "broken.json").write_text("{")
    settle(home)
    assert home.run("sync").status == 1
    claude.says("more", uuid="one")
    outcome = home.run("sources", "--json")
    assert outcome.status == 1
    assert counts(rows(outcome)["claude"]) == (2, 1, 1, 0)
    assert counts(rows(outcome)["codetether"]) == (1, 0, 0, 1)


def test_what_is_gone_from_the_machine_is_not_forgotten(home: Home) -> None:
    path = Claude(home.path).says("x")
    settle(home)
    assert home.run("sync").status == 0
    length = path.stat().st_size
    path.unlink()
    assert home.run("sync").status == 0
    row = asked(home)["claude"]
    assert (row["sessions"], row["gone"], row["archived_bytes"]) == (0, 1, length)
    assert "1 session is gone from here; the archive keeps" in home.run("sources").out


def test_an_agent_that_is_off_is_counted_and_says_how_it_is_turned_on(home: Home) -> None:
    Claude(home.path).says("x")
    configure(home, "[sources.claude]\nenabled = false\n")
    outcome = home.run("sources", "--json")
    row = rows(outcome)["claude"]
    assert (row["state"], row["configured"], row["sessions"]) == ("off", "off", 1)
    assert row["hint"] == "sources.claude.enabled = true in the configuration turns it on"
    assert outcome.status == 0, "what is off need not be archived"
    assert row["hint"] in home.run("sources").out


def test_agents_of_the_configuration_are_counted_and_those_that_could_be_are_suggested(
    home: Home,
) -> None:
    write(home.path / "mine" / "a.jsonl", b"{}\n")
    write(home.path / ".pi" / "agent" / "sessions" / "s.jsonl", b"{}\n")
    write(home.path / ".openclaw" / "agents" / "main" / "sessions" / "s.jsonl", b"{}\n")
    configure(
        home,
        '[sources.mine]\nroot = "~/mine"\n[sources.away]\nroot = "~/away"\n'
        '[sources.claws]\nroot = "~/.openclaw/agents"\nenabled = false\n',
    )
    found = asked(home)
    assert {name: (row["state"], row["configured"], row["sessions"]) for name, row in found.items()
            if name not in {"codetether", "claude", "codex", "zeroclaw"}} == {
        "mine": ("on", "on", 1),
        "away": ("absent", "on", 0),
        "claws": ("off", "off", 1),
        "pi": ("off", "unknown", 1),
    }  # fmt: skip
    assert "`root` of its table" in found["away"]["hint"]
    hint = "`transcriptd config example` has the table [sources.pi] for it"
    assert found["pi"]["hint"] == hint
    assert "[sources.pi]" in home.run("config", "example").out
    assert re.search(rf"^pi +{re.escape(hint)}$", home.run("sources").out, re.MULTILINE)


def test_the_sessions_inside_a_database_are_counted(home: Home) -> None:
    sessions = home.path / ".zeroclaw" / "data" / "sessions"
    ZeroClaw(sessions).says("main", "x")
    with closing(sqlite3.connect(sessions / "sessions.db")) as database, database:
        database.execute(
            "CREATE TABLE sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, session_key TEXT,"
            " role TEXT, content TEXT, created_at TEXT)"
        )
        database.executemany(
            "INSERT INTO sessions (session_key, role, content) VALUES (?, 'user', 'x')",
            [("one",), ("two",), ("one",)],
        )
    settle(home)
    assert asked(home)["zeroclaw"]["sessions"] == 3
    assert home.run("sync").status == 0
    assert counts(asked(home)["zeroclaw"]) == (3, 3, 0, 0)


def test_two_names_of_one_directory_are_one(home: Home) -> None:
    Claude(home.path).says("x")
    (home.path / "again").symlink_to(Claude(home.path).projects)
    configure(home, '[sources.claude]\nroots = ["~/again"]\n')
    row = asked(home)["claude"]
    assert [root["present"] for root in row["roots"]] == [True, True]
    assert row["sessions"] == 1


def test_names_that_cannot_be_told_are_counted_by_reason(home: Home) -> None:
    Claude(home.path).says("x")
    project = Claude(home.path).projects / "-srv-shop"
    os.close(os.open(os.fsencode(project) + b"/caf\xe9.jsonl", os.O_CREAT | os.O_WRONLY))
    assert asked(home)["claude"]["skipped"] == {"name_not_utf8": 1}
    assert "names left out: 1 name_not_utf8" in home.run("sources").out


def test_a_directory_that_cannot_be_looked_at_is_named_and_makes_exit_status_1(home: Home) -> None:
    loop = home.path / "loop"
    loop.symlink_to(loop)
    configure(home, '[sources.claude]\nroots = ["~/loop"]\n')
    outcome = home.run("sources", "--json")
    assert outcome.status == 1
    assert list(rows(outcome)["claude"]["unreadable"]) == [str(loop)]
    assert f"{loop} cannot be read: " in home.run("sources").out


def test_what_is_soon_deleted_is_said_with_whether_it_is_archived(home: Home) -> None:
    Claude(home.path).says("x")
    settle(home, 26)
    row = asked(home)["claude"]
    assert (row["expiring"], row["expiring_unarchived"]) == (1, 1)
    said = "it deletes 1 session within 7 days; "
    assert f"{said}1 not archived" in home.run("sources").out
    assert home.run("sync").status == 0
    assert asked(home)["claude"]["expiring_unarchived"] == 0
    assert f"{said}all archived" in home.run("sources").out
    Claude(home.path).keeps_for(60)
    assert "it deletes" not in home.run("sources").out


def test_what_is_excluded_is_counted_with_the_reason_and_is_not_missed(home: Home) -> None:
    claude = Claude(home.path)
    kept = [
        claude.says(CANARY, uuid="one", project="-srv-shop"),
        claude.says(CANARY, uuid="two", project="-srv-scratch"),
    ]
    sent = claude.says("x", uuid="three", project="-srv-other")
    sent.write_bytes(sent.read_bytes().replace(b"/srv/shop", b"/srv/other"))
    configure(home, '[sources.claude]\nexclude = ["*-scratch"]\nexclude_projects = ["/srv/shop"]\n')
    settle(home, 26)
    assert home.run("sync").status == 0
    outcome = home.run("sources", "--json")
    row = rows(outcome)["claude"]
    assert (outcome.status, counts(row)) == (0, (3, 1, 0, 0))
    assert row["excluded_by"] == {"excluded_path": 1, "excluded_project": 1}
    size = sum(path.stat().st_size for path in kept)
    assert (row["excluded"], row["excluded_bytes"]) == (2, size)
    assert (row["expiring"], row["expiring_unarchived"]) == (1, 0)
    said = f"2 sessions stay here, {size} B: 1 excluded_path, 1 excluded_project"
    assert said in home.run("sources").out
    archive = home.path / ".local" / "share" / "transcriptd" / "archive"
    assert not [p for p in archive.rglob("*") if p.is_file() and CANARY.encode() in p.read_bytes()]


def test_what_is_done_about_secrets_is_said(home: Home) -> None:
    Claude(home.path).says("x")
    configure(home, '[sources.claude]\nredaction = "mask"\n')
    modes = {name: row["redaction"] for name, row in asked(home).items()}
    assert modes["claude"] == "mask"
    assert modes["codex"] == "report"
    assert "redaction: report; claude: mask" in home.run("sources").out


def test_what_stands_in_another_archive_does_not_count(home: Home) -> None:
    Claude(home.path).says("x")
    settle(home)
    assert home.run("sync").status == 0
    home.environ["TRANSCRIPTD_PREFIX"] = "elsewhere/"
    row = asked(home)["claude"]
    assert (row["archived"], row["archived_bytes"], row["waiting"]) == (0, 0, 1)


def test_a_daemon_that_began_without_an_agent_is_to_be_restarted(home: Home) -> None:
    Claude(home.path).says("x")
    home.environ["TRANSCRIPTD_SOURCES__CLAUDE__ENABLED"] = "false"
    with home.start("run") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"daemon.started" in line:
                break
        try:
            del home.environ["TRANSCRIPTD_SOURCES__CLAUDE__ENABLED"]
            outcome = home.run("sources", "--json")
            shown = home.run("sources").out
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
    assert json.loads(outcome.out)["daemon"] is True
    assert rows(outcome)["claude"]["hint"] == "the daemon was started without it: restart it"
    assert "restart it" in shown
    assert "No daemon runs" not in shown


def test_nothing_is_written_and_no_text_is_said(home: Home) -> None:
    Claude(home.path).says(CANARY)
    Codex(home.path).says(CANARY, uuid=UUID)
    s3 = {"endpoint": "http://127.0.0.1:9", "bucket": "b", "access_key": "a", "secret_key": CANARY}
    home.environ |= {f"TRANSCRIPTD_S3__{name.upper()}": value for name, value in s3.items()}
    before = sorted(home.path.rglob("*"))
    for arguments in (("sources",), ("sources", "--json")):
        outcome = home.run(*arguments)
        assert outcome.status == 1
        assert CANARY not in outcome.out + outcome.err
    assert sorted(home.path.rglob("*")) == before


def test_the_help_names_every_field_there_is(home: Home) -> None:
    Claude(home.path).says("x")
    outcome = home.run("sources", "--json")
    told = json.loads(outcome.out)
    explained = set(re.findall(r"\w+", home.run("sources", "--help").out))
    row = told["sources"][0]
    assert {*told, *row, *row["roots"][0]} <= explained
