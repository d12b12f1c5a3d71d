"""A mirrored file beside what is archived of it: what counts, what is told without reading all."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests import agents, documents
from tests.agents import DATA, record, rewrite, write
from transcriptd.content import BLOCK
from transcriptd.digest import digest
from transcriptd.errors import Changing, Rewritten, Unreadable, Vanished
from transcriptd.mirror import HEAD, QUIET_S, look_at, seconds_until_quiet
from transcriptd.model import Cursor, Guard, Session, Stat
from transcriptd.sources.claude import Claude
from transcriptd.sources.codetether import CodeTether
from transcriptd.sources.codex import Codex
from transcriptd.sources.zeroclaw import ZeroClaw
from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from transcriptd.content import Content
    from transcriptd.snapshot import Look

NOW = 1_700_000_000.0
MAX_BYTES = 1 << 30
LINE = record(type="user", text="hello") + b"\n"
TORN = b'{"type":"us'
LARGE = b"".join(record(n=n, text="x" * 900) + b"\n" for n in range(2800))  # more than two blocks


@dataclass
class Noted:
    """A content that notes what is read of it."""

    content: Content
    pieces: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.content.size

    def read(self, start: int, end: int) -> bytes:
        self.pieces.append((start, end))
        return self.content.read(start, end)


class Agent(Tree):
    """An agent whose every file is a session; `read` notes what is read of them."""

    name = "agent"

    def __init__(self, root: Path) -> None:
        super().__init__([root])
        self.read: list[tuple[int, int]] = []

    def mirrors(self, path: str) -> bool:
        return True

    def content(self, session: Session, max_bytes: int) -> tuple[Content, Stat]:
        content, stat = super().content(session, max_bytes)
        return Noted(content, self.read), stat


class Mirror:
    """One file, what is archived of it, and a clock that tests set. Files are written `NOW`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = Agent(path.parent)
        self.session = Session("agent", "a", str(path.parent), path.name)
        self.now = NOW
        self.cursor: Cursor | None = None
        self.guard: Guard | None = None

    def written(self, *pieces: bytes) -> None:
        write(self.path, *pieces)
        self.touch()

    def replaced(self, data: bytes) -> None:
        rewrite(self.path, data)
        self.touch()

    def patched(self, at: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(at)
            file.write(data)
        self.touch()

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)
        self.touch()

    def touch(self) -> None:
        os.utime(self.path, (self.now, self.now))

    def quiet(self) -> None:
        self.now += QUIET_S

    def look(self, *, guarded: bool = True) -> Look:
        self.source.read.clear()
        return look_at(
            self.source,
            self.session,
            self.cursor,
            self.guard if guarded else None,
            max_bytes=MAX_BYTES,
            clock=lambda: self.now,
        )

    def archived(self) -> Look:
        """Look, and archive what is seen."""
        seen = self.look()
        self.cursor = cursor_at(seen)
        self.guard = seen.guard
        return seen


def cursor_at(seen: Look) -> Cursor:
    snapshot = seen.snapshot
    length = snapshot.content.size
    return Cursor("k", 0, snapshot.records, length, seen.digest, etag="e", writer="m.0")


def held(seen: Look) -> bytes:
    content = seen.snapshot.content
    return content.read(0, content.size)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "a.jsonl")


