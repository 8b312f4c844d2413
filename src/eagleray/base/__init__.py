"""Leaves that every floor may use: errors, ids, clocks, settings, logs, tasks. They know nothing of serving."""
