"""What h2load prints is read as numbers, and RPCs that failed are seen although they are 200s to it."""

from __future__ import annotations

import pytest
from bench.grpc_load import framed, parse
from bench.load import LoadError
from bench.systems.base import grpc_request

OUTPUT = """
finished in 2.00s, 1.50 req/s, 220.58KB/s
requests: 3 total, 3 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 882.31KB (903490) total, 53.03KB (54306) headers (space savings 96.28%), 27B ({data}) data
"""
TIMES = "1700000000000000\t200\t900\n1700000000000100\t200\t700\n1700000000000200\t200\t800\n"


def test_output_and_log_become_numbers() -> None:
    load = parse(OUTPUT.format(data=27), TIMES, 2.0)
    assert (load.requests, load.rps, load.p50_ms, load.p99_ms, load.errors) == (3, 1.5, 0.8, 0.9, 0)


def test_replies_without_a_message_are_errors() -> None:
    assert parse(OUTPUT.format(data=9), TIMES, 2.0).errors == 2


def test_output_without_result_is_an_error_with_its_words() -> None:
    with pytest.raises(LoadError, match="could not connect"):
        parse("could not connect to host", "", 1.0)


def test_the_request_is_one_framed_message() -> None:
    assert grpc_request().body == framed(b"\x0a\x05hello")