class TestWhatCounts:
    def test_a_file_is_cut_behind_its_last_line_feed_while_it_is_written(
        self, mirror: Mirror
    ) -> None:
        mirror.written(LINE, LINE, TORN)
        seen = mirror.look()
        assert held(seen) == LINE * 2
        assert (seen.snapshot.records, seen.digest) == (2, digest(LINE * 2))
        assert seen.unfinished_s == QUIET_S

    def test_the_rest_counts_as_it_is_once_nothing_came_for_30_seconds(
        self, mirror: Mirror
    ) -> None:
        mirror.written(LINE, TORN)
        mirror.now += QUIET_S - 1
        assert (held(mirror.look()), mirror.look().unfinished_s) == (LINE, 1.0)
        mirror.now += 1
        seen = mirror.look()
        assert (held(seen), seen.unfinished_s) == (LINE + TORN, None)
        assert seen.snapshot.records == 2

    def test_a_file_of_whole_lines_waits_for_nothing(self, mirror: Mirror) -> None:
        mirror.written(LINE)
        assert mirror.look().unfinished_s is None

    def test_of_a_first_line_without_its_end_nothing_counts_yet(self, mirror: Mirror) -> None:
        mirror.written(TORN)
        seen = mirror.look()
        assert (held(seen), seen.snapshot.records, seen.unfinished_s) == (b"", 0, QUIET_S)

    def test_the_end_of_a_line_is_found_however_far_back(self, mirror: Mirror) -> None:
        mirror.written(LINE, b"x" * (3 * BLOCK + 5))
        assert held(mirror.look()) == LINE

    def test_a_rest_that_was_archived_and_goes_on_is_not_given_up(self, mirror: Mirror) -> None:
        mirror.written(LINE, TORN)
        mirror.quiet()
        mirror.archived()
        mirror.written(b"er")
        seen = mirror.look()
        assert (held(seen), seen.extends, seen.unfinished_s) == (LINE + TORN, True, QUIET_S)

    def test_a_first_line_that_was_archived_without_its_end_may_go_on(self, mirror: Mirror) -> None:
        mirror.written(TORN)
        mirror.quiet()
        mirror.archived()
        mirror.written(b"er")
        for guarded in (True, False):
            seen = mirror.look(guarded=guarded)
            assert (held(seen), seen.extends, seen.unfinished_s) == (TORN, True, QUIET_S)

    def test_a_rest_and_the_end_that_comes_later_are_one_record(self, mirror: Mirror) -> None:
        mirror.written(LINE, TORN)
        mirror.quiet()
        assert mirror.archived().snapshot.records == 2
        mirror.written(b"\n")
        assert mirror.look().snapshot.records == 2
        mirror.written(LINE)
        assert mirror.look().snapshot.records == 3

    def test_a_file_that_is_no_lines_is_mirrored_whole_at_once(self, tmp_path: Path) -> None:
        mirror = Mirror(tmp_path / "agent-1.meta.json")
        mirror.written(LINE, TORN, TORN)
        seen = mirror.look()
        assert (held(seen), seen.unfinished_s) == (LINE + TORN + TORN, None)
        assert seen.guard is not None
        assert seen.guard.damaged == 0

    def test_an_empty_file_is_no_record(self, mirror: Mirror) -> None:
        mirror.written(b"")
        seen = mirror.look()
        assert (held(seen), seen.snapshot.records, seen.extends) == (b"", 0, True)

    def test_damaged_lines_are_archived_as_they_are_and_counted(self, mirror: Mirror) -> None:
        content = LINE + TORN + b"\n" + TORN + LINE + b"\0" * 20 + b"\n\r\n" + LINE
        mirror.written(content)
        seen = mirror.look()
        assert held(seen) == content
        assert seen.guard is not None
        assert (seen.guard.damaged, seen.snapshot.records) == (3, 6)

    @pytest.mark.parametrize(
        ("mtime", "ctime", "rest"),
        [(NOW, NOW, 30.0), (NOW - 29, NOW, 1.0), (NOW - 30, NOW, None), (NOW - 99, NOW, None),
         (NOW + 9, NOW - 5, 25.0), (NOW + 9, NOW - 31, None), (NOW + 9, NOW + 9, None)],
    )  # fmt: skip
    def test_how_long_a_file_is_quiet_is_told_by_times_that_are_not_ahead(
        self, mtime: float, ctime: float, rest: float | None
    ) -> None:
        stat = Stat(0, int(mtime * 1e9), int(ctime * 1e9), 0, 0)
        assert seconds_until_quiet(stat, NOW) == rest


