"""The four commands of an operator, typed at a terminal: the life of a stack from its first deployment to its end."""

import re
import tomllib

import pexpect
import pytest
from botocore.exceptions import ClientError

from local.clients.client import Client
from local.stack.template import DATA_TYPES, Template
from tests.e2e.calls import Place
from tests.e2e.cloud import Cloud
from tests.e2e.operator import STACK, Operator, ended

SAM = {
    "Stack Name",
    "AWS Region",
    "Confirm changes before deploy",
    "Allow SAM CLI IAM role creation",
    "Disable rollback",
    "Save arguments to configuration file",
    "SAM configuration file",
    "SAM configuration environment",
    "Deploy this changeset?",
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SAM CLI's


def kept(operator: Operator) -> dict[str, str]:
    parameters: dict[str, str] = tomllib.loads(operator.config.read_text())["default"]["deploy"]["parameters"]
    return parameters


def test_the_first_deployment_asks_for_every_parameter_and_nothing_more(cloud: Cloud, operator: Operator) -> None:
    assert set(operator.asked) == SAM | set(Template().document["Parameters"])
    assert len(operator.asked) == len(set(operator.asked))


def test_and_keeps_the_answers(cloud: Cloud, operator: Operator) -> None:
    assert kept(operator)["region"] == "us-east-1"
    assert 'Throttles="all=1000000/60 stream=1000000/60"' in kept(operator)["parameter_overrides"]
    assert cloud.configuration("TasksStreamFunction")["Environment"]["Variables"]["SIGNUP_CREDITS"] == "1000000"


def test_an_admin_is_made_whose_password_nobody_sees(cloud: Cloud, operator: Operator, place: Place) -> None:
    terminal = operator.run("admin")
    for question, answer in (("Name: ", "typed"), ("Password: ", "hunter-22"), ("Again: ", "hunter-22")):
        terminal.expect_exact(question)
        terminal.sendline(answer)
    terminal.expect(pexpect.EOF)
    shown = str(terminal.before)
    assert ended(terminal) == 0, shown
    assert "typed is an administrator" in shown
    assert "hunter" not in shown
    with Client(place.url) as client:
        client.sign_in("typed", "hunter-22")
        assert client.call("GET", "/users/me")["permission"] == 2


def test_logs_are_shown_until_ctrl_c(cloud: Cloud, operator: Operator, place: Place) -> None:
    with Client(place.url) as client:
        client.call("GET", "/health")
    terminal = operator.run("logs")
    terminal.expect(re.compile(r"REPORT|\"level\":\s*\"INFO\"|START"))
    for _ in range(30):  # the SAM CLI does not hear it while it prints a page of lines
        terminal.sendintr()
        if terminal.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=10) == 0:
            break
    else:
        pytest.fail("Ctrl-C ends nothing")
    ended(terminal)


def test_a_test_alarm_goes_to_the_address_that_was_typed(cloud: Cloud, operator: Operator) -> None:
    terminal = operator.run("test-alarm")
    terminal.expect(pexpect.EOF)
    shown = str(terminal.before)
    assert ended(terminal) == 0, shown
    assert "ops@example.com receives it" in shown


def test_the_checks_tell_who_deploys_what_and_that_nothing_is_missing(cloud: Cloud, operator: Operator) -> None:
    terminal = operator.run("check")
    terminal.expect(pexpect.EOF)
    shown = " ".join(str(terminal.before).split())
    assert ended(terminal) == 0, shown
    assert f"user/deployer in the account 000000000000, and deploy the stage production, the stack {STACK}" in shown
    assert f"{STACK} is deployed" in shown
    assert "You have the permissions of docs/deployer-policy.json" in shown


def test_staging_stands_beside_production_and_is_asked_for_two_things(cloud: Cloud, operator: Operator) -> None:
    terminal = operator.run("check", stage="staging")
    terminal.expect_exact("Region [us-east-1]: ")
    terminal.sendline("")
    terminal.expect_exact("E-mail address for its alarms [ops@example.com]: ")
    terminal.sendline("")
    terminal.expect(pexpect.EOF)
    assert ended(terminal) == 0, terminal.before
    terminal = operator.run("deploy", "--no-confirm-changeset", stage="staging")
    terminal.expect(pexpect.EOF)
    assert ended(terminal) == 0, terminal.before
    stacks = cloud.client("cloudformation").describe_stack_resources(StackName="aideer-staging")["StackResources"]
    theirs = {each["PhysicalResourceId"] for each in stacks if each["ResourceType"] in DATA_TYPES}
    assert theirs
    assert not theirs & set(cloud.resources.values())


