"""CodeTether documents for tests: built, saved as the agent saves them, and as strategies.

What is expected of them is computed here with `json` from the standard library, never with the code
under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Message = dict[str, Any]
Document = dict[str, Any]

SESSION_ID = "5b0c7a52-3f0e-4d7e-9a63-1d2f8c4e7a10"
ROLES = ("system", "developer", "user", "assistant", "tool")
SPELLINGS = (
    *("0", "-0", "7", "-31", "1.0", "-0.0", "1e5", "1E+5", "2.50", "1.5e-300", "1e400"),
    *("9007199254740993", "18446744073709551616", "123456789012345678901234567890"),
)
_AWKWARD = (
    "",
    " ",
    "\u2028",
    "\u2029",
    "\x7f",
    "\x00",
    '"',
    "\\",
    "\r\n",
    "é",
    "😀",
    "\ufeff",
    "/",
)


def message(role: str, text: str) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def conversation(length: int, *, about: str = "the parser") -> list[Message]:
    """Make messages as they alternate in a real session; a longer one begins with a shorter one."""
    return [_turn(number, about) for number in range(length)]


def _turn(number: int, about: str) -> Message:
    call = f"call_{number // 4:04}"
    match number % 4:
        case 0:
            return message("user", f"Step {number}: please go on with {about}.")
        case 1:
            arguments = json.dumps({"command": f"grep -rn {about!r} ."})
            thought = {"type": "thinking", "text": f"look at {about}", "signature": f"s{number}"}
            tool = {"type": "tool_call", "id": call, "name": "bash", "arguments": arguments}
            return {"role": "assistant", "content": [thought, tool]}
        case 2:
            result = {"type": "tool_result", "tool_call_id": call, "content": f"{number}\tfound\n"}
            return {"role": "tool", "content": [result]}
        case _:
            return message("assistant", f"Done with {about} — “{number}” ✓")


def document(messages: Sequence[Message], session_id: str = SESSION_ID, **fields: Any) -> Document:  # noqa: ANN401 - any JSON value
    """Make a document in the order of fields of today's builds; `fields` replaces some."""
    return {
        "id": session_id,
        "title": "parser",
        "created_at": "2026-03-01T08:00:00.000000001Z",
        "updated_at": "2026-03-01T08:30:00.5Z",
        "metadata": {"directory": "/srv/app", "model": "vendor/model-1", "shared": False},
        "agent": "build",
        "messages": list(messages),
        "pages": ["conversation"] * len(messages),
        "summary_index": {"tree": [], "generation": 0, "lru_order": []},
        "tool_uses": [],
        "usage": {"prompt_tokens": 0, "cache_read_tokens": None},
        **fields,
    }


def compact(value: object) -> bytes:
    """Encode as today's builds do."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def pretty(value: object) -> bytes:
    """Encode as old builds and imports do."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def old(value: Document) -> Document:
    """Give a document the fields and the order of old builds."""
    order = ("id", "title", "created_at", "updated_at", "messages", "tool_uses", "usage")
    return {name: value[name] for name in (*order, "agent", "metadata")}


def history(messages: Sequence[Message]) -> bytes:
    """Return the stream that is expected of these messages."""
    return b"".join(compact(message) + b"\n" for message in messages)


def save(directory: Path, value: Document, *, encode: Callable[[object], bytes] = compact) -> Path:
    """Save as the agent does: a fixed temporary name, no fsync, a rename."""
    path = directory / f"{value['id']}.json"
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(encode(value))
    temporary.replace(path)
    return path


@dataclass(frozen=True, slots=True)
class Spelled:
    """One JSON value, spelled compactly and with white space between its parts."""

    compact: bytes
    spaced: bytes


def texts() -> st.SearchStrategy[str]:
    """Texts of any Unicode characters, more often than by chance awkward ones."""
    characters = st.characters(codec="utf-8")
    return st.lists(st.sampled_from(_AWKWARD) | characters, max_size=8).map("".join)


