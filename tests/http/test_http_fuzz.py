"""Every fuzz target of the readers, for a moment: that it runs, and that what it asserts still holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", ["request_head", "response_head", "chunks", "target"])
def test_the_fuzzer_finds_nothing_in_a_moment(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason=f"fuzz_{name} needs atheris")
    options = ["-runs=800", "-max_len=200", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.fuzz_{name}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 800 runs" in done.stderr