def changed(operator: Operator, **parameters: str) -> None:
    """Edit samconfig.toml as docs/operations.md says, and deploy."""
    text = operator.config.read_text()
    for name, value in parameters.items():
        text, found = re.subn(rf'\b{name}=\\"[^"]*\\"', f'{name}=\\\\"{value}\\\\"', text)
        assert found == 1, f"samconfig.toml has no {name}"
    operator.config.write_text(text)
    operator.deploy({"Deploy this changeset?": "y"})


@pytest.mark.last
def test_a_changed_parameter_reaches_the_published_versions(cloud: Cloud, operator: Operator) -> None:
    """SAM alone would leave the alias at the version with the old value."""

    def live() -> dict[str, str]:
        answer = cloud.lambda_.get_function_configuration(
            FunctionName=cloud.resources["TasksCreateFunction"], Qualifier="live"
        )
        variables: dict[str, str] = answer["Environment"]["Variables"]
        return variables

    assert live()["AUDIT_DAYS"] == "180"
    changed(operator, AuditDays="90")
    assert live()["AUDIT_DAYS"] == "90"


@pytest.mark.last
def test_a_domain_can_be_added_and_its_addresses_are_handed_out(cloud: Cloud, operator: Operator) -> None:
    certificate = "arn:aws:acm:us-east-1:000000000000:certificate/00000000-0000-0000-0000-000000000000"
    changed(operator, DomainName="chat.example.com", CertificateArn=certificate)
    described = cloud.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    distribution = {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in described}["Distribution"]
    configuration = cloud.client("cloudfront").get_distribution(Id=distribution)["Distribution"]["DistributionConfig"]
    assert configuration["Aliases"]["Items"] == ["chat.example.com"]
    origins = {origin["Id"]: origin for origin in configuration["Origins"]["Items"]}
    assert origins.keys() == {"api", "streams", "v1"}
    [header] = origins["streams"]["CustomHeaders"]["Items"]
    assert origins["v1"]["CustomHeaders"]["Items"] == [header]
    variables = cloud.configuration("TasksCreateFunction")["Environment"]["Variables"]
    assert variables["STREAM_BASE_URL"] == "https://chat.example.com"
    current, previous = variables["ORIGIN_SECRETS"].split()
    assert header["HeaderValue"] == current, "CloudFront sends what the functions expect"
    assert (len(current), previous) == (48, "none")


@pytest.mark.last
def test_a_stack_is_protected_until_that_is_given_up_and_then_goes_whole(cloud: Cloud, operator: Operator) -> None:
    tables = [name for name in cloud.resources.values() if "Table" in name]
    bucket = cloud.resources["AvatarsBucket"]
    assert tables
    terminal = operator.run("destroy")
    terminal.expect(pexpect.EOF)
    refusal = str(terminal.before)
    assert ended(terminal) == 1, refusal
    assert "refuse to be deleted" in refusal

    text = operator.config.read_text()
    operator.config.write_text(text.replace('DeletionProtection=\\"true\\"', 'DeletionProtection=\\"false\\"'))
    operator.deploy({"Deploy this changeset?": "y"})
    assert operator.asked == ["Deploy this changeset?"]

    terminal = operator.run("destroy")
    terminal.expect_exact("type the stack's name: ")
    terminal.sendline(STACK)
    terminal.expect(pexpect.EOF)
    shown = str(terminal.before)
    assert ended(terminal) == 0, shown
    assert f"{STACK} is gone" in shown
    for name in tables:
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            cloud.client("dynamodb").describe_table(TableName=name)
    with pytest.raises(ClientError, match="404"):
        cloud.client("s3").head_bucket(Bucket=bucket)


def test_nothing_to_deploy_is_no_failure(cloud: Cloud, operator: Operator) -> None:
    shown = operator.deploy({})
    assert operator.asked == []
    assert "up to date" in shown
