"""One deployment for all that tests it. Docker is needed: these are proofs, and are refused rather than skipped."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.release import docker, policy
from local.release.build import BUILD
from local.release.docker import Host
from local.simulators import wechat
from local.simulators.dashscope import Server
from tests.e2e.calls import ADMIN, Place
from tests.e2e.cloud import Cloud, api, ministack, streaming
from tests.e2e.operator import STACK, Operator

ANSWERS = {
    "Stack Name": STACK,
    "SignupCredits": "1000000",
    "AlarmEmail": "ops@example.com",
    "Tracing": "PassThrough",
    "Throttles": "all=1000000/60 stream=1000000/60",
    "Deploy this changeset?": "y",
}
"""What an operator types where the SAM CLI asks; every other question gets a return."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What deletes the stack comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def host() -> Host:
    """This machine, once it is clear that it can run what is tested here."""
    if not docker.available():
        pytest.fail(f"This needs Docker and {docker.IMAGE}, which is not here and cannot be pulled.", pytrace=False)
    if not (BUILD / "template.yaml").exists():
        pytest.fail("This deploys what `make build` has built: run that first.", pytrace=False)
    return Host.find()


@pytest.fixture(scope="session")
def providers(host: Host) -> Iterator[tuple[Server, wechat.Server]]:
    """The simulated DashScope and WeChat, where containers reach them."""
    with Server(tokens=12, delay_ms=2, host=host.bind) as model, wechat.Server(host=host.bind) as people:
        yield model, people


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory, host: Host) -> Iterator[Operator]:
    """Somebody with an account in which nothing is yet."""
    with ministack(tmp_path_factory.mktemp("ministack"), host) as endpoint:
        credentials = deployer(Cloud(endpoint, host).iam)
        yield Operator(tmp_path_factory.mktemp("operator"), endpoint, credentials)


def deployer(iam: Any) -> dict[str, str]:
    """Credentials of a user who may do what docs/deployer-policy.json allows, as two policies."""
    iam.create_user(UserName="deployer")
    for number, part in enumerate(policy.parts(policy.read(policy.PREFIX, "aws"))):
        text = json.dumps(part, separators=(",", ":"))
        made = iam.create_policy(PolicyName=f"deployer-{number}", PolicyDocument=text)
        iam.attach_user_policy(UserName="deployer", PolicyArn=made["Policy"]["Arn"])
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.fixture(scope="session")
def cloud(operator: Operator, host: Host, providers: tuple[Server, wechat.Server]) -> Cloud:
    """The stack, deployed as for the first time, with its providers' keys and its first admin."""
    model, people = providers
    urls = {"DashscopeBaseUrl": model.base_url, "WechatBaseUrl": people.base_url, "WechatOpenUrl": people.base_url}
    operator.deploy(ANSWERS | {name: host.seen(url) for name, url in urls.items()})
    cloud = Cloud(operator.endpoint, host)
    cloud.enter_keys()
    cloud.invoke("OperationsMakeAdminFunction", ADMIN)
    cloud.invoke("ReconciliationRunFunction", {"begin": True})
    return cloud


@pytest.fixture(scope="session")
def place(
    cloud: Cloud, providers: tuple[Server, wechat.Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The deployed API, behind API Gateway and with its streaming door."""
    with (
        streaming(cloud, tmp_path_factory.mktemp("stream")) as stream,
        api(cloud, stream) as url,
    ):
        yield Place(url, providers[1])
