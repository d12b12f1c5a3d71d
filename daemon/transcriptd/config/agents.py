"""The keys of `sources`: whose sessions are archived, and where they are.

Four agents are known by name. Every other one that keeps its sessions as lines is a table of its
own in the file, which becomes an `OtherSource`.
"""

import re
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What an agent may be called: its name is a part of its keys in the archive."""

Directories = Annotated[
    tuple[str, ...], Meta(extra={"expected": "a list of directories", "path": True})
]


class CodeTetherSettings(msgspec.Struct, frozen=True, kw_only=True):
    """CodeTether's sessions."""

    enabled: Annotated[bool, Meta(description="Whether CodeTether's sessions are archived.")] = True
    roots: Annotated[
        Directories,
        Meta(
            description="Further sessions directories, beside those that are found. As a variable: "
            "separated by colons.",
            examples=[["~/work/project/.codetether-agent/sessions"]],
        ),
    ] = ()


class ClaudeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Claude Code's sessions."""

    enabled: Annotated[
        bool,
        Meta(description="Whether Claude Code's sessions are archived, where there are any."),
    ] = True
    roots: Annotated[
        Directories,
        Meta(
            description="Further `projects` directories, beside those that are found "
            "(CLAUDE_PROJECTS_DIR; CLAUDE_CONFIG_DIR, else ~/.claude).",
            examples=[["/srv/agents/claude/projects"]],
        ),
    ] = ()


class CodexSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Codex's sessions."""

    enabled: Annotated[
        bool, Meta(description="Whether Codex's sessions are archived, where there are any.")
    ] = True
    roots: Annotated[
        Directories,
        Meta(
            description="Further `sessions` or `archived_sessions` directories, beside those that "
            "are found (CODEX_SESSIONS_DIR; CODEX_HOME, else ~/.codex).",
            examples=[["/srv/agents/codex/sessions", "/srv/agents/codex/archived_sessions"]],
        ),
    ] = ()


class ZeroClawSettings(msgspec.Struct, frozen=True, kw_only=True):
    """ZeroClaw's sessions."""

    enabled: Annotated[
        bool, Meta(description="Whether ZeroClaw's sessions are archived, where there are any.")
    ] = True
    roots: Annotated[
        Directories,
        Meta(
            description="Further `sessions` directories, of JSON lines or with a `sessions.db`, "
            "beside those that are found.",
            examples=[["~/work/project/sessions"]],
        ),
    ] = ()


USUAL_GLOB = ("**/*.jsonl",)


@dataclass(frozen=True, slots=True)
class OtherSource:
    """Any other agent: the files below `roots` whose path from there matches one of `glob`."""

    name: str
    roots: tuple[str, ...]
    glob: tuple[str, ...] = USUAL_GLOB
    enabled: bool = True


Others: TypeAlias = tuple[OtherSource, ...]


class SourcesSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whose sessions are archived. `others` are in the order of the file."""

    codetether: CodeTetherSettings
    claude: ClaudeSettings
    codex: CodexSettings
    zeroclaw: ZeroClawSettings
    others: Others = ()


SHIPPED = tuple(name for name in SourcesSettings.__struct_fields__ if name != "others")
"""The agents that are known by name."""
