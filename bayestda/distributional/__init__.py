"""Attribute the distribution over training runs to training examples."""
