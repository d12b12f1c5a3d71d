"""The entry point. A health probe is answered without loading anything but the standard library."""

from __future__ import annotations

import os
import sys

from transcriptd.environment import complete


def main() -> None:
    """Run the command line."""
    complete(os.environ)
    if sys.argv[1:2] == ["health"] and not {"-h", "--help"} & set(sys.argv):
        from transcriptd.probe import main as probe

        sys.exit(probe(sys.argv[2:]))
    from transcriptd.cli import main as command_line

    command_line(prog_name="transcriptd")


if __name__ == "__main__":
    main()
