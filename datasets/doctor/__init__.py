"""The data doctor: what is wrong with a set of clips, and how sure that is
(`datasets.doctor.examination`).
"""
