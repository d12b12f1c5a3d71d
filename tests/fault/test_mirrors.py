"""What befalls mirrors: damage, links, rewrites, outages. Nothing is lost, the others go on."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents import PROJECT, UUID, Claude, Codex, ZeroClaw, ZeroClawStore, write
from tests.daemon import eventually, running
from tests.fault.archives import over_a_bucket
from tests.fault.mirrored import (
    CONFLICTS,
    FINISHED,
    FIRST,
    MORE,
    MOST,
    RAW,
    SEGMENT,
    SESSION,
    comes_to_mirror,
    finished_of,
    grow,
    lines,
    mirrored,
    segments_of,
    session,
)
from tests.kept import KeptInDirectory
from tests.proxy import Hold, LoseAnswer

if TYPE_CHECKING:
    from tests.daemon import Daemon
    from tests.fault.archives import Archive
    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Server

RESCAN = "TRANSCRIPTD_WATCH__RESCAN"
NEVER = {RESCAN: "3600"}
LATER = {"TRANSCRIPTD_DEBOUNCE__QUIET": "60", "TRANSCRIPTD_DEBOUNCE__MAX_WAIT": "60", **NEVER}
SCRUB = {"TRANSCRIPTD_SCRUB__AFTER": "0", "TRANSCRIPTD_SCRUB__RATE": "1GiB"}
OTHER = UUID.replace("0", "1")
ONE_FILE = f"claude/{PROJECT}/{OTHER}.jsonl"
SOON_S = 10.0
WORKERS = 8
DESCRIPTORS = 64 + WORKERS
SEVERAL = 400
QUIET_S = 30.0  # after that a line without its end counts
LARGE = lines(45_000)  # its first 64 KiB and the last 1 MiB are looked at each time
DAMAGED = (
    b'{"type":"user","message":{"role":\n',  # torn
    b'{"type":"user"}{"type":"assistant"}\n',  # spliced: a line feed is missing
    b"\0" * 70_000 + b"\n",  # what a power cut leaves of a record
    b'{"type":"us\0\0\0\0er"}\n',
    b'{"type":"\xff\xfe"}\n',
)
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
MARKER = b"written outside of every root"


@pytest.fixture
def kept(home: Home) -> KeptInDirectory:
    """Return the local archive, for those tests that are about sources alone."""
    home.environ["TRANSCRIPTD_MACHINE"] = "m1"
    return KeptInDirectory(home.archive)


async def armed(daemon: Daemon, root: Path) -> None:
    """Wait until events tell of changes, and no scan is left that would find them."""
    await daemon.logged("root.watched", path=str(root))
    assert (await daemon.sync()).is_ok
    assert (await daemon.sync()).is_ok


async def test_damaged_lines_are_archived_as_they_are_and_counted(
    home: Home, kept: KeptInDirectory
) -> None:
    path, content = session(home), lines(3)
    async with running(home) as daemon:
        for number, line in enumerate(DAMAGED, start=1):
            content += line + lines(2)
            grow(path, content[:-7])  # an append may end anywhere
            grow(path, content)
            Claude(home.path).says(f"step {number}", uuid=OTHER)
            await comes_to_mirror(kept, content)
            await comes_to_mirror(kept, session(home, f"{OTHER}.jsonl").read_bytes(), ONE_FILE)
            said = await daemon.reports(lambda report: report["totals"]["backlog"] == 0)
            assert _damaged(said) == (number, {UUID: number})
    async with running(home) as daemon:
        assert _damaged(await daemon.status(everything=False)) == (5, {UUID: 5})
        await daemon.reports(lambda said: _of(said, UUID)["state"] == "current")
    assert mirrored(kept) == path.read_bytes()
    assert not kept.listing(FINISHED)


def _of(said: dict[str, Any], session_id: str) -> dict[str, Any]:
    return next((s for s in said["sessions"] if s["id"] == session_id), defaultdict(str))


def _damaged(said: dict[str, Any]) -> tuple[int, dict[str, int]]:
    (source,) = (each for each in said["sources"] if each["source"] == "claude")
    by_session = {each["id"]: each["damaged_lines"] for each in said["sessions"]}
    return source["damaged_lines"], {name: count for name, count in by_session.items() if count}


async def test_what_is_no_file_below_the_root_is_named_and_nothing_outside_is_opened(
    home: Home, kept: KeptInDirectory
) -> None:
    outside = _outside(home)
    projects = Claude(home.path).projects
    good = session(home)
    grow(good, lines(2))
    session(home, "linked.jsonl").symlink_to(outside / "secret.jsonl")
    session(home, "dangling.jsonl").symlink_to(outside / "nothing.jsonl")
    (projects / "linked").symlink_to(outside, target_is_directory=True)
    (projects / PROJECT / OTHER).symlink_to(outside / OTHER, target_is_directory=True)
    (projects / "loop").symlink_to(projects, target_is_directory=True)
    os.mkfifo(session(home, "pipe.jsonl"))
    _write_bytes_named(projects / PROJECT, b"\xff\xfe.jsonl")
    _make_directory_named(projects, b"\xff-project")
    before = _times(outside)
    async with running(home) as daemon:
        for count in (3, 4):
            grow(good, lines(count))
            await comes_to_mirror(kept, lines(count))
        assert (await daemon.sync()).status == 503, "what is no session is not archived"
        said = await daemon.status()
        reasons = {each["id"]: each["reason"] for each in said["sessions"] if each["reason"]}
        assert reasons == dict.fromkeys(("linked", "dangling", "pipe"), "not_a_file")
        assert len(daemon.lines("session.quarantined")) == 3
        (skipped,) = (each["skipped"] for each in said["watch"] if each["source"] == "claude")
        assert skipped == {"name_not_utf8": 2, "linked_directory": 3}
        assert await _sources(home) == (skipped, [])
        assert [trouble["reason"] for trouble in said["degraded"]] == []
    assert kept.listing() == [RAW + SESSION]
    assert _times(outside) == before, "something outside was read"
    assert not _holds_marker(home)
    assert b"Traceback" not in daemon.output


def _outside(home: Home) -> Path:
    """Make what no mirror may reach, with times that tell of every look at it."""
    outside = home.path / "outside"
    for name in ("secret.jsonl", "direct.jsonl", f"{OTHER}/subagents/agent-a.jsonl"):
        write(outside / name, MARKER + b"\n")
    for path in (outside, *outside.rglob("*")):
        os.utime(path, (1, 2))  # a kernel notes the next reading of what was written since
    return outside


def _times(directory: Path) -> dict[str, int]:
    """Return when each file and directory was last read; `lstat` alone leaves that as it is."""
    names = ("", "secret.jsonl", "direct.jsonl", OTHER, f"{OTHER}/subagents")
    return {name: (directory / name).stat().st_atime_ns for name in names}


def _write_bytes_named(directory: Path, name: bytes) -> None:
    with open(os.path.join(os.fsencode(directory), name), "wb") as file:  # noqa: PTH118, PTH123 - no text
        file.write(lines(1))


def _make_directory_named(directory: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(directory), name)  # noqa: PTH118 - it is no text
    os.mkdir(path)  # noqa: PTH102 - it is no text
    with open(os.path.join(path, b"s.jsonl"), "wb") as file:  # noqa: PTH118, PTH123 - no text
        file.write(lines(1))


async def _sources(home: Home) -> tuple[dict[str, int], list[str]]:
    """Return what `transcriptd sources` says of Claude's names and of what cannot be read."""
    outcome = await asyncio.to_thread(home.run, "sources", "--json")
    assert outcome.status == 1, outcome.err
    (said,) = (each for each in json.loads(outcome.out)["sources"] if each["name"] == "claude")
    return said["skipped"], list(said["unreadable"])


