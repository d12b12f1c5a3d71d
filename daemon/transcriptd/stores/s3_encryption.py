"""What every write asks of encryption, and whether the server says that it was done.

Some servers answer 200 and store what they were sent as it is. What an answer to a write says of it
is believed; that a later look at the object says it is not enough, because rclone keeps the header
that it was asked by and gives it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transcriptd.stores.s3_errors import NotEncrypted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transcriptd.config.settings import S3Settings

HEADER = "x-amz-server-side-encryption"
_KEY_HEADER = f"{HEADER}-aws-kms-key-id"
_ALIAS = re.compile(r"(.*:)?alias/")


@dataclass(frozen=True, slots=True)
class Encryption:
    """How objects are to be encrypted by the server: not at all, or by a key of its own or KMS's.

    An empty `key` leaves the choice to the server.
    """

    algorithm: str = ""
    key: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """What a request says of it."""
        said = {"ServerSideEncryption": self.algorithm, "SSEKMSKeyId": self.key}
        return {name: value for name, value in said.items() if value}

    @property
    def hint(self) -> str:
        """What a person can do where a server does otherwise."""
        return (
            f"s3.sse asks for {HEADER}: {self.algorithm}. Choose what this server can do, or leave "
            "it empty: nothing is written meanwhile"
        )

    def must_be_said(self, answer: Mapping[str, Any], operation: str) -> None:
        """Raise `NotEncrypted` unless the answer says that it was done as it was asked for."""
        if not self.algorithm:
            return
        said = str(answer.get("ServerSideEncryption", ""))
        if said != self.algorithm:
            instead = f"says {said!r}" if said else "does not say"
            raise NotEncrypted(
                f"{operation}: the server was asked for {HEADER}: {self.algorithm}, and {instead}",
                hint=self.hint,
            )
        if not _may_be(self.key, str(answer.get("SSEKMSKeyId", ""))):
            raise NotEncrypted(
                f"{operation}: the server says another {_KEY_HEADER} than it was asked for",
                hint=self.hint,
            )


def encryption_of(settings: S3Settings) -> Encryption:
    return Encryption(settings.sse, settings.sse_kms_key_id)


def _may_be(asked: str, said: str) -> bool:
    """Whether a key that is said can be the one that was asked for.

    Servers say all of its ARN, whatever it was asked by; what stands behind an alias, they know.
    """
    return not asked or not said or bool(_ALIAS.match(asked)) or _id_of(asked) == _id_of(said)


def _id_of(key: str) -> str:
    return re.split(r"[:/]", key)[-1]
