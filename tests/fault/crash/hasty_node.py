"""Preloaded by node: a controller that keeps dying is started again at once, however often it has died."""

import sys

sys.modules["__main__"].RESTART_DELAYS_S = (0.0,)  # type: ignore[attr-defined]
