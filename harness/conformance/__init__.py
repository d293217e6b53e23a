"""Is a plugin a method? The checks of `check-method`,
and the files that `new-method` starts one from.
"""
