"""Questions to the roles, answered as AWS would: what the platform needs, and what nobody gets."""

from pathlib import Path

import pytest
from iam_cases import NAME, NEEDED, REFUSED, Case, arn
from iam_policies import may, parsed, rendered, taken_on

ROLES = parsed((Path(__file__).parents[1] / "golden" / "terraform" / "iam.txt").read_text())


def asked(case: Case) -> bool:
    """Whether the case's role may."""
    role, action, place, *context = case
    return may(ROLES, f"{NAME}-{role}", action, arn(place), *context)


def named(case: Case) -> str:
    """The case in words, for the test's name."""
    return " ".join(str(part) for part in case[:3]).replace("::", ":")


@pytest.mark.parametrize("case", NEEDED, ids=named)
def test_what_the_platform_needs_is_allowed(case: Case) -> None:
    """Each is a call of the code, with the names that the code gives."""
    assert asked(case)


@pytest.mark.parametrize("case", REFUSED, ids=named)
def test_what_nobody_should_do_is_refused(case: Case) -> None:
    """Whoever has taken a workload over gets no further."""
    assert not asked(case)


def test_each_role_is_asked_about() -> None:
    """In both directions; of the infrastructure's, AWS' own policies say most."""
    roles = {
        name.removeprefix(f"{NAME}-")
        for name, role in ROLES.items()
        if role.trusts and role.boundary != f"{NAME}-infrastructure"
    }
    assert {case[0] for case in NEEDED} == roles
    assert {case[0] for case in REFUSED} == roles


PODS = "Service pods.eks.amazonaws.com"
GITHUB = "Federated arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"


def pod(
    namespace: str, account: str, cluster: str = NAME, owner: str = "123456789012"
) -> dict[str, str]:
    """What EKS says about a pod that asks."""
    return {
        "aws:SourceAccount": owner,
        "aws:SourceArn": f"arn:aws:eks:us-east-1:{owner}:cluster/{cluster}",
        "aws:RequestTag/kubernetes-namespace": namespace,
        "aws:RequestTag/kubernetes-service-account": account,
    }


@pytest.mark.parametrize(
    ("role", "asks", "answer"),
    [
        ("run", pod("mlops-runs", "mlops-run"), True),
        ("step", pod("mlops-runs", "mlops-step"), True),
        ("dagster", pod("dagster", "dagster"), True),
        ("database-bootstrap", pod("dagster", "database-bootstrap"), True),
        ("endpoint", pod("mlops-endpoints", "mlops-endpoint"), True),
        ("run", pod("mlops-runs", "mlops-step"), False),
        ("run", pod("default", "mlops-run"), False),
        ("run", pod("mlops-runs", "mlops-run", cluster="somebody-elses"), False),
        ("run", pod("mlops-runs", "mlops-run", owner="210987654321"), False),
        ("run", {}, False),
    ],
)
def test_a_role_is_taken_on_by_pods_of_its_account_alone(
    role: str, asks: dict[str, str], answer: bool
) -> None:
    """In this cluster of this AWS account."""
    assert taken_on(ROLES[f"{NAME}-{role}"], PODS, "sts:AssumeRole", asks) is answer


def sagemaker(owner: str = "123456789012", region: str = "us-east-1") -> dict[str, str]:
    """What SageMaker says when it takes the role of an endpoint's containers on."""
    return {
        "aws:SourceAccount": owner,
        "aws:SourceArn": f"arn:aws:sagemaker:{region}:{owner}:*",
    }


@pytest.mark.parametrize(
    ("by", "asks", "answer"),
    [
        ("Service sagemaker.amazonaws.com", sagemaker(), True),
        ("Service sagemaker.amazonaws.com", sagemaker(owner="210987654321"), False),
        ("Service sagemaker.amazonaws.com", sagemaker(region="eu-west-1"), False),
        ("Service sagemaker.amazonaws.com", {}, False),
        ("Service ec2.amazonaws.com", sagemaker(), False),
        (PODS, pod("mlops-endpoints", "mlops-endpoint"), False),
    ],
)
def test_containers_role_is_taken_on_by_sagemaker_of_the_account_alone(
    by: str, asks: dict[str, str], answer: bool
) -> None:
    """In the platform's region; no pod has it."""
    assert taken_on(ROLES[f"{NAME}-sagemaker"], by, "sts:AssumeRole", asks) is answer


MAIN, PULL = "ref:refs/heads/main", "pull_request"
DEPLOY = "environment:production"


@pytest.mark.parametrize(
    ("role", "subject", "answer"),
    [
        ("ci-plan", f"repo:example/mlops:{MAIN}", True),
        ("ci-plan", f"repo:example/mlops:{PULL}", True),
        ("ci-plan", "repo:example/mlops:ref:refs/heads/attempt", False),
        ("ci-apply", f"repo:example/mlops:{DEPLOY}", True),
        ("ci-apply", f"repo:example/mlops:{MAIN}", False),
        ("ci-apply", f"repo:example/mlops:{PULL}", False),
        ("ci-apply", "repo:example/mlops:environment:staging", False),
        ("ci-apply", f"repo:somebody/mlops:{DEPLOY}", False),
        ("ci-push", f"repo:example/mlops:{MAIN}", True),
        ("ci-push", f"repo:example/mlops:{PULL}", False),
        ("ci-push", "repo:example/mlops:ref:refs/tags/v1", False),
        ("ci-push", f"repo:example/mlops-fork:{MAIN}", False),
    ],
)
@pytest.mark.parametrize("audience", ["sts.amazonaws.com", "https://github.com/example"])
def test_a_workflow_gets_the_role_that_its_job_is_for(
    role: str, subject: str, answer: bool, audience: str
) -> None:
    """By repository, and branch or environment, with a token that was meant for AWS."""
    issuer = "token.actions.githubusercontent.com"
    token = {f"{issuer}:aud": audience, f"{issuer}:sub": subject}
    expected = answer and audience == "sts.amazonaws.com"
    action = "sts:AssumeRoleWithWebIdentity"
    assert taken_on(ROLES[f"{NAME}-{role}"], GITHUB, action, token) is expected


def test_the_text_says_all_of_a_policy() -> None:
    """What is read from it is what was written."""
    assert {role.name: role for role in ROLES.values()} == parsed(rendered(ROLES.values()))
