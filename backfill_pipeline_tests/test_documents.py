"""The documents against the code: commands, variables, jobs, links and quoted messages that they name must exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from backfill_pipeline.cli.app import app
from backfill_pipeline.definitions import build_definitions
from backfill_pipeline.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ALIASES = [field.validation_alias for field in Settings.model_fields.values()]
VARIABLES = {str(name) for alias in ALIASES for name in getattr(alias, "choices", [alias])}
# Set for Dagster, and read by libraries.
OTHERS = {"DAGSTER_HOME", "HTTPS_PROXY"}

# The provider's own words, and plurals that the code puts together.
NOT_IN_ONE_STRING = {"Attempted to request today's data before end of day", "rows in quarantine", "times"}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
# `backfill …` where a shell would run it: first on its line or in $(…), or the next step of an output.
COMMAND = re.compile(r"(?:^(?:\$ )?(?:\w+=\S+ )*|\$\(|next: |suit: |then )(?:\.venv/bin/)?backfill ([^\n`;)#]+)", re.M)


def texts(page: Path) -> tuple[list[str], list[str]]:
    """The page's code blocks, and its pieces of code inside lines."""
    text = page.read_text(encoding="utf-8")
    return [m[2] for m in FENCE.finditer(text)], [m[2] for m in CODE.finditer(FENCE.sub("", text))]


def commands(page: Path) -> Iterator[str]:
    for code in (code.replace("\\|", "|") for part in texts(page) for code in part):
        yield from (found[1].strip() for found in COMMAND.finditer(code))


def wrong(line: str) -> str | None:
    """What of a command line the program does not have."""
    at: click.Command = typer.main.get_command(app)
    words = line.split()
    while words and hasattr(at, "commands") and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        if names[0] == "…":
            return None
        if unknown := [name for name in names if name not in at.commands]:
            return f"no command {unknown[0]}"
        at = at.commands[names[0]]
    options = {option for parameter in at.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in words if re.fullmatch(r"--[a-z].*", word) and word.partition("=")[0] not in options]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize(
    "line", ["symbols drop AAPL", "run --dyas 3", "symbols add|forget", "gaps --al", "gaps acept 1"]
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    assert wrong(line) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_with_its_options(page: Path) -> None:
    assert [(line, why) for line in commands(page) if (why := wrong(line)) is not None] == []


def test_the_pages_show_commands() -> None:
    shown = {line.split()[0] for page in PAGES for line in commands(page)}
    assert {"symbols", "plan", "run", "matrix", "gaps", "calendar", "doctor", "pause", "resume", "ui", "db", "env"} <= {
        name for word in shown for name in word.split("|")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_environment_variable_is_a_setting(page: Path) -> None:
    named = re.findall(r"\b(?:[A-Z]+_)+(?:[A-Z]+)\b", "\n".join(code for part in texts(page) for code in part))
    ours = re.compile(r"BACKFILL_|POLYGON_|MASSIVE_|TRADIER_|BINANCE_|DAGSTER_|DATABASE_URL|HTTPS?_")
    assert {name for name in named if ours.match(name)} - VARIABLES - OTHERS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_example_of_a_settings_file_is_one(page: Path, tmp_path: Path) -> None:
    for number, example in enumerate(m[2] for m in FENCE.finditer(page.read_text()) if m[1] == "dotenv"):
        file = tmp_path / f"{number}.env"
        file.write_text(example)
        load_settings(file)
        assert set(re.findall(r"^(\w+)=", example, re.M)) <= VARIABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)", FENCE.sub("", page.read_text(encoding="utf-8")))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_job_and_its_assets_exist() -> None:
    known = {job.name for job in build_definitions().resolve_all_job_defs()}
    named = {name for page in PAGES for part in texts(page) for code in part for name in re.findall(r" -j (\w+)", code)}
    assert named
    assert named - known == set()


def quoted(page: Path) -> Iterator[str]:
    """The messages in the first column of the tables that tell what messages mean."""
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), re.M):
        head, _, *rows = table.splitlines()
        if "| means | do |" in head:
            yield from (m[2] for row in rows for m in CODE.finditer(row.split(" | ")[0]))


@pytest.mark.parametrize(
    ("page", "least"), [("providers.md", 100), ("operations.md", 100), ("writing-a-provider.md", 8)]
)
def test_every_message_explained_is_one_that_the_code_has(page: str, least: int) -> None:
    trees = [ast.parse(file.read_text()) for file in (ROOT / "backfill_pipeline").rglob("*.py")]
    strings = [n.value for t in trees for n in ast.walk(t) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    lines = quoted(ROOT / "docs" / page)
    pieces = {piece.strip(" .,:;()") for line in lines for piece in re.split("…|; |: |, ", line)} - NOT_IN_ONE_STRING
    assert len(pieces) > least
    assert sorted(piece for piece in pieces if not any(piece in string for string in strings)) == []
