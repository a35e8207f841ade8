"""A log line is one JSON object; a key or a password that is given to it by mistake does not arrive."""

import io
import json
import logging

import pytest
import structlog

from federation.identity.keys import SigningKey
from federation.log_events import Current, Lines, clean, with_names, without_secrets


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def logger(stream: io.StringIO) -> structlog.typing.FilteringBoundLogger:
    bound: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            with_names({"node": "fr-1"}),
            structlog.processors.format_exc_info,
            without_secrets,
            structlog.processors.JSONRenderer(),
        ],
    )
    return bound


def test_keys_and_credentials_do_not_arrive(written: io.StringIO) -> None:
    pem = SigningKey.generate().to_pem().decode()
    said = logger(written)
    said.error(
        "a",
        detail=f"key {pem} and http://me:hunter2@proxy:3128 and postgresql://a:hunter2@db/x",
        proxy="http://proxy:3128",
    )
    try:
        raise ValueError(f"with {pem}")
    except ValueError:
        said.error("b", exc_info=True)
    said.error("c", detail=pem[:60])
    text = written.getvalue()
    assert all(line not in text for line in pem.splitlines()[1:-1])
    assert "hunter2" not in text
    first, second, third = map(json.loads, text.splitlines())
    assert first["proxy"] == "http://proxy:3128"
    assert first["node"] == second["node"] == "fr-1"
    assert "ValueError" in second["exception"]
    assert third["detail"] == "[removed]"


def test_a_field_is_asked_for_when_the_line_is_written(written: io.StringIO) -> None:
    at = [1]
    said = logger(written).bind(round=Current(lambda: at[0]))
    said.info("a")
    at[0] = 2
    said.info("b")
    said.info("c", round=7)
    assert [json.loads(line)["round"] for line in written.getvalue().splitlines()] == [1, 2, 7]


def test_what_libraries_say_has_the_same_form(written: io.StringIO) -> None:
    handler = logging.StreamHandler(written)
    handler.setFormatter(Lines({"node": "fr-1"}))
    library = logging.Logger("grpc._cython")
    library.addHandler(handler)
    try:
        raise OSError("two\nlines http://a:b@c/")
    except OSError:
        library.exception("it %s\nbadly", "failed")
    (line,) = written.getvalue().splitlines()
    said = json.loads(line)
    assert (said["event"], said["library"], said["level"], said["node"]) == (
        "library.said",
        "grpc._cython",
        "error",
        "fr-1",
    )
    assert said["detail"] == "it failed\nbadly"
    assert "a:b" not in said["exception"]
    assert clean("see http://c/x:y@z") == "see http://c/x:y@z", "no credentials of a URL"
