"""What a bucket enforces by itself, as far as its server says.

It is asked for people (`doctor`) alone: nothing is decided by it. What a server does not know, or
does not tell these credentials, is unknown and no fault.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from transcriptd.errors import StoreError
from transcriptd.stores.enforced import DefaultEncryption, Enforced, Lock, Rule, Unknown
from transcriptd.stores.s3_errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from types_aiobotocore_s3 import S3Client

    from transcriptd.stores.s3_requests import Requests

T = TypeVar("T")

_YEAR_DAYS = 365


class Questions:
    """Asks about one bucket."""

    def __init__(self, requests: Requests, bucket: str) -> None:
        self._requests = requests
        self._bucket = bucket

    async def enforced(self) -> Enforced:
        """Ask everything. Raises nothing: what cannot be had is `Unknown`."""
        bucket, ask = self._bucket, self._ask
        return Enforced(
            encryption=await ask(
                "bucket_encryption",
                lambda client: client.get_bucket_encryption(Bucket=bucket),
                _encryption,
            ),
            versioning=await ask(
                "bucket_versioning",
                lambda client: client.get_bucket_versioning(Bucket=bucket),
                lambda answer: str(answer.get("Status", "")),
            ),
            lock=await ask(
                "bucket_lock",
                lambda client: client.get_object_lock_configuration(Bucket=bucket),
                _lock,
            ),
            lifecycle=await ask(
                "bucket_lifecycle",
                lambda client: client.get_bucket_lifecycle_configuration(Bucket=bucket),
                lambda answer: tuple(map(_rule, filter(_is_enabled, answer["Rules"]))),
            ),
            public_policy=await self._public_policy(),
            public_blocked=await ask(
                "bucket_public_access",
                lambda client: client.get_public_access_block(Bucket=bucket),
                _blocked,
            ),
        )

    async def _public_policy(self) -> bool | Unknown | None:
        bucket = self._bucket
        status = await self._ask(
            "bucket_policy_status",
            lambda client: client.get_bucket_policy_status(Bucket=bucket),
            lambda answer: bool(answer["PolicyStatus"]["IsPublic"]),
        )
        # MinIO calls a policy public only where everybody may read and write: a no says nothing.
        return status is True or await self._ask(
            "bucket_policy",
            lambda client: client.get_bucket_policy(Bucket=bucket),
            _lets_everybody_in,
        )

    async def _ask(
        self,
        operation: str,
        send: Callable[[S3Client], Awaitable[Any]],
        read: Callable[[Mapping[str, Any]], T],
    ) -> T | Unknown | None:
        try:
            return read(await self._requests.call(operation, send))
        except NotConfigured:
            return None
        except StoreError as error:
            return Unknown(str(error))
        except (AttributeError, LookupError, TypeError, ValueError):
            # Servers that do not know the question answer another one, such as with a listing.
            return Unknown(f"{operation}: the answer does not say")


def _encryption(answer: Mapping[str, Any]) -> DefaultEncryption:
    rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
    said = rule["ApplyServerSideEncryptionByDefault"]
    bucket_keys = bool(rule.get("BucketKeyEnabled"))
    return DefaultEncryption(said["SSEAlgorithm"], said.get("KMSMasterKeyID", ""), bucket_keys)


def _lock(answer: Mapping[str, Any]) -> Lock | None:
    said = answer["ObjectLockConfiguration"]
    if said["ObjectLockEnabled"] != "Enabled":
        return None
    kept = said.get("Rule", {}).get("DefaultRetention", {})
    return Lock(kept.get("Mode", ""), kept.get("Days", 0) + kept.get("Years", 0) * _YEAR_DAYS)


def _lets_everybody_in(answer: Mapping[str, Any]) -> bool:
    statements = json.loads(answer["Policy"])["Statement"]
    return any(map(_is_for_everybody, _several(statements)))


def _is_for_everybody(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    who = principal.get("AWS", ()) if isinstance(principal, dict) else principal
    everybody = "*" in _several(who)
    return everybody and statement["Effect"] == "Allow" and not statement.get("Condition")


def _several(said: Any) -> Sequence[Any]:  # noqa: ANN401 - what a policy has one or many of
    return said if isinstance(said, list | tuple) else [said]


def _blocked(answer: Mapping[str, Any]) -> bool:
    said = answer["PublicAccessBlockConfiguration"]
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return all(bool(said[name]) for name in names)


def _is_enabled(rule: Mapping[str, Any]) -> bool:
    return bool(rule["Status"] == "Enabled")


def _rule(said: Mapping[str, Any]) -> Rule:
    chosen = said.get("Filter", {})
    chosen = chosen.get("And", chosen)
    expiration = said.get("Expiration", {})
    return Rule(
        name=said.get("ID", ""),
        prefix=chosen.get("Prefix", said.get("Prefix", "")),
        of_some=bool(chosen.get("Tag") or chosen.get("Tags")),
        expires=bool(expiration.get("Days") or expiration.get("Date")),
        moves_to=frozenset(each["StorageClass"] for each in said.get("Transitions", ())),
        versions_days=said.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", 0),
        uploads_days=said.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation", 0),
    )
