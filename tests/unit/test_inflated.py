"""What a zstd file holds reads like a plain file, whatever it is compressed to and however long."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from inspect import GEN_CLOSED, getgeneratorstate
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from transcriptd.content import BLOCK
from transcriptd.digest import digests
from transcriptd.errors import Changing, Unreadable, Vanished
from transcriptd.inflated import Inflated

if TYPE_CHECKING:
    from collections.abc import Callable

SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
LARGE = 1 << 40
PLAIN = random.Random(4).randbytes(3 * BLOCK // 4) + b"a line of it\n" * (BLOCK // 5) + b"end"


def compressed(*parts: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in parts)


def opener(path: Path) -> Callable[[], int]:
    def open_file() -> int:
        try:
            return os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise Vanished("the file is gone") from None

    return open_file


def inflated(path: Path, data: bytes) -> Inflated:
    path.write_bytes(data)
    return Inflated.measure(opener(path), LARGE)


def whole(content: Inflated) -> bytes:
    return content.read(0, content.size)


@pytest.fixture(scope="module")
def rollout(tmp_path_factory: pytest.TempPathFactory) -> Inflated:
    return inflated(tmp_path_factory.mktemp("rollout") / "a.jsonl.zst", compressed(PLAIN))


POSITIONS = st.integers(0, len(PLAIN)) | st.sampled_from(
    [0, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK, len(PLAIN)]
)


@settings(max_examples=60, deadline=None)
@given(ranges=st.lists(st.tuples(POSITIONS, POSITIONS).map(sorted), max_size=8))
def test_any_ranges_in_any_order_are_those_of_the_plain_data(
    rollout: Inflated, ranges: list[list[int]]
) -> None:
    assert rollout.size == len(PLAIN)
    for start, end in ranges:
        assert rollout.read(start, end) == PLAIN[start:end]


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.binary(max_size=3000) | st.just(SKIPPABLE), min_size=1, max_size=30))
def test_frames_of_any_size_and_skippable_ones_follow_each_other(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "frames.zst"
    data = b"".join(part if part == SKIPPABLE else compressed(part) for part in parts)
    content = inflated(path, data)
    assert whole(content) == b"".join(part for part in parts if part != SKIPPABLE)


def test_a_file_larger_than_a_block_when_compressed_is_read_in_pieces(tmp_path: Path) -> None:
    plain = random.Random(5).randbytes(3 * BLOCK + 17)
    content = inflated(tmp_path / "a.zst", compressed(plain, b"and more"))
    assert whole(content) == plain + b"and more"


@settings(max_examples=80, deadline=None)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_damaged(tmp_path_factory: pytest.TempPathFactory, cut: float) -> None:
    data = compressed(PLAIN[-2000:])
    with pytest.raises(Unreadable) as raised:
        inflated(tmp_path_factory.getbasetemp() / "cut.zst", data[: int(cut * len(data))])
    assert raised.value.reason == "damaged_zst"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{}\n", id="no zstd at all"),
        pytest.param(compressed(b"whole") + b"rest", id="something behind the last frame"),
        pytest.param(compressed(b"whole") + SKIPPABLE[:-1], id="a truncated skippable frame"),
        pytest.param(compressed(PLAIN)[:5000] + bytes(100), id="NULs after a power cut"),
        pytest.param(compressed(b"whole") + compressed(PLAIN)[:-1], id="a truncated second frame"),
    ],
)
def test_what_is_no_whole_zstd_file_is_damaged(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        inflated(tmp_path / "a.zst", data)
    assert raised.value.reason == "damaged_zst"


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(PLAIN))
    data[BLOCK // 3] ^= 1
    with pytest.raises(Unreadable) as raised:
        inflated(tmp_path / "a.zst", bytes(data))
    assert raised.value.reason == "damaged_zst"


def test_a_window_beyond_what_is_granted_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(b"few bytes") + compressor.flush()
    with pytest.raises(Unreadable) as raised:
        inflated(tmp_path / "a.zst", data)
    assert raised.value.reason == "damaged_zst"


def test_more_than_is_allowed_is_refused_before_all_of_it_is_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(compressed(PLAIN) + b"garbage that is not reached")
    with pytest.raises(Unreadable) as raised:
        Inflated.measure(opener(path), len(PLAIN) - BLOCK)
    assert raised.value.reason == "too_large"
    path.write_bytes(compressed(PLAIN))
    assert Inflated.measure(opener(path), len(PLAIN)).size == len(PLAIN)


def repeated(blocks: int) -> bytes:
    """Make a frame of blocks that each repeat one byte: four bytes of it become 128 KiB."""
    size = 128 << 10
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([7 << 3])  # a window of 128 KiB, size not given
    block = (size << 3 | 1 << 1).to_bytes(3, "little") + b"\n"
    last = (size << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\n"
    return header + block * (blocks - 1) + last


MEASURE = """
    import os, resource, sys
    from transcriptd.inflated import Inflated
    def peak():  # KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = peak()
    content = Inflated.measure(lambda: os.open(sys.argv[1], os.O_RDONLY), 1 << 40)
    content.read(content.size - 100, content.size)
    print(content.size, peak() - before)
