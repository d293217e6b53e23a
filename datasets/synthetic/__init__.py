"""Data that is made here: actions of made-up bodies, near-doubles of them,
and an NTU-sized set for speed.
"""
