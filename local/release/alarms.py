"""`make test-alarm`: send a test through the stack's real alarm, topic and e-mail address."""

from local.release.stacks import Where
from local.release.stages import OperationError

ALARM = "ErrorsAlarm"
REASON = "make test-alarm: an operator tests whether alarms arrive. Nothing is wrong."
PENDING = "PendingConfirmation"


def send_test(where: Where) -> None:
    """Set an alarm of the stack off, and say who gets it.

    Raises
    ------
    OperationError
        Alarms of this stack reach nobody: there is no topic, or nobody has confirmed a subscription.
    """
    name = where.resource("AWS::CloudWatch::Alarm", ALARM)
    cloudwatch = where.client("cloudwatch")
    topics = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmActions"]
    if not topics:
        raise OperationError(
            f"Alarms of {where.stack} reach nobody. Add AlarmEmail=you@example.com to parameter_overrides in samconfig.toml, "
            "and run make deploy."
        )
    topic = topics[0]
    pages = where.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    subscriptions = [subscription for page in pages for subscription in page["Subscriptions"]]
    waiting = [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] == PENDING]
    reached = [each["Endpoint"] for each in subscriptions if each["SubscriptionArn"] != PENDING]
    if waiting:
        print(f"Not confirmed yet: {', '.join(waiting)}. Follow the link in the e-mail from AWS Notifications.")
    if not reached:
        raise OperationError(f"Nobody receives the alarms of {where.stack} yet. Nothing was sent.")
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason=REASON)
    print(f"{name} was set off. {', '.join(reached)} receives it within a minute.")
    print("CloudWatch ends it at its next look, within five minutes, and sends that too.")
