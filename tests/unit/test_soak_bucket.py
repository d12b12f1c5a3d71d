"""What a soak reads of a bucket."""

from __future__ import annotations

from tests.kept import Object
from tests.soak.bucket import Snapshot
from transcriptd.digest import digest

BASE = "history/one/history.jsonl"
MIRROR = "history/m1/raw/claude/p/two.jsonl"


def snapshot(**more: bytes) -> Snapshot:
    said = {"td-generation": "1"}
    objects = {
        BASE: Object(b"a\n", said),
        "history/one/session.json": Object(b"{}", {}),
        f"history/.generations/{BASE.removeprefix('history/')}/000000.jsonl": Object(b"b\nc\n", {}),
        f"history/.tail/{BASE.removeprefix('history/')}/writer-m1.0": Object(b"", {}),
        f"history/.tail/{BASE.removeprefix('history/')}/000001-{2:020}.jsonl": Object(
            b"d\n", {"td-pre": digest(b"a\n")}
        ),
        MIRROR: Object(b"e\n", {"td-generation": "0"}),
        **{key: Object(body, said) for key, body in more.items()},
    }
    return Snapshot(objects, sorted(objects))


def test_a_stream_is_its_base_with_its_tail_and_its_finished_generations() -> None:
    assert snapshot().streams() == {BASE: {0: b"b\nc\n", 1: b"a\nd\n"}, MIRROR: {0: b"e\n"}}


def test_what_was_set_aside_is_named_and_is_no_stream() -> None:
    aside = "history/.conflicts/one/history.jsonl/m1.0.jsonl"
    found = snapshot(**{aside: b"f\n"})
    assert found.set_aside() == [aside]
    assert aside not in found.streams()


def test_a_listing_has_what_begins_with_a_prefix() -> None:
    found = snapshot()
    assert found.listing("history/one/") == [BASE, "history/one/session.json"]
    assert found.listing() == found.keys
