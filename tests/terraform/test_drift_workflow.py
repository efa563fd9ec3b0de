"""The workflow that looks for drift every morning."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "terraform-drift.yaml"
TEXT = FILE.read_text()
WORKFLOW: dict[str, Any] = yaml.safe_load(TEXT)
JOB = WORKFLOW["jobs"]["plan"]
STEPS: dict[str, dict[str, Any]] = {
    each.get("name") or each["uses"].partition("@")[0]: each for each in JOB["steps"]
}
CHANGES = {
    "resource_drift": [{"address": "module.a.aws_x.drifted", "change": {"actions": ["update"]}}],
    "resource_changes": [
        {"address": "module.a.aws_x.same", "change": {"actions": ["no-op"]}},
        {"address": "module.a.data.aws_y.read", "change": {"actions": ["read"]}},
        {
            "address": "module.a.aws_x.replaced",
            "change": {"actions": ["delete", "create"], "before": {"password": "hunter2"}},
        },
    ],
}
"""What `terraform show -json` says of a plan."""


def program(folder: Path, name: str, script: str) -> None:
    """A program ``name`` that does what ``script`` says."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def run(step: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the step as GitHub's runner does, with the programs in ``folder``/bin first."""
    return subprocess.run(
        ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[step]["run"]],
        cwd=folder,
        env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_environment_is_planned() -> None:
    """An environment that is added is looked at too."""
    planned = {each["environment"] for each in JOB["strategy"]["matrix"]["include"]}
    folders = (ROOT / "terraform" / "environments").iterdir()
    assert planned == {path.name for path in folders if path.is_dir()}
    assert JOB["strategy"]["fail-fast"] is False, "one environment's drift hides another's"


def test_it_runs_by_itself() -> None:
    """A schedule, and a button."""
    # YAML 1.1 reads a bare `on` as true: it is quoted.
    assert WORKFLOW["on"]["schedule"][0]["cron"]
    assert "workflow_dispatch" in WORKFLOW["on"]


def test_it_may_do_no_more_than_it_has_to() -> None:
    """A token for AWS and for issues; nothing is written to the repository."""
    assert WORKFLOW["permissions"] == {}
    assert JOB["permissions"] == {"contents": "read", "id-token": "write", "issues": "write"}
    assert STEPS["actions/checkout"]["with"]["persist-credentials"] is False
    # The plan role trusts the branch: a GitHub environment would be another subject.
    assert "environment" not in JOB


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    """A tag can be moved to other code."""
    used = re.findall(r"uses: (.+)", TEXT)
    assert len(used) == 3
    for each in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each), each


def test_it_takes_the_role_that_only_reads() -> None:
    """Each environment's role is its own variable, and no key is stored."""
    given = STEPS["aws-actions/configure-aws-credentials"]["with"]
    assert given["role-to-assume"] == "${{ vars[matrix.role] }}"
    assert not {"aws-access-key-id", "aws-secret-access-key"} & set(given)
    roles = [each["role"] for each in JOB["strategy"]["matrix"]["include"]]
    assert len(set(roles)) == len(roles)
    assert all(role.endswith("_PLAN_ROLE") for role in roles)
    upgrades = (ROOT / "docs" / "terraform-upgrades.md").read_text()
    assert all(role in upgrades for role in roles)


def test_it_changes_nothing() -> None:
    """It plans, without a lock; no other command of Terraform that writes is in it."""
    commands = set(
        re.findall(r"terraform ([a-z-]+)", "".join(s.get("run", "") for s in JOB["steps"]))
    )
    assert commands == {"init", "plan", "show"}
    assert "-lock=false" in STEPS["plan"]["run"]
    assert STEPS["hashicorp/setup-terraform"]["with"]["terraform_wrapper"] is False


def test_terraform_is_of_the_version_that_the_roots_ask_for() -> None:
    """The workflow's version and `required_version` go together."""
    asked = STEPS["hashicorp/setup-terraform"]["with"]["terraform_version"]
    versions = ROOT / "terraform" / "environments" / "production" / "versions.tf"
    minor = re.search(r'required_version\s*=\s*">= (\d+\.\d+)', versions.read_text())
    assert minor
    assert asked == f"~{minor[1]}.0"


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_plan_steps_end_follows_terraforms_exit_code(tmp_path: Path, code: int) -> None:
    """0: nothing; 2: what differs, by address; 1: the step fails and shows why."""
    (tmp_path / "plan.json").write_text(json.dumps(CHANGES))
    program(
        tmp_path / "bin",
        "terraform",
        f'case $1 in plan) echo "because of this"; exit {code};; show) cat plan.json;; esac',
    )
    done = run("plan", tmp_path, GITHUB_OUTPUT=str(tmp_path / "output"))
    if code == 1:
        assert done.returncode == 1
        assert "because of this" in done.stdout
        assert not (tmp_path / "output").exists()
        return
    assert done.returncode == 0, done.stderr
    output = (tmp_path / "output").read_text()
    assert f"code={code}\n" in output
    listed = output.partition("changes<<END-OF-CHANGES\n")[2].splitlines()[:-1]
    differing = [
        "- `module.a.aws_x.drifted`: update",
        "- `module.a.aws_x.replaced`: delete, create",
    ]
    assert listed == (differing if code == 2 else [""])
    assert "hunter2" not in output + done.stdout + done.stderr, "a value of a resource"


@pytest.mark.parametrize(("found", "deed"), [("", "issue create"), ("17", "issue comment 17")])
def test_drift_opens_one_issue_and_then_adds_to_it(tmp_path: Path, found: str, deed: str) -> None:
    """A difference that stays does not open an issue every morning."""
    program(
        tmp_path / "bin",
        "gh",
        f'echo "$@" >>calls; case "$1 $2" in "issue list") echo "{found}";; esac',
    )
    named = {"TITLE": "Terraform drift: staging", "RUN": "https://run", "GH_TOKEN": "x"}
    done = run("open an issue", tmp_path, CHANGES="- `aws_x.y`: update", **named)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert deed in calls
    assert "- `aws_x.y`: update" in calls
    assert ("issue comment" in calls) != ("issue create" in calls)


def test_a_plan_that_failed_says_so_in_its_issue(tmp_path: Path) -> None:
    """No list of changes is no all-clear."""
    program(tmp_path / "bin", "gh", 'echo "$@" >>calls')
    done = run("open an issue", tmp_path, CHANGES="", TITLE="Terraform drift: staging", RUN="x")
    assert done.returncode == 0, done.stderr
    assert "The plan did not come about" in (tmp_path / "calls").read_text()
    assert "failure()" in STEPS["open an issue"]["if"]


def test_drift_fails_the_job() -> None:
    """Who looks at the list of runs sees it without opening one."""
    step = STEPS["fail where anything differs"]
    assert step["if"] == "${{ steps.plan.outputs.code == '2' }}"
    assert step["run"].rstrip().endswith("exit 1")
    assert list(STEPS)[-1] == "fail where anything differs", "after the issue is opened"