def _holds_marker(home: Home) -> bool:
    files = (path for path in home.archive.rglob("*") if path.is_file())
    return any(MARKER in path.read_bytes() for path in files)


async def test_a_directory_that_may_not_be_read_is_named_and_the_others_go_on(
    home: Home, kept: KeptInDirectory
) -> None:
    closed = session(home, f"{OTHER}.jsonl", "-srv-closed")
    grow(closed, lines(2))
    name = f"claude/-srv-closed/{OTHER}.jsonl"
    under = _without_privileges(closed.parent)
    closed.parent.chmod(0)
    path = session(home)
    grow(path, lines(1))
    try:
        async with running(home, under=under, **{RESCAN: "0.2"}) as daemon:
            await daemon.degraded("root_unreadable")
            (trouble,) = (await daemon.status())["degraded"]
            assert str(closed.parent) in trouble["message"]
            for count in (2, 3):
                grow(path, lines(count))
                await comes_to_mirror(kept, lines(count))
            assert (await daemon.sync()).status == 503, "what is in there is unknown"
            closed.parent.chmod(0o700)
            await comes_to_mirror(kept, lines(2), name)
            await daemon.degraded()
            closed.parent.chmod(0)
            await daemon.degraded("root_unreadable")
            assert (await daemon.state_of(OTHER))["state"] == "current", "it is not gone"
    finally:
        closed.parent.chmod(0o700)
    assert b"Traceback" not in daemon.output


