"""Stages: what a script computes for one run of an experiment, and how all runs get done."""
