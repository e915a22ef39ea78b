"""Studies: tables of trainings, analyses and claims, resolved to a graph, run, tested and shown.

`table` says what a TOML file may hold and `reading` reads it, `plan` resolves it to nodes, `execute` makes them,
`claims` tests, `page` shows.
"""