def _without_privileges(directory: Path) -> tuple[str, ...]:
    """Return a command that runs another so that modes hold for it, also where we are root."""
    if os.geteuid() != 0:
        return ()
    mode = directory.stat().st_mode
    directory.chmod(0)
    try:
        works = os.spawnvp(os.P_WAIT, UNPRIVILEGED[0], [*UNPRIVILEGED, "ls", str(directory)])
    finally:
        directory.chmod(mode)
    if works in {0, 127}:
        pytest.skip("needs setpriv (util-linux) that can drop capabilities, or not to be root")
    return UNPRIVILEGED


async def test_directories_that_vanish_while_they_are_scanned_hold_nothing_up(
    home: Home, kept: KeptInDirectory
) -> None:
    path, projects = session(home), Claude(home.path).projects
    grow(path, lines(1))
    unwatched = home.path / "unwatched"
    os.link(path, unwatched)  # no event tells of what is written to it: a scan has to find it
    for number in range(300):
        (projects / f"-srv-{number:03}").mkdir()
    grow(projects / "-srv-299" / "s.jsonl", lines(1))
    ended = asyncio.Event()

    def come_and_go() -> None:
        gone = [projects / f"-gone-{number}" for number in range(20)]
        while not ended.is_set():
            for number, directory in enumerate(gone):
                directory.mkdir()
                if number % 5 == 0:
                    write(directory / OTHER / "subagents" / "agent-a.jsonl", lines(1))
            for directory in gone:
                _remove(directory)

    async with running(home, **{RESCAN: "0.05"}) as daemon, asyncio.TaskGroup() as tasks:
        await comes_to_mirror(kept, lines(1), "claude/-srv-299/s.jsonl")
        churn = tasks.create_task(asyncio.to_thread(come_and_go))
        try:
            for count in range(2, 12):
                grow(unwatched, lines(count))
                await eventually(lambda n=count: _base(kept) == lines(n), within=SOON_S)
        finally:
            ended.set()
        await churn
        assert (await daemon.sync()).is_ok
        said = await daemon.status()
        assert said["degraded"] == []
        assert said["totals"]["states"]["current"] == 2
    assert not daemon.lines("scan.failed")
    assert not daemon.lines("session.attempt_failed", reason="internal_error")
    assert b"Traceback" not in daemon.output


def _base(kept: KeptInDirectory, path: str = SESSION) -> bytes | None:
    """Return all there is of a mirror in a local archive, which has no tails."""
    found = kept.look(RAW + path)
    return found.body if found else None


