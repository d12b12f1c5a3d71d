"""The keys of `sources`: whose sessions are archived, where they are, and what is left out.

Four agents are known by name. Every other one that keeps its sessions as lines is a table of its
own in the file, which becomes an `OtherSource`.
"""

import re
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from transcriptd.config.kinds import (
    Directories,
    Places,
    PlacesAndGlobs,
    Redaction,
    Seconds,
    derived,
    is_place,
)

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What an agent may be called: its name is a part of its keys in the archive."""


@dataclass(frozen=True, slots=True)
class Excludes:
    """What of a source never leaves the machine.

    `paths` and `projects` are absolute, `globs` are about the path below the agent's directory.
    What has not changed for `older_s` seconds is left out, too; 0: whatever its age.
    """

    paths: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    older_s: float = 0.0

    @classmethod
    def made(
        cls, exclude: tuple[str, ...], older_s: float, projects: tuple[str, ...] = ()
    ) -> "Excludes":
        """Make it of what the keys say."""
        return cls(
            paths=tuple(text for text in exclude if is_place(text)),
            globs=tuple(text for text in exclude if not is_place(text)),
            projects=projects,
            older_s=older_s,
        )


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of every agent that is known."""

    enabled: bool = True
    roots: Directories = ()
    redaction: Annotated[
        Redaction,
        Meta(description="`redaction` for this agent's sessions."),
        Meta(examples=["mask"]),
        derived("what `redaction` says"),
    ]
    exclude: Annotated[
        PlacesAndGlobs,
        Meta(
            description="Session files that are not archived: a path that begins with `/` or `~`, "
            "or a pattern of the path below the agent's directory; of a directory, all below it.",
            examples=[["/srv/agents/scratch", "*-scratch"]],
        ),
    ] = ()
    exclude_older: Annotated[
        Seconds,
        Meta(
            description="Seconds without a change after which a session is not archived; what is "
            "archived already stays. `0`: any age is."
        ),
    ] = 0.0

    @property
    def excludes(self) -> Excludes:
        return Excludes.made(self.exclude, self.exclude_older)


class AgentOfProjects(AgentSettings, frozen=True, kw_only=True):
    """What can be said of an agent whose sessions say which directory they are about."""

    exclude_projects: Annotated[
        Places,
        Meta(
            description="Directories; a session about one of them, or one below, is not archived.",
            examples=[["~/work/secret"]],
        ),
    ] = ()

    @property
    def excludes(self) -> Excludes:
        return Excludes.made(self.exclude, self.exclude_older, self.exclude_projects)


_OF_THE_KNOWN = ("enabled", "roots")
SHARED = tuple(key for key in AgentSettings.__struct_fields__ if key not in _OF_THE_KNOWN)
"""What can be said of every agent, known or not."""


class CodeTetherSettings(AgentOfProjects, frozen=True, kw_only=True):
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


class ClaudeSettings(AgentOfProjects, frozen=True, kw_only=True):
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


class CodexSettings(AgentOfProjects, frozen=True, kw_only=True):
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


class ZeroClawSettings(AgentSettings, frozen=True, kw_only=True):
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
    redaction: Redaction = "report"
    exclude: tuple[str, ...] = ()
    exclude_older: float = 0.0

    @property
    def excludes(self) -> Excludes:
        return Excludes.made(self.exclude, self.exclude_older)


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

OF_PROJECTS = tuple(
    entry.name
    for entry in msgspec.structs.fields(SourcesSettings)
    if isinstance(entry.type, type) and issubclass(entry.type, AgentOfProjects)
)
"""Those of them whose sessions say which directory they are about."""
