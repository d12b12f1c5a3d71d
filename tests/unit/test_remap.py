"""What of a session says where its project was, and nothing else, says where it is now."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcriptd.remap import LONGEST_LINE, Remap, directory_in, project_name

MOVED = Remap([("/srv/app", "/home/ann/app"), ("/srv/app/vendor", "/opt/vendor/")])


@pytest.mark.parametrize(
    ("directory", "now"),
    [
        ("/srv/app", "/home/ann/app"),
        ("/srv/app/src", "/home/ann/app/src"),
        ("/srv/app/vendor/x", "/opt/vendor/x"),
        ("/srv/application", None),
        ("/srv", None),
        ("", None),
    ],
)
def test_the_nearest_directory_that_moved_counts(directory: str, now: str | None) -> None:
    assert MOVED.directory(directory) == now


def test_everything_can_move_and_into_everything() -> None:
    assert Remap([("/", "/old")]).directory("/srv") == "/old/srv"
    assert Remap([("/srv", "/")]).directory("/srv/app") == "/app"
    assert Remap([("/srv", "/")]).directory("/srv") == "/"


@pytest.mark.parametrize("moved", [[("a", "/b")], [("/a", "")], [("/a", "/b"), ("/a/", "/c")]])
def test_what_cannot_be_meant_is_refused(moved: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError):
        Remap(moved)


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("/home/ann/my_app.v2", "-home-ann-my-app-v2"),
        ("/srv/Ünïcode", "-srv--n-code"),
        ("/srv/🦀", "-srv---"),
        ("/srv/-a", "-srv--a"),
    ],
)
def test_a_project_is_named_as_claude_code_names_it(directory: str, name: str) -> None:
    assert project_name(directory) == name


def test_a_name_that_stands_for_two_directories_moves_by_what_the_session_says() -> None:
    remap = Remap([("/srv/app", "/a")])
    path = "-srv-app-web/x.jsonl"
    assert remap.path("claude", path, "/srv/app/web") == "-a-web/x.jsonl"
    assert remap.path("claude", path, "/srv/app-web") == path
    assert remap.path("claude", path, None) == path
    assert remap.path("claude", "-srv-app/x.jsonl", None) == "-a/x.jsonl"
    assert remap.path("codex", "-srv-app/x.jsonl", "/srv/app") == "-srv-app/x.jsonl"


CHANGED = [
    ("claude", b'{"cwd":"/srv/app","a":1}', b'{"cwd":"/home/ann/app","a":1}'),
    ("claude", b' { "a" : [1, {"cwd":"/srv/app"}], "cwd" :\t"/srv/app" } ',
     b' { "a" : [1, {"cwd":"/srv/app"}], "cwd" :\t"/home/ann/app" } '),
    ("claude", b'{"cwd":"\\/srv\\u002fapp\\/x"}', b'{"cwd":"/home/ann/app/x"}'),
    ("codex", b'{"type":"session_meta","payload":{"cwd":"/srv/app","git":{}}}',
     b'{"type":"session_meta","payload":{"cwd":"/home/ann/app","git":{}}}'),
    ("codex", b'{"payload":{"x":{"cwd":"/srv/app"},"cwd":"/srv/app"},"type":"turn_context"}',
     b'{"payload":{"x":{"cwd":"/srv/app"},"cwd":"/home/ann/app"},"type":"turn_context"}'),
]  # fmt: skip
UNCHANGED = [
    ("claude", b'{"message":{"cwd":"/srv/app"},"text":"\\"cwd\\":\\"/srv/app\\""}'),
    ("claude", b'{"cwd":"/srv/application"}'),
    ("claude", b'{"cwd":["/srv/app"]}'),
    ("claude", b'{"cwd":"/srv/app"'),
    ("claude", b'{"cwd":"/srv/app"}{"cwd":"/srv/app"}'),
    ("claude", b'\0\0"cwd"\0'),
    ("claude", b'["cwd","/srv/app"]'),
    ("codex", b'{"type":"response_item","payload":{"cwd":"/srv/app"}}'),
    ("codex", b'{"type":"session_meta","cwd":"/srv/app","payload":{}}'),
]


@pytest.mark.parametrize(("agent", "line", "now"), CHANGED)
def test_only_the_value_that_says_where_changes(agent: str, line: bytes, now: bytes) -> None:
    assert MOVED.record(agent, line) == now


@pytest.mark.parametrize(("agent", "line"), UNCHANGED)
def test_what_says_something_else_or_is_no_record_stays(agent: str, line: bytes) -> None:
    assert MOVED.record(agent, line) == line


def test_a_document_of_codetethers_says_its_workspace() -> None:
    document = b'{"id": "s", "metadata":{"directory":"/srv/app","x":[{"directory":"/srv/app"}]}}'
    moved = document.replace(b'"directory":"/srv/app","x"', b'"directory":"/home/ann/app","x"')
    assert MOVED.document(document) == moved
    assert MOVED.document(b"{") == b"{"


def test_the_directory_of_a_record_is_what_its_agent_says() -> None:
    assert directory_in("claude", b'{"cwd":"/srv/app"}') == "/srv/app"
    assert directory_in("codex", CHANGED[3][1]) == "/srv/app"
    assert directory_in("zeroclaw", b'{"cwd":"/srv/app"}') is None
    assert directory_in("claude", b"torn") is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("/srv/app"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cwd", "a", "payload"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "message"]), values, max_size=3), st.data())
def test_a_record_reads_the_same_but_for_its_directory(
    record: dict[str, Any], data: st.DataObject
) -> None:
    value = dict(data.draw(st.permutations([*record.items(), ("cwd", "/srv/app/x")])))
    spaced = data.draw(st.sampled_from([None, 1]))
    line = json.dumps(value, indent=spaced).replace("\n", " ").encode()
    changed = MOVED.record("claude", line)
    assert json.loads(changed) == value | {"cwd": "/home/ann/app/x"}
    assert len(changed) - len(line) == len("/home/ann/app") - len("/srv/app")


@given(
    st.lists(st.sampled_from([CHANGED[0][1], UNCHANGED[0][1], b"", b"torn", b"\xff"]), max_size=6),
    st.sampled_from([b"", b"\n"]),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_pieces_of_any_size_give_the_same(
    lines: list[bytes],
    end: bytes,
    sizes: list[int],
) -> None:
    content = b"\n".join(lines) + end
    mapper, at, out = MOVED.mapper("claude", "x.jsonl"), 0, b""
    assert mapper
    for size in sizes:
        out += mapper.feed(content[at : at + size])
        at += size
    out += mapper.feed(content[at:]) + mapper.end()
    assert out == content.replace(CHANGED[0][1], CHANGED[0][2])
    assert mapper.left == 0


def test_a_line_that_is_too_long_passes_without_being_held() -> None:
    mapper = MOVED.mapper("claude", "x.jsonl")
    assert mapper
    head = b'{"cwd":"/srv/app","text":"'
    assert mapper.feed(head) == b""
    passed = mapper.feed(b"x" * LONGEST_LINE)
    assert passed == head + b"x" * LONGEST_LINE
    assert mapper.feed(b'y"}\n') == b'y"}\n'
    assert mapper.feed(CHANGED[0][1] + b"\n") == CHANGED[0][2] + b"\n"
    assert (mapper.end(), mapper.left) == (b"", 1)


def test_what_is_no_record_is_not_looked_at() -> None:
    assert MOVED.mapper("claude", "p/s/tool-results/1.txt") is None
    assert MOVED.mapper("zeroclaw", "x.jsonl") is None
