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
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    Damaged,
    ServerError,
    Unreachable,
    Unsupported,
)
from transcriptd.stores import Absent, Matches
from transcriptd.stores.local import LocalStore, _translate
from transcriptd.stores.local_files import MAX_NAME, file_name, segment_of
from transcriptd.stores.patience import Patience

KEY = "history/s/history.jsonl"
META = {"td-format": "1"}

CRASHING = """
import asyncio, os, sys
from pathlib import Path
from transcriptd.stores.local import LocalStore

root, last, calls = Path(sys.argv[1]), int(sys.argv[2]), 0

def dying(real):
    def call(*args, **more):
        global calls
        calls += 1
        if calls > last:
            os._exit(9)
        return real(*args, **more)
    return call

for name in ("fsync", "rename", "mkdir", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
asyncio.run(LocalStore(root, prefix="history/").put({key!r}, b"new and longer", {{"td": "new"}}))
os._exit(0)
"""


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


@pytest.mark.parametrize("exists", [False, True])
async def test_a_crash_at_any_step_leaves_the_old_object_or_the_new_one(
    tmp_path: Path, *, exists: bool
) -> None:
    outcomes = []
    for last in range(60):
        root = tmp_path / str(last)
        store = LocalStore(root, prefix="history/")
        if exists:
            await store.put(KEY, b"old", {"td": "old"})
        argv = [sys.executable, "-c", CRASHING.format(key=KEY), str(root), str(last)]
        ended = await asyncio.to_thread(subprocess.run, argv, check=False)
        head = await store.head(KEY)
        if head is None:
            outcomes.append("none")
        else:
            outcomes.append(head.metadata["td"])
            body = b"old" if head.metadata["td"] == "old" else b"new and longer"
            assert await _read(store) == body
            assert head.size == len(body)
            assert [e.size async for e in store.list("history/")] == [len(body)]
        await store.put(KEY, b"after", {}, None if head is None else Matches(head.etag))
        assert await _read(store) == b"after"
        if ended.returncode == 0:
            break
    else:
        pytest.fail("the write never came to its end")
    before = "old" if exists else "none"
    turn = outcomes.index("new")
    assert outcomes == [before] * turn + ["new"] * (len(outcomes) - turn)
    assert 0 < turn < len(outcomes) - 2


async def test_a_torn_redo_record_is_dropped(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"old", META)
    for torn in (b"", b'{"key":"history/s/hist', b"\0" * 40):
        (root / ".meta/.staging/0123.redo").write_bytes(torn)
        assert await _read(store) == b"old"
        assert _staged(root) == []


async def test_what_a_crash_staged_goes_only_when_it_is_old(store: LocalStore, root: Path) -> None:
    await store.put(KEY, b"old", META)
    fresh, orphan = root / ".meta/.staging/fresh", root / ".meta/.staging/orphan"
    fresh.write_bytes(b"another process is at it")
    orphan.write_bytes(b"nobody is")
    os.utime(orphan, (0, 0))
    await store.head(KEY)
    assert fresh.exists()
    assert not orphan.exists()


async def test_bytes_behind_the_length_are_not_archived(store: LocalStore, root: Path) -> None:
    head = await store.put(KEY, b"archived\n", META)
    with (root / KEY).open("ab") as file:
        file.write(b"not yet")
    assert await _read(store) == b"archived\n"
    assert await store.head(KEY) == (await store.head(KEY))
    found = await store.head(KEY)
    assert found is not None
    assert (found.size, found.etag) == (9, head.etag)
    await store.copy(KEY, "history/copy", etag=head.etag)
    assert await _read(store, "history/copy") == b"archived\n"


async def test_a_file_that_was_cut_is_damaged_and_can_be_written_again(
    store: LocalStore, root: Path
) -> None:
    head = await store.put(KEY, b"archived\n", META)
    os.truncate(root / KEY, 4)
    with pytest.raises(Damaged):
        await _read(store)
    with pytest.raises(Damaged):
        await store.copy(KEY, "history/copy", etag=head.etag)
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


async def test_writing_the_same_bytes_again_gives_another_etag(store: LocalStore) -> None:
    first = await store.put(KEY, b"same", META)
    assert (await store.put(KEY, b"same", META)).etag != first.etag


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
    store._objects._folds = True  # as it is found out on such a file system
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
