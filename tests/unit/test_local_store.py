from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.content import Held
from transcriptd.errors import (
    AccessDenied,
    Changing,
    ConditionFailed,
    Damaged,
    RangeInvalid,
    ServerError,
    Unreachable,
    Unsupported,
)
from transcriptd.stores import Absent, Fresh, Head, Matches, Stored
from transcriptd.stores.local import LocalStore, _translate
from transcriptd.stores.local_files import MAX_NAME, file_name, segment_of
from transcriptd.stores.patience import Patience

KEY = "history/s/history.jsonl"
META = {"td-format": "1"}
LARGE = b"0123456\n" * (1 << 18)  # two chunks

CRASHING = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.test_local_store import WRITES
from transcriptd.stores.local import LocalStore

root, last, calls = Path(sys.argv[2]), int(sys.argv[3]), 0

def dying(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls > last:
            os._exit(9)
        return real(*args, **more)
    return call

for name in ("fsync", "rename", "mkdir", "unlink", "pwrite", "ftruncate", "copy_file_range"):
    setattr(os, name, dying(getattr(os, name)))
asyncio.run(WRITES[sys.argv[1]](LocalStore(root, prefix="history/")))
os._exit(0)
"""


async def _put(store: LocalStore) -> None:
    await store.put(KEY, b"new and longer", {"td": "new"})


async def _append(store: LocalStore) -> None:
    head = await store.head(KEY)
    assert head is not None
    pieces = (Stored(KEY, 0, head.size, head.etag), Fresh(Held(LARGE), 0, len(LARGE)))
    await store.compose(KEY, pieces, {"td": "new"}, Matches(head.etag))


async def _join(store: LocalStore) -> None:
    head = await store.head(KEY)
    assert head is not None
    pieces = (Fresh(Held(LARGE), 0, len(LARGE)), Stored(KEY, 0, head.size, head.etag))
    await store.compose(KEY, pieces, {"td": "new"}, Matches(head.etag))


WRITES = {"put": _put, "append": _append, "join": _join}
WRITTEN = {"put": b"new and longer", "append": b"old" + LARGE, "join": LARGE + b"old"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root, prefix="history/", patience=Patience(base_s=0.5))


async def _read(store: LocalStore, key: str = KEY) -> bytes:
    async with store.read(key) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


def _meta(root: Path, key: str = KEY) -> Path:
    return root / ".meta" / f"{key}.json"


def _everything(root: Path) -> list[Path]:
    return [root, *root.rglob("*")] if root.exists() else []


def _forbid_writing(root: Path) -> None:
    (root / ".lock").unlink()
    for path in reversed(_everything(root)):
        path.chmod(0o500 if path.is_dir() else 0o400)


def _allow_writing(root: Path) -> None:
    for path in _everything(root):
        path.chmod(0o700)


def _watch_steps(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"sync {path.relative_to(root)}")

    def renamed(name: str, to: str, **folders: int) -> None:
        rename(name, to, **folders)
        steps.append(f"name {to}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    return steps


def _whole(head: Head) -> Stored:
    return Stored(KEY, 0, head.size, head.etag)


def _fresh(body: bytes) -> Fresh:
    return Fresh(Held(body), 0, len(body))


class Broken(Held):
    """A content that changed."""

    def __init__(self) -> None:
        super().__init__(b"x")

    def read(self, start: int, end: int) -> bytes:
        raise Changing("it changed")


class Endless:
    """A content that is nowhere held."""

    size = 1 << 40

    def read(self, start: int, end: int) -> bytes:
        return bytes(end - start)


class Slow:
    """A content that is given once `answer` is set; `asked` says that it is waited for."""

    size = 4

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def read(self, start: int, end: int) -> bytes:
        self.asked.set()
        assert self.answer.wait(10)
        return b"slow"[start:end]


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _staged(root: Path) -> list[str]:
    return _names(root / ".meta/.staging")


async def test_an_object_is_a_plain_file_under_its_key(store: LocalStore, root: Path) -> None:
    head = await store.put(KEY, b'{"line":1}\n', META)
    assert (root / KEY).read_bytes() == b'{"line":1}\n'
    said = json.loads(_meta(root).read_text())
    assert (said["length"], said["etag"], said["metadata"]) == (11, head.etag, META)


async def test_nobody_else_can_read_the_archive(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"x", META)
    for path in _everything(root):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


async def test_looking_does_not_make_an_archive(store: LocalStore, root: Path) -> None:
    assert await store.head(KEY) is None
    assert [entry async for entry in store.list("")] == []
    assert _everything(root) == []


async def test_nothing_is_left_behind_by_a_write(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"x", META)
    with pytest.raises(ConditionFailed):
        await store.put(KEY, b"y", META, Absent())
    assert _staged(root) == []


@pytest.mark.parametrize(
    ("write", "exists"), [("put", False), ("put", True), ("append", True), ("join", True)]
)
async def test_a_crash_at_any_step_leaves_the_old_object_or_the_new_one(
    tmp_path: Path, write: str, *, exists: bool
) -> None:
    outcomes = []
    for last in range(60):
        root = tmp_path / str(last)
        store = LocalStore(root, prefix="history/")
        if exists:
            await store.put(KEY, b"old", {"td": "old"})
        argv = [sys.executable, "-c", CRASHING, write, str(root), str(last)]
        ended = await asyncio.to_thread(subprocess.run, argv, check=False)
        assert ended.returncode in {0, 9}
        head = await store.head(KEY)
        body = b""
        if head is None:
            outcomes.append("none")
        else:
            outcomes.append(head.metadata["td"])
            body = b"old" if head.metadata["td"] == "old" else WRITTEN[write]
            assert await _read(store) == body
            assert head.size == len(body)
            assert [e.size async for e in store.list("history/")] == [len(body)]
        pieces = [_whole(head)] if head else []
        await store.compose(KEY, [*pieces, _fresh(b"after")], {})
        assert await _read(store) == body + b"after"
        assert (root / KEY).read_bytes() == body + b"after"
        assert _staged(root) == []
        if ended.returncode == 0:
            break
    else:
        pytest.fail("the write never came to its end")
    before = "old" if exists else "none"
    turn = outcomes.index("new")
    assert outcomes == [before] * turn + ["new"] * (len(outcomes) - turn)
    assert 0 < turn < len(outcomes) - 1


async def test_a_torn_redo_record_is_dropped(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"old", META)
    for torn in (b"", b'{"key":"history/s/hist', b"\0" * 40):
        (root / ".meta/.staging/0123.redo").write_bytes(torn)
        assert await _read(store) == b"old"
        assert _staged(root) == []


async def test_what_is_staged_goes_unless_its_writer_lives(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"old", META)
    living, orphan = root / ".meta/.staging/living", root / ".meta/.staging/orphan"
    living.write_bytes(b"another process is at it")
    orphan.write_bytes(b"nobody is")
    with living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await store.head(KEY)
        assert _staged(root) == ["living"]
    await store.head(KEY)
    assert _staged(root) == []


async def test_staged_bytes_are_not_orphans_while_a_record_names_them(
    store: LocalStore, root: Path
) -> None:
    for number in range(8):  # in whatever order the directory lists them
        record = {"key": f"history/{number}", "length": 3, "etag": "e", "staged": f"{number}"}
        await store.put("history/x", b"", META)
        (root / f".meta/.staging/{number}").write_bytes(b"new")
        (root / f".meta/.staging/{number}.redo").write_text(json.dumps(record))
        assert await _read(store, f"history/{number}") == b"new"


async def test_bytes_behind_the_length_are_not_archived(store: LocalStore, root: Path) -> None:
    head = await store.put(KEY, b"archived\n", META)
    with (root / KEY).open("ab") as file:
        file.write(b"not yet")
    assert await _read(store) == b"archived\n"
    assert await store.head(KEY) == (await store.head(KEY))
    found = await store.head(KEY)
    assert found is not None
    assert (found.size, found.etag) == (9, head.etag)
    await store.compose("history/copy", [_whole(head)], META)
    assert await _read(store, "history/copy") == b"archived\n"


async def test_a_file_that_was_cut_is_damaged_and_can_be_written_again(
    store: LocalStore, root: Path
) -> None:
    head = await store.put(KEY, b"archived\n", META)
    os.truncate(root / KEY, 4)
    with pytest.raises(Damaged):
        await _read(store)
    for key in (KEY, "history/copy"):
        with pytest.raises(Damaged):
            await store.compose(key, [_whole(head), _fresh(b"more")], META)
    found = await store.head(KEY)
    assert found is not None
    assert found.size == 4
    await store.put(KEY, b"archived\n", META, Matches(head.etag))
    assert await _read(store) == b"archived\n"


async def test_a_file_that_somebody_else_wrote_is_an_object_without_metadata(
    store: LocalStore, root: Path
) -> None:
    (root / KEY).parent.mkdir(parents=True)
    (root / KEY).write_bytes(b"foreign")
    head = await store.head(KEY)
    assert head is not None
    assert (head.size, dict(head.metadata)) == (7, {})
    assert [e.key async for e in store.list("history/")] == [KEY]
    (root / KEY).write_bytes(b"changed")
    os.utime(root / KEY, (1, 1))
    with pytest.raises(ConditionFailed):
        await store.put(KEY, b"ours", META, Matches(head.etag))
    with pytest.raises(ConditionFailed):
        await store.put(KEY, b"ours", META, Absent())
    assert await _read(store) == b"changed"


async def test_metadata_that_cannot_be_read_makes_the_object_a_strangers(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, b"archived", META)
    _meta(root).write_bytes(b"\0\0\0")
    head = await store.head(KEY)
    assert head is not None
    assert dict(head.metadata) == {}
    await store.put(KEY, b"archived", META, Matches(head.etag))
    assert await store.head(KEY) is not None


async def test_every_write_has_an_etag_of_its_own(store: LocalStore) -> None:
    heads = [await store.put(KEY, b"same", META) for _ in range(2)]
    heads.append(await store.compose(KEY, [_whole(heads[-1])], META))
    heads.append(await store.compose(KEY, [_fresh(b"same")], META))
    assert len({head.etag for head in heads}) == len(heads)
    assert {head.size for head in heads} == {4}


async def test_an_object_that_grows_is_continued_in_its_file(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await store.put(KEY, LARGE, META)
    file = (root / KEY).stat().st_ino
    written: list[int] = []
    pwrite = os.pwrite

    def counted(descriptor: int, body: bytes, at: int) -> int:
        written.append(len(body))
        return pwrite(descriptor, body, at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", counted)
        patched.delattr(os, "copy_file_range", raising=False)
        for line in (b"a line\n", b"another\n"):
            head = await store.compose(KEY, [_whole(head), _fresh(line)], META, Matches(head.etag))
    assert written == [7, 8]
    assert (root / KEY).stat().st_ino == file
    assert (root / KEY).read_bytes() == LARGE + b"a line\nanother\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which file was synced")
async def test_appended_bytes_are_on_disk_before_the_record_says_so(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await store.put(KEY, b"old", META)
    steps = _watch_steps(root, monkeypatch)
    await store.compose(KEY, [_whole(head), _fresh(b"new")], META)
    token = json.loads(_meta(root).read_text())["staged"]
    assert steps == [
        "sync history/s/history.jsonl",
        f"sync .meta/.staging/{token}",
        "name history.jsonl.json",
        "sync .meta/history/s",
    ]


async def test_a_reader_sees_nothing_of_what_is_appended_meanwhile(
    store: LocalStore, root: Path
) -> None:
    head = await store.put(KEY, LARGE, META)
    with (root / KEY).open("ab") as file:
        file.write(b"what a crash left" * 3)
    async with store.read(KEY) as reading:
        pieces = [await anext(reading.chunks)]
        await store.compose(KEY, [_whole(head), _fresh(b"more\n")], META)
        pieces += [chunk async for chunk in reading.chunks]
    assert b"".join(pieces) == LARGE
    assert await _read(store) == (root / KEY).read_bytes() == LARGE + b"more\n"


async def test_a_failed_append_leaves_nothing_behind_the_length(
    store: LocalStore, root: Path
) -> None:
    head = await store.put(KEY, b"old", META)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ServerError):
            await store.compose(KEY, [_whole(head), _fresh(LARGE)], META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(Changing):
        await store.compose(KEY, [_whole(head), _fresh(LARGE), Fresh(Broken(), 0, 1)], META)
    assert (root / KEY).read_bytes() == await _read(store) == b"old"
    assert _staged(root) == []


async def test_what_somebody_else_wrote_is_not_continued_in_place(
    store: LocalStore, root: Path
) -> None:
    await store.put("history/x", b"", META)
    (root / KEY).parent.mkdir(parents=True)
    (root / KEY).write_bytes(b"foreign")
    head, file = await store.head(KEY), (root / KEY).stat().st_ino
    assert head is not None
    await store.compose(KEY, [_whole(head), _fresh(b" and ours")], META, Matches(head.etag))
    assert await _read(store) == b"foreign and ours"
    assert (root / KEY).stat().st_ino != file


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel copies nothing")
async def test_where_the_kernel_cannot_copy_the_bytes_go_through_here(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await store.put(KEY, LARGE, META)

    def refused(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refused)
    await store.compose("history/copy", [Stored(KEY, 3, len(LARGE), head.etag)], META)
    assert await _read(store, "history/copy") == LARGE[3:]


async def test_a_piece_that_ends_behind_its_object_is_refused(store: LocalStore) -> None:
    head = await store.put(KEY, b"short", META)
    for key in (KEY, "history/copy"):
        with pytest.raises(RangeInvalid):
            await store.compose(key, [Stored(KEY, 0, 6, head.etag)], META)
    assert await _read(store) == b"short"


async def test_an_object_of_any_size_is_written_in_little_memory(store: LocalStore) -> None:
    size = 24 << 20
    tracemalloc.start()
    try:
        head = await store.compose(KEY, [Fresh(Endless(), 0, size)], META)
        pieces = (Fresh(Endless(), 0, 1), Stored(KEY, 0, size, head.etag))
        await store.compose("history/copy", pieces, META)
        await store.compose(KEY, [_whole(head), Fresh(Endless(), 0, size)], META)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


async def test_while_a_content_is_read_the_archive_is_not_held(store: LocalStore) -> None:
    for first in (True, False):
        head = await store.put(KEY, b"old", META)
        slow = Slow()
        pieces = [_whole(head)] if first else []
        writing = asyncio.create_task(
            store.compose(KEY, [*pieces, Fresh(slow, 0, 4)], META, Matches(head.etag))
        )
        await asyncio.to_thread(slow.asked.wait)
        assert await _read(store) == b"old"
        await store.put("history/other", b"x", META)
        slow.answer.set()
        await writing
        assert await _read(store) == (b"oldslow" if first else b"slow")


async def test_of_two_who_continue_an_object_the_second_finds_it_changed(
    store: LocalStore,
) -> None:
    head = await store.put(KEY, b"old", META)
    slow = Slow()
    first = asyncio.create_task(store.compose(KEY, [_whole(head), Fresh(slow, 0, 4)], META))
    await asyncio.to_thread(slow.asked.wait)
    second = asyncio.create_task(store.compose(KEY, [_whole(head), _fresh(b"quick")], META))
    waiting, _ = await asyncio.wait([second], timeout=0.05)
    assert not waiting
    slow.answer.set()
    await first
    with pytest.raises(ConditionFailed):
        await second
    assert await _read(store) == b"oldslow"


async def test_an_object_that_is_replaced_while_it_is_continued_stays_replaced(
    store: LocalStore, root: Path
) -> None:
    head = await store.put(KEY, b"old", META)
    slow = Slow()
    late = asyncio.create_task(store.compose(KEY, [_whole(head), Fresh(slow, 0, 4)], META))
    await asyncio.to_thread(slow.asked.wait)
    await store.put(KEY, b"replaced", META)
    slow.answer.set()
    with pytest.raises(ConditionFailed):
        await late
    assert await _read(store) == (root / KEY).read_bytes() == b"replaced"


@pytest.mark.parametrize("onto_itself", [True, False])
async def test_a_write_that_was_given_up_does_not_come_late(
    root: Path, *, onto_itself: bool
) -> None:
    store = LocalStore(root, prefix="history/", patience=Patience(base_s=0.2))
    head = await store.put(KEY, b"old", META)
    slow = Slow()
    pieces = [_whole(head)] if onto_itself else []
    with pytest.raises(Unreachable):
        await store.compose(KEY, [*pieces, Fresh(slow, 0, 4)], META)
    slow.answer.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert (root / KEY).read_bytes() == b"old"
    assert json.loads(_meta(root).read_text())["etag"] == head.etag
    assert _staged(root) == []


async def test_only_uploads_whose_writers_died_are_discarded(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"old", META)
    argv = [sys.executable, "-c", CRASHING, "put", str(root), "3"]
    await asyncio.to_thread(subprocess.run, argv, check=False)
    assert _staged(root) != []
    slow = Slow()
    await store.discard_uploads(KEY)
    assert _staged(root) == []
    writing = asyncio.create_task(store.compose(KEY, [Fresh(slow, 0, 4)], META))
    await asyncio.to_thread(slow.asked.wait)
    await store.discard_uploads(KEY)
    assert len(_staged(root)) == 1
    slow.answer.set()
    await writing
    assert await _read(store) == b"slow"


async def test_discarding_uploads_does_not_make_an_archive(store: LocalStore, root: Path) -> None:
    await store.discard_uploads(KEY)
    assert _everything(root) == []


async def test_one_object_that_cannot_be_removed_does_not_keep_the_others(
    store: LocalStore, root: Path
) -> None:
    keys = [f"history/.tail/s/{name}" for name in ("a", "b", "c")]
    for key in keys:
        await store.put(key, b"x", META)
    (root / keys[1]).unlink()
    (root / keys[1]).mkdir()
    with pytest.raises(Unsupported):
        await store.delete(*keys)
    assert [await store.head(key) for key in keys] == [None, None, None]


async def test_an_old_reader_goes_on_while_the_object_is_replaced(store: LocalStore) -> None:
    await store.put(KEY, b"a" * (3 << 20), META)
    async with store.read(KEY) as reading:
        pieces = [await anext(reading.chunks)]
        await store.put(KEY, b"b", META)
        pieces += [chunk async for chunk in reading.chunks]
    assert b"".join(pieces) == b"a" * (3 << 20)


async def test_links_in_the_archive_are_not_followed(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    await store.put("history/x", b"", META)
    (root / "history/dir").symlink_to(outside)
    (root / "history/file").symlink_to(outside / "file")
    for key in ("history/dir/file", "history/file"):
        with pytest.raises(Unsupported):
            await store.put(key, b"overwritten", META)
    assert _names(outside) == ["file"]
    assert (outside / "file").read_bytes() == b"precious"
    assert [e.key async for e in store.list("history/")] == ["history/x"]


async def test_a_pipe_in_the_archive_does_not_block(store: LocalStore, root: Path) -> None:
    await store.put("history/x", b"", META)
    os.mkfifo(root / "history/pipe")
    assert await store.head("history/pipe") is None
    assert [e.key async for e in store.list("history/")] == ["history/x"]


async def test_the_archives_own_names_are_no_keys(store: LocalStore) -> None:
    for key in (".meta/x.json", ".lock", ".meta"):
        with pytest.raises(ValueError):
            await store.put(key, b"", META)


async def test_a_lock_held_by_another_process_ends_the_attempt(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, b"x", META)
    with (root / ".lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unreachable):
            await store.put(KEY, b"y", META)
    await store.put(KEY, b"y", META)


async def test_two_processes_never_both_create_an_object(root: Path) -> None:
    racing = (
        "import asyncio, sys; from pathlib import Path;"
        "from transcriptd.stores import Absent; from transcriptd.stores.local import LocalStore;"
        "from transcriptd.errors import ConditionFailed\n"
        "async def race():\n"
        "    store, won = LocalStore(Path(sys.argv[1]), prefix='history/'), 0\n"
        "    for n in range(25):\n"
        "        try:\n"
        "            await store.put(f'history/{n}', sys.argv[2].encode(), {}, Absent())\n"
        "            won += 1\n"
        "        except ConditionFailed:\n"
        "            pass\n"
        "    print(won)\n"
        "asyncio.run(race())"
    )
    argv = [sys.executable, "-c", racing, str(root)]
    pipe = asyncio.subprocess.PIPE
    runs = [await asyncio.create_subprocess_exec(*argv, name, stdout=pipe) for name in "ab"]
    won = [int((await run.communicate())[0]) for run in runs]
    assert sum(won) == 25


async def test_two_processes_continue_one_object_line_by_line(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, b"", META)
    racing = (
        "import asyncio, sys; from pathlib import Path\n"
        "from transcriptd.content import Held; from transcriptd.errors import ConditionFailed\n"
        "from transcriptd.stores import Fresh, Stored\n"
        "from transcriptd.stores.local import LocalStore\n"
        f"KEY = {KEY!r}\n"
        "async def race():\n"
        "    store, n = LocalStore(Path(sys.argv[1]), prefix='history/'), 0\n"
        "    while n < 25:\n"
        "        head, line = await store.head(KEY), b'%s%d\\n' % (sys.argv[2].encode() * 999, n)\n"
        "        pieces = [Stored(KEY, 0, head.size, head.etag), Fresh(Held(line), 0, len(line))]\n"
        "        try:\n"
        "            await store.compose(KEY, pieces, {})\n"
        "            n += 1\n"
        "        except ConditionFailed:\n"
        "            pass\n"
        "asyncio.run(race())"
    )
    argv = [sys.executable, "-c", racing, str(root)]
    runs = [await asyncio.create_subprocess_exec(*argv, name) for name in "ab"]
    assert [await run.wait() for run in runs] == [0, 0]
    lines = (await _read(store)).splitlines()
    assert sorted(lines) == sorted(b"%s%d" % (w * 999, n) for w in (b"a", b"b") for n in range(25))


async def test_a_removed_segment_leaves_no_empty_directories(store: LocalStore, root: Path) -> None:
    await store.put("history/.tail/s/a/000000-0.jsonl", b"x", META)
    await store.put(KEY, b"x", META)
    await store.delete("history/.tail/s/a/000000-0.jsonl")
    assert _names(root / "history") == ["s"]
    assert await _read(store) == b"x"


async def test_a_full_disk_is_an_error_that_leaves_the_old_object(
    store: LocalStore, root: Path
) -> None:
    await store.put(KEY, b"old", META)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(ServerError):
            await store.put(KEY, b"x" * (2 << 20), META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await _read(store) == b"old"
    assert _staged(root) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which file was synced")
async def test_bytes_and_record_are_on_disk_before_names_change(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(KEY, b"old", META)
    steps = _watch_steps(root, monkeypatch)
    await store.put(KEY, b"new", META)
    token = json.loads(_meta(root).read_text())["staged"]
    assert steps == [
        f"sync .meta/.staging/{token}",
        f"sync .meta/.staging/{token}.redo",
        "sync .meta/.staging",
        "name history.jsonl",
        "sync history/s",
        "name history.jsonl.json",
        "sync .meta/history/s",
    ]


async def test_a_failing_fsync_is_an_error(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(KEY, b"old", META)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(ServerError):
            await store.put(KEY, b"new", META)
    assert await _read(store) == b"old"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, ServerError),
        (errno.EDQUOT, ServerError),
        (errno.EIO, ServerError),
        (errno.EACCES, AccessDenied),
        (errno.EROFS, AccessDenied),
        (errno.ELOOP, Unsupported),
    ],
)
def test_an_error_of_the_disk_has_a_meaning(number: int, kind: type[Exception]) -> None:
    error = _translate(OSError(number, os.strerror(number)), "put")
    assert isinstance(error, kind)
    assert os.strerror(number) in str(error)
    assert error.hint or number == errno.EIO


async def test_an_archive_that_may_only_be_read_can_be_read(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"x", META)
    _forbid_writing(root)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("nothing is denied to this user")
        reader = LocalStore(root, prefix="history/")
        assert await _read(reader) == b"x"
        with pytest.raises(AccessDenied):
            await reader.put(KEY, b"y", META)
    finally:
        _allow_writing(root)


async def test_where_case_is_ignored_keys_that_differ_in_it_stay_apart(
    store: LocalStore, root: Path
) -> None:
    store._objects._here.folds = True  # as it is found out on such a file system
    keys = ["history/A/%41.jsonl", "history/a/%41.jsonl", "history/a/A.jsonl", "history/ä/Ä"]
    for key in keys:
        await store.put(key, key.encode(), META)
    names = [str(path.relative_to(root)) for path in _everything(root / "history")]
    assert len({name.lower() for name in names}) == len(names)
    assert [e.key async for e in store.list("history/")] == sorted(keys, key=str.encode)
    for key in keys:
        assert await _read(store, key) == key.encode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
def test_a_name_on_disk_is_short_and_says_its_segment_or_nothing(segment: str) -> None:
    for folds in (False, True):
        name = file_name(segment, folds=folds)
        assert len(name.encode()) <= MAX_NAME
        assert segment_of(name, folds=folds) in {segment, None}
        if folds:
            assert name.isascii()
            assert name == name.lower()
