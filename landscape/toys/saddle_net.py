"""A small network whose saddle is known in closed form.

f(x) = Σⱼ vⱼ tanh(wⱼ·x) with all weights 0 has no gradient there, for any data. Under squared loss ½(y − f)² the only
second derivatives are ∂²/∂vⱼ∂wⱼ = −E[yx], so the Hessian has the eigenvalues ±‖E[yx]‖, each once for every hidden
unit, and 0: a strict saddle. The gradient of every example is 0 there too: noise of batches moves away only what is
away already.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SaddleNet:
    """The network's data.

    Attributes:
        x: Inputs, shape (N, d).
        y: Targets, shape (N,).
        hidden: Hidden units, h.
    """

    x: Tensor
    y: Tensor
    hidden: int = 4

    @property
    def size(self) -> int:
        """Number of parameters, h(1 + d)."""
        return self.hidden * (1 + self.x.shape[1])

    @property
    def eigenvalue(self) -> float:
        """The most negative eigenvalue of the Hessian at 0, −‖E[yx]‖."""
        return -float((self.y.unsqueeze(-1) * self.x).mean(0).norm())

    def _forward(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output weights (..., h), activations (..., B, h) and outputs (..., B)."""
        units = theta.reshape(*theta.shape[:-1], self.hidden, 1 + x.shape[-1])
        v, w = units[..., 0], units[..., 1:]
        active = torch.tanh(x @ w.transpose(-1, -2))
        return v, active, (active @ v.unsqueeze(-1)).squeeze(-1)

    def loss(self, theta: Tensor) -> Tensor:
        """Mean of ½(y − f)² over all data, from parameters (..., D) to (...,)."""
        return 0.5 * (self.y - self._forward(theta, self.x)[2]).square().mean(-1)

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Gradient of the mean loss over batches.

        Args:
            theta: Parameters, shape (..., D).
            x: Inputs, shape (..., B, d).
            y: Targets, shape (..., B).

        Returns:
            Gradients, shape (..., D).
        """
        v, active, out = self._forward(theta, x)
        miss = ((out - y) / y.shape[-1]).unsqueeze(-1)  # (..., B, 1)
        by_w = (miss * v.unsqueeze(-2) * (1 - active**2)).transpose(-1, -2) @ x  # (..., h, d)
        by_v = (miss * active).sum(-2)
        return torch.cat([by_v.unsqueeze(-1), by_w], -1).flatten(-2)


def saddle_net(generator: torch.Generator, like: Tensor, examples: int = 64, noise: float = 0.5) -> SaddleNet:
    """Data of a noisy linear teacher on two inputs, scaled so that the saddle's eigenvalue is −1.

    Args:
        generator: Where random numbers come from.
        like: Its device and floating point type are taken.
        examples: N.
        noise: Standard deviation of the targets' noise, before scaling.

    Returns:
        The network.
    """
    x = torch.randn(examples, 2, generator=generator, dtype=like.dtype, device=like.device)
    y = x[:, 0] + noise * torch.randn(examples, generator=generator, dtype=like.dtype, device=like.device)
    return SaddleNet(x, y / (y.unsqueeze(-1) * x).mean(0).norm())
