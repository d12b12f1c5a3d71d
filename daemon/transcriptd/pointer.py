"""Where some bytes of the archive are: a handle that agents keep instead of the bytes.

Owns the handle's shape and its JSON, which is CodeTether's. Knows nothing of how it is resolved.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Offset = Annotated[int, msgspec.Meta(ge=0)]


class PointerHandle(msgspec.Struct, frozen=True):
    """Bytes of one stream.

    `byte_range` is half-open, `None` for the whole. With `generation` the handle means that
    generation for ever, wherever its bytes are now; without it, the current one.
    """

    bucket: str
    key: str
    byte_range: tuple[Offset, Offset] | None = None
    generation: Offset | None = None

    def to_json(self) -> str:
        """Write `{"bucket": …, "key": …, "byte_range": …}`; `generation` only where it is set."""
        fields = msgspec.structs.asdict(self)
        if self.generation is None:
            del fields["generation"]
        return msgspec.json.encode(fields).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> PointerHandle:
        """Read a handle; unknown keys are ignored. Raises `ValueError` for what is none."""
        return msgspec.json.decode(text, type=cls)
