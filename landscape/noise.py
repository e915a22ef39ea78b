"""How sure the slopes on a line are: rounding, and sampling where the data are a part of the whole.

On all of the training data the slope of the training loss has no error but rounding. It is measured and not
estimated: float32 and float64 start from the same point and direction, so that the rounding of w + ℓu is contained.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence

import torch

from landscape.asymmetric import FLOOR
from landscape.ray import Ray, Stand
from landscape.valley import Valley


class Noise:
    """The standard error of the slope at each place of a line.

    Attributes:
        distances: Distances from the centre at which rounding was measured, ascending.
        rounding: The largest error up to each of them, nats per unit of ℓ.
    """

    def __init__(
        self, line: Ray, centre: float, distances: Sequence[float], other: Callable[[], Stand], population: int
    ) -> None:
        """Measure the noise of a line.

        Args:
            line: The line.
            centre: Place that distances are measured from.
            distances: Where rounding is measured, on both sides; ascending.
            other: Makes the same stand in the other one of float32 and float64.
            population: Examples that those measured were drawn from, without replacement.
        """
        self._line, self._centre = line, centre
        self.distances = list(distances)
        self.rounding = _rounding(line, centre, distances, other)
        n = len(line.start.surface.problem.train)
        self._factor = math.sqrt(max(0.0, 1 - n / population) / n)
        self._known: dict[float, float] = {}

    def __call__(self, offset: float) -> float:
        """Standard error of g at a place on the line: of the population's, if the data are a sample of it."""
        if offset not in self._known:
            place = bisect.bisect_left(self.distances, abs(offset - self._centre) * (1 - 1e-9))
            rounding = self.rounding[min(place, len(self.rounding) - 1)]
            self._known[offset] = math.hypot(rounding, self.sampling(offset))
        return self._known[offset]

    def hides(self, valley: Valley) -> bool:
        """Whether a side of a valley rises to r by no more than rounding may make: there is no minimum to speak of.

        Args:
            valley: The valley, r the largest distance at which rounding was measured.

        Returns:
            True where the smaller rise, or fall, is within `FLOOR` errors of the slope times r.
        """
        return abs(min(valley.rises)) <= FLOOR * self.rounding[-1] * valley.radius

    def sampling(self, offset: float) -> float:
        """sd/√n of the examples' own slopes, with the correction for a finite population."""
        if not self._factor:
            return 0.0
        each = self._line.start.slope_of_each(self._line.point(offset), self._line.direction)
        return float(each.std()) * self._factor


def _rounding(line: Ray, centre: float, distances: Sequence[float], other: Callable[[], Stand]) -> list[float]:
    """Largest difference between the two precisions up to each distance, as an error of the line's own precision."""
    second = Ray(other(), line.direction, line.origin)
    wide = line.start.surface.flat.theta.dtype == torch.float64
    scale = torch.finfo(torch.float64).eps / torch.finfo(torch.float32).eps if wide else 1.0
    found: list[float] = []
    for distance in distances:
        places = (centre - distance, centre + distance)
        apart = max(abs(line.slope(x) - second.slope(x)) for x in places)
        found.append(max([scale * apart, *found[-1:]]))
    return found
