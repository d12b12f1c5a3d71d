from __future__ import annotations

import errno
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from transcriptd import errors
from transcriptd.stores.s3_errors import ClockSkewed, translate, translate_code

CANARY = "canary-DO-NOT-SHOW"


def _answer(status: int, code: str = "", **headers: str) -> sdk.ClientError:
    return sdk.ClientError(
        {
            "Error": {"Code": code or str(status), "Message": CANARY, "StringToSign": CANARY},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "HTTPHeaders": {name.replace("_", "-"): value for name, value in headers.items()},
            },
        },
        CANARY,
    )


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", errors.SlowDown),
        (503, "", errors.SlowDown),
        (429, "", errors.SlowDown),
        (400, "Throttling", errors.SlowDown),
        (500, "InternalError", errors.ServerError),
        (502, "", errors.ServerError),
        (504, "", errors.ServerError),
        (507, "InsufficientStorage", errors.ServerError),
        (0, "", errors.ServerError),
        (401, "", errors.AuthFailed),
        (403, "InvalidAccessKeyId", errors.AuthFailed),
        (403, "SignatureDoesNotMatch", errors.AuthFailed),
        (400, "ExpiredToken", errors.AuthFailed),
        (403, "RequestTimeTooSkewed", ClockSkewed),
        (403, "AccessDenied", errors.AccessDenied),
        (403, "", errors.AccessDenied),
        (403, "SomethingNew", errors.AccessDenied),
        (404, "NoSuchBucket", errors.BucketMissing),
        (301, "PermanentRedirect", errors.BucketMissing),
        (404, "NoSuchKey", errors.NotFound),
        (404, "", errors.NotFound),
        (412, "PreconditionFailed", errors.ConditionFailed),
        (409, "ConditionalRequestConflict", errors.ConditionFailed),
        (304, "", errors.ConditionFailed),
        (501, "NotImplemented", errors.Unsupported),
        (405, "MethodNotAllowed", errors.Unsupported),
        (411, "MissingContentLength", errors.Unsupported),
        (400, "KeyTooLongError", errors.Unsupported),
        (416, "InvalidRange", errors.RangeInvalid),
        (400, "BadDigest", errors.Corrupted),
        (400, "InvalidDigest", errors.Corrupted),
        (400, "XAmzContentSHA256Mismatch", errors.Corrupted),
        (400, "RequestTimeout", errors.Unreachable),
        (404, "NoSuchUpload", errors.NotFound),
        (400, "InvalidPart", errors.Damaged),
        (400, "InvalidPartOrder", errors.Damaged),
        (400, "EntityTooSmall", errors.Unsupported),
        (400, "EntityTooLarge", errors.Unsupported),
    ],
)
def test_each_answer_has_one_meaning(status: int, code: str, kind: type[errors.StoreError]) -> None:
    assert type(translate(_answer(status, code), "get")) is kind


def test_a_404_at_a_write_means_the_condition_or_the_bucket() -> None:
    missing = _answer(404, "NoSuchKey")
    assert isinstance(translate(missing, "put", conditional=True), errors.ConditionFailed)
    assert isinstance(translate(missing, "put"), errors.BucketMissing)
    gone = _answer(404, "NoSuchBucket")
    assert isinstance(translate(gone, "put", conditional=True), errors.BucketMissing)


def test_a_404_within_an_upload_means_that_somebody_else_was_there() -> None:
    for operation in ("upload_part", "copy_part", "list_parts", "complete_upload"):
        for code in ("NoSuchUpload", "NoSuchKey", ""):
            error = translate(_answer(404, code), operation)
            assert isinstance(error, errors.ConditionFailed), (operation, code)
    assert isinstance(translate(_answer(404), "create_upload"), errors.BucketMissing)
    assert isinstance(translate(_answer(404, "NoSuchUpload"), "abort_upload"), errors.NotFound)


