"""Agents that a few lines of configuration are enough for: where each keeps its sessions.

Taken from the agents' own code or documentation, and from agentsview's, which reads them all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from transcriptd.config.agents import USUAL_GLOB, OtherSource


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An agent as it is with nothing moved, and what there is to say of it."""

    agent: str
    source: OtherSource
    note: str = ""


SUGGESTIONS = (
    Suggestion(
        "OpenClaw",
        OtherSource("openclaw", ("~/.openclaw/agents",), ("*/sessions/*.jsonl",)),
        "Since 2026.8 it keeps new sessions in SQLite, which is not read.",
    ),
    Suggestion(
        "Pi",
        OtherSource("pi", ("~/.pi/agent/sessions",)),
        "PI_CODING_AGENT_DIR stands for ~/.pi/agent.",
    ),
    Suggestion(
        "Qwen Code",
        OtherSource(
            "qwen", ("~/.qwen/projects",), ("*/chats/**/*.jsonl", "*/subagents/**/*.jsonl")
        ),
        "QWEN_RUNTIME_DIR stands for ~/.qwen.",
    ),
    Suggestion(
        "GitHub Copilot CLI",
        OtherSource("copilot", ("~/.copilot/session-state",), ("*.jsonl", "*/events.jsonl")),
        "COPILOT_HOME stands for ~/.copilot.",
    ),
    Suggestion(
        "Gemini CLI",
        OtherSource("gemini", ("~/.gemini/tmp",), ("*/chats/**/*.jsonl",)),
        "GEMINI_CLI_HOME stands for ~. Older versions wrote .json, which is not read.",
    ),
    Suggestion(
        "Kimi CLI",
        OtherSource("kimi", ("~/.kimi/sessions", "~/.kimi-code/sessions")),
        "KIMI_SHARE_DIR stands for ~/.kimi.",
    ),
    Suggestion("Factory Droid", OtherSource("droid", ("~/.factory/sessions",))),
    Suggestion(
        "Cursor",
        OtherSource("cursor", ("~/.cursor/projects",), ("*/agent-transcripts/**/*.jsonl",)),
    ),
    Suggestion("iFlow CLI", OtherSource("iflow", ("~/.iflow/projects",), ("*/session-*.jsonl",))),
)


def commented() -> list[str]:
    """Write every suggestion as a table of the file that is commented out."""
    lines = list(_INTRODUCTION)
    for suggestion in SUGGESTIONS:
        source = suggestion.source
        lines += ["", f"# {suggestion.agent}. {suggestion.note}".rstrip()]
        lines += [f"# [sources.{source.name}]", f"# root = {_literal(source.roots)}"]
        if source.glob != USUAL_GLOB:
            lines.append(f"# glob = {_literal(source.glob)}")
    return lines


def _literal(texts: tuple[str, ...]) -> str:
    return json.dumps(texts[0] if len(texts) == 1 else texts)


_INTRODUCTION = (
    "# Every other agent that keeps its sessions as lines is a table with a name of your choice.",
    "# `root` is the directory with its sessions, or a list of them. `glob` says which files below",
    "# are meant, or is a list: `*` stands for a part of a name, `**` for any directories. Without",
    '# one it is "**/*.jsonl". With `enabled = false` the agent is left out.',
    "# An array says the same, and spares the tables above: [[sources]], with a `name` in each",
    "# entry. A file has either spelling, not both.",
    "# The agents below are known to keep their sessions there.",
)
