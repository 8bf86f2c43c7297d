"""What a user gets wrong is one line that names it, on stderr, with an exit code; help is readable."""

import pytest

from backfill_pipeline_tests.shell import Shell, one_line

DEAD = "postgresql://trader:hunter2@127.0.0.1:1/market"


RUN = ("run", "--symbols", "AAPL", "--start", "2026-07-29", "--end", "2026-08-05")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            (*RUN[:1], "--symbols", "TSLA", "--days", "3"), "symbol TSLA not registered; add: backfill", id="symbol"
        ),
        pytest.param((*RUN[:-1], "2026-07-01"), "start 2026-07-29 is after end 2026-07-01; swap them", id="reversed"),
        pytest.param((*RUN[:-1], "2999-01-01"), "end 2999-01-01 is in the future; today is", id="future"),
        pytest.param((*RUN[:-1], "soon"), "end 'soon' is not a date; write it as 2024-03-01", id="no date"),
        pytest.param((*RUN, "--timeframes", "2h"), "timeframe '2h' is not known; use one of 1m 5m", id="timeframe"),
        pytest.param((*RUN, "--timeframes", ","), "no timeframes given", id="no timeframes"),
        pytest.param((*RUN, "--days", "3"), "give either days or start and end, not both", id="days and dates"),
        pytest.param(RUN[:3], "give days, or both start and end", id="no dates"),
        pytest.param((*RUN[:3], "--days", "-1"), "days is -1; give 1 or more", id="negative days"),
        pytest.param(("run", "--symbols", ",", "--days", "1"), "0 symbols given; give 1 to 100", id="no symbols"),
        pytest.param(
            ("run", "--symbols", "AAPL", "--timeframes", "1m", "--start", "2021-12-31", "--end", "2022-01-05"),
            "start 2021-12-31 is before BACKFILL_INTRADAY_START=2022-01-01; start later or set",
            id="before the first partition",
        ),
        pytest.param(("matrix", "--symbols", "TSLA"), "symbol TSLA not registered", id="matrix of an unknown symbol"),
        pytest.param(("symbols", "add"), "no symbols given", id="nothing to add"),
        pytest.param(("symbols", "add", "--file", "none.txt"), "none.txt cannot be read: No such file", id="no file"),
        pytest.param(("symbols", "add", "A", "--bars", "5m"), "bars '5m': only 1m and 1d are asked", id="derived bars"),
        pytest.param(("symbols", "add", "A", "--asset-class", "bond"), "asset class 'bond' is not known", id="class"),
        pytest.param(("symbols", "add", "A", "--calendar", "XMOON"), "XMOON", id="calendar"),
        pytest.param(("symbols", "add", "A", "--since", "later"), "since 'later' is not a date", id="since"),
        pytest.param(
            ("symbols", "add", "A", "--since", "2999-01-01"), "since 2999-01-01 is in the future", id="future since"
        ),
        pytest.param(
            ("db", "stop"), "DATABASE_URL is set: its server is not this project's to stop", id="foreign server"
        ),
        pytest.param(("ui", "--port", "99999"), "port 99999 on 127.0.0.1 cannot be used", id="no port"),
    ],
)
def test_a_wrong_argument_is_one_line(desk: Shell, arguments: tuple[str, ...], words: str) -> None:
    ran = desk.quick(*arguments)

    assert one_line(ran).startswith("backfill: ")
    assert words in one_line(ran)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert desk.runs() == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        pytest.param({"DATABASE_URL": DEAD}, "PostgreSQL at 127.0.0.1, port 1, database market: ", id="refused port"),
        pytest.param({"DATABASE_URL": "mysql://u:hunter2@h/m"}, "DATABASE_URL (mysql://***)", id="another database"),
        pytest.param({"DAGSTER_DATABASE_URL": DEAD}, "correct DAGSTER_DATABASE_URL", id="Dagster's refused port"),
        pytest.param({"BACKFILL_INTRADAY_START": "2022-13-01"}, "BACKFILL_INTRADAY_START is '2022-13-01'", id="a date"),
        pytest.param(
            {"BACKFILL_DAILY_GRAIN": "quarter"}, "BACKFILL_DAILY_GRAIN is 'quarter'; allowed: day", id="a grain"
        ),
        pytest.param({"BACKFILL_PROVIDER": "bloomberg"}, "BACKFILL_PROVIDER=bloomberg is not known", id="a provider"),
        pytest.param({"BACKFILL_NIGHTLY_CRON": "nightly"}, "BACKFILL_NIGHTLY_CRON is 'nightly'", id="a schedule"),
    ],
)
def test_a_wrong_setting_is_one_line_without_a_password(desk: Shell, variables: dict[str, str], words: str) -> None:
    ran = desk.quick(*RUN, **variables)

    assert words in one_line(ran)
    assert "hunter2" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("run", "--nonsense"), ("run", "--days", "many"), ("symbols", "remove")]
)
def test_wrong_usage_points_to_help_and_exits_2(desk: Shell, arguments: tuple[str, ...]) -> None:
    ran = desk.quick(*arguments)

    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "--help' for help." in ran.stderr


def test_the_command_itself_ends_with_one_line_too(desk: Shell) -> None:
    ran = desk.backfill(*RUN, DATABASE_URL=DEAD)

    assert ran.returncode == 1
    assert one_line(ran).startswith("backfill: PostgreSQL at 127.0.0.1, port 1, database market: ")


def test_a_closed_pipe_is_no_error(desk: Shell) -> None:
    ran = desk.bash("set -o pipefail; backfill symbols list | head -1 > /dev/null")

    assert ran.stderr == ""


HELPS = {
    (): "Start with: backfill demo",
    ("run",): "Last session date, included.",
    ("plan",): "Asks nobody and changes nothing",
    ("demo",): ".backfill/demo",
    ("matrix",): "how complete every symbol is",
    ("ui",): "Ctrl-C ends it",
    ("doctor",): "at most one request to each provider",
    ("pause",): "from any process, until",
    ("resume",): "runs that were waiting go on",
    ("env",): 'eval "$(backfill env)"',
    ("symbols", "add"): "# starts a comment",
    ("symbols", "list"): "Every registered symbol",
    ("symbols", "remove"): "--with-bars",
    ("db", "url"): "for psql and notebooks",
    ("db", "start"): "if it is not running",
    ("db", "stop"): "the data stay",
    ("db", "status"): "Whether the server runs",
    ("db", "migrate"): "every other command does so by itself",
    ("db", "size"): "what two years of one more symbol take",
    ("db", "move-to"): "nothing half-copied stays there",
    ("reconcile",): "Asks no provider and changes no bar",
}


def test_every_command_has_help_that_fits_a_terminal(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In one process, without a database: help costs no import of Dagster or pandas."""
    bare = Shell(tmp_path_factory.mktemp("help"), {"COLUMNS": "90"})
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from backfill_pipeline.cli.app import app\n"
        f"for words in {list(HELPS)!r}:\n"
        "    print('\\x1e' + CliRunner().invoke(app, [*words, '--help']).output)\n"
        "print('\\x1e', {'dagster', 'pandas'} & set(sys.modules))\n"
    )

    ran = bare.python(code)

    assert ran.returncode == 0, ran.stderr
    *pages, imported = ran.stdout.split("\x1e")[1:]
    assert imported.strip() == "set()"
    for (command, words), page in zip(HELPS.items(), pages, strict=True):
        flat = " ".join(page.replace("│", " ").split())
        assert words in flat, command
        assert max(map(len, page.splitlines())) <= 90
