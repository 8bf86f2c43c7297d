"""Which features there are, each declared once. The table in the documentation is made from this."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """One derived column. Bars are stored bars of the regular session, the newest is the bar itself."""

    name: str
    unit: str
    window: str  # bars that a value sees
    formula: str
    seed: str  # where the first value stands (bars count from 0) and when there is none
    price_unit: bool = False  # in the share basis of its bar, rescaled with prices


FEATURES: tuple[Feature, ...] = (
    Feature(
        "return_pct",
        "ratio (0.01 = 1 %)",
        "2",
        "(close - previous close) / previous close",
        "from bar 1; NULL where the bar before is missing",
    ),
    Feature(
        "log_return",
        "ln of a ratio",
        "2",
        "ln(close / previous close)",
        "from bar 1; NULL where the bar before is missing",
    ),
    Feature(
        "volatility_20",
        "ratio per √year",
        "20",
        "sample standard deviation of log_return * √(bars per year); NULL returns and, below 1d, the first "
        "return of a session (the overnight one) are left out",
        "from bar 20; NULL with fewer than 5 returns",
    ),
    Feature(
        "atr_14",
        "price",
        "recursive",
        "Wilder's average of max(high, previous close) - min(low, previous close): (13 * before + new) / 14",
        "from bar 14, with the mean of the first 14",
        price_unit=True,
    ),
    Feature(
        "rsi_14",
        "0 to 100",
        "recursive",
        "100 * average gain / (average gain + average loss), both Wilder's: (13 * before + new) / 14",
        "from bar 14, with the means of the first 14; 0 where none of the last 400 bars (or none at all) moved "
        "by more than 1e-9 of close",
    ),
    Feature("sma_20", "price", "20", "mean of close", "from bar 19", price_unit=True),
    Feature("sma_50", "price", "50", "mean of close", "from bar 49", price_unit=True),
    Feature(
        "ema_12",
        "price",
        "recursive",
        "(11 * before + 2 * close) / 13",
        "from bar 11, with the mean of the first 12",
        price_unit=True,
    ),
    Feature(
        "ema_26",
        "price",
        "recursive",
        "(25 * before + 2 * close) / 27",
        "from bar 25, with the mean of the first 26",
        price_unit=True,
    ),
    Feature(
        "macd_signal_9",
        "price",
        "recursive",
        "average (8 * before + 2 * new) / 10 of MACD = fast - slow, where slow is ema_26 and fast is ema_12 "
        "started anew at bar 25 with the mean of bars 14 to 25",
        "from bar 33, with the mean of the first 9",
        price_unit=True,
    ),
    Feature(
        "bollinger_pct_20",
        "ratio (0 lower band, 1 upper band)",
        "20",
        "(close - lower) / (upper - lower), bands at sma_20 ± 2 population standard deviations of close",
        "from bar 19; NULL where the bands have no width (deviation up to 1e-12 of the mean)",
    ),
    Feature(
        "trend_slope_20",
        "share of price per bar",
        "20",
        "slope of the least-squares line through close / sma_20",
        "from bar 19",
    ),
    Feature(
        "volume_z_20",
        "standard deviations",
        "20",
        "(volume - mean) / sample standard deviation of volume, this bar included",
        "from bar 19; NULL where volume does not vary (deviation up to 1e-12 of the mean)",
    ),
    Feature(
        "dollar_volume",
        "currency",
        "1",
        "(vwap where known, else close) * volume",
        "from bar 0",
    ),
)

INTRODUCTION = """\
# Features

Columns of the table `features`, one row per regular bar. They look back only, and windows count stored bars: a
missing bar gives a NULL return and is otherwise stepped over. TA-Lib computes the recursive features, and gives
the same numbers for the others that it has, with fewer digits.

Recursive features are seeded at the first stored bar. With a longer history each block (a month of the intraday
chain, a year of the daily one) is computed from its own bars and the {warm_up} before them, and seeded there: far
enough back that the seed no longer shows in ten digits, so the values do not depend on how a backfill was cut.

Features in units of price stand in the share basis of their own bar, like the bars themselves: bars before a
split inside a window are brought to the basis after it. Reading with split adjustment rescales both alike.

"""


def feature_table(warm_up: int) -> str:
    """The documentation page of all features, in Markdown."""
    header = ("column", "unit", "bars", "formula", "first value, NULL")
    lines = [header, ("---",) * len(header)]
    for feature in FEATURES:
        unit = f"{feature.unit}, own share basis" if feature.price_unit else feature.unit
        lines.append((f"`{feature.name}`", unit, feature.window, feature.formula, feature.seed))
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return INTRODUCTION.format(warm_up=warm_up) + table