class TestGuards:
    def test_growth_is_read_from_the_block_of_the_cursor_on(self, mirror: Mirror) -> None:
        mirror.written(LARGE)
        mirror.archived()
        mirror.written(LINE)
        seen = mirror.look()
        before = len(LARGE) - len(LARGE) % BLOCK
        assert not [
            piece for piece in mirror.source.read if piece[1] > HEAD and piece[0] < before - 1
        ]
        assert (seen.extends, seen.is_verified) == (True, False)
        assert (seen.snapshot.records, seen.digest) == (2801, digest(LARGE + LINE))
        assert held(seen) == LARGE + LINE

    def test_of_a_file_below_a_block_all_is_read_each_time(self, mirror: Mirror) -> None:
        mirror.written(LINE * 9)
        mirror.archived()
        mirror.written(LINE)
        assert mirror.look().is_verified

    def test_a_file_that_was_shorter_than_a_head_when_it_was_first_seen_is_known_again_too(
        self, mirror: Mirror
    ) -> None:
        for data in (LINE, LARGE):
            mirror.written(data)
            mirror.archived()
        mirror.written(LINE)
        assert not mirror.look().is_verified

    def test_what_is_archived_is_known_again_after_any_number_of_looks(
        self, mirror: Mirror
    ) -> None:
        expected = b""
        for n in range(5):
            more = LARGE[: BLOCK - 7 + n] if n != 2 else LINE
            mirror.written(more)
            expected += more
            mirror.quiet()
            seen = mirror.archived()
            assert (seen.extends, seen.digest) == (True, digest(expected))
            assert seen.is_verified == (n < 2), "what is in its first block is read each time"
            whole = mirror.look(guarded=False)
            assert whole.snapshot.records == seen.snapshot.records
            assert whole.guard is not None
            assert seen.guard is not None
            # A line that begins before the block of the cursor and goes on may be missed.
            assert seen.guard == replace(whole.guard, damaged=seen.guard.damaged)
            assert 0 <= whole.guard.damaged - seen.guard.damaged <= 2

    @pytest.mark.parametrize("change", ["replaced", "head", "last_block", "touched", "no guard"])
    def test_what_a_guard_does_not_vouch_for_is_read_whole(
        self, mirror: Mirror, change: str
    ) -> None:
        mirror.written(LARGE)
        mirror.archived()
        match change:
            case "replaced":
                mirror.replaced(LARGE + LINE)
            case "head":
                mirror.patched(9, b"Y")
                mirror.written(LINE)
            case "last_block":
                mirror.patched(len(LARGE) - 30, b"Y")
                mirror.written(LINE)
            case "touched":
                mirror.touch()
            case _:
                mirror.written(LINE)
                mirror.guard = None
        seen = mirror.look()
        assert {(0, BLOCK), (BLOCK, 2 * BLOCK)} <= {*mirror.source.read}
        assert seen.is_verified
        assert seen.extends == (change not in {"head", "last_block"})
        assert held(seen) == mirror.path.read_bytes()

    def test_of_a_file_that_nobody_touched_no_more_is_read_than_the_block_of_the_cursor(
        self, mirror: Mirror
    ) -> None:
        mirror.written(LARGE)
        mirror.archived()
        mirror.source.read.clear()
        assert mirror.look().extends
        assert sum(end - start for start, end in mirror.source.read) <= HEAD + 2 * BLOCK

    @pytest.mark.parametrize("at", [0, HEAD - 1, HEAD, BLOCK + 3, len(LARGE) - 9])
    def test_a_rewrite_of_the_same_size_is_found_at_once(self, mirror: Mirror, at: int) -> None:
        mirror.written(LARGE)
        mirror.archived()
        mirror.patched(at, b"\0")
        seen = mirror.look()
        assert (seen.extends, seen.is_verified) == (False, True)
        assert held(seen) == mirror.path.read_bytes()

    def test_a_rewrite_that_guards_miss_is_never_given_and_found_without_them(
        self, mirror: Mirror
    ) -> None:
        mirror.written(LARGE)
        mirror.archived()
        mirror.patched(BLOCK + 3, b"\0")
        mirror.written(LINE)
        seen = mirror.look()
        assert (seen.extends, seen.is_verified) == (True, False)
        end = seen.snapshot.content.size
        assert seen.snapshot.content.read(len(LARGE), end) == LINE
        with pytest.raises(Rewritten):
            held(seen)
        assert not mirror.look(guarded=False).extends

    def test_a_guard_of_another_cursor_is_not_believed(self, mirror: Mirror) -> None:
        mirror.written(LARGE)
        mirror.archived()
        guard = mirror.guard
        mirror.written(LINE)
        mirror.archived()
        mirror.written(LINE)
        mirror.guard = guard
        assert (mirror.look().is_verified, mirror.look().extends) == (True, True)


