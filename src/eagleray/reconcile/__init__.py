"""The pure decider: events change the world, and for a key of it `reconcile` says what to do next.

No clock, I/O, randomness or asyncio: whoever calls gives the time, performs the commands and turns their results into
events.
"""
