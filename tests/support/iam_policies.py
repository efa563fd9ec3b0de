"""Policies of IAM: as text that people read in a diff, and evaluated as AWS does.

The text has one line for each thing that somebody may ask about:

    role mlops-production-mlflow
    bounded by mlops-production-workloads
    trusts
      allow PodsOfTheAccount
        by Service pods.eks.amazonaws.com
        do sts:AssumeRole
        if StringEquals aws:SourceAccount 123456789012
    may
      allow ReadArtifacts
        do s3:GetObject
        on arn:aws:s3:::mlops-production-artifacts/mlflow/*

Several lines ``if`` of one key are one condition with several values.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Condition = tuple[str, str, tuple[str, ...]]
"""Operator, key, and values of which one has to fit."""


@dataclass(frozen=True)
class Statement:
    """One of a policy; ``by`` are principals, where it has any."""

    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """A role with all that it may do, or a permissions boundary: one that nobody takes on."""

    name: str
    boundary: str
    trusts: tuple[Statement, ...]
    may: tuple[Statement, ...]
    has: tuple[str, ...] = ()
    """Names of AWS' own policies, which are not evaluated here."""


# -- from JSON and to text -------------------------------------------------------------------------


def statements(policy: str | Mapping[str, Any]) -> tuple[Statement, ...]:
    """Those of a policy document. Raises ValueError for what this module does not evaluate."""
    import json

    document = json.loads(policy) if isinstance(policy, str) else policy
    return tuple(_statement(each) for each in document["Statement"])


def _statement(each: Mapping[str, Any]) -> Statement:
    known = {"Sid", "Effect", "Action", "Resource", "Condition", "Principal"}
    if unknown := set(each) - known:
        raise ValueError(f"{each.get('Sid')}: {', '.join(sorted(unknown))} is not evaluated here")
    return Statement(
        sid=each.get("Sid", ""),
        effect=each["Effect"],
        actions=_many(each["Action"]),
        resources=_many(each.get("Resource", ())),
        conditions=tuple(
            (operator, key, _many(values))
            for operator, keys in sorted(each.get("Condition", {}).items())
            for key, values in sorted(keys.items())
        ),
        by=tuple(
            f"{kind} {name}"
            for kind, names in sorted(dict(each.get("Principal", {})).items())
            for name in _many(names)
        ),
    )


