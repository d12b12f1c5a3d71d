"""A file is known again behind masks, however both arrive, and nothing else passes for it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transcriptd.masks import Likeness
from transcriptd.redaction import masked

NAMES = ("aws-access-key", "a", "url-credentials", "x" * 40)
# A bracket of the source's own is none of a mask's: a secret that begins so would not be known.
secrets = st.binary(min_size=1, max_size=60).filter(lambda secret: b"[" not in secret)
texts = st.lists(
    st.tuples(st.binary(max_size=30), secrets, st.sampled_from(NAMES)), min_size=1, max_size=5
)


def alike(ours: bytes, archived: bytes, *cuts: int, masks: bool = True) -> Likeness | None:
    """Compare as much as both have, in pieces; `None` where they differ."""
    likeness = Likeness(masks=masks)
    edges = [0, *sorted(cut for cut in cuts if cut < len(archived)), len(archived)]
    for start, end in itertools.pairwise(edges):
        if not likeness.goes_on(ours[start:end], archived[start:end]):
            return None
        if end > len(ours):
            return likeness
    return likeness if likeness.ends() else None


@given(texts, st.lists(st.integers(0, 500), max_size=8))
@example([(b"", b"secret-of-24-characters-", "aws-access-key")], list(range(24)))
def test_what_is_masked_is_known_again_however_it_is_cut(
    parts: list[tuple[bytes, bytes, str]], cuts: list[int]
) -> None:
    ours = b"".join(before + secret for before, secret, _ in parts)
    archived = b"".join(before + masked(name, secret) for before, secret, name in parts)
    found = alike(ours, archived, *cuts)
    assert found is not None
    assert found.hides == (ours != archived)


@given(texts, st.lists(st.integers(0, 500), max_size=8), st.integers(0, 300))
def test_what_is_only_the_beginning_is_known_again(
    parts: list[tuple[bytes, bytes, str]], cuts: list[int], length: int
) -> None:
    ours = b"".join(before + secret for before, secret, _ in parts)[:length]
    archived = b"".join(before + masked(name, secret) for before, secret, name in parts)
    assert alike(ours, archived, *cuts) is not None


@given(
    st.binary(min_size=1, max_size=40).filter(lambda text: not set(b"*[") & set(text)),
    st.data(),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_another_byte_outside_of_a_mask_is_another_file(
    text: bytes, data: st.DataObject, cuts: list[int]
) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    other = text[:at] + bytes([text[at] ^ data.draw(st.integers(1, 255))]) + text[at + 1 :]
    assert alike(other, text, *cuts) is None


@pytest.mark.parametrize(
    ("ours", "archived"),
    [
        (b'{"n":[1]}\n', b'{"n":[2]}\n'),  # brackets of its own
        (b"key \n1\n", b"key ***"),  # lines end elsewhere
        (b"key sk-1", b"key [aws"),  # no whole name
        (b"key sk-123", b"key [AWS]*"),  # nobody's name
        (b"key []*", b"key sk]"),  # the wrong way round
    ],
)
def test_what_no_mask_can_be_is_another_file(ours: bytes, archived: bytes) -> None:
    for cut in range(len(archived)):
        assert alike(ours, archived, cut) is None


def test_without_masks_asterisks_are_what_they_are() -> None:
    assert alike(b"- one", b"* one") is not None
    assert alike(b"- one", b"* one", masks=False) is None
    assert alike(b"* one", b"* one", masks=False) is not None
