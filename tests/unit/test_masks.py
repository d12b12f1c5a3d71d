"""A stream with masks: as long as its source, equal to it elsewhere; what is said of both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from transcriptd.content import Held
from transcriptd.digest import digest
from transcriptd.masks import Masked, Secret, beyond
from transcriptd.model import Mask

KEY = Secret(bytes(range(32)))
PLAIN = digest(b"what stands in the source")


@st.composite
def masked_texts(draw: st.DrawFn) -> tuple[bytes, list[Mask]]:
    """Make a text and masks of it that ascend and do not overlap."""
    data = draw(st.binary(min_size=1, max_size=200))
    edges = draw(st.lists(st.integers(0, len(data)), max_size=12, unique=True).map(sorted))
    spans = zip(edges[::2], edges[1::2], strict=False)
    return data, [Mask(start, "*" * (end - start)) for start, end in spans]


def overwritten(data: bytes, masks: list[Mask]) -> bytes:
    for mask in masks:
        data = data[: mask.start] + mask.text.encode() + data[mask.start + len(mask.text) :]
    return data


@given(masked_texts(), st.data())
def test_any_piece_of_a_masked_text_is_that_piece_of_the_whole(
    text: tuple[bytes, list[Mask]], data: st.DataObject
) -> None:
    plain, masks = text
    whole, masked = overwritten(plain, masks), Masked(Held(plain), masks)
    assert masked.size == len(plain)
    start = data.draw(st.integers(0, len(plain)))
    end = data.draw(st.integers(start, len(plain)))
    assert masked.read(start, end) == whole[start:end]


@given(masked_texts(), st.integers(0, 200))
def test_what_is_behind_a_place_masks_nothing_before_it_and_all_after_it(
    text: tuple[bytes, list[Mask]], length: int
) -> None:
    plain, masks = text
    left = overwritten(plain, list(beyond(masks, length)))
    assert left[:length] == plain[:length]
    assert left[length:] == overwritten(plain, masks)[length:]


def test_a_keyed_digest_is_proven_by_its_key_and_by_the_same_source_alone() -> None:
    said = KEY.says(PLAIN)
    assert KEY.proves(said, PLAIN)
    assert not KEY.proves(said, digest(b"what stands elsewhere"))
    assert not Secret(bytes(32)).proves(said, PLAIN)


def test_a_key_knows_what_was_made_with_it() -> None:
    assert KEY.knows(KEY.says(PLAIN))
    assert not Secret(bytes(32)).knows(KEY.says(PLAIN))


def test_a_keyed_digest_holds_nothing_of_the_digest_and_fits_into_metadata() -> None:
    said = KEY.says(PLAIN)
    assert PLAIN not in said
    assert said.isascii()
    assert len(said) <= 255
