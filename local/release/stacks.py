"""A deployed stack in AWS: its resources, and clients beside it, with the credentials that botocore finds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError

from local.release.stages import CONFIG, OperationError, Stage

NOT_DEPLOYED = "Deploy it first (make deploy), or name another with ARGS='--stack NAME --region REGION'."
NO_CREDENTIALS = (
    "There are no AWS credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or sign in with the AWS CLI "
    "(aws configure, aws sso login)."
)
BAD_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
    }
)
"""AWS's error codes for credentials that are invalid or have expired."""


@dataclass(frozen=True)
class Where:
    """A stack's name and, if it is known, its region."""

    stack: str
    region: str | None
    profile: str | None = None

    @classmethod
    def said(cls, stack: str | None, region: str | None, config: Path = CONFIG) -> "Where":
        """Take each value from the command line, or else from the stage's section of samconfig.toml.

        Raises
        ------
        OperationError
            There is no such stage, or the stack of the command line belongs to another stage.
        """
        stage = Stage.read(config=config)
        return cls(stage.own(stack or stage.stack), region or stage.region, stage.parameters.get("profile"))

    def client(self, service: str) -> Any:
        """Return a client of this service, in the stack's region."""
        return botocore.session.Session(profile=self.profile).create_client(service, region_name=self.region)

    def resources(self, kind: str) -> dict[str, str]:
        """Return the stack's resources of this type: logical id -> physical id. Raise OperationError if there is no such stack."""
        try:
            pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
            return {
                resource["LogicalResourceId"]: resource["PhysicalResourceId"]
                for page in pages
                for resource in page["StackResourceSummaries"]
                if resource["ResourceType"] == kind and resource.get("PhysicalResourceId")
            }
        except NoRegionError:
            raise OperationError(f"Nothing says in which region {self.stack} is. {NOT_DEPLOYED}") from None
        except ClientError as error:
            if "does not exist" not in error.response["Error"].get("Message", ""):
                raise
            region = f" in {self.client('cloudformation').meta.region_name}"
            raise OperationError(f"There is no deployed stack {self.stack}{region}. {NOT_DEPLOYED}") from None

    def resource(self, kind: str, logical_id: str) -> str:
        """Return the physical id of one resource. Raise OperationError if the stack lacks it: it is a different stack, or
        incomplete.
        """
        try:
            return self.resources(kind)[logical_id]
        except KeyError:
            raise OperationError(f"The stack {self.stack} has no {logical_id}.") from None


def explain(error: Exception) -> str:
    """Return one sentence that explains why a command cannot use AWS."""
    if isinstance(error, NoCredentialsError):
        return NO_CREDENTIALS
    if isinstance(error, NoRegionError):
        return f"Nothing says in which region to look. {NOT_DEPLOYED}"
    return (_explain_credentials(error) if isinstance(error, ClientError) else None) or str(error)


def _explain_credentials(error: ClientError) -> str | None:
    code = error.response["Error"].get("Code", "")
    if code not in BAD_CREDENTIALS:
        return None
    return f"AWS does not take these credentials ({code}). Sign in again, or set others."
