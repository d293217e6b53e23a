"""Encoder weights in files: what they are, others' read and turned into ours,
clips embedded with them.
"""
