"""What is no session, or none that can be read: it is named, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import Daemon, eventually, running
from tests.documents import compact, conversation, document, history, save
from tests.home import Home
from tests.kept import KeptInDirectory, history_of

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = compact(document(conversation(2), "bad"))
DEEP = b'{"id":"bad","messages":[' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"]}"
CONTENTS: dict[str, tuple[bytes, str]] = {
    "invalid JSON": (b'{"id": "bad", messages', "invalid_json"),
    "half-written": (GOOD[: len(GOOD) // 2], "invalid_json"),
    "no bytes": (b"", "empty"),
    "only NUL bytes": (b"\0" * 4096, "blank"),
    "messages of the wrong type": (b'{"id":"bad","messages":{}}', "wrong_type"),
    "a message of the wrong type": (b'{"id":"bad","messages":[1]}', "wrong_type"),
    "no messages": (b'{"id":"bad"}', "wrong_type"),
    "no object": (b"[]", "wrong_type"),
    "another id": (compact(document(conversation(2), "other")), "wrong_id"),
    "an id that climbs": (compact(document(conversation(2), "../../x")), "wrong_id"),
    "nested 10,000 deep": (DEEP, "too_deep"),
    "a lone surrogate": (GOOD.replace(b"Step 0", b"\\ud800"), "invalid_json"),
    "no UTF-8": (GOOD.replace(b"Step 0", b"\xff\xfe"), "invalid_utf8"),
    "too large": (b'{"id":"bad","messages":[' + b" " * 70_000 + b"]}", "too_large"),
}
SIZES = {"TRANSCRIPTD_MAX_DOCUMENT": "65536"}
STRANGER = 65534

NAMES = (
    b"x\ny.json",
    "x\u202egnp.json".encode(),  # from here on right to left
    b"\xff\xfe.json",  # no UTF-8
    b"x" * 250 + b".json",  # 255 bytes
    b"...json",
    b"%2e%2e%2fx.json",
    b".json",
    b"x y.json",
)


@pytest.fixture
def kept(home: Home) -> KeptInDirectory:
    return KeptInDirectory(home.archive)


def put(home: Home, length: int, session_id: str) -> Path:
    return save(home.sessions, document(conversation(length), session_id))


def replace(path: Path, content: bytes) -> None:
    temporary = path.with_name("replacement.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def quarantined(daemon: Daemon, session_id: str, reason: str) -> None:
    """Wait for it; the status has the reason, and the log has one line, in whatever it took."""
    line = await daemon.logged("session.quarantined", session=session_id)
    said = await daemon.state_of(session_id)
    assert (said["state"], said["reason"], line["reason"]) == ("quarantined", reason, reason)
    assert said["message"]
    assert said["oldest_unarchived_s"] is not None
    assert (await daemon.sync()).status == 503  # looks at it again
    assert len(daemon.lines("session.quarantined")) == 1


@pytest.mark.parametrize(("content", "reason"), CONTENTS.values(), ids=CONTENTS.keys())
async def test_a_session_that_cannot_be_read_is_named_and_the_others_go_on(
    home: Home, kept: KeptInDirectory, content: bytes, reason: str
) -> None:
    path = put(home, 1, "bad")
    async with running(home, **SIZES) as daemon:
        assert (await daemon.sync()).is_ok
        before = everything(home.archive)
        replace(path, content)
        await quarantined(daemon, "bad", reason)
        assert everything(home.archive) == before, "something archived changed"
        put(home, 3, "good")
        await eventually(lambda: history_of(kept, "good") == history(conversation(3)))
        put(home, 4, "bad")
        await eventually(lambda: history_of(kept, "bad") == history(conversation(4)))
        await daemon.logged(
            "session.archived", session="bad", length_bytes=len(history(conversation(4)))
        )
        assert (await daemon.sync()).is_ok
    assert b"Traceback" not in daemon.output


def _link(home: Home, path: Path) -> None:
    target = home.path / "elsewhere.json"
    target.write_bytes(GOOD)
    path.symlink_to(target)


def _pipe(_: Home, path: Path) -> None:
    os.mkfifo(path)


def _socket(_: Home, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _device(_: Home, path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero never ends


def _of_a_stranger(_: Home, path: Path) -> None:
    path.write_bytes(GOOD)
    os.chown(path, STRANGER, STRANGER)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_link, "not_a_file"),
        (_pipe, "not_a_file"),
        (_socket, "not_a_file"),
        (_device, "not_a_file"),
        (_of_a_stranger, "foreign_owner"),
    ],
    ids=["link", "pipe", "socket", "device", "of a stranger"],
)
async def test_what_is_no_file_of_ours_is_refused_and_the_others_go_on(
    home: Home, kept: KeptInDirectory, make: Callable[[Home, Path], None], reason: str
) -> None:
    try:
        make(home, home.sessions / "bad.json")
    except PermissionError as error:
        pytest.skip(f"needs root: {error}")
    put(home, 1, "good")
    async with running(home) as daemon:
        await quarantined(daemon, "bad", reason)
        put(home, 3, "good")
        await eventually(lambda: history_of(kept, "good") == history(conversation(3)))
    assert history_of(kept, "bad") is None


@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
async def test_names_that_no_session_has_are_passed_over(
    home: Home, kept: KeptInDirectory, *, early: bool
) -> None:
    put(home, 1, "good")
    outside = sorted(str(each) for each in home.path.iterdir())
    if early:
        _write_all(home.sessions)
    async with running(home) as daemon:
        assert (await daemon.sync()).is_ok
        if not early:
            _write_all(home.sessions)
        put(home, 3, "good")
        await eventually(lambda: history_of(kept, "good") == history(conversation(3)))
        assert (await daemon.sync()).is_ok
        totals = (await daemon.status())["totals"]
        assert totals["sessions"] == totals["states"]["current"] == 1
    assert {key.split("/")[1] for key in kept.listing()} == {"good"}
    assert sorted(str(each) for each in home.path.iterdir()) == outside
    for line in daemon.output.splitlines():
        json.loads(line)  # one event, one line


def _write_all(directory: Path) -> None:
    for name in NAMES:
        path = os.path.join(os.fsencode(directory), name)  # noqa: PTH118 - it may be no text
        with open(path, "wb") as file:  # noqa: PTH123 - it may be no text
            file.write(GOOD)


@pytest.mark.parametrize("beside_a_daemon", [True, False])
async def test_sync_names_what_it_could_not_archive(home: Home, *, beside_a_daemon: bool) -> None:
    put(home, 2, "good")
    (home.sessions / "bad.json").write_bytes(b"{")

    async def sync(*arguments: str) -> tuple[int, str]:
        outcome = await asyncio.to_thread(home.run, "sync", *arguments)
        return outcome.status, outcome.out

    async def check() -> None:
        status, out = await sync()
        assert status == 1
        assert "bad  quarantined  invalid_json" in out
        assert "good  " not in out
        status, out = await sync("--json")
        left = json.loads(out)["left"]
        assert (status, [(each["session"], each["reason"]) for each in left]) == (
            1,
            [("bad", "invalid_json")],
        )

    if beside_a_daemon:
        async with running(home):
            await check()
    else:
        await check()
    assert history_of(KeptInDirectory(home.archive), "good") == history(conversation(2))


async def test_a_session_that_may_not_be_read_is_named_and_archived_once_it_may() -> None:
    """Run as somebody who may not read everything, beside a root that may not be read either."""
    with tempfile.TemporaryDirectory(prefix="td-") as directory:
        home = Home.make(Path(directory, "home"))
        under = _as_a_stranger(directory)
        path = put(home, 2, "bad")
        put(home, 2, "good")
        closed = home.path / ".codetether-agent" / "sessions"
        closed.mkdir(parents=True)
        _give_to_reader(directory)
        path.chmod(0)
        closed.chmod(0)
        kept = KeptInDirectory(home.archive)
        async with running(home, under=under) as daemon:
            await quarantined(daemon, "bad", "denied")
            await eventually(lambda: history_of(kept, "good") == history(conversation(2)))
            (trouble,) = (await daemon.reports(lambda report: report["degraded"]))["degraded"]
            assert trouble["reason"] == "root_unreadable"
            path.chmod(0o600)
            await eventually(lambda: history_of(kept, "bad") == history(conversation(2)))
            assert (await daemon.sync()).status == 503, "what is in that root is unknown"
            closed.chmod(0o700)
            assert (await daemon.sync()).is_ok
            assert (await daemon.status())["degraded"] == []


def _reader() -> int:
    return STRANGER if os.geteuid() == 0 else os.geteuid()


def _give_to_reader(directory: str) -> None:
    subprocess.run(["chown", "-R", str(_reader()), directory], check=True)


def _as_a_stranger(directory: str) -> tuple[str, ...]:
    """Return a command that runs another as `_reader`; skips where that cannot run Python."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux), or not to be root")
    under = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    Path(directory).chmod(0o755)
    tried = subprocess.run(
        [*under, sys.executable, "-c", "import transcriptd.serve"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if tried.returncode:
        pytest.skip(f"another user cannot run {sys.executable}: {tried.stderr[-200:]}")
    return under
