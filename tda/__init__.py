"""Training data attribution as a random variable: sample it, test it, explain it.

Letters at the end of a variable's name are its dimensions: N train, M test, P parameters, S seeds,
C checkpoints, K outputs, B batch, R members trained together, E epochs.
"""
