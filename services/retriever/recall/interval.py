"""A confidence interval of the mean of a bounded variable that holds at every sample size."""

import math

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.999

# A bet is at most this share of the capital. Of 0.5, 0.75 and 0.9 it gave the narrowest
# intervals for 100 to 2,000 values with means of 0.9 to 1.
_MAX_BET = 0.9
_STEPS = 24


def mean_interval(
    values: NDArray[np.float64], confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Low and high of the mean of independent `values` of shape (n), each in [0, 1].

    Recall of one query is such a value, and its k neighbours are not
    independent of each other, so intervals of proportions do not apply to
    pooled hits. This is the hedged capital interval of Waudby-Smith and
    Ramdas, "Estimating means of bounded random variables by betting" (J. R.
    Stat. Soc. B 86, 2024), section 4.4: exact at every n, as narrow as the
    values' own variance allows, and near Clopper and Pearson's where all
    values are 1. (0, 1) where there are none.
    """
    if len(values) == 0:
        return 0.0, 1.0
    log_threshold = math.log(2 / (1 - confidence))
    low = _lower(values, log_threshold)
    return low, 1 - _lower(1 - values, log_threshold)


def _lower(values: NDArray[np.float64], log_threshold: float) -> float:
    """The least mean that a gambler who bets on higher values has not won enough against.

    The gambler's capital falls with the mean, so it is found by bisection.
    """
    bets = _bets(values, log_threshold)
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        mean = (low + high) / 2
        gains = np.minimum(bets, _MAX_BET / mean) * (values - mean)
        if np.log1p(gains).sum() >= log_threshold:
            low = mean
        else:
            high = mean
    return low


def _bets(values: NDArray[np.float64], log_threshold: float) -> NDArray[np.float64]:
    """What is staked on each value, from the values before it alone."""
    places = np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (places + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (places + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    bets: NDArray[np.float64] = np.sqrt(2 * log_threshold / (len(values) * before))
    return bets
