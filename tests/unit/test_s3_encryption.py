from __future__ import annotations

import pytest

from transcriptd.stores.s3_encryption import Encryption
from transcriptd.stores.s3_errors import NotEncrypted

ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{ID}"
ALIAS = "alias/transcripts"


def said(algorithm: str, key: str = "") -> dict[str, str]:
    return {"ServerSideEncryption": algorithm, "SSEKMSKeyId": key, "ETag": '"x"'}


@pytest.mark.parametrize(
    ("encryption", "answer"),
    [
        (Encryption(), {}),
        (Encryption(), said("AES256")),
        (Encryption("AES256"), said("AES256")),
        (Encryption("aws:kms"), said("aws:kms", ARN)),
        (Encryption("aws:kms", ARN), said("aws:kms", ARN)),
        (Encryption("aws:kms", ID), said("aws:kms", ARN)),
        (Encryption("aws:kms", ID), said("aws:kms")),
        (Encryption("aws:kms", ALIAS), said("aws:kms", ARN)),
        (Encryption("aws:kms", f"arn:aws:kms:eu-central-1:1:{ALIAS}"), said("aws:kms", ARN)),
        (Encryption("aws:kms", "mine"), said("aws:kms", "arn:aws:kms:mine")),
    ],
)
def test_an_answer_that_says_what_was_asked_for_is_believed(
    encryption: Encryption, answer: dict[str, str]
) -> None:
    encryption.must_be_said(answer, "put")


@pytest.mark.parametrize(
    ("encryption", "answer"),
    [
        (Encryption("AES256"), {}),
        (Encryption("AES256"), said("aws:kms", ARN)),
        (Encryption("aws:kms"), said("AES256")),
        (Encryption("aws:kms"), said("aws:kms:dsse", ARN)),
        (Encryption("aws:kms", "another"), said("aws:kms", ARN)),
        (Encryption("aws:kms", "mine"), said("aws:kms", "arn:aws:kms:not-mine")),
    ],
)
def test_an_answer_that_says_nothing_or_something_else_is_refused(
    encryption: Encryption, answer: dict[str, str]
) -> None:
    with pytest.raises(NotEncrypted, match="x-amz-server-side-encryption") as caught:
        encryption.must_be_said(answer, "put")
    assert "s3.sse" in caught.value.hint