def test_a_code_for_one_of_many_objects_means_what_it_means_for_one() -> None:
    denied = translate_code("AccessDenied", "delete_many")
    assert isinstance(denied, errors.AccessDenied)
    assert denied.hint
    assert isinstance(translate_code("NoSuchKey", "delete_many"), errors.NotFound)
    odd = translate_code(f"{CANARY} \n{'x' * 99}", "delete_many")
    assert isinstance(odd, errors.ServerError)
    assert len(str(odd)) < 200
    assert "\n" not in str(odd)


def test_a_denied_head_names_the_right_that_may_be_missing() -> None:
    assert "ListBucket" in translate(_answer(403), "head").hint
    assert "ListBucket" not in translate(_answer(403), "put").hint


def test_a_bad_request_without_a_body_is_taken_for_refused_credentials() -> None:
    assert isinstance(translate(_answer(400), "head"), errors.AuthFailed)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("999999", 3600.0), ("-3", 0.0), ("nan", 0.0), ("soon", 0.0)],
)
def test_retry_after_is_read_and_bounded(said: str, seconds: float) -> None:
    assert translate(_answer(503, retry_after=said), "put").retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < translate(_answer(503, retry_after=later), "put").retry_after <= 60


def test_a_skewed_clock_comes_with_the_time_of_the_server() -> None:
    error = translate(_answer(403, "RequestTimeTooSkewed", date="Sat, 01 Jan"), "put")
    assert isinstance(error, ClockSkewed)
    assert error.server_date == "Sat, 01 Jan"


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (TimeoutError(CANARY), errors.Unreachable, "in time"),
        (ConnectionRefusedError(errno.ECONNREFUSED, CANARY), errors.Unreachable, "refused"),
        (socket.gaierror(-2, "Name or service not known"), errors.Unreachable, "not known"),
        (ssl.SSLError(1, CANARY), errors.Unreachable, "SSLError"),
        (aiohttp.ClientPayloadError(CANARY), errors.Unreachable, "ClientPayloadError"),
        (sdk.NoCredentialsError(), errors.AuthFailed, "credentials"),
        (sdk.ProfileNotFound(profile=CANARY), errors.AuthFailed, "credentials"),
        (sdk.ParamValidationError(report=CANARY), errors.Unsupported, "cannot be said"),
        (ResponseParserError(CANARY), errors.ServerError, "none that S3 gives"),
        (KeyError(CANARY), errors.ServerError, "KeyError"),
    ],
)
def test_what_is_no_answer_has_a_meaning_too(
    raw: Exception, kind: type[errors.StoreError], words: str
) -> None:
    error = translate(raw, "put")
    assert type(error) is kind
    assert words in str(error)


def test_a_cause_deep_inside_is_what_is_said() -> None:
    raw = sdk.EndpointConnectionError(endpoint_url=CANARY, error=aiohttp.ClientError(CANARY))
    raw.kwargs["error"].__context__ = OSError(errno.EHOSTUNREACH, CANARY)
    assert "No route to host" in str(translate(raw, "put"))


def test_every_error_of_the_sdk_is_translated_without_its_text() -> None:
    class Anything(dict[str, Any]):
        def __missing__(self, name: str) -> str:
            return CANARY

    everything: list[Any] = [kind for kind in vars(sdk).values() if isinstance(kind, type)]
    kinds = [kind for kind in everything if issubclass(kind, sdk.BotoCoreError)]
    assert len(kinds) > 50
    for kind in kinds:
        raw = kind.__new__(kind)
        Exception.__init__(raw, CANARY)
        raw.kwargs = Anything()
        error = translate(raw, "put")
        assert isinstance(error, errors.StoreError), kind
        assert CANARY not in f"{error}{error.hint}"


def test_what_the_server_writes_is_not_repeated_but_for_its_code() -> None:
    error = translate(_answer(403, f"Odd\nCode {'x' * 200}"), "put")
    assert CANARY not in f"{error}{error!r}{error.hint}"
    assert "\n" not in str(error)
    assert len(str(error)) < 200
