"""Distributional attribution: how training examples shape the distribution over training runs."""
