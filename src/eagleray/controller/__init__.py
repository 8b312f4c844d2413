"""The process that decides: it keeps the world, performs what the pure decider says, and answers users and routers.

It never runs or unpickles user code.
"""
