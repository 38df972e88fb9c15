"""tests/policies.py: a call without permission is named with the statement that allows it, as template.yaml has statements."""

import pytest

from local.stack.template import ROOT
from tests import policies

QUOTE = "TasksQuoteFunction"
ALLOWED = (QUOTE, "dynamodb:Query", "MessagesTable")


def test_a_call_without_permission_fails_with_the_statements_to_add() -> None:
    calls = [
        ALLOWED,
        (QUOTE, "dynamodb:PutItem", "ChatsTable"),
        (QUOTE, "dynamodb:DeleteItem", "ChatsTable"),
        (QUOTE, "dynamodb:Query", "ChatsTable/index/by_create_time"),
        (QUOTE, "s3:PutObject", "AvatarsBucket/avatars/"),
        (QUOTE, "secretsmanager:GetSecretValue", "WechatSecret"),
        (QUOTE, "sqs:SendMessage", "JobsQueue"),
        ("ChatsGetFunction", "dynamodb:Scan", "UsersTable"),
    ]
    with pytest.raises(AssertionError) as failure:
        policies.check_missing(QUOTE, calls)
    first, *statements = str(failure.value).split("\n")
    assert first.startswith(
        f"{QUOTE} calls AWS, and its policies do not allow it. Add to its Statement in template.yaml:"
    )
    assert [statement.strip() for statement in statements] == [
        '- {Effect: Allow, Action: s3:PutObject, Resource: !Sub "${AvatarsBucket.Arn}/avatars/*"}',
        "- {Effect: Allow, Action: [dynamodb:DeleteItem, dynamodb:PutItem], Resource: !GetAtt ChatsTable.Arn}",
        '- {Effect: Allow, Action: dynamodb:Query, Resource: !Sub "${ChatsTable.Arn}/index/by_create_time"}',
        "- {Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt JobsQueue.Arn}",
        "- {Effect: Allow, Action: secretsmanager:GetSecretValue, Resource: !Ref WechatSecret}",
    ]


def test_what_a_policy_allows_is_not_missing_and_what_nobody_uses_is_needless() -> None:
    policies.check_missing(QUOTE, [ALLOWED])
    needless = policies.find_needless(QUOTE, [ALLOWED])
    assert ("dynamodb:GetItem", "UsersTable") in needless
    assert ALLOWED[1:] not in needless


def test_an_index_is_covered_by_all_indexes_of_its_table_and_not_by_its_table() -> None:
    may = ("dynamodb:Query", "ChatsTable/index/*")
    assert policies._covers(may, ("dynamodb:Query", "ChatsTable/index/by_create_time"))
    assert not policies._covers(may, ("dynamodb:Query", "ChatsTable"))
    assert not policies._covers(("dynamodb:Query", "ChatsTable"), ("dynamodb:Query", "ChatsTable/index/by_create_time"))


@pytest.mark.parametrize("function", policies.TEMPLATE.functions)
def test_statements_are_written_as_the_template_has_them(function: str) -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    for use in policies.find_needless(function, []):
        resource = policies.write_statements([use]).partition("Resource: ")[2]
        assert f"Resource: {resource}" in text or f"Resource: {resource.rstrip('}')}\n" in text
