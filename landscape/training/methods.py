"""The methods: one row each, a choice of the five parts of a step.

A step is schedule(t) × perturbation(w, g) × sample selection × gradient combination × weight averaging over one base
optimizer, so momentum is carried across a switch. A row names the choices; a setting of the same name replaces one, so
that `--method psam --adaptive weights` is PSAM with ASAM's perturbation. No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from landscape.training.schedule import Always, Every, Never, Schedule, Until
from landscape.types import Setting

OPTIMIZERS = (
    "sgd", "adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "adagrad", "adadelta", "rprop", "asgd",
)  # fmt: skip
"""Optimizers of torch.optim that work entry by entry, and so on one flat parameter as on many tensors."""

LETTERS = """\
Letters: w weights, g the gradient there, ĝ = g/‖g‖, ε̂ the perturbation, g_s the gradient at w + ε̂, η the learning
rate, t the step, T the steps, E the step of the switch, n the period, B the batch, N the training examples, V those
held out, P the epochs, F the examples of a Fisher mask, R its refreshes, L the inner steps, K the samples.
Cost: passes relative to SGD over the same steps, E and T multiples of n. Parts replace each other: --optimizer and
--average take any method's choice into any other, --adaptive, --mask, --select and --combine into any that uses SAM."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "adaptive": ("none", "weights", "all"),
    "mask": ("none", "swp", "norms", "fisher", "dynamic"),
    "select": ("all", "sds"),
    "combine": ("plain", "gap", "look"),
    "average": ("none", "swa", "swad"),
}
"""The parts that a row chooses and a setting may replace, the first being the ordinary one."""


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: What the user types.
        label: What figures say.
        text: What it does, in a few words.
        formula: The update as its source writes it.
        cost: Cost relative to SGD as a formula.
        source: Where it comes from.
        schedule: Makes the schedule from E (a step) and n (a period).
        parts: Choices that are not the ordinary ones, see `CHOICES`.
        gradient: Where the gradient comes from: "sharpness" (schedule and perturbation), "entropy", "noise", "smooth".
        defaults: Settings that suit this method, below what the user sets.
    """

    name: str
    label: str
    text: str
    formula: str
    cost: str
    source: str
    schedule: Callable[[int, int], Schedule]
    parts: Mapping[str, str] = field(default_factory=dict)
    gradient: str = "sharpness"
    defaults: Mapping[str, Setting] = field(default_factory=dict)

    def part(self, name: str) -> str:
        """The method's own choice of a part."""
        return self.parts.get(name, CHOICES[name][0])


def _never(e: int, n: int) -> Schedule:
    return Never()


def _always(e: int, n: int) -> Schedule:
    return Always()


def _psam(e: int, n: int) -> Schedule:
    return Until(e, Every(n), Always())


