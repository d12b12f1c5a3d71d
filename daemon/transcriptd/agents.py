"""Which agents there are for this configuration: those that are archived, and those that could be.

Beside what is configured these are the agents whose places are known (`config.suggested`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from transcriptd.config.agents import SHIPPED
from transcriptd.config.suggested import SUGGESTIONS
from transcriptd.sources import open_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transcriptd.config import Config, OtherSource
    from transcriptd.sources import Source


class Configured(StrEnum):
    """What the configuration says of an agent."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"  # nothing: its places are known, that is all


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent, with its source whether it is enabled or not."""

    name: str
    source: Source
    configured: Configured

    @property
    def is_known(self) -> bool:
        """Whether it needs no configuration."""
        return self.name in SHIPPED

    def hint(self, *, is_here: bool) -> str:
        """Say how to have it archived, or not."""
        key = f"sources.{self.name}.enabled"
        if self.configured is Configured.UNKNOWN:
            return f"`transcriptd config example` has the table [sources.{self.name}] for it"
        if self.configured is Configured.OFF:
            return f"{key} = true in the configuration turns it on"
        if is_here:
            return f"{key} = false in the configuration turns it off"
        where = f"sources.{self.name}.roots names" if self.is_known else "`root` of its table names"
        return f"archived once it is there; {where} other directories"


def every(config: Config, environ: Mapping[str, str]) -> list[Agent]:
    """Return all agents: those of the configuration first."""
    others = config.sources.others
    enabled = {name for name in SHIPPED if getattr(config.sources, name).enabled}
    enabled |= {other.name for other in others if other.enabled}
    suggested = tuple(_suggested(config))
    all_on = {
        name: msgspec.structs.replace(getattr(config.sources, name), enabled=True)
        for name in SHIPPED
    }
    all_on["others"] = tuple(replace(other, enabled=True) for other in (*others, *suggested))
    sources = msgspec.structs.replace(config.sources, **all_on)
    opened = open_sources(msgspec.structs.replace(config, sources=sources), environ)
    unknown = {other.name for other in suggested}
    return [Agent(name, each, _configured(name, enabled, unknown)) for name, each in opened.items()]


def _configured(name: str, enabled: set[str], unknown: set[str]) -> Configured:
    if name in unknown:
        return Configured.UNKNOWN
    return Configured.ON if name in enabled else Configured.OFF


def _suggested(config: Config) -> Iterator[OtherSource]:
    """Yield the agents that are not configured, whatever they would be called there."""
    names = {other.name for other in config.sources.others}
    roots = {Path(root).expanduser() for other in config.sources.others for root in other.roots}
    for suggestion in SUGGESTIONS:
        source = suggestion.source
        if source.name not in names and roots.isdisjoint(
            Path(root).expanduser() for root in source.roots
        ):
            yield source
