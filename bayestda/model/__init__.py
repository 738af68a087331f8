"""Describe a model to the library: network, loss, examples, and parameters as one vector."""
