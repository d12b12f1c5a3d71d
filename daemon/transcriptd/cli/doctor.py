"""`transcriptd doctor`: finds out what is wrong, and says what to do about it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from transcriptd import logs
from transcriptd.cli.options import config_option
from transcriptd.doctor import Finding, Level, examine
from transcriptd.doctor.finding import counted

if TYPE_CHECKING:
    from transcriptd.config import Config

_COLORS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command(
    "doctor",
    epilog="""\b
Examples:
  transcriptd doctor
  transcriptd doctor --config ./config.toml
  transcriptd doctor --json | jq '.findings[] | select(.level != "ok")'
""",
)
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
@config_option
def command(config: Config, *, as_json: bool) -> None:
    """Find out what is wrong, and what to do about it.

    Looks at the configuration, the sessions, the state, the kernel, the archive and the daemon. The
    archive is tried with small objects below .tail/.probe/, which are removed again.
    Works beside a running daemon and without one. Exit status 1 if anything fails; warnings are
    none.
    """
    logs.configure("error")
    findings = asyncio.run(_collect(config, shown=not as_json))
    ok = all(finding.level is not Level.FAIL for finding in findings)
    if as_json:
        rows = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"schema": 1, "ok": ok, "findings": rows}, indent=2))
    else:
        words = ((Level.WARN, "warning"), (Level.FAIL, "failure"))
        said = [counted(sum(f.level is level for f in findings), word) for level, word in words]
        click.echo(f"\n{', '.join(said)}")
    sys.exit(0 if ok else 1)


async def _collect(config: Config, *, shown: bool) -> list[Finding]:
    findings: list[Finding] = []
    async for finding in examine(config, os.environ):
        if shown:
            before = findings[-1].section if findings else ""
            if findings and finding.section != before:
                click.echo()
            _show(finding, is_first=finding.section != before)
        findings.append(finding)
    return findings


def _show(finding: Finding, *, is_first: bool) -> None:
    if is_first:
        click.secho(finding.section, bold=True)
    level = click.style(f"{finding.level:<4}", fg=_COLORS[finding.level])
    click.echo(f"  {level}  {finding.subject}: {finding.message}")
    if finding.hint:
        click.echo(f"        → {finding.hint}")
