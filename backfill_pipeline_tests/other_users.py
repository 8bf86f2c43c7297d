"""Running Python as another OS user from tests that run as root."""

import os
import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user as well")


def python_as(user: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code as `user` with this project and its packages importable; skip the test where that user cannot."""
    entry = pwd.getpwnam(user)
    packages = f"{CHECKOUT}{os.pathsep}{sysconfig.get_path('purelib')}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for interpreter in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            done = subprocess.run(
                [interpreter, "-c", code],
                user=entry.pw_uid,
                group=entry.pw_gid,
                extra_groups=[],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (PermissionError, FileNotFoundError):
            continue
        if "ModuleNotFoundError" not in done.stderr:
            return done
    return pytest.skip(f"{user} reaches no {version} with this project's packages")
