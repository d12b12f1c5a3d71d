"""The rules for each source, as the configuration wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd import identity
from transcriptd.layout import MASKED
from transcriptd.redaction import BadRule, Rule, RuleSet
from transcriptd.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transcriptd.config import Config
    from transcriptd.masks import Secret


def screens_of(config: Config, sources: Iterable[str]) -> dict[str, Screen]:
    """Return the rules for each of the sources, which share one set of them."""
    modes = {name: config.redaction_of(name) for name in sources}
    rules, broken = None, ""
    if set(modes.values()) - {"off"}:
        try:
            rules = RuleSet(Rule(own.name, own.pattern) for own in config.rules)
        except BadRule as error:
            broken = f"the rule {error.rule} cannot be used"  # its pattern is nobody's business
    return {name: Screen(mode, rules, broken=broken) for name, mode in modes.items()}


def secret_of(config: Config, screens: Iterable[Screen]) -> Secret | None:
    """Return what digests of masked sources are keyed with, which is made once it is needed.

    Raises `OSError` if it cannot be kept.
    """
    is_needed = any(screen.mode == MASKED for screen in screens)
    return identity.secret(config.state_dir, make=is_needed)