"""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(repeated(16384), id="of blocks that repeat one byte"),
        pytest.param(zstandard.ZstdCompressor(level=19).compress(bytes(1 << 30)), id="of zeros"),
    ],
)
def test_a_bomb_does_not_grow_in_memory(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bomb.zst"
    path.write_bytes(data)
    assert len(data) < 1 << 17
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), str(path)]
    size, grown = map(int, subprocess.check_output(command).split())
    assert size >= 1 << 30
    assert grown < 100 << 10


def test_reading_on_and_small_steps_back_never_start_again(tmp_path: Path) -> None:
    path, opened = tmp_path / "a.zst", 0
    path.write_bytes(compressed(PLAIN))

    def open_file() -> int:
        nonlocal opened
        opened += 1
        return os.open(path, os.O_RDONLY)

    content = Inflated.measure(open_file, LARGE)
    opened = 0
    digests(content, [BLOCK + 5, 2 * BLOCK + 7, content.size])
    content.read(content.size - 5, content.size)
    content.read(content.size - BLOCK, content.size)
    assert opened == 1


def test_no_descriptor_stays_open_between_reads(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    contents = [inflated(tmp_path / f"{n}.zst", compressed(PLAIN)) for n in range(20)]
    for content in contents:
        content.read(0, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_decoder_goes_once_the_end_is_reached(tmp_path: Path) -> None:
    content = inflated(tmp_path / "a.zst", compressed(PLAIN))
    whole(content)
    assert getgeneratorstate(content._ahead) == GEN_CLOSED
    assert content.read(content.size - 3, content.size) == b"end"
    assert content.read(0, 5) == PLAIN[:5]


def test_threads_read_the_same_bytes(rollout: Inflated) -> None:
    chosen = random.Random(6)
    ranges = [sorted(chosen.choices(range(len(PLAIN)), k=2)) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda r: rollout.read(*r), ranges))
    assert found == [PLAIN[start:end] for start, end in ranges]


def test_a_file_that_is_replaced_by_an_equal_one_is_changing(tmp_path: Path) -> None:
    content = inflated(tmp_path / "a.zst", compressed(PLAIN))
    (tmp_path / "new").write_bytes(compressed(PLAIN))
    (tmp_path / "new").rename(tmp_path / "a.zst")
    with pytest.raises(Changing):
        whole(content)


def test_a_file_that_is_written_in_its_place_is_changing(tmp_path: Path) -> None:
    content = inflated(tmp_path / "a.zst", compressed(PLAIN))
    with (tmp_path / "a.zst").open("r+b") as file:
        file.write(file.read(1))
    with pytest.raises(Changing):
        whole(content)


def test_a_file_that_goes_is_vanished_and_is_read_on_once_it_is_back(tmp_path: Path) -> None:
    path, there = tmp_path / "a.zst", True
    path.write_bytes(compressed(PLAIN))

    def open_file() -> int:
        return opener(path if there else tmp_path / "gone")()

    content = Inflated.measure(open_file, LARGE)
    there = False
    with pytest.raises(Vanished):
        whole(content)
    there = True
    assert whole(content) == PLAIN


def test_a_disk_that_fails_says_nothing_about_the_file(tmp_path: Path) -> None:
    path, flags = tmp_path / "a.zst", os.O_RDONLY
    path.write_bytes(compressed(PLAIN))
    content = Inflated.measure(lambda: os.open(path, flags), LARGE)
    flags = os.O_WRONLY  # reading fails with EBADF
    with pytest.raises(Changing):
        whole(content)
    flags = os.O_RDONLY
    assert whole(content) == PLAIN
