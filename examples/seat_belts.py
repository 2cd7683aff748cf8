"""
What a law has changed
======================

On 31 January 1983 Great Britain made seat belts compulsory in the front seats of cars. How many drivers would have been
killed or seriously injured without the law? A model of the months before is fitted, and goes on after the law as if
there were none. The difference from what happened is the effect of the law, if nothing else has changed.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor

# %%
# Drivers who were killed or seriously injured, by month from 1969 to 1984: A. C. Harvey and J. Durbin (1986), The
# effects of seat belt legislation on British road casualties: a case study in structural time series modelling, Journal
# of the Royal Statistical Society A 149(3), as in the data set ``Seatbelts`` of R.

DRIVERS = """
1687 1508 1507 1385 1632 1511 1559 1630 1579 1653 2152 2148 1752 1765 1717 1558 1575 1520 1805 1800 1719 2008 2242 2478
2030 1655 1693 1623 1805 1746 1795 1926 1619 1992 2233 2192 2080 1768 1835 1569 1976 1853 1965 1689 1778 1976 2397 2654
2097 1963 1677 1941 2003 1813 2012 1912 2084 2080 2118 2150 1608 1503 1548 1382 1731 1798 1779 1887 2004 2077 2092 2051
1577 1356 1652 1382 1519 1421 1442 1543 1656 1561 1905 2199 1473 1655 1407 1395 1530 1309 1526 1327 1627 1748 1958 2274
1648 1401 1411 1403 1394 1520 1528 1643 1515 1685 2000 2215 1956 1462 1563 1459 1446 1622 1657 1638 1643 1683 2050 2262
1813 1445 1762 1461 1556 1431 1427 1554 1645 1653 2016 2207 1665 1361 1506 1360 1453 1522 1460 1552 1548 1827 1737 1941
1474 1458 1542 1404 1522 1385 1641 1510 1681 1938 1868 1726 1456 1445 1456 1365 1487 1558 1488 1684 1594 1850 1998 2079
1494 1057 1218 1168 1236 1076 1174 1139 1427 1487 1483 1513 1357 1165 1282 1110 1297 1185 1222 1284 1444 1575 1737 1763
"""
months = pd.period_range("1969-01", periods=192, freq="M")
drivers = np.array(DRIVERS.split(), float)
X = np.column_stack([np.arange(192), months.month - 1])
before = (months >= "1975-01") & (months < "1983-02")
after = months >= "1983-02"

# %%
# The kernel
# ----------
#
# The fit sees the eight years before the law, after the first oil crisis. On the logarithmic scale the series is a
# level that walks at random, an effect of each month of the year, and noise. The walk needs no latent sites: it is a
# part of the covariance of the outcomes. Their distribution after the law is that of the later rows given the earlier
# ones.


def kernel(X, y=None):
    month = numpyro.sample("month", dist.Normal(7.0, 1.0).expand([12]).to_event(1))
    step = numpyro.sample("step", dist.HalfNormal(0.1))
    noise = numpyro.sample("noise", dist.HalfNormal(0.2))
    time = X[:, 0]
    walk = step**2 * jnp.minimum(time[:, None], time[None, :])
    covariance = walk + noise**2 * jnp.eye(len(X))
    numpyro.sample("y", dist.MultivariateNormal(month[X[:, 1].astype(int)], covariance), obs=y)


model = NumPyroImpactRegressor(kernel, random_state=0).fit(X[before], np.log(drivers[before]))

# %%
# The effect of the law
# ---------------------
#
# Draws of the series without the law are paths: sums over months have the right uncertainty.

draws = model.sample_posterior_predictive(X[after], in_sample=False)["predictions"]["y"]
paths = np.exp(draws.stack(sample=("chain", "draw")).to_numpy())
prevented = np.cumsum(paths - drivers[after, None], axis=0)
share = 1 - drivers[after].sum() / paths.sum(axis=0)
for name, total in (("prevented", prevented[-1]), ("reduction in %", 100 * share)):
    low, middle, high = np.quantile(total, [0.05, 0.5, 0.95])
    print(f"{name:15} {middle:8.1f}, 90 % interval {low:8.1f} to {high:8.1f}")

# %%
# There were 19 % fewer drivers than in the same months of the year before. Harvey and Durbin find a reduction of 23 %,
# and a range of 20 % to 26 % in their report to the government (Compulsory Seat Belt Wearing, Department of Transport,
# 1985): their model also knows that traffic grew after the law, and the price of petrol, which this one does not.

figure, (above, below) = plt.subplots(2, 1, figsize=(8.0, 5.5), sharex=True, layout="constrained")
when = months.to_timestamp()
above.plot(when, drivers, color="black", lw=1, label="observed")
for ax, values, name in ((above, paths, "without the law"), (below, prevented, "prevented since the law")):
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], axis=1)
    ax.fill_between(when[after], low, high, color="#0072B2", alpha=0.25, lw=0)
    ax.plot(when[after], middle, color="#0072B2", lw=2, label=name)
    ax.axvline(pd.Timestamp("1983-01-31"), color="#D55E00", lw=1)
    ax.set_ylabel("Drivers")
    ax.legend(frameon=False, loc="upper left")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
below.axhline(0.0, color="grey", lw=0.8)
below.set_xlim(pd.Timestamp("1978-01-01"), when[-1])
