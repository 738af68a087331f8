"""Distributions over runs: what the scripts of ``tda_distributional_scripts/`` compute."""
