"""Writes the generated pages of documentation from the declarations they describe: `make docs`."""

from pathlib import Path

from backfill_pipeline.domain.columns import dictionary
from backfill_pipeline.domain.features import feature_table

DOCS = Path(__file__).parents[1] / "docs"


def pages() -> dict[Path, str]:
    """The text of each generated page by its file."""
    return {DOCS / "data-dictionary.md": dictionary(), DOCS / "features.md": feature_table()}


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
