from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

from eagleray.base.ids import new_request_id


def test_request_ids_are_uuids_of_version_4_and_differ_whichever_thread_asks() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = [
            one
            for some in pool.map(lambda _: [new_request_id() for _ in range(500)], range(8))
            for one in some
        ]
    assert len(set(found)) == 4000
    for text in found:
        parsed = uuid.UUID(text)
        assert str(parsed) == text and parsed.version == 4 and parsed.variant == uuid.RFC_4122
