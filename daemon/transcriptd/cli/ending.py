"""How a verb that prints what is in the archive ends, where it cannot end well."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from transcriptd.errors import TranscriptdError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def told(*, interrupted: str = "Interrupted.") -> Iterator[None]:
    """Tell an error with its hint, and exit with status 1.

    `interrupted` is what is said after Ctrl-C. Of a reader of our output that has seen enough
    nothing is said.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\n{interrupted}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # Nothing is left that could fail when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except TranscriptdError as error:
        hint = f"\n{error.hint}" if error.hint else ""
        raise click.ClickException(f"{error}{hint}") from None
