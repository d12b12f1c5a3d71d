"""A look at a session through the rules: what they find is counted, or masked before it leaves.

What is archived stays as it is, whatever the rules say by now: its masks are kept, and it is known
again by what the source had there. The rules decide about what comes. With masks a line counts once
it is finished, and what cannot be looked at does not leave. Runs in a thread.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from time import time
from typing import TYPE_CHECKING, Literal

from transcriptd.content import BLOCK, Held, end_of_lines
from transcriptd.damage import is_json
from transcriptd.digest import EMPTY, digests, digests_from
from transcriptd.errors import UNFINISHED_TEXT, Unreadable, Unsettled
from transcriptd.layout import MASKED, NO_RULES
from transcriptd.masks import Masked, beyond
from transcriptd.mirror import QUIET_S, look_at, seconds_until_quiet
from transcriptd.model import Mask, Screening
from transcriptd.redaction import Unscannable, in_lines, in_text, masked
from transcriptd.snapshot import Screened
from transcriptd.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from transcriptd.content import Content
    from transcriptd.model import Cursor, Guard, Session
    from transcriptd.redaction import Finding, RuleSet
    from transcriptd.snapshot import Look
    from transcriptd.sources import Source

Mode = Literal["off", "report", "mask"]

MOST_OF_A_TEXT = 64 << 20
"""Up to so many bytes a file that is no lines is looked at, whole each time that it changes."""

_AHEAD = 1 << 20
UNSCANNABLE = "unscannable"
"""What is counted, instead of a rule, where the rules could not look."""


class Screen:
    """The rules for one source. Where the mode is off they are not asked; masks that are made stay.

    `broken` says why there are no rules though there should be: then nothing is masked and, where
    that is the mode, nothing is sent.
    """

    def __init__(
        self, mode: Mode = "off", rules: RuleSet | None = None, *, broken: str = ""
    ) -> None:
        self.mode = mode
        self._rules = rules if mode != "off" else None
        self._broken = broken

    def rest(self) -> None:
        """Use no memory until there is something to look at again."""
        if self._rules is not None:
            self._rules.rest()

    def look(
        self,
        source: Source,
        session: Session,
        cursor: Cursor | None,
        guard: Guard | None = None,
        known: Screening | None = None,
        *,
        max_bytes: int,
        with_document: bool = False,
        clock: Callable[[], float] = time,
    ) -> Look:
        """Look at a session of any source, as `look_at` does. `known` is about the same cursor.

        Raises any `SourceError`; with masks, `Unreadable` for what the rules cannot look at.
        """
        known = known if cursor and known and known.length == cursor.length else None
        is_jsonl = not isinstance(source, Tree) or source.is_jsonl(session)
        grows = not isinstance(source, Tree) or source.has_lines(session)
        seen = look_at(
            source,
            session,
            # What is at the source is compared with what was at the source.
            replace(cursor, digest=known.plain) if cursor and known and known.masks else cursor,
            guard,
            max_bytes=max_bytes,
            with_document=with_document,
            whole_lines=self.mode == MASKED and grows,
            clock=clock,
        )
        if self.mode == MASKED and not grows:
            _require_finished(seen, clock())
        return self.screened(seen, cursor, known, is_jsonl=is_jsonl)

    def screened(
        self,
        seen: Look,
        cursor: Cursor | None,
        known: Screening | None = None,
        *,
        is_jsonl: bool = True,
    ) -> Look:
        """Ask the rules about what is not archived yet, or about everything.

        Raises `Unreadable` where that cannot leave without them.
        """
        if self.mode == MASKED and self._rules is None:
            raise Unreadable(UNSCANNABLE, f"nothing is sent without rules: {self._broken}")
        if self._rules is None and not (known and known.masks):
            return seen
        plain = seen.snapshot.content
        archived = cursor.length if cursor and seen.extends else 0
        # A text may go on in what is archived of it: it is looked at whole.
        goes_on = known is not None and bool(archived) and (is_jsonl or plain.size == archived)
        before = known if known and goes_on else Screening(0, {}, {})
        found, fresh = self._find(plain, before.length, is_jsonl=is_jsonl)
        kept = known.masks if known and archived else ()
        masks = (*kept, *beyond(fresh, archived))
        digest, extends, chain = seen.digest, seen.extends, ""
        if masks or (known and known.masks):
            digest, extends, chain = _digest(Masked(plain, masks), cursor, before)
            if archived and not extends:  # the journal is damaged: the rules decide about all
                seen = replace(seen, extends=False)
                return self.screened(seen, cursor, None, is_jsonl=is_jsonl)
        document, in_document = self._document(seen.snapshot.document)
        screening = Screening(
            length=plain.size,
            found=dict(Counter(before.found) + found),
            in_document=known.in_document if document is None and known else dict(in_document),
            masks=masks,
            plain=seen.digest if masks else "",
            chain=chain,
        )
        screened = Screened(
            mode=self.mode,
            rules=self._rules.version if self._rules else NO_RULES,
            plain=plain,
            plain_digest=seen.digest,
            screening=screening,
            archived=archived,
            find=partial(self._find, plain, 0, is_jsonl=is_jsonl),
        )
        content = Masked(plain, masks) if masks else plain
        snapshot = replace(seen.snapshot, content=content, document=document)
        return replace(seen, snapshot=snapshot, digest=digest, extends=extends, screened=screened)

    def _find(
        self, content: Content, start: int, *, is_jsonl: bool
    ) -> tuple[Counter[str], tuple[Mask, ...]]:
        """Return how often each rule finds something from `start` on, and what would be masked.

        A line that begins before `start` is looked at from its beginning.
        """
        found: Counter[str] = Counter()
        masks: list[Mask] = []
        content = _Recent(content)
        first = start
        if is_jsonl and start:
            # What follows is read with the byte before it: of an append that is the only read.
            ahead = content.read(start - 1, min(start + _AHEAD, content.size))
            first = start if ahead.startswith(b"\n") else end_of_lines(content, start)
        try:
            for each in self._findings(content, first, is_jsonl=is_jsonl):
                if each.end <= start:
                    continue
                found[each.rule] += 1
                if self.mode == MASKED:
                    text = masked(each.rule, content.read(each.start, each.end))
                    masks.append(Mask(each.start, text.decode("ascii")))
        except Unscannable as error:
            if self.mode == MASKED:
                message = f"the rules cannot look at it, so that it is not sent: {error}"
                raise Unreadable(UNSCANNABLE, message) from None
            found[UNSCANNABLE] += 1
        return found, tuple(masks)

    def _findings(self, content: Content, start: int, *, is_jsonl: bool) -> Iterable[Finding]:
        if self._rules is None:
            return ()
        if is_jsonl:
            return in_lines(self._rules, content, start, content.size)
        if content.size > MOST_OF_A_TEXT and start < content.size:
            raise Unscannable(f"{content.size} bytes; up to {MOST_OF_A_TEXT} are looked at at once")
        return in_text(self._rules, content, start, content.size)

    def _document(self, document: bytes | None) -> tuple[bytes | None, Counter[str]]:
        if document is None:
            return None, Counter()
        content = Held(document)  # one line of JSON
        found, masks = self._find(content, 0, is_jsonl=True)
        return Masked(content, masks).read(0, content.size) if masks else document, found


def keeping(look: Look, archived: int, masks: Sequence[Mask]) -> Look:
    """Return a look of which so many bytes are archived, with these masks.

    The rules decide about the rest. Whether it extends a cursor is to be asked again. Blocks.
    Raises `Unreadable` where that cannot leave without them.
    """
    screened = look.screened or _unscreened(look)
    plain = screened.plain
    found, fresh = screened.find()
    every = (*masks, *beyond(fresh, archived))
    content = Masked(plain, every) if every else plain
    screening = replace(
        screened.screening,
        length=plain.size,
        found=dict(found),
        masks=every,
        plain=screened.plain_digest if every else "",
        chain="",
    )
    return replace(
        look,
        snapshot=replace(look.snapshot, content=content),
        digest=digests(content, [content.size])[0],
        screened=replace(screened, screening=screening, archived=archived),
    )


def _unscreened(look: Look) -> Screened:
    """Say of a look what no rules were asked about."""
    return Screened(
        mode="off",
        rules=NO_RULES,
        plain=look.snapshot.content,
        plain_digest=look.digest,
        screening=Screening(0, {}, {}),
        archived=0,
        find=lambda: (Counter(), ()),
    )


def _require_finished(seen: Look, now: float) -> None:
    """Raise `Unsettled` for what may still be written: a secret may be half there."""
    content, waits_s = seen.snapshot.content, seconds_until_quiet(seen.snapshot.stat, now)
    if waits_s is None or content.read(max(0, content.size - 1), content.size) == b"\n":
        return
    if content.size <= BLOCK and is_json(content.read(0, content.size)):
        return
    message = f"with masks it waits until nothing has come for {QUIET_S:.0f} seconds"
    raise Unsettled(message, seconds=waits_s, reason=UNFINISHED_TEXT)


class _Recent:
    """A content that keeps the piece that was read last: what is found there is read once more."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._start = 0
        self._piece = b""

    @property
    def size(self) -> int:
        return self._content.size

    def read(self, start: int, end: int) -> bytes:
        first, last = start - self._start, end - self._start
        if not 0 <= first <= last <= len(self._piece):
            self._start, self._piece = start, self._content.read(start, end)
            return self._piece
        return self._piece[first:last]


def _digest(content: Content, cursor: Cursor | None, before: Screening) -> tuple[str, bool, str]:
    """Return the digest, whether it begins with what the cursor holds, and the digest's chain."""
    value, boundary = EMPTY, 0
    if before.chain:  # the masks up to there are the same
        value, boundary = bytes.fromhex(before.chain), before.length - before.length % BLOCK
    archived = cursor.length if cursor else 0
    if archived > content.size:
        (digest,), value = digests_from(content, value, boundary, [content.size])
        return digest, False, value.hex()
    (start, digest), value = digests_from(content, value, boundary, [archived, content.size])
    return digest, cursor is None or start == cursor.digest, value.hex()
