"""Records of runs and measurements: what they hold, where they lie,
the ratios that are formed of them.
"""
