"""How events become lines on standard error.

One event, one line: JSON for machines, readable on a terminal, with a priority in front where the
journal listens. Libraries are heard from warnings up, whatever our level: botocore's debug output
holds signatures. Tracebacks carry no local variables. The only module that knows structlog; decides
nothing about what is logged.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, TextIO

# structlog loads rich where it finds it, for tracebacks that are not used here: 5 MB in a daemon.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # the import system's word for "not there"
try:
    import structlog
finally:
    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "json", "console"]

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(
    level: str = "info",
    format: Format = "auto",  # noqa: A002 - the word of the configuration
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Send our events, and what libraries warn about, to `stream` (standard error)."""
    stream = sys.stderr if stream is None else stream
    is_terminal = stream.isatty()
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _in_order,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(default=_text)
    if format == "console" or (format == "auto" and is_terminal):
        processors.append(_printable)
        renderer = structlog.dev.ConsoleRenderer(
            colors=is_terminal and "NO_COLOR" not in environ,
            exception_formatter=structlog.dev.plain_traceback,
        )
    if _is_journal(stream, environ):
        renderer = _prioritised(renderer)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Output(stream),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Libraries(logging.WARNING)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def get_logger(name: str) -> Any:  # noqa: ANN401 - structlog's loggers are proxies
    """Return the logger of a module. Events are constants, `noun.verb_past`, with flat fields."""
    return structlog.get_logger(name)


class _Output:
    """Writes each line at once. A line that cannot be written is given up: archiving goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the disk is full, the pipe's reader is gone, or the stream is closed

    debug = info = warning = error = critical = exception = msg


class _Libraries(logging.Handler):
    """Turns a library's log record into an event of ours."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._log = structlog.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log.log(
                record.levelno,
                "library.warned",
                library=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 - logging's own rule: a record never breaks its caller
            self.handleError(record)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected to the journal."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _prioritised(renderer: Processor) -> Processor:
    """Put sd-daemon's `<priority>` in front of each line."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        priority = f"<{_PRIORITIES[event['level']]}>"
        lines = str(renderer(logger, method, event)).split("\n")
        return "\n".join(f"{priority}{line}" for line in lines)

    return render


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what every line has first, so that a person reading JSON finds it."""
    return {**{name: event.pop(name) for name in ("timestamp", "level", "event")}, **event}


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Let no value move the cursor, colour the screen or begin a line of its own."""
    for name, value in event.items():
        if name == "exception":
            lines = (_escaped(line) for line in str(value).split("\n"))
            event[name] = "\n".join(f"    {line}" for line in lines)
        elif isinstance(value, str | PurePath):
            event[name] = _escaped(str(value))
    return event


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(value: Any) -> str:  # noqa: ANN401 - whatever JSON has no word for
    return str(value) if isinstance(value, PurePath) else repr(value)
