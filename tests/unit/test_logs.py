"""Log lines: one per event, whatever is in it, and nothing that libraries whisper."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = "a\nb\r\x1b[2J\x85\u2028\u202e\udc80\0"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(message: str) -> None:
    password = f"local-{message}"
    raise ValueError(message if password else "")


def test_an_event_is_one_json_line_that_begins_with_time_level_and_name() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info("session.archived", session="s1", bytes=3, path=Path("/x"))
    (event,) = lines(stream)
    assert list(event) == ["timestamp", "level", "event", "session", "bytes", "path"]
    assert event["timestamp"].endswith("Z")
    assert event | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "session.archived",
        "session": "s1",
        "bytes": 3,
        "path": "/x",
    }


@settings(deadline=None)  # a busy machine is no failure
@given(st.one_of(st.text(), st.binary(), st.lists(st.text()), st.floats(), st.none()))
def test_no_value_breaks_a_json_line(value: object) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().warning("a.happened", value=value)
    text = stream.getvalue()
    assert text.isascii()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    json.loads(text)


@settings(deadline=None)  # a busy machine is no failure
@given(st.one_of(st.text(), st.binary(), st.lists(st.text())))
def test_no_value_breaks_or_controls_a_console_line(value: object) -> None:
    stream = io.StringIO()
    logs.configure(format="console", stream=stream)
    structlog.get_logger().warning("a.happened", value=value)
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue()[:-1].isprintable()


def test_a_traceback_on_the_console_is_indented_and_printable() -> None:
    stream = io.StringIO()
    logs.configure(format="console", stream=stream)
    try:
        fail(NASTY)
    except ValueError:
        structlog.get_logger().exception("a.failed")
    first, *others = stream.getvalue().removesuffix("\n").split("\n")
    assert "a.failed" in first
    assert all(line.startswith("    ") and line.isprintable() for line in others)


@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_traceback_shows_no_local_variables(format_: logs.Format) -> None:
    stream = io.StringIO()
    logs.configure(format=format_, stream=stream)
    try:
        fail("canary")
    except ValueError:
        structlog.get_logger().exception("a.failed")
    assert "ValueError: canary" in stream.getvalue()
    assert "local-canary" not in stream.getvalue()


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        logs.configure(stream=stream)
        structlog.get_logger().info("a.happened", n=1)
    assert "\x1b[" in terminal.getvalue()
    assert lines(pipe)[0]["event"] == "a.happened"


def test_no_color_is_honoured() -> None:
    terminal = Terminal()
    logs.configure(stream=terminal, environ={"NO_COLOR": "1"})
    structlog.get_logger().info("a.happened", n=1)
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("format_", ["json", "console"])
def test_the_journal_gets_a_priority_in_front_of_each_line(
    format_: logs.Format, tmp_path: Path
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        logs.configure("debug", format_, stream, environ)
        log = structlog.get_logger()
        log.debug("a.b")
        log.info("a.b")
        log.warning("a.b")
        log.error("a.b")
        log.critical("a.b")
        stream.seek(0)
        assert [line[:3] for line in stream] == ["<7>", "<6>", "<4>", "<3>", "<2>"]


def test_a_stream_that_is_not_the_journal_gets_no_priority(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as stream:
        logs.configure(stream=stream, environ={"JOURNAL_STREAM": "1:1"})
        structlog.get_logger().info("a.b")
        stream.seek(0)
        assert stream.read(1) == "{"


def test_events_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream)
    structlog.get_logger().info("a.b")
    structlog.get_logger().warning("c.d")
    assert [event["event"] for event in lines(stream)] == ["c.d"]


def test_libraries_are_heard_from_warnings_up_even_at_level_debug() -> None:
    stream = io.StringIO()
    logs.configure("debug", stream=stream)
    library = logging.getLogger("botocore.auth")
    library.setLevel(logging.DEBUG)
    library.debug("signature: canary")
    library.info("canary")
    library.warning("first\n%s", "second")
    (event,) = lines(stream)
    assert event["event"] == "library.warned"
    assert (event["library"], event["message"]) == ("botocore.auth", "first\nsecond")
    assert event["level"] == "warning"


def test_a_librarys_exception_comes_with_its_traceback() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        fail("x")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    (event,) = lines(stream)
    assert event["level"] == "error"
    assert "ValueError: x" in event["exception"]


def test_python_warnings_are_events_too() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure(stream=stream)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (event,) = lines(stream)
    assert event["library"] == "py.warnings"


def test_a_line_that_cannot_be_written_stops_nobody() -> None:
    program = (
        "import structlog; from transcriptd import logs; logs.configure();"
        "structlog.get_logger().error('a.b'); print('alive', flush=True)"
    )
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert result.stdout == b"alive\n"
