"""Whether the archive is what it should be, session by session. Writes nothing, anywhere.

    inventory (one listing) → look (places, sizes, metadata) → audit (the format's rules)
                            → reading (the bytes, where wanted) → standing (this machine's sessions)

Daemons go on writing meanwhile. So the journal is read before the archive, which is never behind
it, and whatever seems wrong is looked at again and said only if it is still so.
"""

from transcriptd.verify.finding import LOST, MEANINGS, Finding, Verdict, What
from transcriptd.verify.here import Here
from transcriptd.verify.places import base_of, is_stream, session_of
from transcriptd.verify.verifier import Verifier

__all__ = [
    "LOST", "MEANINGS", "Finding", "Here", "Verdict", "Verifier", "What", "base_of", "is_stream",
    "session_of",
]  # fmt: skip
