"""`transcriptd health --help`. Without `--help`, `__main__` hands the verb to `probe` at once."""

from __future__ import annotations

import sys

import click

from transcriptd import probe


@click.command(
    "health",
    epilog="""\b
Examples:
  transcriptd health                      ready: started, and not stopping
  transcriptd health --live               for a liveness probe: the event loop turns
  transcriptd health --strict             for a check: nothing degraded, nothing waits too long
  transcriptd health --strict --json | jq -r '.problems[]'
""",
)
@click.option("kind", "--live", flag_value="--live", default="--ready",
              help="Whether the daemon answers at all.")  # fmt: skip
@click.option("kind", "--ready", flag_value="--ready",
              help="Whether its local start is done. The default.")  # fmt: skip
@click.option("kind", "--strict", flag_value="--strict",
              help="Fails when something is degraded or disabled, or has been waiting for "
              "longer than health.max_age.")  # fmt: skip
@click.option("--socket", default="", metavar="PATH", help="The daemon's socket.")
@click.option("--config", default="", metavar="FILE",
              help="The configuration file, to find the socket by.")  # fmt: skip
@click.option("as_json", "--json", is_flag=True, help="Print one JSON object.")
def command(kind: str, socket: str, config: str, *, as_json: bool) -> None:
    """Ask the running daemon whether it is well. Exit status 0 or 1, and one line.

    Cheap enough for a probe that runs every few seconds.
    """
    said = [kind, *(["--json"] if as_json else [])]
    said += [f"--socket={socket}"] if socket else []
    said += [f"--config={config}"] if config else []
    sys.exit(probe.main(said))
