"""What is attributed: network, loss, examples, parameters as a vector."""
