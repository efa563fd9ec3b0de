"""checkov over terraform/: nothing is found but what is skipped, with a reason, where it is."""

import json
import os
import re
import subprocess

import pytest
from terraform_support import TERRAFORM, TOOLS

CHECKOV = TOOLS / "checkov"
SKIP = re.compile(r"#\s*checkov:skip=(\w+)(?::(.*))?")


def test_each_skip_says_why():
    """A reason, in words, in the same line."""
    for path in TERRAFORM.rglob("*.tf"):
        if ".terraform" not in path.parts:
            for found in SKIP.finditer(path.read_text()):
                assert len((found[2] or "").split()) >= 3, f"{path}: {found[0]}"


@pytest.mark.terraform
@pytest.mark.parametrize("folder", ["modules", "environments", "bootstrap"])
def test_checkov_finds_nothing(folder):
    """By the version that requirements-terraform.lock pins, without its online policies."""
    if not CHECKOV.exists():
        pytest.skip("CHECKOV IS NOT TRIED: it is not installed, run `make setup-terraform`")
    done = subprocess.run(
        [
            str(CHECKOV),
            *("--directory", str(TERRAFORM / folder), "--framework", "terraform"),
            *("--skip-download", "--quiet", "--compact", "--output", "json", "--soft-fail"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    failed = [
        f"{each['check_id']} {each['file_path']}:{each['file_line_range'][0]} {each['resource']}: "
        f"{each['check_name']}"
        for each in found["results"]["failed_checks"]
    ]
    assert failed == []
    assert found["summary"]["parsing_errors"] == 0
    assert found["summary"]["passed"] > 0
