"""Changes that no event tells of, and directories that come, go and move: all are noticed.

The rescan's usual 30 s are longer than any of these tests waits, unless a test says otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.daemon import eventually, running
from tests.documents import compact, conversation, document, history, save
from tests.kept import KeptInDirectory, history_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.daemon import Daemon
    from tests.home import Home
    from tests.proxy import FaultProxy

SOON_S = 10.0
RESCAN = "TRANSCRIPTD_WATCH__RESCAN"
QUEUE_LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")
MANY_EVENTS = 1_000_000
# As root of a user namespace, whose limits hold for nobody else.
NO_WATCHES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"',
    "sh",
)


def put(directory: Path, length: int, session_id: str = "one") -> None:
    save(directory, document(conversation(length), session_id))


async def is_archived(
    home: Home, length: int, session_id: str = "one", within: float = SOON_S
) -> None:
    kept, wanted = KeptInDirectory(home.archive), history(conversation(length))
    await eventually(lambda: history_of(kept, session_id) == wanted, within)


async def watched(daemon: Daemon, directory: Path) -> None:
    """Wait until events are all that is left to tell of a change: the scan beside it is over."""
    await daemon.logged("root.watched", path=str(directory))
    assert (await daemon.sync()).is_ok


async def test_a_root_that_is_removed_and_made_again_is_watched_again(home: Home) -> None:
    async with running(home) as daemon:
        put(home.sessions, 1)
        await is_archived(home, 1)
        shutil.rmtree(home.sessions)
        await daemon.reports(lambda said: said["totals"]["states"].get("source_gone"))
        for length in (2, 3):  # the second one is seen by an event, whatever a scan found
            put(home.sessions, length)
            await is_archived(home, length)


async def test_a_root_that_is_replaced_at_once_is_watched_again(home: Home) -> None:
    """A file system may give the new directory the number of the old one."""
    async with running(home):
        put(home.sessions, 1)
        await is_archived(home, 1)
        for length in (2, 3, 4):
            shutil.rmtree(home.sessions)
            put(home.sessions, length)
            await is_archived(home, length)


async def test_a_root_that_is_made_later_is_found_with_what_was_saved_at_once(home: Home) -> None:
    directory = home.path / ".local" / "share" / "codetether-agent" / "sessions"
    async with running(home) as daemon:
        watched = (await daemon.status())["watch"]
        assert not any(root["present"] for each in watched for root in each["roots"])
        directory.mkdir(parents=True)
        put(directory, 2)
        await is_archived(home, 2)
        put(directory, 3)
        await is_archived(home, 3)


async def test_a_root_that_is_a_symbolic_link_is_watched(home: Home, tmp_path: Path) -> None:
    link = home.sessions
    link.rmdir()
    link.symlink_to(tmp_path, target_is_directory=True)
    async with running(home) as daemon:
        await watched(daemon, link)
        for length in (1, 2):
            put(tmp_path, length)
            await is_archived(home, length)


async def test_a_root_that_the_index_names_is_watched_without_a_restart(home: Home) -> None:
    workspace = home.path / "work" / ".codetether-agent" / "sessions"
    index = home.sessions.parent / "session-locations"
    index.mkdir()
    async with running(home) as daemon:
        workspace.mkdir(parents=True)
        put(workspace, 1)
        index.joinpath("one.path").write_text(str(workspace / "one.json"))
        await is_archived(home, 1)
        await watched(daemon, workspace)
        put(workspace, 2)
        await is_archived(home, 2)


async def test_a_file_that_is_written_in_place_is_archived(home: Home) -> None:
    path = home.sessions / "one.json"
    async with running(home) as daemon:
        await watched(daemon, home.sessions)
        for length in (1, 4, 6):
            with path.open("r+b" if path.exists() else "wb") as file:
                for piece in _pieces(compact(document(conversation(length), "one")), 7):
                    file.write(piece)
                    file.flush()
                file.truncate()
            await is_archived(home, length)


async def test_what_no_event_tells_of_is_found_by_a_rescan(home: Home) -> None:
    """A file is written under a name outside of what is watched: no event tells of that."""
    put(home.sessions, 1)
    outside = home.path / "outside.json"
    os.link(home.sessions / "one.json", outside)
    async with running(home, **{RESCAN: "0.2"}):
        await is_archived(home, 1)
        for length in (2, 3):
            outside.write_bytes(compact(document(conversation(length), "one")))
            await is_archived(home, length)


async def test_what_is_saved_while_it_is_suspended_is_archived_afterwards(home: Home) -> None:
    several = [f"s{number}" for number in range(20)]
    async with running(home) as daemon:
        await watched(daemon, home.sessions)
        daemon.suspend()
        for session_id in several:
            put(home.sessions, 2, session_id)
        daemon.resume()
        for session_id in several:
            await is_archived(home, 2, session_id)


async def test_a_full_queue_of_events_delays_by_a_rescan_and_loses_nothing(home: Home) -> None:
    several = [f"s{number:03}" for number in range(200)]
    async with running(home, **{RESCAN: "1"}) as daemon:
        await watched(daemon, home.sessions)
        daemon.suspend()
        _fill_the_queue(home.sessions)
        for session_id in several:
            put(home.sessions, 1, session_id)
        daemon.resume()
        for session_id in several:
            await is_archived(home, 1, session_id)


async def test_where_polling_is_asked_for_every_save_is_found(home: Home) -> None:
    async with running(home, TRANSCRIPTD_WATCH__FORCE_POLLING="true") as daemon:
        for length in (1, 2):
            put(home.sessions, length)
            await is_archived(home, length)
        said = await daemon.status()
        assert all(each["polling"] for each in said["watch"])
        assert said["degraded"] == []


async def test_at_the_limit_of_watches_directories_are_polled_and_it_is_said(home: Home) -> None:
    _require_a_limit_of_watches()
    async with running(home, under=NO_WATCHES) as daemon:
        put(home.sessions, 1)
        await is_archived(home, 1)
        await daemon.logged("daemon.degraded", reason="watch_polling")
        put(home.sessions, 2)
        await is_archived(home, 2)
        said = await daemon.status()
        assert all(each["polling"] for each in said["watch"])
        assert [each["reason"] for each in said["degraded"]] == ["watch_polling"]


async def test_the_archive_of_a_deleted_source_stays_and_no_object_is_deleted(
    home: Home, proxy: FaultProxy
) -> None:
    async with running(home) as daemon:
        put(home.sessions, 1)
        put(home.sessions, 3, "two")
        put(home.sessions, 1)
        assert (await daemon.sync()).is_ok
        before = await _stand(daemon, "one")
        (home.sessions / "one.json").unlink()
        await daemon.reports(lambda said: _state(said, "one") == "source_gone")
        put(home.sessions, 2, "two")
        assert (await daemon.sync()).is_ok
        assert len(daemon.lines("session.source_gone", session="one")) == 1
        assert await _stand(daemon, "one") == before
        put(home.sessions, 2)
        await daemon.reports(lambda said: _state(said, "one") == "current")
        assert (await daemon.state_of("one"))["generation"] == 0
    assert [seen.key for seen in proxy.seen("DELETE", r"^(?!history/\.tail/)")] == []


async def _stand(daemon: Daemon, session_id: str) -> list[Any]:
    said = await daemon.state_of(session_id)
    return [said[name] for name in ("key", "generation", "records", "bytes")]


def _state(said: dict[str, Any], session_id: str) -> str | None:
    return next((each["state"] for each in said["sessions"] if each["id"] == session_id), None)


def _pieces(data: bytes, count: int) -> Iterator[bytes]:
    size = len(data) // count + 1
    return (data[start : start + size] for start in range(0, len(data), size))


def _fill_the_queue(directory: Path) -> None:
    """Cause as many events as the kernel keeps; it merges equal neighbours, so two take turns."""
    limit = int(QUEUE_LIMIT.read_text())
    if limit > MANY_EVENTS:
        pytest.skip(f"{QUEUE_LIMIT} is {limit}: filling that takes too long")
    turns = [directory / ".left", directory / ".right"]
    for path in turns:
        path.touch()
    for number in range(limit):
        os.utime(turns[number % 2])


def _require_a_limit_of_watches() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (util-linux)")
    tried = subprocess.run([*NO_WATCHES, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs user namespaces: {tried.stderr.strip()}")
