"""The files that belong to the project beside its code: `sql/`, `dagster.yaml`."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def project_file(name: str) -> Path:
    """Path of a file or folder of the project: inside the installed wheel, else at the root of the checkout.

    Raises FileNotFoundError if it is in neither.
    """
    for root in (PACKAGE / "_files", PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(
        f"{name} is neither in {PACKAGE / '_files'} nor in {PACKAGE.parent}: install the package again"
    )
