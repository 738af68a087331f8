"""Per-example gradients of one sample of the parameters, block by block."""
