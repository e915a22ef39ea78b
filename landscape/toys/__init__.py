"""Losses on one or two parameters, and what gradient descent and SAM do on them: exact derivatives and no data.

A point is the last dimension of a tensor, of shape (..., d); every dimension before it is a start, a seed or a setting,
and all of them are advanced at once.
"""
