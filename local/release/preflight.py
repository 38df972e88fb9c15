"""The checks of `make deploy`: who deploys, where, into what, and whether that can work.

Every check adds findings, and none ends the others, so one run shows all of them. A check that the operator may not make is left
out. Only a refusal stops the deployment.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from local.release import concurrency, policy
from local.release.concurrency import Concurrency
from local.release.findings import Finding, Level, fine, refusal, warning
from local.release.stacks import BAD_CREDENTIALS, explain
from local.release.stages import Stage, option
from local.stack.template import Template

ANY_REGION = "us-east-1"
"""The region for asking who the operator is, if no region is known yet. The SAM CLI asks for the stack's region afterwards."""
WITHOUT_URLS = frozenset(
    {
        *("ap-east-2", "ap-south-2", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7"),
        *("ca-west-1", "eu-central-2", "eu-south-2", "il-central-1", "me-central-1"),
    }
)
"""Regions without Lambda URLs, by Lambda's guide of 2025 ("Creating and managing Lambda function URLs")."""
BROKEN = {
    "ROLLBACK_COMPLETE": "Its first deployment failed. Delete it: {delete}",
    "ROLLBACK_FAILED": "Its first deployment failed, and so did cleaning up. Delete it: {delete}",
    "CREATE_FAILED": "Its first deployment failed. Delete it: {delete}",
    "DELETE_FAILED": "Deleting it failed. Delete it again: {delete}",
    "UPDATE_ROLLBACK_FAILED": "Going back to the release before failed. Repair the cause, then: "
    "aws cloudformation continue-update-rollback --stack-name {stack} --region {region}",
}
"""States in which CloudFormation takes no deployment."""
DELETE = "aws cloudformation delete-stack --stack-name {stack} --region {region}"
NEARLY_FULL = 0.9
ANSWERED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized")


@dataclass
class Preflight:
    """All checks of one deployment. `findings` has the results, `concurrency` the account's limit if it could be read."""

    stage: Stage
    arguments: list[str]
    findings: list[Finding] = field(default_factory=list)
    concurrency: Concurrency | None = None

    def __post_init__(self) -> None:
        profile = option("profile", self.arguments) or self.stage.parameters.get("profile")
        self._session = botocore.session.Session(profile=profile)
        self.stack = option("stack-name", self.arguments) or self.stage.stack
        self.known_region = (
            option("region", self.arguments) or self.stage.region or self._session.get_config_variable("region")
        )
        self.region = self.known_region or ANY_REGION
        self.partition = "aws"

    @property
    def refused(self) -> bool:
        """Whether a finding makes the deployment impossible."""
        return any(finding.level is Level.REFUSAL for finding in self.findings)

    def run(self, overrides: dict[str, str]) -> "Preflight":
        """Make all checks, for a deployment with these parameters."""
        caller = self._caller()
        if caller is None:
            return self
        self._find_region()
        if self.known_region is None:
            return self
        stack = self._allowed(self._stack, "cloudformation:DescribeStacks")
        self._allowed(lambda: self._concurrency(stack, overrides), "lambda:GetAccountSettings")
        self._allowed(lambda: self._roles(stack), "iam:GetAccountSummary")
        self._allowed(lambda: self._permissions(caller), "iam:SimulatePrincipalPolicy")
        return self

    def client(self, service: str) -> Any:
        """Return a client that gives up early."""
        quick = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 2})
        return self._session.create_client(service, region_name=self.region, config=quick)

    def _allowed(self, check: Callable[[], Any], action: str) -> Any:
        """Make a check. If the operator may not, or AWS cannot be reached, note that the check was left out."""
        try:
            return check()
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"].get("Code", "") if isinstance(error, ClientError) else ""
            said = f"you lack {action}" if code in ANSWERED else str(error)
            self.findings.append(warning(f"One check was left out: {said}."))
            return None

    def _caller(self) -> dict[str, str] | None:
        """Return the ARN and the account of the operator, or None with a refusal."""
        try:
            caller: dict[str, str] = self.client("sts").get_caller_identity()
        except (ClientError, BotoCoreError) as error:
            text = explain(error)
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else None
            if code in BAD_CREDENTIALS and self.known_region not in (None, ANY_REGION):
                text += f" If {self.region} is a region that an account must opt into, enable it first."
            if isinstance(error, (ClientError, NoCredentialsError)):
                self.findings.append(refusal(text))
            else:
                self.findings.append(refusal(f"AWS cannot be reached in {self.region}: {text}"))
            return None
        self.partition = caller["Arn"].split(":")[1]
        stack = f"the stage {self.stage.name}, the stack {self.stack}"
        self.findings.append(fine(f"You are {caller['Arn']} in the account {caller['Account']}, and deploy {stack}."))
        if caller["Arn"].endswith(":root"):
            self.findings.append(warning("You use the account's root user. Make a role for deployments instead."))
        return caller

    def _find_region(self) -> None:
        if self.known_region is None:
            text = "Nothing says the region yet, so its limits were not checked. The SAM CLI asks for it. "
            self.findings.append(warning(text + "Set AWS_DEFAULT_REGION first to have them checked."))
            return
        partitions = self._session.get_available_partitions()
        known = {region for each in partitions for region in self._session.get_available_regions("lambda", each)}
        if self.partition == "aws-cn":
            text = f"{self.region} is in AWS China, which has no Lambda URLs. Answers are read by polling, and do not stream."
            self.findings.append(warning(text))
        elif self.region in WITHOUT_URLS:
            text = f"{self.region} had no Lambda URLs in 2025, and the stack's streams need one. Choose another region if it fails."
            self.findings.append(warning(text))
        elif self.region not in known:
            self.findings.append(
                warning(f"{self.region} is not among the regions that botocore knows. Is it spelled right?")
            )
        else:
            self.findings.append(fine(f"The region is {self.region}. Lambda URLs and response streaming are there."))

    def _stack(self) -> dict[str, Any] | None:
        """Return the deployed stack, or None if there is none yet."""
        cloudformation = self.client("cloudformation")
        try:
            stack: dict[str, Any] = cloudformation.describe_stacks(StackName=self.stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" not in error.response["Error"].get("Message", ""):
                raise
            self.findings.append(
                fine(f"There is no stack {self.stack} in {self.region} yet. This deployment makes it.")
            )
            return None
        status = stack["StackStatus"]
        if status == "REVIEW_IN_PROGRESS":  # a deployment that was never confirmed: the SAM CLI goes on with it
            self.findings.append(fine(f"{self.stack} was proposed before and not confirmed."))
            return None
        names = {"stack": self.stack, "region": self.region}
        if status in BROKEN:
            advice = BROKEN[status].format(delete=DELETE.format(**names), **names)
            self.findings.append(refusal(f"{self.stack} is {status}. {advice}{self._cause(cloudformation)}"))
        elif status.endswith("_IN_PROGRESS"):
            text = f"{self.stack} is {status}: somebody else changes it. Wait until they are done, and deploy again."
            self.findings.append(refusal(text))
        else:
            self.findings.append(fine(f"{self.stack} is deployed ({status}). This deployment changes it."))
        return stack

    def _cause(self, cloudformation: Any) -> str:
        """Return the first failure of the stack's latest change, as a sentence."""
        try:
            events = cloudformation.describe_stack_events(StackName=self.stack)["StackEvents"]
        except ClientError:
            return ""
        cause = ""
        for event in events:  # the newest first
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", ""):
                cause = f" The cause was {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'unknown')}"
            if event["LogicalResourceId"] == self.stack and event["ResourceStatus"] in (
                "CREATE_IN_PROGRESS",
                "UPDATE_IN_PROGRESS",
            ):
                break
        return cause

    def _concurrency(self, stack: dict[str, Any] | None, overrides: dict[str, str]) -> None:
        lambda_ = self.client("lambda")
        self.concurrency = Concurrency.of(lambda_, self._capped_functions() if stack else {})
        production = self.stage.is_production
        self.findings += self.concurrency.findings(overrides, self.region, self.partition, production=production)
        if self.concurrency.limit < concurrency.WANTED and (
            found := concurrency.pending(self.client("service-quotas"))
        ):
            self.findings.append(found)
        settings = lambda_.get_account_settings()
        used, limit = settings["AccountUsage"]["TotalCodeSize"], settings["AccountLimit"]["TotalCodeSize"]
        if used > NEARLY_FULL * limit:
            text = f"Functions use {used / 2**30:.1f} of {limit / 2**30:.0f} GB of storage in this account and region. "
            self.findings.append(warning(text + "Delete functions or old versions, or ask AWS for more."))

    def _capped_functions(self) -> dict[str, str]:
        """Return the names of the functions that caps are for, as far as the stack has them, by the cap's parameter."""
        functions = {}
        for parameter, cap in concurrency.CAPS.items():
            with contextlib.suppress(ClientError):
                answer = self.client("cloudformation").describe_stack_resource(
                    StackName=self.stack, LogicalResourceId=cap.function
                )
                if name := answer["StackResourceDetail"].get("PhysicalResourceId"):
                    functions[parameter] = name
        return functions

    def _roles(self, stack: dict[str, Any] | None) -> None:
        """Refuse if the account cannot hold the stack's roles."""
        if stack:
            return
        summary = self.client("iam").get_account_summary()["SummaryMap"]
        wanted = len(Template().functions)
        there, most = summary["Roles"], summary["RolesQuota"]
        if there + wanted > most:
            text = f"The stack needs {wanted} IAM roles. The account has {there} of at most {most}. "
            self.findings.append(
                refusal(text + "Delete roles, or ask AWS for more in Service Quotas (IAM, roles per account).")
            )

    def _permissions(self, caller: dict[str, str]) -> None:
        """Warn of permissions of docs/deployer-policy.json that the operator lacks, as far as IAM can simulate them."""
        arn = self._principal(caller["Arn"])
        if arn is None:
            return
        iam, lacking = self.client("iam"), set()
        prefix = policy.PREFIX if self.stack.startswith(policy.PREFIX) else self.stack
        for statement in policy.read(prefix, self.partition)["Statement"]:
            if "Condition" in statement:  # a simulation knows no conditions, and would say that the action is denied
                continue
            resources = [_example(each, self.region, caller["Account"]) for each in statement["Resource"]]
            actions = [action for action in statement["Action"] if "*" not in action]
            pages = iam.get_paginator("simulate_principal_policy").paginate(
                PolicySourceArn=arn, ActionNames=actions, ResourceArns=resources[:1]
            )
            for page in pages:
                results = page["EvaluationResults"]
                lacking |= {each["EvalActionName"] for each in results if each["EvalDecision"] != "allowed"}
        if lacking:
            shown = ", ".join(sorted(lacking)[:10]) + (f", and {len(lacking) - 10} more" if len(lacking) > 10 else "")
            text = f"You seem to lack {shown}. docs/deployer-policy.json has all that a deployment needs."
            self.findings.append(warning(text))
        else:
            self.findings.append(fine("You have the permissions of docs/deployer-policy.json."))

    def _principal(self, arn: str) -> str | None:
        """Return the user or role behind the caller, or None for a root user, who may do everything."""
        if ":assumed-role/" not in arn:
            return None if arn.endswith(":root") else arn
        role = arn.split("/")[1]
        found: str = self.client("iam").get_role(RoleName=role)["Role"][
            "Arn"
        ]  # with its path, which a session's ARN lacks
        return found


def _example(resource: str, region: str, account: str) -> str:
    """Return a resource that a policy's pattern covers, for the simulation."""
    if resource == "*":
        return resource
    arn, partition, service, place, owner, name = resource.split(":", 5)
    return ":".join(
        (
            arn,
            partition,
            service,
            place.replace("*", region),
            owner.replace("*", account),
            name.replace("*", "-x"),
        )
    )


def lines(findings: list[Finding]) -> Iterator[str]:
    """Return the findings as lines for the console, the refusals last."""
    order = list(Level)
    for finding in sorted(findings, key=lambda each: order.index(each.level)):
        yield f"{finding.level.value + ':':9} {finding.text}"