def _remove(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    directory.rmdir()


@over_a_bucket
async def test_an_append_while_the_segment_before_it_hangs_is_archived(
    home: Home, archive: Archive
) -> None:
    proxy, hanging = _proxy(archive), asyncio.Event()
    path = grow(session(home), FIRST)
    async with running(home, **NEVER) as daemon:
        await armed(daemon, Claude(home.path).projects)
        hold = proxy.add(Hold(hanging), method="PUT", key=SEGMENT, times=1)
        grow(path, MORE)
        await proxy.until(lambda: hold.hits)
        grow(path, MOST)
        # Events come in order: once this one is archived, the append before it was noticed.
        grow(session(home, f"{OTHER}.jsonl"), lines(1))
        await comes_to_mirror(archive.kept, lines(1), ONE_FILE)
        assert (await daemon.state_of(UUID))["state"] == "uploading"
        hanging.set()
        await eventually(lambda: mirrored(archive.kept) == MOST, within=8)
    assert len(segments_of(archive.kept)) == 2
    assert not archive.kept.listing(CONFLICTS)


@over_a_bucket
async def test_a_lost_answer_to_a_segment_duplicates_no_byte(home: Home, archive: Archive) -> None:
    proxy = _proxy(archive)
    path = grow(session(home), FIRST)
    async with running(home) as daemon:
        await daemon.archives(UUID, len(FIRST))
        for whole in (MORE, MOST):
            proxy.add(LoseAnswer(), method="PUT", key=SEGMENT, times=1)
            grow(path, whole)
            await daemon.archives(UUID, len(whole))
            assert mirrored(archive.kept) == whole
        assert (await daemon.state_of(UUID))["generation"] == 0
        stored = [seen.key for seen in proxy.seen("PUT", SEGMENT) if seen.server_status == 200]
        assert stored == segments_of(archive.kept), "what took effect was stored again"
        assert (await daemon.sync(seal=True)).is_ok
    base = archive.kept.look(RAW + SESSION)
    assert base is not None
    assert base.body == MOST
    assert not archive.kept.listing(CONFLICTS)


@over_a_bucket
async def test_a_store_that_is_down_at_the_start_gets_all_mirrors_once_it_is_up(
    home: Home, archive: Archive
) -> None:
    proxy = _proxy(archive)
    await proxy.refuse()
    expected = _work(home)
    async with running(home) as daemon:
        assert (await daemon.ask("/readyz")).is_ok, "readiness waits for the store"
        await daemon.degraded("store_unreachable")
        Claude(home.path).says("while it is down")
        expected[SESSION] = session(home).read_bytes()
        await proxy.accept()
        assert (await daemon.current(len(expected)))["degraded"] == []
        assert len(daemon.lines("daemon.degraded", reason="store_unreachable")) == 1
        assert daemon.lines("session.attempt_failed") == []
    assert {path: mirrored(archive.kept, path) for path in expected} == expected
    assert archive.kept.listing(RAW) == sorted(RAW + path for path in expected)


def _work(home: Home) -> dict[str, bytes]:
    """Let each agent write a little; return what is to be mirrored, by its path."""
    claude, codex = Claude(home.path), Codex(home.path)
    sessions = home.path / ".zeroclaw" / "workspace" / "sessions"
    ZeroClawStore(sessions).says("chat", "hello")
    agent = claude.delegates("a1")
    files = (
        claude.says("hello"), agent, agent.with_suffix(".meta.json"), claude.keeps("t.txt", b"\0"),
    )  # fmt: skip
    rolled = codex.says("hello")
    said = ZeroClaw(sessions).says("other", "hello")
    projects, base = claude.projects, home.path / ".codex"
    return {
        **{f"claude/{each.relative_to(projects).as_posix()}": each.read_bytes() for each in files},
        f"codex/{rolled.relative_to(base).as_posix()}": rolled.read_bytes(),
        f"zeroclaw/{said.name}": said.read_bytes(),
        "zeroclaw/sessions.db/chat.jsonl": b'{"role":"user","content":"hello"}\n',
    }


async def test_the_last_append_right_before_a_stop_is_archived_by_the_drain(
    home: Home, kept: KeptInDirectory
) -> None:
    path = grow(session(home), FIRST)
    async with running(home) as daemon:
        await daemon.archives(UUID, len(FIRST))
    async with running(home, **LATER) as daemon:
        await armed(daemon, Claude(home.path).projects)
        grow(path, MORE)
        assert await daemon.stop() == 0
    assert daemon.lines("daemon.drained")[0]["left"] == 0
    assert _base(kept) == MORE


async def test_an_unfinished_line_at_a_stop_is_archived_after_the_next_start_once_it_is_old(
    home: Home, kept: KeptInDirectory
) -> None:
    path = write(session(home), lines(3) + b'{"type":"us')
    changed = time.time() - QUIET_S + 7.0
    os.utime(path, (changed, changed))
    async with running(home, **NEVER) as daemon:
        await comes_to_mirror(kept, lines(3))
        assert await daemon.stop() == 0
    assert mirrored(kept) == lines(3), "what may be half a line was archived"
    async with running(home, **NEVER):
        await comes_to_mirror(kept, lines(3) + b'{"type":"us')
    assert time.time() - changed >= QUIET_S, "it was archived before it was old"
    assert not kept.listing(FINISHED)


@pytest.mark.parametrize("events", [True, False], ids=["event", "rescan"])
async def test_a_rewrite_in_place_with_the_old_size_and_time_becomes_a_generation(
    home: Home, kept: KeptInDirectory, *, events: bool
) -> None:
    path = grow(session(home), LARGE)
    unwatched = home.path / "unwatched"  # no event tells of what is written to it
    os.link(path, unwatched)
    written = path if events else unwatched
    async with running(home, **{RESCAN: "3600" if events else "0.2"}) as daemon:
        await armed(daemon, Claude(home.path).projects)
        before = path.stat()
        blanked = LARGE.replace(b"010000", b"xxxxxx")
        with written.open("r+b") as file:
            file.write(blanked)
        os.utime(written, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = path.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        # The journal follows the archive: a status that is asked for in between has the old number.
        await daemon.reports(lambda said: _of(said, UUID)["generation"] == 1)
    assert finished_of(kept) == [LARGE]


@over_a_bucket
async def test_a_rewrite_far_before_the_end_beside_an_append_is_found_by_the_scrub(
    home: Home, archive: Archive
) -> None:
    path = grow(session(home), LARGE)
    assert (await asyncio.to_thread(home.run, "sync")).status == 0
    rewritten = LARGE.replace(b"010000", b"xxxxxx")
    with path.open("r+b") as file:
        file.write(rewritten + lines(1))
    assert (await asyncio.to_thread(home.run, "sync")).status == 0
    assert mirrored(archive.kept) == LARGE + lines(1)
    assert len(segments_of(archive.kept)) == 1
    async with running(home, **SCRUB, **NEVER) as daemon:
        await daemon.logged("scrub.rewrite_found", session=UUID)
        await comes_to_mirror(archive.kept, rewritten + lines(1))
        said = await daemon.reports(lambda report: report["totals"]["backlog"] == 0)
        assert (said["scrub"]["found"], said["scrub"]["waiting"]) == (1, 0)
    assert finished_of(archive.kept) == [LARGE + lines(1)]


async def test_a_database_that_is_written_all_the_time_is_never_busy_and_archived_whole(
    home: Home, kept: KeptInDirectory
) -> None:
    store = ZeroClawStore(home.path / ".zeroclaw" / "workspace" / "sessions")
    keys = [f"chat-{number}" for number in range(5)]
    for key in keys:
        store.says(key, "0")
    ended, wanted = asyncio.Event(), {key: ["0"] for key in keys}

    def commit() -> None:
        number = 0
        while not ended.is_set():
            # The agent starts anew now and then: its last connection takes the log away.
            with closing(sqlite3.connect(store.path, timeout=0)) as agent:
                for _ in range(20):
                    number += 1
                    key = keys[number % len(keys)]
                    row = (key, "user", str(number), "")
                    with agent:
                        agent.execute("INSERT INTO sessions VALUES (NULL, ?, ?, ?, ?)", row)
                    wanted[key].append(str(number))

    async with running(home, **{RESCAN: "0.05"}) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.current(len(keys))
        writing = tasks.create_task(asyncio.to_thread(commit))
        try:
            await eventually(lambda: writing.done() or len(daemon.lines("session.archived")) >= 20)
        finally:
            ended.set()
        await writing  # raises where the database was busy for the agent
        for key in keys:
            await comes_to_mirror(kept, _rows(wanted[key]), f"zeroclaw/sessions.db/{key}.jsonl")
        for path in store.sessions.iterdir():
            path.unlink()
        await daemon.reports(lambda report: report["totals"]["states"]["source_gone"] == len(keys))
    for key in keys:
        assert mirrored(kept, f"zeroclaw/sessions.db/{key}.jsonl") == _rows(wanted[key])
    assert not kept.listing(FINISHED)
    assert not daemon.lines("session.quarantined")


def _rows(contents: list[str]) -> bytes:
    return "".join(f'{{"role":"user","content":"{each}"}}\n' for each in contents).encode()


async def test_many_directories_that_are_made_at_once_are_found_by_events_alone(
    home: Home, kept: KeptInDirectory
) -> None:
    projects = Claude(home.path).projects
    projects.mkdir(parents=True)
    wanted: dict[str, bytes] = {}
    async with running(home, **NEVER) as daemon:
        await armed(daemon, projects)
        for number in range(300):
            # Some with a subagent deep below, whose directories are as new.
            deep = f"{OTHER}/subagents/workflows/w/agent-{number}.jsonl"
            name = deep if number % 3 == 0 else f"{OTHER}.jsonl"
            project = f"-srv-{number:03}"
            write(projects / project / name, lines(1, number))
            wanted[f"claude/{project}/{name}"] = lines(1, number)
        await daemon.current(300)
    assert {path: _base(kept, path) for path in wanted} == wanted


async def test_descriptors_do_not_grow_with_the_sessions_and_their_directories(
    home: Home, server: Server
) -> None:
    home.use(server)
    for number in range(SEVERAL):
        grow(session(home, f"s{number:04}.jsonl", f"-srv-{number % 200:03}"), lines(1, number))
    limited = ("sh", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "sh")
    async with running(home, under=limited, TRANSCRIPTD_WORKERS=str(WORKERS)) as daemon:
        archiving = asyncio.create_task(daemon.sync(60))
        await eventually(lambda: archiving.done() or _descriptors(daemon) >= DESCRIPTORS, 60)
        assert archiving.done(), "too many descriptors"
        assert (await archiving).is_ok
        assert (await daemon.status())["totals"]["states"]["current"] == SEVERAL
        # Where they run out, one of these says so.
        assert not daemon.lines("session.attempt_failed")
        assert not daemon.lines("daemon.degraded")
        assert not daemon.lines("watch.restarted")


def _descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


@over_a_bucket
async def test_while_no_agent_works_no_request_is_sent(home: Home, archive: Archive) -> None:
    proxy = _proxy(archive)
    sessions = len(_work(home))
    async with running(home, **{RESCAN: "0.2"}) as daemon:
        await daemon.current(sessions)
        grow(session(home), FIRST)
        assert (await daemon.sync(seal=True)).is_ok
        said = await daemon.reports(
            lambda report: not (report["totals"]["backlog"] or report["store"]["in_flight"])
        )
        assert said["totals"]["states"]["current"] == sessions
        assert said["totals"]["behind_bytes"] == 0
        before = len(proxy.requests)
        with pytest.raises(TimeoutError):
            await proxy.until(lambda: len(proxy.requests) > before, within=5)


def _proxy(archive: Archive) -> FaultProxy:
    assert archive.proxy is not None
    return archive.proxy
