"""Experiments of three papers on top of the library."""
