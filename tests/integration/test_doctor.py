"""`transcriptd doctor` as a person calls it: in a process of its own, against real stores."""

from __future__ import annotations

import json
import os
import re
from time import time
from typing import TYPE_CHECKING

import pytest

from tests.agents import Claude, Codex, write
from tests.documents import conversation, document, save
from tests.home import PATIENCE_S, VARIABLE, Home
from tests.memory_store import AwsWithoutListing
from tests.proxy import ACCESS_DENIED, Answer, in_thread
from tests.servers import Missing
from tests.servers.request import send
from transcriptd.doctor import Level, round_trip
from transcriptd.stores import capabilities

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.home import Outcome
    from tests.servers import Pool, Server

CANARY = "canary-d41d8cd9"
KNOWN = capabilities.guarantees(None)


def guarantees(outcome: Outcome) -> dict[str, dict[str, str]]:
    """Return what is said of each guarantee, by its name."""
    return {each["subject"]: each for each in outcome.found("archive") if each["subject"] in KNOWN}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


@pytest.fixture
def daemon(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    with home.start("run") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"daemon.started" in line:
                break
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def test_a_fresh_machine_has_nothing_that_fails(home: Home) -> None:
    outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    assert json.loads(outcome.out)["ok"]
    (awaited,) = outcome.found("codetether", "awaited")
    assert ".local/share/codetether-agent/sessions" in awaited["message"]
    bad = [each for each in outcome.bad if each[1] != "inotify"]  # this kernel's limits
    assert bad == [("warn", "codetether", "sessions"), ("warn", "daemon", "running")]
    (place,) = outcome.found("archive", "place")
    assert place["message"] == str(home.archive)
    assert not list(home.archive.rglob("*doctor-*"))


def test_it_is_told_to_a_person_with_hints(home: Home) -> None:
    outcome = home.run("doctor")
    assert outcome.status == 0
    assert "warn  running: none answers" in outcome.out
    assert "→ `transcriptd service install`" in outcome.out
    assert re.search(r"\d warnings, 0 failures\n$", outcome.out)


def test_a_round_trip_through_a_real_server_leaves_nothing_behind(
    home: Home, bucket: Server
) -> None:
    home.use(bucket)
    outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    for subject in ("write", "clock", "read", "conditions", "list", "remove", "uploads"):
        assert outcome.level("archive", subject) == "ok", subject
    assert b"<Key>" not in send(bucket, "GET", f"/{bucket.bucket}")[1]


def test_what_a_server_does_is_said_after_it_was_tried(home: Home, bucket: Server) -> None:
    home.use(bucket)
    honoured = bucket.name != "swift"
    said = guarantees(home.doctor())
    assert {name: finding["level"] for name, finding in said.items()} == {
        "if_none_match": "ok",
        "if_match": "ok" if honoured else "warn",
        "etag_is_md5": "ok",
        "copy_parts": "ok",
        "complete_if_none_match": "ok",
        "complete_if_match": "ok" if honoured else "warn",
    }
    words = {finding["message"].partition(":")[0] for finding in said.values()}
    assert words == ({"honoured"} if honoured else {"honoured", "not honoured"})


def test_what_only_costs_bytes_is_no_warning_and_what_weakens_a_promise_is_one(
    home: Home, servers: Pool
) -> None:
    try:
        home.use(servers.get("rclone"))
    except Missing as missing:
        pytest.skip(str(missing))
    said = guarantees(home.doctor())
    assert said["copy_parts"]["level"] == "ok"
    assert "not honoured: a seal of a large session sends it again" in said["copy_parts"]["message"]
    for name in ("if_none_match", "if_match", "complete_if_none_match", "complete_if_match"):
        assert said[name]["level"] == "warn", name
        assert "compared right before instead" in said[name]["message"], name


def test_a_server_that_fails_at_uploads_in_parts_is_not_relied_upon(
    home: Home, servers: Pool
) -> None:
    with in_thread(servers.get("ministack")) as proxy:
        proxy.add(Answer(500, "InternalError"), method="POST")
        home.use(proxy.server)
        outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    said = guarantees(outcome)
    assert said["if_match"]["level"] == "ok"
    assert (said["copy_parts"]["level"], said["complete_if_match"]["level"]) == ("ok", "warn")
    assert said["copy_parts"]["message"].startswith("unknown: a seal of a large session sends it")


def test_no_secret_is_printed(home: Home, servers: Pool) -> None:
    home.use(servers.get("swift"))
    home.environ |= {f"{VARIABLE}SECRET_KEY": CANARY, f"{VARIABLE}ACCESS_KEY": f"id-{CANARY}"}
    for arguments in (("doctor",), ("doctor", "--json")):
        outcome = home.run(*arguments)
        assert outcome.status == 1
        assert CANARY not in outcome.out + outcome.err
        assert "s3.secret_key" in outcome.out


def test_a_store_that_refuses_fails_with_its_reason(home: Home, servers: Pool) -> None:
    with in_thread(servers.get("ministack")) as proxy:
        proxy.add(ACCESS_DENIED)
        home.use(proxy.server)
        outcome = home.doctor()
    assert outcome.status == 1
    (finding,) = outcome.found("archive", "write")
    assert finding["level"] == "fail"
    assert "AccessDenied" in finding["message"]
    assert finding["hint"]
    assert len(outcome.found("versions")) == 1  # it goes on


def test_without_the_right_to_list_there_are_no_tails_and_that_is_a_warning(
    home: Home, servers: Pool
) -> None:
    with in_thread(servers.get("ministack")) as proxy:
        proxy.add(ACCESS_DENIED, method="GET", key="^$")
        home.use(proxy.server)
        outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    (finding,) = outcome.found("archive", "list")
    assert (finding["level"], finding["hint"]) == ("warn", "grant s3:ListBucket")
    assert "whole objects are kept and no tails" in finding["message"]
    (uploads,) = outcome.found("archive", "uploads")
    assert uploads["level"] == "ok", "to list unfinished uploads is nice to have"
    assert "s3:ListBucketMultipartUploads" in uploads["message"]


async def test_where_what_is_absent_counts_as_forbidden_whole_objects_are_kept() -> None:
    store = AwsWithoutListing()
    found = {
        finding.subject: finding
        async for finding in round_trip.examine(store, "history/", clock=lambda: 0.0)
    }
    assert found["list"].level is Level.WARN
    assert "whole objects are kept" in found["list"].message
    assert found["remove"].level is Level.OK
    assert store.objects == {}


def test_without_the_right_to_remove_segments_stay_and_nothing_is_wrong(
    home: Home, servers: Pool
) -> None:
    with in_thread(servers.get("ministack")) as proxy:
        proxy.add(ACCESS_DENIED, method="DELETE", key=".")
        home.use(proxy.server)
        outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    assert {finding["level"] for finding in outcome.found("archive")} == {"ok"}
    assert "folded segments stay" in outcome.found("archive", "remove")[0]["message"]
    assert "s3:AbortMultipartUpload" in outcome.found("archive", "uploads")[0]["message"]


def test_nobody_at_the_endpoint_fails(home: Home) -> None:
    home.environ |= {
        f"{VARIABLE}ENDPOINT": "http://127.0.0.1:9",
        f"{VARIABLE}BUCKET": "b",
        f"{VARIABLE}ACCESS_KEY": "a",
        f"{VARIABLE}SECRET_KEY": CANARY,
    }
    outcome = home.doctor()
    assert outcome.status == 1
    assert outcome.level("archive", "write") == "fail"


def test_a_sink_that_is_set_in_part_fails_and_names_what_is_missing(home: Home) -> None:
    home.environ |= {f"{VARIABLE}BUCKET": "b", f"{VARIABLE}ENDPOINT": "http://127.0.0.1:9"}
    outcome = home.doctor()
    assert outcome.status == 1
    (finding,) = outcome.found("configuration", "archive")
    assert f"{VARIABLE}ACCESS_KEY, {VARIABLE}SECRET_KEY" in finding["message"]


def test_a_configuration_that_cannot_be_is_exit_status_78(home: Home) -> None:
    home.environ["TRANSCRIPTD_WORKERS"] = "many"
    outcome = home.doctor()
    assert outcome.status == 78
    assert "workers" in outcome.err


def test_sessions_are_counted_and_other_files_are_not(home: Home) -> None:
    for name in ("one", "two"):
        save(home.sessions, document(conversation(2), name))
    (home.sessions / "one.checkpoint.json").write_text("{}")
    outcome = home.doctor()
    (finding,) = outcome.found("codetether", str(home.sessions))
    assert (finding["level"], finding["message"]) == ("ok", "2 sessions")
    assert "parser" not in outcome.out


def test_what_cannot_be_read_or_written_fails(home: Home) -> None:
    path = save(home.sessions, document(conversation(2), "one"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("needs a user who may not read everything")
    home.state.mkdir(parents=True)
    home.state.chmod(0o500)
    try:
        outcome = home.doctor()
    finally:
        home.state.chmod(0o700)
    assert outcome.status == 1
    assert ("fail", "codetether", str(home.sessions)) in outcome.bad
    assert ("fail", "state", "directory") in outcome.bad


def test_agents_that_are_not_on_this_machine_are_one_line(home: Home) -> None:
    save(home.sessions, document(conversation(2), "one"))
    outcome = home.doctor()
    (absent,) = outcome.found("sources")
    assert (absent["level"], absent["subject"]) == ("ok", "not here")
    assert absent["message"].startswith("claude, codex, zeroclaw: ")
    assert [outcome.found(agent) for agent in ("claude", "codex", "zeroclaw")] == [[], [], []]


def test_every_agent_that_is_on_this_machine_is_counted(home: Home) -> None:
    claude = Claude(home.path)
    claude.says("x")
    claude.delegates("a1")
    rollout = Codex(home.path).says("x")
    write(home.path / "mine" / "a.jsonl", b"{}\n")
    path = home.path / ".config" / "transcriptd" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        '[sources.mine]\nroot = "~/mine"\n[sources.away]\nroot = "~/away"\n'
        "[sources.codex]\nenabled = false\n"
    )
    outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    assert outcome.found("claude", str(claude.projects))[0]["message"] == "3 sessions"
    assert outcome.found("mine", str(home.path / "mine"))[0]["message"] == "1 session"
    assert outcome.level("away", str(home.path / "away")) == "warn", "it was named"
    (off,) = outcome.found("codex")
    assert (off["level"], off["subject"], off["message"]) == ("ok", "off", "1 session")
    assert "sources.codex.enabled" in off["hint"]
    assert rollout.exists()
    assert outcome.found("codetether") == [], "no agent, no warning"


def test_what_an_agent_is_about_to_delete_is_a_warning_until_it_is_archived(home: Home) -> None:
    claude = Claude(home.path)
    for name, days in (("old", 26), ("young", 3)):
        changed_at = time() - days * 86_400
        os.utime(claude.says("x", uuid=name), (changed_at, changed_at))
    (cleanup,) = home.doctor().found("claude", "cleanup")
    assert cleanup["level"] == "warn"
    expected = "1 session will be deleted by claude within 7 days: not archived"
    assert cleanup["message"] == expected
    assert home.run("sync").status == 0
    assert home.doctor().found("claude", "cleanup") == []


def test_what_cannot_be_looked_at_fails_and_the_others_go_on(home: Home) -> None:
    loop = home.path / "loop"
    loop.symlink_to(loop)
    Claude(home.path).says("x")
    home.environ["TRANSCRIPTD_SOURCES__CLAUDE__ROOTS"] = str(loop)
    outcome = home.doctor()
    assert outcome.status == 1
    assert ("fail", "claude", str(loop)) in outcome.bad
    assert outcome.level("claude", str(Claude(home.path).projects)) == "ok"


def test_what_exists_only_in_the_local_archive_is_counted(home: Home, servers: Pool) -> None:
    for length, name in ((3, "one"), (2, "two"), (1, "one")):  # the last one is an undo
        save(home.sessions, document(conversation(length), name))
        assert home.run("sync").status == 0
    home.use(servers.get("ministack"))
    home.environ[f"{VARIABLE}PREFIX"] = "elsewhere/"
    before = home.doctor()
    (finding,) = before.found("archive", "local")
    assert finding["level"] == "warn"
    assert finding["message"].startswith(f"only {home.archive} has 2 sessions and 1 other ")
    assert home.run("sync").status == 0
    (finding,) = home.doctor().found("archive", "local")
    assert finding["message"].startswith(f"only {home.archive} has 0 sessions and 1 other ")


def test_a_running_daemon_is_asked_and_not_disturbed(
    home: Home, daemon: subprocess.Popen[bytes]
) -> None:
    outcome = home.doctor()
    assert outcome.status == 0, outcome.out
    (running,) = outcome.found("daemon", "running")
    assert f"process {daemon.pid}" in running["message"]
    assert outcome.level("state", "lock") == "ok"
    assert f"process {daemon.pid}" in outcome.found("state", "lock")[0]["message"]
    assert daemon.poll() is None


def test_what_the_daemon_has_in_quarantine_is_said(
    home: Home, daemon: subprocess.Popen[bytes]
) -> None:
    (home.sessions / "broken.json").write_text("{")
    assert home.run("sync").status == 1
    assert ("warn", "daemon", "quarantined") in home.doctor().bad
