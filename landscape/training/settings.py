"""Settings of a training run: everything that, with the problem, determines its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.options import as_dict, make, option
from landscape.training.methods import CHOICES, METHODS
from landscape.training.schedule import Schedule
from landscape.types import Setting


def _part(name: str, text: str) -> Any:
    return option("method", f"{text}; 'method' is the method's own", choices=("method", *CHOICES[name]))


@dataclass(frozen=True)
class Settings:
    """Training settings; defaults are the thesis's (section 5.1) where neither problem nor method says otherwise."""

    method: str = option("sgd", "training method, see landscape methods", choices=tuple(METHODS))
    epochs: int = option(80, "passes over the training data", low=1, high=1_000_000)
    batch_size: int = option(50, "examples in a step; the last, smaller batch of an epoch is left out", low=1)
    m: int = option(0, "m of m-sharpness: examples that share ε̂ and BatchNorm statistics; 0 for the batch", low=0)
    optimizer: str = _part("optimizer", "base optimizer of torch.optim")
    lr: float = option(0.1, "learning rate at step 0", low=0.0)
    lr_schedule: str = option(
        "cosine",
        "of the learning rate: half a cosine to 0, constant, or /√(t+1)",
        choices=("cosine", "constant", "sqrt"),
    )
    momentum: float = option(0.9, "momentum, where the optimizer has one", low=0.0, high=1.0)
    nesterov: bool = option(True, "Nesterov's form of momentum")
    weight_decay: float = option(5e-4, "weight decay, in the step", low=0.0)
    clip: float = option(0.0, "largest 2-norm of the gradient that reaches the optimizer; 0 for no limit", low=0.0)
    rho: float = option(0.15, "radius ρ of SAM's perturbation", low=0.0)
    rho_schedule: str = option(
        "constant", "of ρ: constant, half a cosine to ρ_min, /√(t+1), or as the learning rate",
        choices=("constant", "cosine", "sqrt", "lr"),
    )  # fmt: skip
    rho_min: float = option(0.0, "ρ where its schedule is at 0", low=0.0)
    norm: float = option(2.0, "p of the p-norm in which ρ is measured, in [1, inf]", low=1.0, infinite=True)
    normalised: bool = option(True, "ε̂ of length ρ; otherwise ε̂ = ρ·g")
    scope: str = option(
        "global", "what shares one norm: all of g, or each tensor (ρ divided among them)", choices=("global", "layer")
    )
    decay_in_epsilon: bool = option(False, "the gradient that makes ε̂ includes weight decay")
    adaptive: str = _part("adaptive", "ASAM's scaling by |w|: of no tensor, of those named weight, of all")
    eta: float = option(0.01, "η of ASAM, added to |w|", low=0.0)
    mask: str = _part("mask", "entries of ε̂: all, ESAM's SWP, normalisation layers, SSAM-F, SSAM-D")
    beta: float = option(0.5, "β of ESAM: part of the tensors perturbed", low=0.01, high=1.0)
    sparsity: float = option(0.5, "s of SSAM: part of the weights not perturbed", low=0.0, high=0.99)
    mask_every: int = option(1, "epochs between refreshes of SSAM's mask", low=1)
    fisher_examples: int = option(128, "examples whose squared gradients make SSAM-F's mask", low=1)
    exchange: float = option(0.5, "d of SSAM-D: part of the mask first exchanged at a refresh", low=0.0, high=1.0)
    select: str = _part("select", "examples of the second pass: all, or ESAM's SDS")
    gamma: float = option(0.5, "γ of ESAM: part of the batch in the second pass", low=0.01, high=1.0)
    combine: str = _part("combine", "of g and g_s: g_s alone, GSAM's, LookSAM's")
    alpha: float = option(0.4, "α of GSAM and LookSAM", low=0.0)
    average: str = _part("average", "of the weights: none, SWA, SWAD")
    average_every: int = option(1, "c of SWA: epochs between weights that are averaged", low=1)
    swa_lr: float = option(0.0, "learning rate of SWA from step E on; 0 for the one reached there", low=0.0)
    validation: int | None = option(None, "examples held out of training for SWAD; a tenth", low=0, kind=int)
    patience: int = option(3, "N_s of SWAD: epochs without improvement after which averaging begins", low=1)
    tolerance: int = option(6, "N_e of SWAD: epochs of high loss after which it ends", low=1)
    ratio: float = option(1.3, "r of SWAD: a high loss is r times the loss where averaging began", low=1.0)
    inner_steps: int = option(20, "L of Entropy-SGD: Langevin steps in a step", low=1)
    inner_lr: float = option(0.1, "η' of Entropy-SGD's walk", low=0.0)
    scoping: float = option(0.03, "γ₀ of Entropy-SGD, γ_t = γ₀(1 + γ₁)^t", low=0.0)
    scoping_growth: float = option(1e-3, "γ₁ of Entropy-SGD", low=0.0)
    thermal: float = option(1e-4, "ε of Entropy-SGD's noise", low=0.0)
    noise_batch: int = option(0, "B in the noise of noisy-sgd; 0 for batch_size", low=0)
    sigma: float = option(0.01, "σ of smoothed-sgd at step 0: standard deviation for each weight", low=0.0)
    samples: int = option(1, "K of smoothed-sgd: Gaussian samples in a step", low=1)
    variant: str = option("code", "what is followed where paper and authors' code differ", choices=("code", "paper"))
    label_smoothing: float | None = option(
        None, "part of each training target spread over all classes; the problem's", low=0.0, high=1.0, kind=float
    )
    label_noise: float = option(0.0, "part of the training labels replaced by another class", low=0.0, high=1.0)
    cutout: int = option(0, "side in pixels of a square blanked in each training image", low=0)
    precision: str = option(
        "fp32", "of forward and backward passes; weights stay fp32, losses are scaled in fp16",
        choices=("fp32", "bf16", "fp16"),
    )  # fmt: skip
    compile: bool = option(False, "torch.compile the network; on a GPU as CUDA graphs")
    channels_last: bool = option(False, "images as NHWC in memory; theta keeps its order")
    switch: float = option(0.75, "part E/T of the steps after which a method switches", low=0.0, high=1.0)
    period: int = option(20, "n: a method uses SAM every n-th step", low=1)
    seed: int = option(0, "seed of initial weights, order, augmentation and all noise", low=0)
    evaluations: int = option(10, "how often the test data are evaluated on the way", low=1, high=10_000)

    def part(self, name: str) -> str:
        """The part in force: what the user chose, else what the method chooses."""
        chosen: str = getattr(self, name)
        return METHODS[self.method].part(name) if chosen == "method" else chosen

    def held_out(self, n: int) -> int:
        """V, how many of n training examples, the last ones, are not trained on."""
        default = n // 10 if self.part("average") == "swad" else 0
        return default if self.validation is None else min(self.validation, n - 1)

    def steps_per_epoch(self, n: int) -> int:
        """Steps in an epoch over n examples; a batch larger than the data is the data."""
        return max(1, (n - self.held_out(n)) // self.batch_size)

    def steps(self, n: int) -> int:
        """T, the steps of the run over n examples."""
        return self.epochs * self.steps_per_epoch(n)

    def switch_step(self, n: int) -> int:
        """E, the step at which a method switches, over n examples."""
        return round(self.switch * self.steps(n))

    def schedule(self, n: int) -> Schedule:
        """Which steps are SAM steps, over n examples."""
        return METHODS[self.method].schedule(self.switch_step(n), self.period)


def resolve(*layers: Mapping[str, Setting]) -> Settings:
    """Settings from layers of named values, later ones over earlier ones.

    What suits a method goes over the first layer, or below it if that layer names the method itself.

    Args:
        *layers: For instance the problem's defaults, a file's values, the command line's.

    Returns:
        The checked settings.

    Raises:
        UsageError: If a name is unknown or a value cannot be.
    """
    named = [{key.replace("-", "_"): value for key, value in layer.items()} for layer in layers]
    merged = {key: value for layer in named for key, value in layer.items()}
    method = METHODS.get(str(merged.get("method", "sgd")))
    if method and named:
        above = named if named[0].get("method") == method.name else named[1:]
        merged |= {k: v for k, v in method.defaults.items() if not any(k in layer for layer in above)}
    return make(Settings, merged)


def complete(values: Mapping[str, Setting]) -> dict[str, Setting]:
    """Stored settings with those that did not exist yet when they were stored, at their defaults."""
    return as_dict(Settings(label_smoothing=0.0)) | dict(values)


def trained_smoothing(settings: Sequence[Mapping[str, Setting]]) -> list[float]:
    """Label smoothings that runs were trained with, ascending; those of which nothing is known are left out.

    Args:
        settings: Resolved settings of each run.

    Returns:
        Each one once.
    """
    return sorted({float(v) for v in (s.get("label_smoothing") for s in settings) if isinstance(v, int | float)})
