"""Third-party errors of the S3 client → `errors.StoreError`, once and for every request.

A message is made of our own words, the server's error code and the status. What servers and the
SDK say beside that may hold credentials, signatures or bodies, and is dropped.
"""

from __future__ import annotations

import os
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import aiohttp
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from transcriptd.errors import (
    AccessDenied,
    AuthFailed,
    BucketMissing,
    ConditionFailed,
    Corrupted,
    Damaged,
    NotFound,
    RangeInvalid,
    Retry,
    ServerError,
    SlowDown,
    StoreError,
    Unreachable,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = "check the access key, the secret and the session token"
_CLOCK = "this machine's clock is wrong: start time synchronisation"
_REGION = "set the bucket's region"
_LIST = "HEAD on a missing object says 403 without s3:ListBucket: grant it, and s3:GetObject"
_FULL = "the store is full or over its quota"
_CERTIFICATE = "set ca_bundle to the authority that signed the server's certificate"
_KMS = "check s3.sse and s3.sse_kms_key_id, and whether the key is enabled on the server"
_NO_S3 = "check that the endpoint speaks S3"
_LENGTH = "this server wants a Content-Length"


class ClockSkewed(AuthFailed):
    """The server's time is another one; `server_date` is what its answer says it is."""

    server_date = ""


class NotEncrypted(Unsupported):
    """The server does not encrypt as it is asked to, or cannot use the key; nothing is written."""

    retry = Retry.STORE
    degraded = "encryption"


class NotConfigured(NotFound):
    """Nothing of what was asked about is configured for the bucket."""


_CODES: dict[type[StoreError], tuple[str, ...]] = {
    AccessDenied: ("AccessDenied", "kmsNotAuthorized"),
    ClockSkewed: ("RequestExpired", "RequestTimeTooSkewed"),
    AuthFailed: (
        "AuthFailure",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingSecurityHeader",
        "NotSignedUp",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    ),
    BucketMissing: ("NoSuchBucket", "PermanentRedirect"),
    ConditionFailed: ("ConditionalRequestConflict", "PreconditionFailed"),
    Corrupted: (
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    ),
    Damaged: ("InvalidPart", "InvalidPartOrder"),
    NotConfigured: (
        "NoSuchBucketPolicy",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
        "ObjectLockConfigurationNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    NotEncrypted: (
        "InvalidEncryptionAlgorithmError",
        "KMS.DisabledException",
        "KMS.InvalidStateException",
        "KMS.KMSInvalidStateException",
        "KMS.NotFoundException",
        "kmsKeyNotFound",
        "kmsNotSupported",
    ),
    NotFound: ("NoSuchKey", "NoSuchUpload"),
    RangeInvalid: ("InvalidRange",),
    ServerError: ("InternalError", "QuotaExceeded", "XMinioStorageFull"),
    SlowDown: ("RequestLimitExceeded", "SlowDown", "Throttling", "TooManyRequests"),
    Unreachable: ("IncompleteBody", "RequestTimeout"),
    Unsupported: ("EntityTooLarge", "EntityTooSmall", "NotImplemented"),
}
_BY_CODE = {code: kind for kind, codes in _CODES.items() for code in codes}
_BY_STATUS: dict[int, type[StoreError]] = {
    301: BucketMissing,
    304: ConditionFailed,
    307: BucketMissing,
    401: AuthFailed,
    403: AccessDenied,
    404: NotFound,
    408: Unreachable,
    409: ConditionFailed,
    412: ConditionFailed,
    416: RangeInvalid,
    429: SlowDown,
    501: Unsupported,
    503: SlowDown,
}
_WORDS: dict[type[StoreError], str] = {
    AccessDenied: "the credentials may not do this",
    AuthFailed: "the credentials were refused",
    BucketMissing: "the bucket is not there",
    ClockSkewed: "this machine's time and the server's differ too much",
    ConditionFailed: "the condition does not hold",
    Corrupted: "the bytes did not arrive as they were sent",
    Damaged: "the server does not hold the parts that it took",
    NotConfigured: "there is no such configuration",
    NotEncrypted: "the server cannot encrypt so",
    NotFound: "there is no such object",
    RangeInvalid: "the range starts behind the end",
    ServerError: "the server failed",
    SlowDown: "the server asks for fewer requests",
    Unreachable: "the request did not arrive whole",
    Unsupported: "the server refuses such a request",
}
# A 404 at a write: what a condition speaks of is missing, or the upload, or else the bucket.
_PART_OF_UPLOAD = frozenset({"upload_part", "copy_part", "list_parts", "complete_upload"})
_WRITES = _PART_OF_UPLOAD | {"put", "create_upload"}
_HINT_BY_CODE = {
    "AuthorizationHeaderMalformed": _REGION,
    "InvalidObjectState": "the object lies in cold storage: restore it there first",
    "PermanentRedirect": _REGION,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
}
_HINT_BY_STATUS = {301: _REGION, 307: _REGION, 411: _LENGTH, 507: _FULL}
_HINTS: dict[type[StoreError], str] = {
    AccessDenied: "check the policy of these credentials for this bucket and prefix",
    AuthFailed: _KEYS,
    BucketMissing: "make the bucket, or correct its name; it is never created unasked",
    NotEncrypted: _KMS,
}
_NO_CREDENTIALS = (
    sdk.CredentialRetrievalError,
    sdk.LoginError,
    sdk.MetadataRetrievalError,
    sdk.NoAuthTokenError,
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.ProfileNotFound,
    sdk.SSOError,
    sdk.TokenRetrievalError,
    sdk.UnauthorizedSSOTokenError,
)
_NO_CONNECTION = (
    sdk.ConnectionError,
    sdk.HTTPClientError,
    sdk.IncompleteReadError,
    aiohttp.ClientError,
    OSError,
)
_MISCONFIGURED = (
    sdk.BaseEndpointResolverError,
    sdk.EndpointProviderError,
    sdk.InvalidConfigError,
    sdk.InvalidEndpointConfigurationError,
    sdk.InvalidRegionError,
    sdk.InvalidProxiesConfigError,
)
_FAMILIES: tuple[
    tuple[type[Exception] | tuple[type[Exception], ...], type[StoreError], str, str], ...
] = (
    (TimeoutError, Unreachable, "no answer in time", ""),
    (_NO_CREDENTIALS, AuthFailed, "there are no credentials", _KEYS),
    (_MISCONFIGURED, Unreachable, "this makes no endpoint", "check the endpoint and the region"),
    (sdk.FlexibleChecksumError, Corrupted, "the bytes did not arrive as they were sent", ""),
    (sdk.ParamValidationError, Unsupported, "this cannot be said in a request to S3", ""),
    (ResponseParserError, ServerError, "the answer is none that S3 gives", _NO_S3),
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_CODE = 64
_LONGEST_WAIT_S = 3600.0
_FIRST_SERVER_ERROR = 500


def translate(error: Exception, operation: str, *, conditional: bool = False) -> StoreError:
    """Say what an error of the SDK means. `conditional`: the request carried a condition."""
    if isinstance(error, sdk.ClientError):
        return _refused(error, operation, conditional=conditional)
    for family, kind, words, hint in _FAMILIES:
        if isinstance(error, family):
            return kind(f"{operation}: {words} ({type(error).__name__})", hint=hint)
    if isinstance(error, _NO_CONNECTION):
        return _unreachable(error, operation)
    return ServerError(f"{operation}: the S3 client failed ({type(error).__name__}{_place(error)})")


def _refused(error: sdk.ClientError, operation: str, *, conditional: bool) -> StoreError:
    code = _UNSAFE.sub("", str(error.response.get("Error", {}).get("Code", "")))[:_LONGEST_CODE]
    said: dict[str, Any] = error.response.get("ResponseMetadata", {})
    status = int(said.get("HTTPStatusCode", 0))
    headers: dict[str, str] = said.get("HTTPHeaders", {})
    kind = _meaning(code, status, operation)
    if kind is NotFound and operation in _WRITES:
        kind = ConditionFailed if conditional or operation in _PART_OF_UPLOAD else BucketMissing
    hint = _HINT_BY_CODE.get(code) or _HINT_BY_STATUS.get(status) or _HINTS.get(kind, "")
    if kind is AccessDenied and operation == "head":
        hint = _LIST
    refused = kind(
        f"{operation}: {_WORDS[kind]} ({code or 'no code'}, {status})",
        hint=hint,
        retry_after=_seconds(headers.get("retry-after", "")),
    )
    if isinstance(refused, ClockSkewed):
        refused.server_date = headers.get("date", "")
    return refused


def translate_code(code: str, operation: str) -> StoreError:
    """Say what a code means that stands for one of many objects in an answer."""
    code = _UNSAFE.sub("", code)[:_LONGEST_CODE]
    kind = _BY_CODE.get(code, ServerError)
    return kind(f"{operation}: {_WORDS[kind]} ({code or 'no code'})", hint=_HINTS.get(kind, ""))


def _meaning(code: str, status: int, operation: str) -> type[StoreError]:
    if kind := _BY_CODE.get(code) or _BY_STATUS.get(status):
        return kind
    if status >= _FIRST_SERVER_ERROR or not status:
        return ServerError
    if operation == "head":
        return AuthFailed  # without a body the usual causes cannot be told apart: token, region
    return Unsupported


def _unreachable(error: Exception, operation: str) -> Unreachable:
    reason, hint = type(error).__name__, ""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            # aiohttp raises the class with nothing in it, from one that says why.
            reason = f"certificate: {getattr(cause, 'verify_message', 'not trusted')}"
            hint = _CERTIFICATE
        elif isinstance(cause, ssl.SSLError) and not hint:
            reason = getattr(cause, "reason", "") or reason
        elif isinstance(cause, OSError) and cause.strerror and not hint:
            # A resolver's errors have numbers of their own, below zero.
            known = (cause.errno or 0) > 0
            reason = os.strerror(cause.errno or 0) if known else cause.strerror
    return Unreachable(f"{operation}: cannot reach the store ({reason})", hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Walk down what an error was raised from; the SDK also keeps it among its arguments."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        kept = getattr(cause, "kwargs", None)
        todo += [
            cause.__context__,
            cause.__cause__,
            getattr(cause, "os_error", None),
            kept.get("error") if isinstance(kept, dict) else None,
        ]


def _seconds(retry_after: str) -> float:
    """Read a Retry-After header: seconds, or a date. At most an hour; 0 where it says nothing."""
    try:
        wait = float(retry_after)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return min(wait, _LONGEST_WAIT_S) if wait > 0 else 0.0


def _place(error: Exception) -> str:
    """Say where in the code an error nobody expected came from: its own text may not be shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f" in {PurePath(code.co_filename).name}:{trace.tb_lineno}"
