"""A small study of digits: two methods, a control, two claims and a figure."""

from __future__ import annotations

from analyses.studies import reading
from analyses.studies.plan import Graph, plan

STUDY = """
title = "Small"
text = "a small study"
reproduces = "nothing"

[scales.cpu]
text = "digits, four epochs"
seeds = 2
problem = "digits/mlp"
settings = { epochs = 4, switch = 0.5 }
values = { rhos = [0.05, 0.1] }

[[trainings]]
id = "sgd"
method = "sgd"

[[trainings]]
id = "fork"
method = "sgd-sam"
rho = "$rhos"

[[trainings]]
id = "sgd-prime"
method = "sgd"
fork = "sgd"
seed_shift = 1000

[[analyses]]
id = "errors"
analysis = "evaluate"
of = ["sgd", "fork", "sgd-prime"]

[[analyses]]
id = "apart"
analysis = "distance"
of = ["sgd", "fork", "sgd-prime"]

[[claims]]
id = "cost"
text = "The fork costs 1.5"
source = "arithmetic"
place = "2 − E/T"
claimed = "1.5"
quantity = 'errors(rho=0.1).cost["fork"]'
test = "equals"
than = 1.5
tolerance = 1e-12

[[claims]]
id = "farther"
text = "SAM moves farther than other batches do"
source = "nobody"
place = "here"
claimed = "above 0"
quantity = 'log(apart(rho=0.1).l2["sgd", "fork"] / apart(rho=0.1).l2["sgd", "sgd-prime"])'
test = "greater"
figure = "by-rho"

[[figures]]
id = "by-rho"
title = "Distance against ρ"
kind = "sweep"
x = 'apart.rho'
xlabel = "ρ"
ylabel = "L2 distance"
y = { SAM = 'apart.l2["sgd", "fork"]' }
level = { control = 'apart(rho=0.1).l2["sgd", "sgd-prime"]' }
"""


def resolved(text: str = STUDY, **words: object) -> Graph:
    return plan(reading.read("small", text), "cpu", **words)  # type: ignore[arg-type]
