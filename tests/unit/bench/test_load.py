"""What wrk's script prints is read as numbers, and nothing else passes for a result."""

from __future__ import annotations

import pytest
from bench.load import LoadError, parse

OUTPUT = """Running 4s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  4000 requests in 4.00s, 500.00KB read
WRK {"requests": 4000, "seconds": 4.000000, "bytes": 512000, "p50_ms": 0.2500, "p99_ms": 1.5000, "max_ms": 9.0000, \
"errors": {"connect": 0, "read": 1, "write": 0, "status": 2, "timeout": 4}}
"""


def test_result_line_becomes_numbers() -> None:
    load = parse(OUTPUT)
    assert (load.requests, load.seconds, load.p50_ms, load.p99_ms) == (4000, 4.0, 0.25, 1.5)
    assert load.rps == 1000
    assert load.errors == 7


def test_output_without_result_is_an_error_with_its_words() -> None:
    with pytest.raises(LoadError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:8000 Connection refused\n")
