"""A log line is one JSON object; a key or a password that is given to it by mistake does not arrive."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest
import structlog

from federation.identity.keys import SigningKey
from federation.log_events import Current, Lines, about, clean, with_names, without_secrets


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


def logger(stream: io.StringIO) -> structlog.typing.FilteringBoundLogger:
    bound: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.contextvars.merge_contextvars,
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


@pytest.mark.parametrize(
    "text",
    [
        "https://lab:hun/ter2-x@proxy.lab:3128/",
        "http://lab:p@hunter2@proxy",
        "postgresql://a:hunter2?x#y@db/x",
        "connection failed: host=db password=hunter2 port=1",
        "{'password': 'hunter2'}",
        '{"token": "hunter2hunter2", "address": "a:1"}',
        "Proxy-Authorization: Basic aHVudGVyMjpodW50ZXIy",
        "authorization: bearer hunter2",
        "PASSPHRASE = hunter2",
    ],
)
@pytest.mark.parametrize(
    "shape", [str, lambda text: [text], lambda text: {"a": (text,)}, lambda text: {text: 1}, OSError]
)
def test_what_is_called_a_secret_does_not_arrive_in_whatever_it_is_wrapped(
    written: io.StringIO, text: str, shape: Callable[[str], object]
) -> None:
    logger(written).warning("a", detail=shape(text), names=Current(lambda: shape(text)))
    assert "hunter2" not in written.getvalue()
    assert "hun/ter2" not in written.getvalue()
    assert "aHVudGVyMj" not in written.getvalue()
    assert json.loads(written.getvalue())["event"] == "a"


@pytest.mark.parametrize(
    "text", ["basic training", "a token ring", "passwords are secret", "http://proxy:3128", "a:b@c", "Basic."]
)
def test_plain_words_stay(text: str) -> None:
    assert clean(text) == text


def test_nothing_said_makes_a_line_of_its_own(written: io.StringIO) -> None:
    """Names and texts of peers: line breaks of every kind, quotes, what ends JSON, halves of characters, what turns text."""
    hostile = 'x"}\n{"event": "halt.lifted"}\r\u2028\u2029\x85\x00\ud800\u202e\x1b[2J'
    logger(written).info("a", detail=hostile, more={hostile: [hostile.encode("utf-8", "surrogatepass")]})
    (line,) = written.getvalue().splitlines()
    assert json.loads(line)["detail"] == hostile
    assert line.isascii()
    assert line.isprintable()


def test_a_task_says_its_job_and_round_in_whichever_room(written: io.StringIO) -> None:
    at = [1]
    said = logger(written)

    async def elsewhere() -> None:
        said.info("a")
        at[0] = 2
        await asyncio.to_thread(said.info, "b")
        said.info("c", round=7)

    async def run() -> None:
        names = about(job="ab", round=Current(lambda: at[0]))
        await asyncio.get_running_loop().create_task(elsewhere(), context=names)
        said.info("outside")

    asyncio.run(run())
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(each.get("job"), each.get("round")) for each in lines] == [("ab", 1), ("ab", 2), ("ab", 7), (None, None)]


def test_what_a_thread_dies_of_is_a_line() -> None:
    code = (
        "import sys, threading, logging, warnings\n"
        "from federation.log_events import about, speak\n"
        "speak({'service': 'x'}, sys.stderr)\n"
        "def die(): raise ValueError('http://a:hunter2@b\\nand more')\n"
        "class Bad:\n    def __del__(self): raise OSError('password=hunter2')\n"
        "thread = threading.Thread(target=die, name='worker'); thread.start(); thread.join()\n"
        "bad = Bad(); del bad\n"
        "warnings.warn('an old call')\n"
        "about(job='ab').run(logging.getLogger('asyncio').error, 'it broke')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    said = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [each["event"] for each in said] == ["thread.died", "error.not-raised", "library.said", "library.said"]
    assert {each["service"] for each in said} == {"x"}
    assert "hunter2" not in ended.stderr
    assert said[3]["job"] == "ab"


@pytest.mark.parametrize(
    "piece", ["://a:", "://a:/", "password ", "token=", "-----BEGIN PRIVATE KEY", "authorization: basic "]
)
def test_a_long_text_of_a_peer_does_not_hold_up_the_service(piece: str) -> None:
    """A megabyte of what looks like the beginning of a secret: in time that grows with its square this would take half an hour."""
    text = piece * ((1 << 20) // len(piece))
    assert clean(text + "@")
    assert "hunter2" not in clean(f"{text} https://ann:hunter2@example.org")
