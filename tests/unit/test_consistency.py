"""Values that cannot be, alone or beside each other."""

from __future__ import annotations

import pytest

from tests.unit.configuration import HOME, refused
from transcriptd.config import load


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workers", "257"),
        ("workers", True),
        ("debounce.quiet", "-1"),
        ("debounce.quiet", "nan"),
        ("drain", float("inf")),
        ("watch.rescan", 0),
        ("max_document", "0"),
        ("max_document", "1 parsec"),
        ("max_document", "1.2.3"),
        ("watch.force_polling", "perhaps"),
        ("machine", ".hidden"),
        ("machine", "a/b"),
        ("machine", ""),
        ("prefix", "/history"),
        ("prefix", "a//b"),
        ("prefix", "a/../b"),
        ("prefix", "."),
        ("prefix", ""),
        ("prefix", "a\nb"),
        ("state_dir", ""),
        ("state_dir", "/a\0b"),
        ("local.path", 5),
        ("log.level", "loud"),
        ("s3.endpoint", "minio:9000"),
        ("s3.endpoint", "http://"),
        ("s3.endpoint", "http://h:port"),
        ("s3.bucket", "a b"),
        ("s3.bucket", "a/b"),
        ("s3.sse", "rot13"),
        ("s3.storage_class", "DEEP_ARCHIVE"),
        ("s3.ca_bundle", "/nowhere.pem"),
        ("health.listen", "9464"),
        ("health.listen", ":9464"),
        ("health.listen", "::1:9464"),
        ("health.listen", "h:0"),
        ("health.listen", "h:65536"),
        ("health.max_age", "0"),
        ("health.socket", "/" + 107 * "x"),
        ("sources.codetether.roots", ["/a", 5]),
        ("sources.codetether.enabled", "5"),
        ("sources.zeroclaw.roots", "a\nb"),
        ("scrub.rate", "-1"),
        ("scrub.after", -1),
    ],
)
def test_a_value_that_cannot_be_is_refused_under_its_key(key: str, value: object) -> None:
    assert set(refused({}, {"s3.bucket": "b", key: value})) == {key}


@pytest.mark.parametrize(
    ("given_values", "key"),
    [
        ({"debounce.quiet": 6.0}, "debounce.quiet"),
        ({"s3.bucket": "b", "s3.access_key": "k"}, "s3.secret_key"),
        ({"s3.bucket": "b", "s3.secret_key": "s"}, "s3.access_key"),
        ({"s3.bucket": "b", "s3.session_token": "t"}, "s3.access_key"),
        ({"s3.bucket": "b", "s3.sse_kms_key_id": "i", "s3.sse": "AES256"}, "s3.sse_kms_key_id"),
        ({"s3.endpoint": "http://h"}, "s3.bucket"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    given_values: dict[str, object], key: str
) -> None:
    assert set(refused({}, given_values)) == {key}


@pytest.mark.parametrize("listen", ["127.0.0.1:9464", "localhost:1", "[::1]:65535"])
def test_an_address_to_listen_on_has_host_and_port(listen: str) -> None:
    assert load({"health.listen": listen}, HOME, None).health.listen == listen
