"""Networks small enough that the dense Hessian judges them, and the data they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape.checkpoint import Checkpoint
from landscape.curvature import CurvatureOperator, Objective
from landscape.pooling import recalibrate
from landscape.problem import Problem
from landscape.split import Split
from landscape.vector import layout_of

NETS = ("tanh-init", "tanh-trained", "relu-trained", "cnn-init", "cnn-trained")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="none")


class Mean(nn.Module):
    """Average over the image, through an operation whose backward pass is deterministic on a GPU too."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def mlp(activation: type[nn.Module] = nn.Tanh, width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, 3))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(Mean(), nn.Linear(4, 3)),
    )


def points(n: int = 60, seed: int = 0, spread: float = 0.6) -> Split:
    """Three clouds in six dimensions that overlap, so that no loss goes to zero."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    centres = spread * torch.randn(3, 6, generator=generator, dtype=torch.float64)
    return Split(centres[targets] + torch.randn(n, 6, generator=generator, dtype=torch.float64), targets)


def images(n: int = 48, seed: int = 0) -> Split:
    """Three stripe patterns in noise, one channel of 6 x 6."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    grid = torch.arange(6, dtype=torch.float64)
    waves = torch.stack([grid[:, None] + 0 * grid, grid + 0 * grid[:, None], grid[:, None] + grid]).sin()
    noise = torch.randn(n, 1, 6, 6, generator=generator, dtype=torch.float64)
    return Split(waves[targets, None] + noise, targets)


def train(model: nn.Module, data: Split, steps: int, rate: float = 0.1) -> nn.Module:
    """Whole-batch gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(data.inputs), data.targets).mean().backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model


def objective(net: str, dtype: torch.dtype = torch.float64, chunk: int = 17, seed: int = 0) -> Objective:
    """One of `NETS` in a state, with a chunk that does not divide the number of examples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind, state = net.split("-")
        model: nn.Module = {"tanh": mlp, "relu": lambda: mlp(nn.ReLU), "cnn": cnn}[kind]()
    data = images() if kind == "cnn" else points()
    model.double()
    if state == "trained":
        train(model, data, 40)
    elif kind == "cnn":
        model.train()
        model(data.inputs)  # running statistics that are not those of no data at all
    return Objective(model.to(dtype), cross_entropy, data.to("cpu", dtype), chunk)


def matrix(operator: CurvatureOperator) -> Tensor:
    return torch.stack([operator.product(row) for row in torch.eye(operator.size, dtype=operator.dtype)])


def block(operator: CurvatureOperator, dense: Tensor, columns: int = 5) -> tuple[Tensor, Tensor]:
    """Products with a few random vectors, by the operator and by the dense matrix."""
    vectors = torch.randn(columns, operator.size, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    return torch.stack([operator.product(vector) for vector in vectors]), vectors @ dense


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


class Tied(nn.Module):
    """Encoder and decoder share one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(6, 6, bias=False)
        self.decode = nn.Linear(6, 6, bias=True)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.decode(torch.tanh(self.encode(inputs))))


class Unused(nn.Module):
    """The second layer takes no part in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(6, 3), nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs)


def fingerprint(model: nn.Module) -> list[object]:
    """Everything that a measurement could leave behind, comparable with ==."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    state = [(n, t.detach().numpy().tobytes(), t.requires_grad, t._version, t.data_ptr()) for n, t in tensors]
    grads = [
        (n, None if p.grad is None else (p.grad.numpy().tobytes(), id(p.grad))) for n, p in model.named_parameters()
    ]
    backends = torch.backends
    flags = (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision(), torch.is_grad_enabled())
    newer = [b.fp32_precision for b in (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)]
    random = torch.get_rng_state().numpy().tobytes()
    modes = [m.training for m in model.modules()]
    attributes = [sorted(vars(m)) for m in model.modules()]
    return [state, grads, flags, newer, random, modes, attributes, torch.get_default_dtype()]


def disordered_model() -> nn.Module:
    """A model in the middle of training: gradients filled, modes mixed, one parameter frozen."""
    model = cnn()
    model.train()
    model[1].eval()
    cross_entropy(model(images().inputs.float()), images().targets).mean().backward()
    model[-1].bias.requires_grad_(False)
    return model


def problem() -> Problem:
    """The small convolutional network on stripes, for what takes checkpoints."""
    return Problem(model=cnn, train=images(), test=images(12, seed=1))


def point(problem: Problem, seed: int, **settings: float) -> Checkpoint:
    """A network in training, with statistics that are not those of its data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = train(cnn().double(), problem.train, 20)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return Checkpoint(theta, buffers, layout_of(model), settings=settings, name=f"net{seed}", sha256=str(seed))


def placed(problem: Problem, at: Checkpoint, recalibrated: bool = True) -> Objective:
    """The network at a checkpoint, put together without `Surface`."""
    model = cnn().double()
    model.load_state_dict(at.layout.views(at.theta) | dict(at.buffers))
    if recalibrated:
        recalibrate(model, problem.train, 500)
    return Objective(model, cross_entropy, problem.train, 48)
