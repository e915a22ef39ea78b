"""Studies: tables of trainings, analyses and claims, resolved to a graph, run, tested and shown.

`table` reads the TOML, `plan` resolves it to nodes, `execute` makes them, `claims` tests, `page` shows.
"""