def parts() -> st.SearchStrategy[Message]:
    """Content parts of all known types, and of one that nobody knows."""
    text = texts()
    return st.one_of(
        st.builds(lambda t: {"type": "text", "text": t}, text),
        st.builds(lambda u: {"type": "image", "url": u, "mime_type": "image/png"}, text),
        st.builds(lambda p: {"type": "file", "path": p, "mime_type": None}, text),
        st.builds(lambda t: {"type": "thinking", "text": t, "signature": None}, text),
        st.builds(
            lambda i, a: {"type": "tool_call", "id": i, "name": "read", "arguments": a}, text, text
        ),
        st.builds(lambda c: {"type": "tool_result", "tool_call_id": "c", "content": c}, text),
        st.builds(lambda t, n: {"type": "hologram", t: [n, {}]}, text, st.integers()),
    )


def messages() -> st.SearchStrategy[Message]:
    """One message."""
    contents = st.lists(parts(), max_size=3)
    return st.builds(
        lambda role, content: {"role": role, "content": content}, st.sampled_from(ROLES), contents
    )


def conversations(*, max_size: int = 6) -> st.SearchStrategy[list[Message]]:
    """The messages of a session."""
    return st.lists(messages(), max_size=max_size)


@st.composite
def rewrites(draw: st.DrawFn) -> tuple[list[Message], list[Message]]:
    """A session's messages before and after a save: appended to, undone, rewritten or the same."""
    before = draw(conversations())
    kept = draw(st.integers(0, len(before)))
    start = draw(st.sampled_from([0, 0, 0, min(1, kept)]))  # an import's front slides
    return before, [*before[start : len(before) - kept], *draw(conversations(max_size=3))]


def spelled_objects() -> st.SearchStrategy[Spelled]:
    """JSON objects with every spelling of numbers and escapes, keys in any order and twice."""
    return st.lists(st.tuples(_strings(), _values()), max_size=4).flatmap(_object)


def _values() -> st.SearchStrategy[Spelled]:
    numbers = (
        st.sampled_from(SPELLINGS)
        | st.integers().map(str)
        | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    )
    words = st.sampled_from(["true", "false", "null"])
    plain = st.one_of(numbers, words).map(lambda token: Spelled(token.encode(), token.encode()))
    return st.recursive(plain | _strings(), _containers, max_leaves=6)


def _containers(inner: st.SearchStrategy[Spelled]) -> st.SearchStrategy[Spelled]:
    members = st.lists(st.tuples(_strings(), inner), max_size=3)
    return members.flatmap(_object) | st.lists(inner, max_size=3).flatmap(_array)


def _strings() -> st.SearchStrategy[Spelled]:
    plain = texts().map(lambda text: json.dumps(text, ensure_ascii=False))
    escaped = texts().map(json.dumps)
    odd = st.sampled_from([r'"\/"', r'"\u0041"', r'"\u2028"', r'"\ud83d\ude00"', r'"\u0000"'])
    return st.one_of(plain, escaped, odd).map(lambda s: Spelled(s.encode(), s.encode()))


def _spaces() -> st.SearchStrategy[bytes]:
    return st.sampled_from([b"", b" ", b"\n", b"\t", b"\r\n    "])


def _object(members: list[tuple[Spelled, Spelled]]) -> st.SearchStrategy[Spelled]:
    pairs = [(key.compact + b":" + value.compact) for key, value in members]
    dense = b"{" + b",".join(pairs) + b"}"

    def spell(spaces: list[bytes]) -> Spelled:
        gaps = iter(spaces)
        wide = [
            next(gaps) + key.spaced + next(gaps) + b":" + next(gaps) + value.spaced + next(gaps)
            for key, value in members
        ]
        return Spelled(dense, b"{" + b",".join(wide or [next(gaps)]) + b"}")

    size = 4 * len(members) + 1
    return st.lists(_spaces(), min_size=size, max_size=size).map(spell)


def _array(items: list[Spelled]) -> st.SearchStrategy[Spelled]:
    dense = b"[" + b",".join(item.compact for item in items) + b"]"

    def spell(spaces: list[bytes]) -> Spelled:
        gaps = iter(spaces)
        wide = [next(gaps) + item.spaced + next(gaps) for item in items]
        return Spelled(dense, b"[" + b",".join(wide or [next(gaps)]) + b"]")

    size = 2 * len(items) + 1
    return st.lists(_spaces(), min_size=size, max_size=size).map(spell)
