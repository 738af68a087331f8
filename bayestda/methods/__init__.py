"""Attribution methods, a file each: gradients of a sample of θ become scores [N M].

Positive = helpful in all of them. Each is ∇g(z)ᵀ φ(C) ∇L(z_j), or says what else it is. The table
of all estimators is :mod:`bayestda.scores.estimators`.
"""
