"""The run matrix: what was asked for, its plan, its cells."""
