"""Records of WebSocket messages, and close codes and reasons."""

from __future__ import annotations

import pytest

from eagleray.wire.websocket import (
    CLOSE,
    MAX_REASON_BYTES,
    RECORD,
    RECORD_SIZE,
    TEXT,
    cut_reason,
    may_be_sent,
    pack_close,
    pack_record,
    unpack_close,
)


def test_a_record_has_kind_length_and_payload() -> None:
    record = pack_record(TEXT, b"abc")
    assert RECORD.unpack_from(record) == (TEXT, 3)
    assert record[RECORD_SIZE:] == b"abc"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1006, ""), (4321, "bye, né")])
def test_close_there_and_back(code: int, reason: str) -> None:
    record = pack_close(code, reason)
    assert record[0] == CLOSE
    assert unpack_close(record[RECORD_SIZE:]) == (code, reason)


def test_a_long_reason_is_cut_at_a_characters_end() -> None:
    assert cut_reason("x" * 200) == "x" * MAX_REASON_BYTES
    assert cut_reason("é" * 100) == "é" * (MAX_REASON_BYTES // 2)
    assert cut_reason("\ud800") == "?"


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3008, 4000, 4999])
def test_codes_that_may_be_sent(code: int) -> None:
    assert may_be_sent(code)


@pytest.mark.parametrize("code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 70000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    assert not may_be_sent(code)
