"""A question about the deployment itself: its OpenAPI document, for `/-/schema/<application>` of the proxy.

It is a call like any other, because building the document runs user code (FastAPI's `openapi()`, types' own hooks).
"""

from __future__ import annotations

import logging

from eagleray.replica.call import Call
from eagleray.replica.encode import JSON, TEXT, encode_json
from eagleray.replica.errors import trimmed

logger = logging.getLogger("ray.serve")

_NONE = b"The application of this deployment has no OpenAPI document."


class DescribeCall(Call):
    """One request for the document."""

    __slots__ = ()

    def begin_work(self) -> None:
        """Answers on the loop."""
        self.run(self._serve(), self.make_context(False))
        self.begun_at = 0.0  # nobody's traffic

    async def _serve(self) -> None:
        """A task's root."""
        try:
            self.enter()
            document = self.floor.user.describe(self.incoming.head.method)
            if document is None:
                self.answer(404, TEXT, _NONE)
            else:
                self.answer(200, JSON, encode_json(document))
        except BaseException as error:  # user code may raise anything
            if self.cancelled:
                self.fail_cancelled()
            else:
                logger.error("The OpenAPI document cannot be made.", exc_info=trimmed(error))
                self.answer(500, TEXT, b"Internal Server Error")
        finally:
            self.ended()