class TestWhatNoLongerExtends:
    @pytest.mark.parametrize(
        "data", [LINE, LINE + TORN + b"\n", b"\n", TORN * 9 + b"\n" + LINE * 9]
    )
    def test_a_file_that_was_replaced_has_another_content(
        self, mirror: Mirror, data: bytes
    ) -> None:
        mirror.written(LINE, LINE)
        mirror.archived()
        mirror.replaced(data)
        seen = mirror.look()
        assert (held(seen), seen.extends, seen.digest) == (data, False, digest(data))

    def test_a_file_that_shrank_does_not_extend(self, mirror: Mirror) -> None:
        mirror.written(LARGE)
        mirror.archived()
        mirror.cut(len(LINE))
        mirror.quiet()
        seen = mirror.look()
        assert (held(seen), seen.extends) == (LARGE[: len(LINE)], False)

    def test_a_file_that_was_emptied_is_changing_until_it_is_quiet(self, mirror: Mirror) -> None:
        mirror.written(LINE)
        mirror.archived()
        mirror.cut(0)
        with pytest.raises(Changing):
            mirror.look()
        mirror.quiet()
        seen = mirror.look()
        assert (held(seen), seen.extends, seen.snapshot.records) == (b"", False, 0)

    def test_a_file_that_is_being_written_anew_is_changing_until_a_line_stands(
        self, mirror: Mirror
    ) -> None:
        mirror.written(LINE)
        mirror.archived()
        mirror.cut(0)
        mirror.written(b"x" * 2 * len(LINE))
        with pytest.raises(Changing):
            mirror.look()
        mirror.written(b"\n")
        assert not mirror.look().extends

    def test_what_is_archived_is_forgotten_where_nothing_is(self, mirror: Mirror) -> None:
        mirror.written(b"")
        mirror.archived()
        mirror.written(LINE)
        seen = mirror.look()
        assert (held(seen), seen.extends) == (LINE, True)


class TestWhatCannotBeRead:
    def test_a_file_that_is_gone_has_vanished(self, mirror: Mirror) -> None:
        with pytest.raises(Vanished):
            mirror.look()

    def test_what_is_no_file_is_unreadable(self, mirror: Mirror) -> None:
        mirror.path.mkdir()
        with pytest.raises(Unreadable):
            mirror.look()

    def test_a_change_between_looking_and_reading_is_changing(self, mirror: Mirror) -> None:
        mirror.written(LARGE)
        seen = mirror.look()
        mirror.patched(5, b"\0")
        with pytest.raises(Changing):
            held(seen)


@pytest.mark.parametrize("rest", [b"", TORN * 9])
def test_a_line_of_64_mib_needs_no_memory(mirror: Mirror, rest: bytes) -> None:
    mirror.written(LINE)
    with mirror.path.open("ab") as file:
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + rest)
    mirror.touch()
    tracemalloc.start()
    try:
        seen = mirror.archived()
        mirror.written(b"\n" + LINE)
        assert mirror.look().extends
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.snapshot.records == 2
    assert peak < 10 << 20


