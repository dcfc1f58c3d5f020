"""How sure a total over many clips is, where the clips share some of their errors.

The model, "own and shared errors": the error of clip i's share is a_i + b_i(k).

- a_i, of its own: normal, with mean 0 and the standard deviation that the clip's report shows (draws of its stretches);
  of a clip that is too short for that, the largest that a share of its size can have. Independent between clips.
- b_i(k), shared: what the share becomes under draw k of the controls. The same draw for all clips, as the same controls
  judge them all; so these errors add up, and the interval of a mean never gets narrower than they are, however many
  clips there are.

Of one clip, the songs' own errors are added up as if they were fully dependent, since nothing says how far they are.
What is not in an interval: another model, other controls than draws of these, and whether a share means what it is
taken to mean.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

NAME = "own and shared errors"
"""Name of the model."""

_LEVELS = (0.025, 0.975)
# Standard deviations beyond which nothing of a normal distribution is looked for.
_FAR = 9.0


def total_interval(drawn: Sequence[float] | np.ndarray, own_variance: float) -> tuple[float, float]:
    """Central 95 % of a total: of the total under each draw of the controls plus a normal error.

    Args:
        drawn: the total under each draw of the controls, which are equally likely.
        own_variance: sum of the variances of the clips' own errors.

    Returns:
        Lower and upper end.
    """
    totals = np.sort(np.asarray(drawn, dtype=np.float64))
    sd = float(np.sqrt(own_variance))
    if sd <= 1e-12 * max(1.0, abs(float(totals[-1]))):
        # The first and the last of the draws stand for these levels.
        return float(totals[0]), float(totals[-1])

    def beyond(x: float, level: float) -> float:
        return float(ndtr((x - totals) / sd).mean()) - level

    low, high = float(totals[0]) - _FAR * sd, float(totals[-1]) + _FAR * sd
    lower, upper = (brentq(beyond, low, high, args=(level,), xtol=1e-9) for level in _LEVELS)
    return float(lower), float(upper)
