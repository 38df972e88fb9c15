"""The data resources of template.yaml in the embedded AWS, and the functions' environment for them.

They are made by ministack's CloudFormation. So a changed template changes them as a deployment would, and their data stays.
CloudFormation costs ministack 45 MB and a second, and is needed only then. So it runs in a separate ministack, which ends before
the serving one starts.
"""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.stack.processes import READY, ROOT, listener, own_environment
from local.stack.state import ACCOUNT, REGION, Stack
from local.stack.template import Template

NAME = "local"
"""The name of the CloudFormation stack."""


class MigrationError(Exception):
    """The data resources could not be made as the template requires. The message is for the console."""


def client(service: str, endpoint: str) -> Any:
    """Return a botocore client of the embedded AWS."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.get_session().create_client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - it takes any
        config=Config(retries={"mode": "standard", "max_attempts": 3}),
    )


@contextlib.contextmanager
def run_ministack(state_dir: Path, mode: str, host: str = "127.0.0.1") -> Iterator[str]:
    """Run ministack on a free port, and yield its endpoint. The modes are those of local.stack.ministack_server."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with listener(0, host) as sock, (state_dir / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.stack.ministack_server", str(sock.fileno()), str(state_dir), mode],
            cwd=ROOT,
            env=own_environment(),
            stdin=subprocess.PIPE,  # ministack ends when this pipe closes, so it ends with this process
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=(sock.fileno(),),
            start_new_session=True,
        )
        port = sock.getsockname()[1]
    with process:
        try:
            if not process.stdout or process.stdout.readline().strip() != READY.encode():
                raise MigrationError(f"the embedded AWS did not start: see {state_dir / 'ministack.log'}")
            yield f"http://{host}:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def run_stack(
    state_dir: Path, *, persist: bool = False, overrides: Mapping[str, str] | None = None, host: str = "127.0.0.1"
) -> Iterator[Stack]:
    """Run an embedded AWS with the template's data resources, for tests and `make sam`.

    Parameters
    ----------
    state_dir
        The folder for its state and its log.
    persist
        Whether the next run finds the state again.
    overrides
        Variables of the functions that replace the template's.
    host
        The address that it is bound to.
    """
    template = Template()
    with run_ministack(state_dir, "migrate" if persist else "forget", host) as endpoint:
        resources = create(template, endpoint)
        stack = Stack(endpoint, environment(template, endpoint, resources, overrides or {}), resources)
        write_providers(stack, {"dashscope_api_key": "sk-local"})
        yield stack


def create(template: Template, endpoint: str) -> dict[str, dict[str, str]]:
    """Create or update the data resources through CloudFormation, and return them.

    Raises
    ------
    MigrationError
        CloudFormation refused, or the change would lose data.
    """
    from botocore.exceptions import ClientError, WaiterError

    cloudformation = client("cloudformation", endpoint)
    new, outcome = template.data(), "stack_create_complete"
    body = json.dumps(new)
    try:
        old = cloudformation.get_template(StackName=NAME)["TemplateBody"]
    except ClientError:
        cloudformation.create_stack(StackName=NAME, TemplateBody=body)
    else:
        _refuse_loss(old if isinstance(old, dict) else json.loads(old), new)
        outcome = "stack_update_complete"
        try:
            cloudformation.update_stack(StackName=NAME, TemplateBody=body)
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise MigrationError(f"template.yaml: {error}") from error
            outcome = "stack_exists"
    try:
        cloudformation.get_waiter(outcome).wait(StackName=NAME, WaiterConfig={"Delay": 0.05, "MaxAttempts": 600})
    except WaiterError as error:
        events = cloudformation.describe_stack_events(StackName=NAME)["StackEvents"]
        reasons = [event["ResourceStatusReason"] for event in events if event.get("ResourceStatusReason")]
        raise MigrationError(f"template.yaml: {'; '.join(reasons) or error}") from error
    described = cloudformation.describe_stack_resources(StackName=NAME)["StackResources"]
    return {
        item["LogicalResourceId"]: _attributes(item["ResourceType"], item["PhysicalResourceId"], endpoint)
        for item in described
    }


def _refuse_loss(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse a changed table key, because CloudFormation would replace the table by an empty one. A new logical id is the safe
    way.
    """
    for name, resource in new["Resources"].items():
        before = old["Resources"].get(name)
        if before and before["Properties"].get("KeySchema") != resource["Properties"].get("KeySchema"):
            raise MigrationError(
                f"template.yaml: the key of {name} has changed, which would lose what it holds. "
                "Move STATE_DIR away to start afresh, or give the table a new logical id."
            )


def _attributes(kind: str, physical_id: str, endpoint: str) -> dict[str, str]:
    if kind == "AWS::DynamoDB::Table":
        return {"Ref": physical_id, "Arn": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{physical_id}"}
    if kind == "AWS::SQS::Queue":
        name = physical_id.rpartition("/")[2]
        return {"Ref": name, "QueueName": name, "Arn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"}
    if kind == "AWS::SecretsManager::Secret":
        arn: str = client("secretsmanager", endpoint).describe_secret(SecretId=physical_id)["ARN"]
        return {"Ref": arn, "Arn": arn}
    return {"Ref": physical_id, "Arn": f"arn:aws:s3:::{physical_id}"}


def queue_url(endpoint: str, name: str) -> str:
    """Return a queue's URL. ministack's own URL has the port of the process that made the queue."""
    return f"{endpoint}/{ACCOUNT}/{name}"


def environment(
    template: Template, endpoint: str, resources: Mapping[str, Mapping[str, str]], overrides: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of the functions."""
    located = {name: dict(attributes) for name, attributes in resources.items()}
    for attributes in located.values():
        if "QueueName" in attributes:
            attributes["Ref"] = queue_url(endpoint, attributes["QueueName"])
    needed = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "STREAM_BASE_URL": "http://127.0.0.1:8000",
        "V1_BASE_URL": "http://127.0.0.1:8000",
    }
    own = {
        name: value for name, value in own_environment().items() if name.startswith(("AWS_", "NO_PROXY", "no_proxy"))
    }
    return own | template.environment(located, {**needed, **overrides})


def write_providers(stack: Stack, keys: Mapping[str, str]) -> None:
    """Write the keys of DashScope and WeChat into their secrets, which the functions read."""
    for secret, values in provider_secrets(keys).items():
        _write_secret(stack, secret, values)


def provider_secrets(keys: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the content of each secret of the providers, by its logical id in the template."""
    return {
        "ProvidersSecret": {"dashscope_api_key": keys.get("dashscope_api_key", "")},
        "WechatSecret": {"appid": keys.get("wechat_appid", ""), "secret": keys.get("wechat_secret", "")},
        "WechatWebsiteSecret": {"appid": keys.get("wechat_web_appid", ""), "secret": keys.get("wechat_web_secret", "")},
    }


def _write_secret(stack: Stack, logical_id: str, values: Mapping[str, str]) -> None:
    # Without botocore, which would add a third of a second to every start. ministack does not check signatures.
    request = urllib.request.Request(  # noqa: S310 - the endpoint is ours
        stack.endpoint,
        json.dumps({"SecretId": stack.resources[logical_id]["Ref"], "SecretString": json.dumps(values)}).encode(),
        {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "secretsmanager.PutSecretValue",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/secretsmanager/aws4_request",
        },
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
