"""Eagleray beside its peers: every system measured alone, in turn, in one run; results as medians and ratios.

Only the standard library is used, so that the harness needs no environment of its own and stays light beside what it
measures.
"""
