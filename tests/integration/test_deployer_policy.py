"""docs/deployer-policy.json: it follows the template, and it is the least that a deployment needs."""

import json
from typing import Any

import botocore.session
import pytest

from local.release import policy
from local.release.policy_actions import ACTIONS
from local.release.stages import OperationError
from local.stack.template import ROOT

PAGE: dict[str, Any] = json.loads((ROOT / "docs" / "deployer-policy.json").read_text())
SERVICES = {"apigateway": None, "servicequotas": "service-quotas", "cloudwatch": "cloudwatch"}
"""IAM's names of services where botocore has another one; API Gateway's actions are HTTP methods."""
NOT_CALLS = {
    "iam:PassRole",
    "s3:GetBucket*",  # versions, tags, policy, encryption …
    "s3:GetEncryptionConfiguration",
    "s3:PutEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:GetAccelerateConfiguration",
    "s3:GetAnalyticsConfiguration",
    "s3:GetIntelligentTieringConfiguration",
    "s3:GetInventoryConfiguration",
    "s3:GetMetricsConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketCORS",
    "s3:GetObjectVersion",
    "s3:DeleteObjectVersion",
    "cloudfront:CreateDistributionWithTags",
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:ListLogDeliveries",
    "logs:DeleteLogDelivery",
    "cloudformation:TagResource",
    "cloudformation:UntagResource",
}
"""Actions that IAM knows, and that are no calls of their own."""
EVERYWHERE = {
    "cloudformation:GetTemplateSummary",
    "cloudformation:ValidateTemplate",
    "cloudwatch:DescribeAlarms",
    "iam:GetAccountSummary",
    "iam:SimulatePrincipalPolicy",
    "lambda:CreateEventSourceMapping",
    "lambda:DeleteEventSourceMapping",
    "lambda:GetAccountSettings",
    "lambda:GetEventSourceMapping",
    "lambda:ListEventSourceMappings",
    "lambda:UpdateEventSourceMapping",
    "secretsmanager:GetRandomPassword",
    "servicequotas:GetServiceQuota",
    "servicequotas:ListRequestedServiceQuotaChangeHistoryByQuota",
    "sns:GetSubscriptionAttributes",
    "sns:SetSubscriptionAttributes",
    "sns:Unsubscribe",
}
"""Actions of an account, or on resources whose names nobody knows before. Deliveries of logs and CloudFront come on top."""


def pairs(document: dict[str, Any]) -> set[tuple[str, str]]:
    """(action, resource) of a policy."""
    return {(a, r) for statement in document["Statement"] for a in statement["Action"] for r in statement["Resource"]}


def test_the_page_is_what_the_template_needs() -> None:
    assert policy.policy(policy.resource_types()) == PAGE, "run make docs"


def test_a_new_type_of_resource_needs_its_actions_first() -> None:
    with pytest.raises(OperationError, match="no actions for AWS::Kinesis::Stream"):
        policy.policy(policy.resource_types() | {"AWS::Kinesis::Stream": ["Stream"]})


@pytest.mark.parametrize("kind", ACTIONS)
def test_every_action_is_one(kind: str) -> None:
    session = botocore.session.get_session()
    for right in ACTIONS[kind]:
        name = SERVICES.get(right.service, right.service)
        if name is None:
            continue
        calls = set(session.get_service_model(name).operation_names)
        calls |= {call.rstrip("0123456789_") for call in calls}  # CloudFront's and Lambda's names may end in a date
        for action in right.actions.split():
            assert f"{right.service}:{action}" in NOT_CALLS or action in calls, action


def test_only_what_has_no_name_before_is_allowed_everywhere() -> None:
    everywhere = {action for action, resource in pairs(PAGE) if resource == "*"}
    assert {action for action in everywhere if not action.startswith(("logs:", "cloudfront:"))} <= EVERYWHERE


def test_nothing_is_allowed_on_other_stacks() -> None:
    for action, resource in pairs(PAGE):
        names = (
            "aideer",
            "aws-sam-cli-managed-default",
            "Secret-",
            "Serverless-2016-10-31",
            "/apis",
            "/tags",
            "/domainnames",  # their names are the operator's
            ":global/webacl/",
            ":layer:",
        )
        assert resource == "*" or any(name in resource for name in names), (action, resource)
        assert not action.endswith(":*"), action


def test_roles_are_passed_to_lambda_only() -> None:
    [statement] = [each for each in PAGE["Statement"] if "iam:PassRole" in each["Action"]]
    assert statement["Action"] == ["iam:PassRole"]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


def test_it_fits_into_a_roles_inline_policy_and_into_two_managed_ones() -> None:
    assert policy.size(PAGE) <= policy.INLINE
    parts = policy.parts(PAGE)
    assert len(parts) == 2
    assert all(policy.size(part) <= policy.MANAGED for part in parts)
    assert [statement for part in parts for statement in part["Statement"]] == PAGE["Statement"]


def test_it_can_be_printed_for_another_name_and_partition(capsys: pytest.CaptureFixture[str]) -> None:
    assert policy.main(["--print", "--stack", "shop", "--partition", "aws-cn"]) == 0
    shown = capsys.readouterr().out
    assert "arn:aws-cn:dynamodb:*:*:table/shop*" in shown
    assert "arn:aws:" not in shown
    assert pairs(json.loads(shown)) == pairs(policy.read("shop", "aws-cn"))