def test_a_document_is_looked_at_as_one(tmp_path: Path) -> None:
    source = CodeTether((), {"HOME": str(tmp_path)})
    path = documents.save(tmp_path, documents.document(documents.conversation(3)))
    session = source.session(tmp_path, path.name)
    assert session is not None
    seen = look_at(source, session, None, max_bytes=MAX_BYTES, with_document=True)
    assert held(seen) == documents.history(documents.conversation(3))
    assert (seen.guard, seen.unfinished_s) == (None, None)
    assert seen.snapshot.document is not None


def _hours_later() -> float:
    return time() + 7200


@pytest.mark.parametrize(
    ("source", "root"),
    [
        (Claude((), {"HOME": "/nonexistent"}), DATA / "claude"),
        (Codex((), {"HOME": "/nonexistent"}), DATA / "codex" / "sessions"),
        (Codex((), {"HOME": "/nonexistent"}), DATA / "codex" / "archived_sessions"),
    ],
    ids=["claude", "codex", "codex, archived"],
)
def test_what_an_agent_wrote_is_archived_byte_for_byte(source: Tree, root: Path) -> None:
    paths = [path for path in root.rglob("*") if path.is_file()]
    assert paths
    for path in paths:
        session = source.session(root, str(path.relative_to(root)))
        assert session is not None
        seen = look_at(source, session, None, max_bytes=MAX_BYTES, clock=_hours_later)
        assert held(seen) == path.read_bytes()


def test_what_zeroclaw_does_with_a_file_is_seen_as_it_is(tmp_path: Path) -> None:
    agent = agents.ZeroClaw(tmp_path)
    source = ZeroClaw([str(tmp_path)], {"HOME": "/nonexistent"})
    cursor, guard, seen = None, None, []
    acts: list[Callable[[], Path]] = [
        lambda: agent.says("k", "one"),
        lambda: agent.says("k", "two"),
        lambda: agent.updates_last("k", "other"),
        lambda: agent.says("k", "three"),
        lambda: agent.forgets_last("k"),
        lambda: write(agent.path("k"), b"corrupt\n"),
        lambda: agent.compacts("k"),
        lambda: agent.clears("k"),
    ]
    for act in acts:
        path = act()
        session = source.session(tmp_path, path.name)
        assert session is not None
        mirrored = look_at(source, session, cursor, guard, max_bytes=MAX_BYTES, clock=_hours_later)
        assert held(mirrored) == path.read_bytes()
        cursor, guard = cursor_at(mirrored), mirrored.guard
        seen.append(mirrored.extends)
    assert seen == [True, True, False, True, False, True, False, False]


TEXT = st.sampled_from([LINE, b"\n", b"{}\r\n", TORN + b"\n", b"\0\0\n", b"\xff\n"])
SIZES = st.sampled_from([300_000, 907_000, BLOCK, len(LARGE)])


