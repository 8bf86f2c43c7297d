"""What `read_bars` refuses before it opens anything, and what importing the package costs."""

import subprocess
import sys
from datetime import UTC, date, datetime

import pytest

from backfill_pipeline import Split, read_bars

SPLIT = Split(date(2005, 2, 28), 2.0)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        pytest.param(("AAPL", "1y", "2026-07-29", "2026-07-29"), {}, "timeframe '1y' is not known", id="timeframe"),
        pytest.param(("AAPL", "1m", "2026-07-30", "2026-07-29"), {}, "start 2026-07-30 is after end", id="reversed"),
        pytest.param(("AAPL", "1m", "yesterday", "2026-07-29"), {}, "start 'yesterday' is not a date", id="no date"),
        pytest.param(("AAPL", "1m", 20260729, "2026-07-29"), {}, "start 20260729 is not a date", id="a number"),
        pytest.param(
            ("AAPL", "1m", datetime(2026, 7, 29, tzinfo=UTC), "2026-07-29"), {}, "give two dates, or two", id="mixed"
        ),
        pytest.param(("AAPL", "1m", datetime(2026, 7, 29), datetime(2026, 7, 30)), {}, "no time zone", id="naive"),  # noqa: DTZ001
        pytest.param(
            ("AAPL", "1m", datetime(2026, 7, 29, tzinfo=UTC), datetime(2026, 7, 29, tzinfo=UTC)),
            {},
            "is not before end",
            id="an empty window",
        ),
        pytest.param(([], "1m", "2026-07-29", "2026-07-29"), {}, "no symbols given", id="no symbols"),
        pytest.param((), {"segment": "lunch"}, "segment 'lunch' is not known", id="segment"),
        pytest.param((), {"label": "middle"}, "label 'middle' is not known; use one of start end", id="label"),
        pytest.param((), {"adjust": "half"}, "adjust 'half' is not known", id="adjust"),
        pytest.param((), {"on_incomplete": "cry"}, "on_incomplete 'cry' is not known", id="on_incomplete"),
        pytest.param((), {"tz": "Mars"}, "tz 'Mars' is not a time zone", id="zone"),
        pytest.param((), {"as_of": "soon", "adjust": "splits", "splits": [SPLIT]}, "as_of 'soon' is not", id="as_of"),
        pytest.param(
            (["AAPL", "IBM"], "1d", "2005-01-03", "2005-01-03"),
            {"adjust": "splits", "splits": [SPLIT]},
            "several symbols need splits by symbol",
            id="whose splits",
        ),
        pytest.param((), {"url": "mysql://u:hunter2@h/m"}, "is no PostgreSQL URL", id="url"),
    ],
)
def test_a_wrong_argument_is_one_line_before_anything_is_read(
    arguments: tuple[object, ...], options: dict[str, object], words: str
) -> None:
    given = arguments or ("AAPL", "1m", "2026-07-29", "2026-07-29")
    options = {"url": "postgresql://nobody@127.0.0.1:1/market"} | options

    with pytest.raises(ValueError) as raised:  # noqa: PT011  (the words are checked below)
        read_bars(*given, **options)  # type: ignore[arg-type]  # wrong on purpose

    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_importing_the_package_imports_neither_dagster_nor_pandas() -> None:
    code = (
        "import sys, backfill_pipeline; print({'dagster', 'pandas', 'numpy'} & set(sys.modules));"
        "from backfill_pipeline import read_bars; print({'dagster', 'pandas'} & set(sys.modules));"
        "print(sorted(backfill_pipeline.__all__))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    names = "['IncompleteError', 'IncompleteWarning', 'Split', 'read_bars', 'read_features']"
    assert ran.stdout.splitlines() == ["set()", "set()", names]
