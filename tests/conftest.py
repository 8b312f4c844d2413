"""The suite's own start: what it must not inherit from whoever has started it."""

from __future__ import annotations

import os
import signal

# A developer's own `eagleray start` is none of the tests' business.
os.environ["EAGLERAY_ATTACH"] = "0"

# A shell without job control starts its background jobs with SIGINT ignored, and children inherit that. Tests press
# Ctrl-C on programs that they start; a signal with a handler has its default action again after exec.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
