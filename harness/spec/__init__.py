"""What is asked for, as data: the spec of a run, its budget, and named starting points."""
