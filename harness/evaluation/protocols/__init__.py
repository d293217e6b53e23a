"""Protocols of evaluation, one file each: every class on `harness.evaluation.protocol.Protocol`
here is one.
"""
