"""Inference from a few training runs: intervals, tests, power, several claims at once.

The unit is the training seed, and what is compared is paired within it: a function here is given one number for each
seed. Letters: S seeds, α the level, δ the effect in units of the standard deviation over seeds.
"""
