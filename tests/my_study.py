"""A user's own problem: sentences of random tokens, a small attention network, dictionaries of nothing."""

import torch
from torch import nn

from landscape.problem import Problem
from landscape.split import Split


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(tokens))
        weights = torch.softmax(x @ x.transpose(1, 2), 2)
        return self.out((weights @ x).mean(1))


def problem() -> Problem:
    tokens = torch.randint(0, 20, (300, 6), generator=torch.Generator().manual_seed(0))
    label = (tokens < 10).sum(1).ge(3).long()
    return Problem(Reader, Split(tokens[:200], label[:200]), Split(tokens[200:], label[200:]), defaults={"epochs": 6})
