"""The library: problems, checkpoints, training, curvature, storage and report.

Letters used in shapes throughout: D parameters, N examples, B batch, C classes, K eigenpairs, P points on a
line, S seeds. Losses are in nats, errors in [0, 1], curvature in nats per unit of theta squared.
"""

__version__ = "0.1.0"