_TABLE = (
    Method(
        "sgd", "SGD", "never SAM",
        "w ← w − η·g with Nesterov momentum", "1",
        "Nesterov 1983; Sutskever et al. 2013", _never,
    ),
    Method(
        "adam", "Adam", "never SAM, moments of the gradient",
        "w ← w − η·m̂/(√v̂ + 1e-8)", "1",
        "Kingma and Ba 2015, arXiv 1412.6980", _never, {"optimizer": "adam"}, defaults={"lr": 1e-3},
    ),
    Method(
        "sam", "SAM", "always SAM",
        "ε̂ = ρ·sign(g)|g|^(q−1)/‖|g|^(q−1)‖_p, 1/p + 1/q = 1; step along ∇L(w + ε̂)", "2",
        "Foret et al. 2021, arXiv 2010.01412", _always,
    ),
    Method(
        "psam", "PSAM", "SAM where n divides t before step E, always from E on",
        "SAM iff (t < E and t mod n = 0) or t ≥ E", "2 − (n−1)·E/(n·T)",
        "thesis, Algorithm 1", _psam,
    ),
    Method(
        "sgd-sam", "SGD→SAM", "SGD before step E, SAM from E on",
        "SAM iff t ≥ E", "2 − E/T",
        "thesis, section 5.3", lambda e, n: Until(e, Never(), Always()),
    ),
    Method(
        "sam-sgd", "SAM→SGD", "SAM before step E, SGD from E on",
        "SAM iff t < E", "1 + E/T",
        "thesis, section 5.3", lambda e, n: Until(e, Always(), Never()),
    ),
    Method(
        "every-k", "SAM every k", "SAM at every n-th step throughout; try ρ in proportion to n",
        "SAM iff (t + 1) mod n = 0", "1 + 1/n",
        "MosaicML composer, algorithm sam, interval", lambda e, n: Every(n, 1), defaults={"period": 10},
    ),
    Method(
        "esam", "ESAM", "SAM on some tensors and on the examples whose loss rises most",
        "ε̂ = (ρ/β)·M⊙g/‖M⊙g‖, M ~ Bernoulli(β); g_s over the ⌊γB⌉ largest ℓ(w+ε̂) − ℓ(w)", "(3 + β)/3 + γ",
        "Du et al. 2022, arXiv 2110.03141, and its code", _always, {"mask": "swp", "select": "sds"},
    ),
    Method(
        "psam-esam", "PSAM×ESAM", "PSAM whose SAM steps are ESAM's",
        "ESAM iff (t < E and t mod n = 0) or t ≥ E", "1 + (β/3 + γ)·(1 − (n−1)·E/(n·T))",
        "thesis, Algorithm 1, with arXiv 2110.03141", _psam, {"mask": "swp", "select": "sds"},
    ),
    Method(
        "asam", "ASAM", "SAM in units of the size of each weight",
        "ε̂ = ρ·T²g/‖Tg‖, T = diag(|w| + η) on weights, 1 on biases", "2",
        "Kwon et al. 2021, arXiv 2102.11600", _always, {"adaptive": "weights"}, defaults={"rho": 0.5},
    ),
    Method(
        "gsam", "GSAM", "SAM that also lowers the surrogate gap",
        "step along g_s − α·(g − ⟨g,g_s⟩/‖g_s‖²·g_s); ρ_t between ρ_min and ρ as the learning rate", "2",
        "Zhuang et al. 2022, arXiv 2203.08065", _always, {"combine": "gap"}, defaults={"rho_schedule": "lr"},
    ),
    Method(
        "looksam", "LookSAM", "SAM at every n-th step, its new direction re-used between",
        "t mod n = 0: g_v = g_s − ⟨g_s,ĝ⟩ĝ, step along g_s; else along g + α·(‖g‖/‖g_v‖)·g_v", "1 + 1/n",
        "Liu et al. 2022, arXiv 2203.02714", lambda e, n: Every(n), {"combine": "look"},
        defaults={"period": 5, "alpha": 0.7},
    ),
    Method(
        "ssam-f", "SSAM-F", "SAM on the weights of largest Fisher information",
        "ε̂ = ρ·M⊙ĝ, M the (1−s)D largest Σ_F(∂ℓ/∂w)²", "2 + F·R/(B·T)",
        "Mi et al. 2022, arXiv 2210.05177", _always, {"mask": "fisher"}, defaults={"mask_every": 1},
    ),
    Method(
        "ssam-d", "SSAM-D", "SAM on weights drawn at random, those of small gradient exchanged",
        "ε̂ = ρ·M⊙ĝ; drop ½d(1 + cos πt/T) of M by smallest |g|, grow as many at random", "2",
        "Mi et al. 2022, arXiv 2210.05177", _always, {"mask": "dynamic"}, defaults={"mask_every": 5},
    ),
    Method(
        "sam-on", "SAM-ON", "SAM on scales and shifts of normalisation layers alone",
        "ε̂ = ρ·M⊙g/‖M⊙g‖, M the parameters of normalisation layers", "2",
        "Mueller et al. 2023, arXiv 2306.04226", _always, {"mask": "norms"},
    ),
    Method(
        "swa", "SWA", "SGD, its weights averaged from step E on at a constant learning rate",
        "w̄ ← (k·w̄ + w)/(k + 1) each c epochs from E on; BatchNorm recomputed at w̄", "1 + N/(3·B·T)",
        "Izmailov et al. 2018, arXiv 1803.05407", _never, {"average": "swa"},
    ),
    Method(
        "swad", "SWAD", "SGD, its weights averaged densely while the loss on held-out examples is low",
        "w̄ = mean of w over t_s ≤ t ≤ t_e found on held-out loss; BatchNorm recomputed at w̄",
        "1 + (V·P + N)/(3·B·T)",
        "Cha et al. 2021, arXiv 2102.08604, Algorithm 1", _never, {"average": "swad"},
        defaults={"lr_schedule": "constant"},
    ),
    Method(
        "entropy-sgd", "Entropy-SGD", "steps towards the mean of a Langevin walk around the weights",
        "x' ← x' − η'[∇L(x') + γ(x' − w)] + noise, μ ← ¾μ + ¼x', L times; step along w − μ", "L",
        "Chaudhari et al. 2017, arXiv 1611.01838, and its code", _never, gradient="entropy",
    ),
    Method(
        "noisy-sgd", "Gaussian SGD", "gradient plus Gaussian noise of the covariance of example gradients",
        "w ← w − η·g + √(η/B)·ω, ω ~ N(0, ηC(w))", "1",
        "thesis, equation 2.4", _never, gradient="noise",
    ),
    Method(
        "smoothed-sgd", "Smoothed SGD", "gradient of the loss convolved with a Gaussian that narrows to a point",
        "step along (1/K)Σ∇L(w + σ_t·z), z ~ N(0, I), σ_t = σ·(1 − t/T)", "K",
        "Mobahi 2016, arXiv 1601.04114, as a Monte-Carlo estimate", _never, gradient="smooth",
    ),
)  # fmt: skip

METHODS = {method.name: method for method in _TABLE}


def label(method: str) -> str:
    """What figures call a method; a name that is not in the table stays as it is."""
    return METHODS[method].label if method in METHODS else method


def labels(names: tuple[str, ...], methods: tuple[str, ...]) -> tuple[str, ...]:
    """What figures call some checkpoints: their methods' labels if all are known and distinct, else their names."""
    distinct = len(set(methods)) == len(methods) and all(method in METHODS for method in methods)
    return tuple(label(method) for method in methods) if distinct else names
