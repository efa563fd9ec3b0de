"""The evaluator that answers for AWS: denials, boundaries, patterns, conditions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iam_policies import Role, Statement, like, may

WORDS = st.text("abc:/*?.-", max_size=12)


@given(WORDS)
def test_a_text_without_wildcards_is_like_itself_alone(text: str) -> None:
    """And a star is like everything."""
    plain = text.replace("*", "").replace("?", "")
    assert like(plain, plain)
    assert like(plain, f"{plain}x") is False
    assert like("*", text)


def of(*given_statements: Statement, boundary: Statement | None = None) -> dict[str, Role]:
    """One role ``r`` with the statements, and its boundary."""
    roles = {"r": Role("r", "b" if boundary else "", (), given_statements)}
    return roles | ({"b": Role("b", "", (), (boundary,))} if boundary else {})


READ = Statement("Read", "Allow", ("s3:Get*",), ("arn:aws:s3:::a/*",))


def test_what_no_statement_allows_is_refused() -> None:
    """Another action, another resource; an action's capitals make no difference."""
    assert may(of(READ), "r", "s3:getobject", "arn:aws:s3:::a/k")
    assert not may(of(READ), "r", "s3:PutObject", "arn:aws:s3:::a/k")
    assert not may(of(READ), "r", "s3:GetObject", "arn:aws:s3:::b/k")


def test_a_denial_counts_whatever_else_allows() -> None:
    """In the policy and in the boundary."""
    deny = Statement("No", "Deny", ("s3:GetObject",), ("arn:aws:s3:::a/secret/*",))
    assert not may(of(READ, deny), "r", "s3:GetObject", "arn:aws:s3:::a/secret/k")
    assert may(of(READ, deny), "r", "s3:GetObject", "arn:aws:s3:::a/k")
    assert not may(of(READ, boundary=deny), "r", "s3:GetObject", "arn:aws:s3:::a/k")


def test_a_boundary_gives_nothing_and_takes_the_rest() -> None:
    """Both have to allow."""
    bound = Statement("Bound", "Allow", ("s3:GetObject", "s3:PutObject"), ("*",))
    roles = of(READ, boundary=bound)
    assert may(roles, "r", "s3:GetObject", "arn:aws:s3:::a/k")
    assert not may(roles, "r", "s3:PutObject", "arn:aws:s3:::a/k")
    assert not may(roles, "r", "s3:GetObjectVersion", "arn:aws:s3:::a/k")


@pytest.mark.parametrize(
    ("condition", "context", "answer"),
    [
        (("StringEquals", "k", ("a", "b")), {"K": "b"}, True),
        (("StringEquals", "k", ("a", "b")), {"k": "B"}, False),
        (("StringEquals", "k", ("a",)), {}, False),
        (("StringLike", "k", ("a*",)), {"k": "abc"}, True),
        (("StringLike", "k", ("a*",)), {}, False),
        (("StringNotEquals", "k", ("a",)), {}, True),
        (("StringNotEquals", "k", ("a",)), {"k": "a"}, False),
        (("Null", "k", ("false",)), {"k": "a"}, True),
        (("Null", "k", ("false",)), {}, False),
        (("Null", "k", ("true",)), {}, True),
        (("Bool", "k", ("true",)), {"k": "true"}, True),
        (("ForAllValues:StringEquals", "k", ("a", "b")), {"k": "b,a"}, True),
        (("ForAllValues:StringEquals", "k", ("a", "b")), {"k": "b,c"}, False),
        (("ForAllValues:StringEquals", "k", ("a", "b")), {}, True),
    ],
)
def test_conditions_hold_as_aws_says(
    condition: tuple[str, str, tuple[str, ...]], context: dict[str, str], answer: bool
) -> None:
    """A key that a request does not have fits nothing but a denial of values, and all of none."""
    statement = Statement("S", "Allow", ("s3:GetObject",), ("*",), (condition,))
    assert may(of(statement), "r", "s3:GetObject", "arn:aws:s3:::a/k", context) is answer


def test_an_operator_that_is_not_known_is_an_error() -> None:
    """And no answer that somebody may rely on."""
    odd = Statement("S", "Allow", ("s3:GetObject",), ("*",), (("IpAddress", "k", ("10.0.0.0/8",)),))
    with pytest.raises(ValueError, match="IpAddress"):
        may(of(odd), "r", "s3:GetObject", "arn:aws:s3:::a/k", {"k": "10.1.1.1"})
