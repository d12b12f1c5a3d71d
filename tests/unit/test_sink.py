"""The library's values, and what of an archive it does not hand out."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import transcriptd
from tests.documents import conversation, history
from tests.memory_store import Bucket, MemoryStore, Object
from tests.planted import said_of
from transcriptd import Fault, HistorySinkConfig, PointerHandle, WritebackJournal, resolve_pointer
from transcriptd import encode_jsonl_delta as encode
from transcriptd.digest import digest
from transcriptd.layout import SegmentMeta, generation_key, history_key, segment_key
from transcriptd.writeback import (
    Compaction,
    ContextReset,
    DestructiveOp,
    HistorySinkUpload,
    InvariantViolation,
    ProvenanceFail,
    Reset,
    Save,
    SchemaMismatch,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = "CODETETHER_HISTORY_S3_"
FIVE = {
    f"{NAME}ENDPOINT": " http://127.0.0.1:9000 ",
    f"{NAME}BUCKET": "b\n",
    f"{NAME}PREFIX": " p ",
    f"{NAME}ACCESS_KEY": " ak",
    f"{NAME}SECRET_KEY": "canary-secret ",
}
REQUIRED = [name for name in FIVE if not name.endswith("PREFIX")]


def test_every_promised_name_is_there() -> None:
    for name in transcriptd.__all__:
        assert getattr(transcriptd, name) is not None
    with pytest.raises(AttributeError):
        _ = transcriptd.__getattr__("nothing")


def test_values_are_trimmed_and_the_prefix_ends_in_a_slash() -> None:
    sink = HistorySinkConfig.from_env(FIVE)
    assert sink == HistorySinkConfig(
        endpoint="http://127.0.0.1:9000",
        bucket="b",
        access_key="ak",
        secret_key="canary-secret",
        prefix="p/",
    )
    assert sink.object_key("abc-123") == "p/abc-123/history.jsonl"
    assert sink.handle("s") == PointerHandle("b", "p/s/history.jsonl")


@pytest.mark.parametrize("said", ["", "  ", None])
def test_the_prefix_is_history_where_none_is_said(said: str | None) -> None:
    environ = {name: value for name, value in FIVE.items() if name in REQUIRED}
    sink = HistorySinkConfig.from_env(environ | ({f"{NAME}PREFIX": said} if said else {}))
    assert sink is not None
    assert sink.prefix == "history/"


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", " \t"])
def test_there_is_no_sink_where_a_required_variable_is_unset_or_blank(
    name: str, value: str | None
) -> None:
    environ = {key: said for key, said in FIVE.items() if key != name}
    assert HistorySinkConfig.from_env(environ | ({name: value} if value else {})) is None


def test_the_secret_does_not_show() -> None:
    assert "canary" not in repr(HistorySinkConfig.from_env(FIVE))


def test_each_message_from_the_start_is_one_line() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": f"{n}\n"}]} for n in range(3)]
    lines = encode(messages).splitlines(keepends=True)
    assert [json.loads(line) for line in lines] == messages
    assert all(line.endswith(b"}\n") and b": " not in line for line in lines)
    assert encode(messages, 2) == lines[2]
    assert encode(messages, 3) == encode(messages, 9) == encode([], 0) == b""


def test_json_that_is_given_keeps_its_spelling_and_its_order() -> None:
    pretty = b'{ "b" : 1.50e+10,\n "a": [ 1E2, "\\u00e9\\/ x" ] }'
    compact = b'{"b":1.50e+10,"a":[1E2,"\\u00e9\\/ x"]}\n'
    assert encode([pretty]) == encode([msgspec.Raw(pretty)]) == compact
    assert encode([{"m": msgspec.Raw(pretty)}]) == b'{"m":' + compact[:-1] + b"}\n"
    assert encode([compact]) == compact


@pytest.mark.parametrize("message", [[1], "text", b"[1]", b"{", b'{"a":"\xff"}', b"{}\n{}", b""])
def test_what_is_no_json_object_is_refused(message: object) -> None:
    with pytest.raises(ValueError):
        encode([message])


def test_a_negative_start_is_refused() -> None:
    with pytest.raises(ValueError):
        encode([{}, {}], -1)


def test_a_handle_has_the_json_that_codetether_has() -> None:
    text = '{"bucket": "b", "key": "history/x/history.jsonl", "byte_range": [16, 64]}'
    handle = PointerHandle("b", "history/x/history.jsonl", (16, 64))
    assert PointerHandle.from_json(text) == handle
    assert json.loads(handle.to_json()) == json.loads(text)
    whole = PointerHandle("b", "k")
    assert json.loads(whole.to_json()) == {"bucket": "b", "key": "k", "byte_range": None}
    assert PointerHandle.from_json('{"bucket":"b","key":"k"}') == whole


@pytest.mark.parametrize("byte_range", [None, (0, 1), (7, 7)])
@pytest.mark.parametrize("generation", [None, 0, 3])
def test_a_handle_survives_its_json(
    byte_range: tuple[int, int] | None, generation: int | None
) -> None:
    handle = PointerHandle("b", "k/é", byte_range, generation)
    assert PointerHandle.from_json(handle.to_json()) == handle
    assert ("generation" in json.loads(handle.to_json())) == (generation is not None)


def test_unknown_keys_of_a_handle_are_ignored() -> None:
    assert PointerHandle.from_json('{"bucket":"b","key":"k","new":1}') == PointerHandle("b", "k")


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"bucket":"b"}', '{"bucket":"b","key":"k","byte_range":[1]}',
     '{"bucket":"b","key":"k","byte_range":[-1,2]}'],
)  # fmt: skip
def test_what_is_no_handle_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        PointerHandle.from_json(text)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("no_match", ""), ("denied", "why"), ("backend_error", "why"), ("flush_miss", ""),
     ("post_compaction_bootstrap", ""), ("pinned_invariant_miss", ""), ("duplicate_tool", ""),
     ("refetch", "")],
)  # fmt: skip
def test_a_fault_survives_its_json_and_pickling(kind: str, reason: str) -> None:
    fault = Fault(kind, reason)
    said = {"kind": kind, "reason": reason} if reason else {"kind": kind}
    assert json.loads(fault.to_json()) == said
    for again in (Fault.from_json(fault.to_json()), pickle.loads(pickle.dumps(fault))):
        assert (again.kind, again.reason, str(again)) == (kind, reason, str(fault))


def test_a_fault_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError):
        Fault("gone")
    with pytest.raises(ValueError):
        Fault("no_match", "why")
    with pytest.raises(ValueError):
        Fault.from_json('{"kind":"gone"}')


SAMPLE = """\
{"phase":"staged","txn":0,"at":"2026-08-01T12:00:00.123456789Z","op":{"op":"save"}}
{"phase":"committed","txn":0,"at":"2026-08-01T12:00:00.123456789Z"}
{"phase":"staged","txn":4,"at":"2026-08-01T12:00:01Z","op":{"op":"compaction","before":120,"after":24}}
{"phase":"rejected","txn":4,"at":"2026-08-01T12:00:02Z","reason":{"reason":"destructive_op"}}
{"phase":"staged","txn":5,"at":"2026-08-01T12:00:03Z","op":{"op":"unheard_of","x":1}}
"""


def test_the_lines_of_an_agent_are_read_whatever_their_op(tmp_path: Path) -> None:
    path = tmp_path / "s.journal.jsonl"
    path.write_text(SAMPLE)
    journal = WritebackJournal(path)
    entries = journal.entries()
    assert [msgspec.json.encode(entry).decode() for entry in entries] == SAMPLE.splitlines()
    assert entries[2].op == Compaction(120, 24)
    assert journal.staged == {5: {"op": "unheard_of", "x": 1}}
    assert path.read_text() == SAMPLE


OPS: list[Any] = [
    Save(), Reset(), ContextReset(), Compaction(2, 1), HistorySinkUpload("b", "k", 10),
]  # fmt: skip
REASONS: list[Any] = [
    DestructiveOp(), SchemaMismatch("d"), ProvenanceFail("d"), InvariantViolation("d"),
]  # fmt: skip


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.journal.jsonl"
    journal = WritebackJournal(path)
    for op in OPS:
        journal.commit(journal.stage(op))
    for reason in REASONS:
        journal.reject(journal.stage(Save()), reason)
    last = journal.stage(Save())
    again = WritebackJournal(path)
    assert [entry.op for entry in again.entries() if entry.op][: len(OPS)] == OPS
    assert [entry.reason for entry in again.entries() if entry.reason] == REASONS
    assert again.staged == {last: Save()}
    assert again.stage(Save()) == last + 1
    assert path.stat().st_mode & 0o777 == 0o600
    raw = [json.loads(line) for line in path.read_text().splitlines()]
    assert raw[0]["op"] == {"op": "save"}
    assert all(line["at"].endswith("Z") for line in raw)
    assert "op" not in raw[1]


def test_only_what_is_staged_can_be_settled_and_only_once(tmp_path: Path) -> None:
    journal = WritebackJournal(tmp_path / "s.journal.jsonl")
    txn = journal.stage(Save())
    journal.commit(txn)
    for number in (txn, txn + 1):
        with pytest.raises(ValueError):
            journal.commit(number)
        with pytest.raises(ValueError):
            journal.reject(number, DestructiveOp())
    assert len(journal.entries()) == 2


@pytest.mark.parametrize("torn", [1, 20, 80])
def test_a_torn_last_line_is_passed_over_and_never_joined_to_the_next(
    tmp_path: Path, torn: int
) -> None:
    path = tmp_path / "s.journal.jsonl"
    whole = SAMPLE.splitlines(keepends=True)
    path.write_text(whole[0] + whole[1][:torn].rstrip("\n")[:-1])
    journal = WritebackJournal(path)
    assert len(journal.entries()) == 1
    journal.commit(0)
    assert [entry.phase for entry in WritebackJournal(path).entries()] == ["staged", "committed"]


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    link = tmp_path / "s.journal.jsonl"
    link.symlink_to(target)
    with pytest.raises(OSError):
        WritebackJournal(link).stage(Save())
    assert target.read_text() == ""


WHOLE = history(conversation(6))
FIRST, SECOND = len(history(conversation(2))), len(history(conversation(4)))
KEY = history_key("history/", "s")
HANDLE = PointerHandle("memory", KEY)


@pytest.fixture
def archive() -> Bucket:
    """A base and a tail of two segments."""
    bucket = Bucket()
    bucket.objects[KEY] = Object(WHOLE[:FIRST], said_of(WHOLE[:FIRST]))
    place(bucket, FIRST, SECOND)
    place(bucket, SECOND, len(WHOLE))
    return bucket


def place(bucket: Bucket, start: int, end: int, *, pre: str = "") -> str:
    """Place a segment behind the back of all rules; returns its key."""
    key = segment_key("history/", KEY, 0, start)
    said = SegmentMeta("m1.0", pre or digest(WHOLE[:start]))
    bucket.objects[key] = Object(WHOLE[start:end], said.encode())
    return key


def damage(bucket: Bucket, key: str) -> None:
    """Change a byte of an object, as a disk does; what it says of itself stays."""
    sound = bucket.objects[key]
    bucket.objects[key] = Object(b"!" + sound.body[1:], sound.metadata)


async def resolved(bucket: Bucket, handle: PointerHandle = HANDLE) -> bytes:
    return await resolve_pointer(MemoryStore(bucket), handle, attempts=1)


async def fault_of(bucket: Bucket, handle: PointerHandle = HANDLE) -> Fault:
    with pytest.raises(Fault) as caught:
        await resolved(bucket, handle)
    return caught.value


async def test_a_handle_is_resolved_from_the_base_and_its_tail(archive: Bucket) -> None:
    assert await resolved(archive) == WHOLE


async def test_a_base_that_is_not_what_it_says_is_not_handed_out(archive: Bucket) -> None:
    damage(archive, KEY)
    for handle in (HANDLE, PointerHandle("memory", KEY, (0, FIRST))):
        fault = await fault_of(archive, handle)
        said = f"{KEY}: other_bytes_than_it_says"
        assert (fault.kind, fault.reason) == ("backend_error", said)


async def test_what_stands_before_a_segment_that_does_not_fit_is_not_handed_out_as_the_whole(
    archive: Bucket,
) -> None:
    stray = place(archive, SECOND, len(WHOLE), pre="00" * 32)
    fault = await fault_of(archive)
    assert (fault.kind, fault.reason) == ("backend_error", f"{stray}: other_bytes_before_it")
    sound = PointerHandle("memory", KEY, (0, SECOND))
    assert await resolved(archive, sound) == WHOLE[:SECOND]


async def test_a_range_that_begins_in_a_segment_that_does_not_fit_is_an_error_not_an_absence(
    archive: Bucket,
) -> None:
    damage(archive, KEY)
    place(archive, FIRST, SECOND, pre="00" * 32)
    fault = await fault_of(archive, PointerHandle("memory", KEY, (FIRST, SECOND)))
    assert fault.kind == "backend_error"


async def test_a_segment_that_only_lies_in_the_way_keeps_nothing_back(archive: Bucket) -> None:
    place(archive, FIRST + 3, SECOND + 5)
    assert await resolved(archive) == WHOLE


async def test_a_damaged_base_without_a_tail_is_not_handed_out() -> None:
    bucket = Bucket()
    bucket.objects[KEY] = Object(WHOLE, said_of(WHOLE))
    assert await resolved(bucket) == WHOLE
    damage(bucket, KEY)
    assert (await fault_of(bucket)).kind == "backend_error"


async def test_a_damaged_finished_generation_is_not_handed_out(archive: Bucket) -> None:
    archive.objects[KEY] = Object(b"{}\n", said_of(b"{}\n", 1))
    key = generation_key("history/", KEY, 0)
    archive.objects[key] = Object(WHOLE, said_of(WHOLE))
    handle = PointerHandle("memory", KEY, generation=0)
    assert await resolved(archive, handle) == WHOLE
    damage(archive, key)
    assert (await fault_of(archive, handle)).reason == f"{key}: other_bytes_than_it_says"
