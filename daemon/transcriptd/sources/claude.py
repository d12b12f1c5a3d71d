"""Claude Code: JSONL appended in place, below `~/.claude/projects`.

A session is `<project>/<uuid>.jsonl`. Beside it, `<project>/<uuid>/` holds its subagents
(`subagents/**/agent-<id>.jsonl` and `.meta.json`) and large tool output (`tool-results/*`).
Transcripts are deleted when Claude Code starts, `cleanupPeriodDays` after their last change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from transcriptd.tree import LINES, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transcriptd.model import Session

_META = ".meta.json"
_RESULTS = "tool-results"
_DAY_S = 86_400.0
_USUAL_DAYS = 30
_MAX_SETTINGS_BYTES = 1 << 20
_IN_A_PROJECT = 2


class _Settings(msgspec.Struct):
    cleanupPeriodDays: float = _USUAL_DAYS  # noqa: N815 - its name in Claude Code's settings


_settings = msgspec.json.Decoder(_Settings)


class Claude(Tree):
    """See the module's docstring. `roots` are configured ones, beside those that are found."""

    name = "claude"

    def __init__(self, roots: Sequence[str], environ: Mapping[str, str]) -> None:
        home = Path(environ.get("HOME") or Path.home())
        named = environ.get("CLAUDE_CONFIG_DIR", "").strip()
        self._home = Path(named).expanduser().absolute() if named else home / ".claude"
        projects = environ.get("CLAUDE_PROJECTS_DIR", "").strip()
        found = [Path(projects).expanduser().absolute()] if projects else []
        configured = (Path(root).expanduser().absolute() for root in roots)
        super().__init__([*found, self._home / "projects", *configured])

    def mirrors(self, path: str) -> bool:
        segments = path.split("/")
        if len(segments) < _IN_A_PROJECT:
            return False
        is_result = len(segments) > _IN_A_PROJECT + 1 and segments[2] == _RESULTS
        return is_result or path.endswith((LINES, _META))

    @staticmethod
    def session_id(path: str) -> str:
        return path.partition("/")[2].removesuffix(LINES)

    def has_lines(self, session: Session) -> bool:
        segments = session.name.split("/")
        is_result = len(segments) > _IN_A_PROJECT and segments[2] == _RESULTS
        return session.name.endswith(LINES) and not is_result

    def expires_after(self) -> float | None:
        try:
            with (self._home / "settings.json").open("rb") as file:
                days = _settings.decode(file.read(_MAX_SETTINGS_BYTES)).cleanupPeriodDays
        except (OSError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            days = _USUAL_DAYS
        return days * _DAY_S
