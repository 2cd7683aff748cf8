"""
What a law has changed
======================

On 31 January 1983 Great Britain made seat belts compulsory in the front seats of cars. How many drivers would have been
killed or seriously injured without the law? A model of the months before is fitted, and goes on after the law as if
there were none. The difference from what happened is the effect of the law, if nothing else has changed. The same model
of all months, with the law as an input, gives the figures that Durbin and Koopman have published.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from skaimz import NumPyroImpactRegressor

# %%
# Drivers who were killed or seriously injured, and the price of petrol in real terms, by month from 1969 to 1984: A. C.
# Harvey and J. Durbin (1986), The effects of seat belt legislation on British road casualties: a case study in
# structural time series modelling, Journal of the Royal Statistical Society A 149(3), as in the data set ``Seatbelts``
# of R.

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
PRICE = """
1030 1024 1021 1009 1010 1006 1038 1041 1038 1030 1027 1020 1013 1007 1001  986  983  981  973  974  974  964  957  951
 967  961  954  947  941  935  930  928  927  923  917  913  907  903  900  891  887  882  889  882  889  877  874  870
 864  859  854  838  846  841  838  835  828  812  829  942  924 1082 1072 1140 1125 1113 1103 1082 1070 1049 1194 1176
1330 1308 1283 1235 1186 1163 1152 1145 1135 1119 1106 1153 1138 1123 1118 1096 1084 1079 1091 1076 1062 1063 1048 1035
1014 1004  989 1025 1030 1022  998  926  918  907  900  893  884  884  868  850  846  844  844  836  834  827  852  848
 845  854  876  904  908 1087 1141 1130 1113 1091 1077 1076 1038 1071 1074 1117 1106 1119 1097 1082 1063 1042 1019 1028
1048 1040 1167 1152 1130 1139 1191 1245 1232 1207 1210 1170 1128 1081 1088 1113 1113 1155 1148 1172 1191 1180 1174 1170
1126 1137 1131 1185 1180 1177 1201 1194 1189 1185 1180 1177 1178 1148 1157 1154 1148 1148 1149 1148 1141 1165 1160 1161
"""
months = pd.period_range("1969-01", periods=192, freq="M")
drivers, price = (np.array(text.split(), float) for text in (DRIVERS, PRICE))
after = np.asarray(months >= "1983-02")
X = np.column_stack([np.arange(192), months.month - 1, np.log(price / 1000), after])
without = X * [1, 1, 1, 0]

# %%
# The kernel
# ----------
#
# On the logarithmic scale the series is a level that walks at random, an effect of each month of the year, effects of
# the price of petrol and of the law, and noise. The walk needs no latent sites: it is a part of the covariance of the
# outcomes. Their distribution after the law is that of the later rows given the earlier ones.


def kernel(X, y=None):
    month = numpyro.sample("month", dist.Normal(7.0, 1.0).expand([12]).to_event(1))
    petrol = numpyro.sample("petrol", dist.Normal(0.0, 1.0))
    law = numpyro.sample("law", dist.Normal(0.0, 1.0))
    step = numpyro.sample("step", dist.HalfNormal(0.1))
    noise = numpyro.sample("noise", dist.HalfNormal(0.2))
    time = X[:, 0]
    walk = step**2 * jnp.minimum(time[:, None], time[None, :])
    covariance = walk + noise**2 * jnp.eye(len(X))
    mean = month[X[:, 1].astype(int)] + petrol * X[:, 2] + law * X[:, 3]
    numpyro.sample("y", dist.MultivariateNormal(mean, covariance), obs=y)


# %%
# Durbin and Koopman fit this model to all months by maximum likelihood. Their coefficients are -0.291 (standard error
# 0.098) for petrol and -0.238 (0.046) for the law (Time Series Analysis by State Space Methods, Oxford University Press
# 2001, chapter 9): a reduction of 21 %.

y = np.log(drivers)
posterior = NumPyroImpactRegressor(kernel, random_state=0).fit(X, y).posterior_
for name in ("petrol", "law"):
    print(f"{name:15} {posterior[name].mean():8.3f}, standard deviation {posterior[name].std():.3f}")

# %%
# The effect of the law
# ---------------------
#
# Now only the months before the law are fitted. Each draw of the later months is a path of the series without the law,
# so that sums over months have the right uncertainty.

model = NumPyroImpactRegressor(kernel, random_state=0).fit(X[~after], y[~after])
draws = model.sample_posterior_predictive(without[after], in_sample=False)["predictions"]["y"]
paths = np.exp(draws.stack(sample=("chain", "draw")).to_numpy())
prevented = np.cumsum(paths - drivers[after, None], axis=0)
share = 1 - drivers[after].sum() / paths.sum(axis=0)
for name, total in (("prevented", prevented[-1]), ("reduction in %", 100 * share)):
    low, middle, high = np.quantile(total, [0.05, 0.5, 0.95])
    print(f"{name:15} {middle:8.1f}, 90 % interval {low:8.1f} to {high:8.1f}")

# %%
# The forecast is less certain, because the level may have gone anywhere since the law. Its interval includes the 21 %
# of Durbin and Koopman, and the 23 % of Harvey and Durbin, whose model also knows how many kilometres were driven.

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