def _many(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def rendered(roles: Iterable[Role]) -> str:
    """The text of ``roles``."""
    return "\n".join(line for role in roles for line in (*_lines(role), ""))


def _lines(role: Role) -> Iterator[str]:
    yield f"role {role.name}" if role.trusts else f"boundary {role.name}"
    if role.boundary:
        yield f"bounded by {role.boundary}"
    yield from (f"has {policy}" for policy in role.has)
    for heading, found in (("trusts", role.trusts), ("may", role.may)):
        if found:
            yield heading
        for each in found:
            yield f"  {each.effect.lower()} {each.sid}".rstrip()
            yield from (f"    by {name}" for name in each.by)
            yield from (f"    do {action}" for action in each.actions)
            yield from (f"    on {resource}" for resource in each.resources)
            for operator, key, values in each.conditions:
                yield from (f"    if {operator} {key} {value}" for value in values)


def parsed(text: str) -> dict[str, Role]:
    """The roles and boundaries of :func:`rendered`'s text, by name."""
    found: dict[str, Role] = {}
    for block in re.split(r"\n(?=role |boundary )", text.strip()):
        head, *rest = block.splitlines()
        name, boundary, has = head.partition(" ")[2], "", list[str]()
        parts: dict[str, list[Statement]] = {"trusts": [], "may": []}
        heading = "may"
        for chunk in _chunks(rest):
            if chunk[0].startswith("bounded by "):
                boundary = chunk[0].removeprefix("bounded by ")
            elif chunk[0].startswith("has "):
                has.append(chunk[0].removeprefix("has "))
            elif chunk[0] in parts:
                heading = chunk[0]
            else:
                parts[heading].append(_parsed_statement(chunk))
        found[name] = Role(name, boundary, tuple(parts["trusts"]), tuple(parts["may"]), tuple(has))
    return found


def _chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """A line with the deeper ones below it."""
    chunk: list[str] = []
    for line in (line for line in lines if line):
        if chunk and not line.startswith("    "):
            yield chunk
            chunk = []
        chunk.append(line)
    if chunk:
        yield chunk


def _parsed_statement(chunk: Sequence[str]) -> Statement:
    effect, _, sid = chunk[0].strip().partition(" ")
    rows: dict[str, list[str]] = {"by": [], "do": [], "on": [], "if": []}
    for line in chunk[1:]:
        word, _, rest = line.strip().partition(" ")
        rows[word].append(rest)
    conditions: dict[tuple[str, str], list[str]] = {}
    for row in rows["if"]:
        operator, key, value = row.split(" ", 2)
        conditions.setdefault((operator, key), []).append(value)
    return Statement(
        sid=sid,
        effect=effect.title(),
        actions=tuple(rows["do"]),
        resources=tuple(rows["on"]),
        conditions=tuple((*found, tuple(values)) for found, values in conditions.items()),
        by=tuple(rows["by"]),
    )


# -- evaluation ------------------------------------------------------------------------------------


def may(
    roles: Mapping[str, Role],
    role: str,
    action: str,
    resource: str,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Whether the role may do ``action`` with ``resource``: no statement denies it, and one of its
    policies and one of its boundary allow it. ``context`` has the request's condition keys; several
    values of one have commas between them.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, for
    identities of one account whose resources' policies allow nobody more.
    """
    found = roles[role]
    bounds = [roles[found.boundary].may] if found.boundary else []
    sides = [found.may, *bounds]
    asked = (action, resource, context or {})
    if any(each.effect == "Deny" and _fits(each, *asked) for side in sides for each in side):
        return False
    return all(
        any(each.effect == "Allow" and _fits(each, *asked) for each in side) for side in sides
    )


def taken_on(role: Role, by: str, action: str, context: Mapping[str, str]) -> bool:
    """Whether the principal ``by`` (``Service name``) may take the role on."""
    return any(
        each.effect == "Allow" and by in each.by and _holds(each, action, context)
        for each in role.trusts
    )


def _fits(each: Statement, action: str, resource: str, context: Mapping[str, str]) -> bool:
    on = any(like(pattern, resource) for pattern in each.resources)
    return on and _holds(each, action, context)


def _holds(each: Statement, action: str, context: Mapping[str, str]) -> bool:
    # Names of actions are the same in capitals and in small letters, those of resources are not.
    done = any(like(pattern.lower(), action.lower()) for pattern in each.actions)
    return done and all(_true(*condition, context) for condition in each.conditions)


def _true(operator: str, key: str, values: Sequence[str], context: Mapping[str, str]) -> bool:
    # Keys of conditions are the same in capitals and in small letters.
    value = {name.lower(): found for name, found in context.items()}.get(key.lower())
    if operator.startswith("ForAllValues:"):
        each = operator.removeprefix("ForAllValues:")
        return all(_true(each, key, values, {key: one}) for one in (value or "").split(",") if one)
    if operator == "Null":
        return values == (("true",) if value is None else ("false",))
    if operator in ("StringNotEquals",):
        return value not in values
    if value is None:
        return False
    match operator:
        case "StringEquals" | "Bool":
            return value in values
        case "StringLike" | "ArnLike" | "ArnEquals":
            return any(like(pattern, value) for pattern in values)
        case _:
            raise ValueError(f"the operator {operator} is not evaluated here")


def like(pattern: str, text: str) -> bool:
    """Whether ``text`` is as ``pattern`` says: ``*`` stands for any characters, ``?`` for one."""
    found = "".join({"*": ".*", "?": "."}.get(letter) or re.escape(letter) for letter in pattern)
    return re.fullmatch(found, text, re.DOTALL) is not None
