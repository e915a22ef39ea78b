"""An orthonormal basis that grows by one product at a time, and the operator seen through it.

Everything of length D stays on the device; the small projected matrix lives on the host in float64. Each step
costs one product and one transfer of at most M + 1 numbers. Bases are rows: V has shape (M, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.curvature.certificate import Floats, Product, check_symmetry
from landscape.errors import DivergedError

_BREAKDOWN = 64.0  # units of rounding; below, a direction is made of it, neither random nor seen through the operator
_SKEW = 1e-2  # far above rounding


class Krylov:
    """Rows V[:n] that have been multiplied and, behind them, rows V[n:n+p] that have not: the ways out of the basis.

    For each multiplied row, H v_i = sum_j T_ji v_j over all n + p rows, exactly: nothing that a product brought
    is ever dropped. Hence a Ritz vector with coordinates s has the residual |T[n:n+p, :n] s|, known without a product.
    One start vector has one way out, and this is Lanczos; each further random direction adds one, as in band Lanczos.

    Attributes:
        basis: Orthonormal rows, shape (capacity, D).
        coupling: T = V H V^T where known, shape (capacity, capacity): columns up to `steps`, rows up to `rows`.
        steps: n, rows that have been multiplied.
        rows: n + p, rows in use.
        products: Products used.
        fresh: The row of a random direction that was added where a space had ended and is nobody's yet; -1 if none.
    """

    def __init__(
        self, size: int, capacity: int, generator: torch.Generator, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Allocate the basis and draw the first direction.

        Args:
            size: D.
            capacity: Rows that the basis may hold.
            generator: Source of random directions, on the CPU so that a seed means the same on every device.
            device: Where the basis lies.
            dtype: Its floating point type.
        """
        self.size, self.capacity, self.generator = size, min(capacity, size), generator
        self.basis = torch.empty(self.capacity, size, device=device, dtype=dtype)
        self.coupling: Floats = np.zeros((self.capacity, self.capacity))
        self.steps = self.rows = self.products = 0
        self.fresh = -1
        self.add_direction()

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space, so that its Ritz pairs are eigenpairs."""
        return self.steps == self.size

    @property
    def full(self) -> bool:
        """Whether a product might bring a direction for which there is no room."""
        return self.rows == self.capacity < self.size

    def expand(self, product: Product, way: int) -> None:
        """Multiply one of the ways out and take what is new in the result as another.

        Classical Gram-Schmidt against all rows, twice: "twice is enough" to be orthogonal to machine precision,
        and each pass is two matrix-vector products instead of one inner product after the other.
        Source: Giraud, Langou, Rozloznik, The loss of orthogonality in the Gram-Schmidt process (2005).

        Args:
            product: The operator.
            way: Which row, from `steps` to `rows` - 1.

        Raises:
            DivergedError: If the product is not finite.
            AsymmetryError: If it does not fit those before.
        """
        self._swap(way, self.steps)
        rows = self.basis[: self.rows]  # (n + p, D)
        image = product(self.basis[self.steps]).to(self.basis.dtype)
        first = rows @ image
        image = torch.addmv(image, rows.T, first, alpha=-1)
        second = rows @ image
        image.addmv_(rows.T, second, alpha=-1)
        length = torch.linalg.vector_norm(image)
        *column, rest = torch.cat([first + second, length[None]]).tolist()  # the one synchronisation of a step
        self.products += 1
        if not np.isfinite([*column, rest]).all():
            raise DivergedError("a Hessian product is not finite", "check the checkpoint's weights and loss for NaN")
        self._check_symmetry(np.array(column[: self.steps]))
        self.coupling[self.steps, : self.rows] = self.coupling[: self.rows, self.steps] = column
        self.steps += 1
        if rest > self._breakdown() and self.rows < self.capacity:
            torch.div(image, length, out=self.basis[self.rows])
            self.coupling[self.rows] = self.coupling[:, self.rows] = 0
            self.coupling[self.rows, self.steps - 1] = self.coupling[self.steps - 1, self.rows] = rest
            self.rows += 1
        elif self.steps == self.rows < self.size:  # an invariant subspace: go on anywhere in its complement
            self.fresh = self.rows
            self.add_direction()

    def _check_symmetry(self, column: Floats) -> None:
        """Hold the new products with the rows multiplied before against what those said."""
        if self.steps:
            known = self.coupling[: self.steps, : self.steps + 1]
            check_symmetry(float(np.abs(column - known[:, -1]).max()), float(np.abs(known).max()), _SKEW)

    def add_direction(self) -> None:
        """Add a random unit vector of the complement to the ways out, if there is a complement."""
        if self.rows == self.size:
            return
        fresh = torch.randn(self.size, generator=self.generator, dtype=torch.float64).to(self.basis)
        rows = self.basis[: self.rows]
        for _ in range(2):
            fresh = torch.addmv(fresh, rows.T, rows @ fresh, alpha=-1)
        self.basis[self.rows] = fresh / torch.linalg.vector_norm(fresh)
        self.coupling[self.rows] = self.coupling[:, self.rows] = 0
        self.rows += 1

    def ritz(self) -> tuple[Floats, Floats, Floats]:
        """Best approximations of eigenpairs from the basis.

        Returns:
            Values (n,) descending; the residuals' components along the ways out, (p, n), whose columns have
            the norms of the residuals; coordinates in the basis as columns (n, n).
        """
        n = self.steps
        values, coordinates = np.linalg.eigh(self.coupling[:n, :n])
        values, coordinates = values[::-1], coordinates[:, ::-1]
        return values, self.coupling[n : self.rows, :n] @ coordinates, coordinates

    def lift(self, coordinates: Floats) -> Tensor:
        """Vectors of the full space from their coordinates.

        Args:
            coordinates: Columns in the basis, shape (n, M).

        Returns:
            Rows, shape (M, D).
        """
        return torch.from_numpy(coordinates.T.copy()).to(self.basis) @ self.basis[: self.steps]

    def compress(self, keep: NDArray[np.intp]) -> None:
        """Keep some Ritz vectors and all ways out, and forget the rest: a thick restart.

        Source: Wu and Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems (2000).

        Args:
            keep: Indices of Ritz pairs as `ritz` numbers them, shape (M,).
        """
        values, outward, coordinates = self.ritz()
        m, p = len(keep), self.rows - self.steps
        kept = self.lift(coordinates[:, keep])
        self.basis[m : m + p] = self.basis[self.steps : self.rows].clone()
        self.basis[:m] = kept
        self.coupling[:] = 0
        self.coupling[:m, :m] = np.diag(values[keep])
        self.coupling[m : m + p, :m] = outward[:, keep]
        self.coupling[:m, m : m + p] = outward[:, keep].T
        self.steps, self.rows, self.fresh = m, m + p, -1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state; a `Krylov` that `restore`s it goes on bitwise alike.

        Returns:
            Arrays by name; the basis is a view where it lies on the CPU, good until the next step.
        """
        return {
            "basis": self.basis[: self.rows].cpu().numpy(),
            "coupling": self.coupling[: self.rows, : self.rows].copy(),
            "steps": np.array(self.steps),
            "fresh": np.array(self.fresh),
            "products": np.array(self.products),
            "generator": self.generator.get_state().numpy().copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over a state.

        Args:
            arrays: What `arrays` returned, of a basis of the same size, dtype and at most this capacity.

        Raises:
            ValueError: If the basis does not fit.
        """
        rows, size = arrays["basis"].shape
        basis = torch.from_numpy(arrays["basis"].copy())
        if size != self.size or rows > self.capacity or basis.dtype != self.basis.dtype:
            expected = f"expected at most {self.capacity} rows of {self.size} numbers in {self.basis.dtype}"
            raise ValueError(f"{expected}, got {rows} rows of {size} in {basis.dtype}")
        self.basis[:rows] = basis.to(self.basis)
        self.coupling[:rows, :rows] = arrays["coupling"]
        self.rows, self.steps, self.products = rows, int(arrays["steps"]), int(arrays["products"])
        self.fresh = int(arrays["fresh"])
        self.generator.set_state(torch.from_numpy(arrays["generator"].copy()))

    def _swap(self, i: int, j: int) -> None:
        if i != j:
            self.basis[[i, j]] = self.basis[[j, i]]
            self.coupling[[i, j]] = self.coupling[[j, i]]
            self.coupling[:, [i, j]] = self.coupling[:, [j, i]]

    def _breakdown(self) -> float:
        scale = float(np.abs(self.coupling[: self.steps, : self.steps]).max(initial=0.0))
        return _BREAKDOWN * float(torch.finfo(self.basis.dtype).eps) * scale
