"""Scores of a whole posterior, in memory or in a file."""
