"""The command line: verbs, exit statuses, and what a person sees.

Verbs are loaded when they are called, so that none pays for another's imports.
Exit status: 0 done and all archived, 1 something is not, 2 usage, 75 another daemon holds the
lock, 78 configuration.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

import transcriptd

_VERBS = (
    "run",
    "sync",
    "status",
    "sources",
    "health",
    "journal",
    "ls",
    "takeover",
    "cat",
    "restore",
    "hydrate",
    "last",
    "verify",
    "scan",
    "doctor",
    "config",
    "service",
    "demo",
)


class _Verbs(click.Group):
    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # of which click would say no more than "Aborted!"
            click.echo("\nInterrupted.", err=True)
            ctx.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        command: click.Command = import_module(f"transcriptd.cli.{cmd_name}").command
        return command


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  transcriptd demo                 see it work, on simulated agents
  transcriptd run                  archive this machine's sessions until stopped
  transcriptd status --watch       see what is archived and what waits
  transcriptd doctor               find out what is wrong

\b
Shell completion (bash; zsh and fish alike):
  eval "$(_TRANSCRIPTD_COMPLETE=bash_source transcriptd)"
""",
)
@click.version_option(transcriptd.__version__, prog_name="transcriptd")
def main() -> None:
    """Keep a durable, append-only copy of every AI-agent session in S3 or a local directory."""
