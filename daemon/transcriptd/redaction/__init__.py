"""Finds secrets in what is archived, and names what to put in their place.

    tables of rules (`tokens`, `services`, `keys`, `assignments`) and the user's own
        → a compiled set (`ruleset`), which says at once of most bytes that nothing is in them
        → the exact look at the rest (`piece`): decoded strings, at every depth (`escapes`)
        → findings in the bytes as they stand (`lines`), and masks of the same length (`mask`)

Pure: knows no source, store or journal. What is found is told by place and rule, never by its text.
"""

from transcriptd.redaction.finding import Finding
from transcriptd.redaction.lines import in_lines, in_text
from transcriptd.redaction.mask import masked
from transcriptd.redaction.rule import BadRule, Rule
from transcriptd.redaction.ruleset import RuleSet, Unscannable

__all__ = [
    "BadRule", "Finding", "Rule", "RuleSet", "Unscannable", "in_lines", "in_text", "masked",
]  # fmt: skip
