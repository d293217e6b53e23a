"""Clips as stick figures, as they are and as a method sees them."""