class Beside(RuleBasedStateMachine):
    """A file that anything happens to, beside a model that reads all of it each time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.mirror = Mirror(Path(self.directory.name, "a.jsonl"))
        self.mirror.written(b"")
        self.data = b""
        self.archived = b""

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule(lines=st.lists(TEXT, min_size=1, max_size=3))
    def append(self, lines: list[bytes]) -> None:
        self.mirror.written(*lines)
        self.data += b"".join(lines)

    @rule(size=SIZES)
    def append_much(self, size: int) -> None:
        self.append([LARGE[: size - 1] + b"\n"])

    @rule(rest=st.sampled_from([TORN, b"{}", b"\0"]), times=st.sampled_from([1, 1, 300_000]))
    def append_torn(self, rest: bytes, times: int) -> None:
        rest *= times
        self.mirror.written(rest)
        self.data += rest

    @rule(part=st.floats(0, 1))
    def truncate(self, part: float) -> None:
        self.data = self.data[: int(len(self.data) * part)]
        self.mirror.cut(len(self.data))

    @rule()
    def truncate_to_a_line(self) -> None:
        self.data = self.data[: self.data.rfind(b"\n", 0, -1) + 1]
        self.mirror.cut(len(self.data))

    @precondition(lambda self: self.data)
    @rule(
        part=st.floats(0, 1, exclude_max=True),
        near=st.sampled_from(["anywhere", "head", "end"]),
        by=st.sampled_from(b"\n\0x{"),
    )
    def rewrite_in_place(self, part: float, near: str, by: int) -> None:
        low, high = {
            "anywhere": (0, len(self.data)),
            "head": (0, min(len(self.data), HEAD)),
            "end": (max(0, len(self.data) - 50), len(self.data)),
        }[near]
        at = int(low + part * (high - low))
        self.data = self.data[:at] + bytes([by]) + self.data[at + 1 :]
        self.mirror.patched(at, bytes([by]))

    @rule(keep=st.booleans(), more=TEXT)
    def replace(self, more: bytes, *, keep: bool) -> None:
        self.data = (self.data if keep else b"") + more
        self.mirror.replaced(self.data)

    @rule(seconds=st.sampled_from([1.0, 29.0, QUIET_S]))
    def wait(self, seconds: float) -> None:
        self.mirror.now += seconds

    @rule()
    def touch(self) -> None:
        self.mirror.touch()

    @rule()
    def archive(self) -> None:
        if self._is_changing():
            with pytest.raises(Changing):
                self.mirror.look()
            return
        seen = self.mirror.look()
        if seen.extends and self._may_be_missed() and not seen.is_verified:
            with pytest.raises(Rewritten):
                held(seen)
            start = len(self.archived)
            content = seen.snapshot.content
            assert content.read(start, content.size) == self.data[start : content.size]
            self.mirror.guard = None
            if self._is_changing():
                return
            seen = self.mirror.look()
        self._compare(seen)
        self.mirror.cursor, self.mirror.guard = cursor_at(seen), seen.guard
        self.archived = held(seen)

    @invariant()
    def all_is_found_by_who_reads_all(self) -> None:
        if not self._is_changing():
            seen = self.mirror.look(guarded=False)
            self._compare(seen)
            assert seen.guard is not None
            assert seen.guard.damaged == _damaged(held(seen))

    def _compare(self, seen: Look) -> None:
        extends = self.data.startswith(self.archived)
        expected = self._counted()
        if extends:
            expected = self.data[: max(len(expected), len(self.archived))]
        assert held(seen) == expected
        assert seen.extends == extends
        assert seen.digest == digest(expected)
        assert seen.snapshot.records == len(expected.split(b"\n")) - (expected[-1:] in {b"", b"\n"})
        age = self.mirror.now - self.mirror.path.stat().st_mtime
        assert seen.unfinished_s == (None if expected == self.data else QUIET_S - age)
        assert seen.guard is not None
        assert seen.guard.feeds == expected.count(b"\n")
        assert seen.guard.damaged <= _damaged(expected)

    def _is_active(self) -> bool:
        return self.mirror.now - self.mirror.path.stat().st_mtime < QUIET_S

    def _counted(self) -> bytes:
        return self.data[: self.data.rfind(b"\n") + 1] if self._is_active() else self.data

    def _is_changing(self) -> bool:
        extends = self.data.startswith(self.archived)
        return self._is_active() and not self._counted() and not extends

    def _may_be_missed(self) -> bool:
        """Whether all that a guard looks at is as it was, and something else is not."""
        was, start = self.archived, len(self.archived) - len(self.archived) % BLOCK
        same = was[:HEAD] == self.data[:HEAD] and was[start:] == self.data[start : len(was)]
        return same and not self.data.startswith(was)


def _damaged(content: bytes) -> int:
    count = 0
    for line in content.split(b"\n")[:-1]:
        if not line.strip():
            continue
        if len(line) > BLOCK:
            ends = line.strip()[:1] + line.strip()[-1:]
            count += ends != b"{}" or b"\0" in line
            continue
        try:
            json.loads(line.decode())
        except ValueError:
            count += 1
    return count


TestBesideAModel = Beside.TestCase
TestBesideAModel.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
