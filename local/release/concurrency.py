"""Lambda's concurrency in the account, and the parameters that follow from it.

Every stream and every request takes one unit while it runs. Streams last for seconds, so without a cap they take all of it. A cap
is reserved concurrency, which Lambda takes away from all other functions of the account. It always leaves 100 units unreserved.
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.release.findings import Finding, fine, refusal, warning

UNRESERVED = 100
"""The units that Lambda keeps for functions without a reservation."""
PRODUCTION_SHARE, OTHER_SHARE = 0.5, 0.05
"""The share of the account's limit that the streams of production, and those of another stage, may use."""
LEAST_STREAMS = 10
"""Below this a cap refuses more than it protects."""
WANTED = 1000
"""The limit of an ordinary account, for which the defaults of the template are made."""
UNCAPPED = "none"
QUOTA = ("lambda", "L-B99A9384")
"""Service Quotas' code of "Concurrent executions"."""
INCREASE = "https://{region}.console.{site}/servicequotas/home/services/lambda/quotas/L-B99A9384"
SITES = {"aws": "aws.amazon.com", "aws-cn": "amazonaws.cn", "aws-us-gov": "amazonaws-us-gov.com"}
REQUEST = (
    "aws service-quotas request-service-quota-increase --service-code lambda --quota-code L-B99A9384 "
    "--desired-value {value} --region {region}"
)


@dataclass(frozen=True)
class Concurrency:
    """An account's limit in one region, what is unreserved of it, and what this stack's streams have reserved already."""

    limit: int
    unreserved: int
    own: int = 0

    @classmethod
    def of(cls, lambda_: Any, stream_function: str | None) -> "Concurrency":
        """Ask Lambda. Without a stack there is no streaming function yet. Raise ClientError if the caller may not ask."""
        settings = lambda_.get_account_settings()["AccountLimit"]
        own = 0
        if stream_function:
            own = lambda_.get_function_concurrency(FunctionName=stream_function).get("ReservedConcurrentExecutions", 0)
        return cls(settings["ConcurrentExecutions"], settings["UnreservedConcurrentExecutions"], own)

    @property
    def room(self) -> int:
        """The most that this stack's streams can reserve."""
        return max(0, self.unreserved + self.own - UNRESERVED)

    def streams(self, *, production: bool) -> str:
        """Return the StreamConcurrency of a stack that says none: its share, or "" if the account is too small for one."""
        share = int(self.limit * (PRODUCTION_SHARE if production else OTHER_SHARE))
        cap = min(share, self.room)
        return str(cap) if cap >= LEAST_STREAMS else ""

    def parameters(self, kept: dict[str, str], *, production: bool) -> dict[str, str]:
        """Return the parameters to deploy with: the account's limit, and the operator's own cap or a share."""
        streams = kept.get("StreamConcurrency") or self.streams(production=production)
        return {"AccountConcurrency": str(self.limit), "StreamConcurrency": streams}

    def findings(self, kept: dict[str, str], region: str, partition: str, *, production: bool) -> list[Finding]:
        """Return what the operator should know about the limit and the caps."""
        found = []
        address = INCREASE.format(region=region, site=SITES.get(partition, SITES["aws"]))
        if self.limit < WANTED:
            found.append(
                warning(
                    f"Lambda runs at most {self.limit} requests and streams at one time in this account. The stack is made for "
                    f"{WANTED}. Ask AWS for more at {address} or with: {REQUEST.format(value=WANTED, region=region)}"
                )
            )
        else:
            found.append(fine(f"Lambda runs up to {self.limit:,} requests and streams at one time in this account."))
        found.append(self._streams(kept.get("StreamConcurrency", ""), production=production))
        queued = kept.get("QueueConcurrency", "100")
        if not queued.isdecimal():
            found.append(refusal(f"QueueConcurrency is {queued}. It must be a number from 2 to 1000."))
        elif int(queued) > self.limit // 2:
            found.append(
                warning(
                    f"QueueConcurrency is {queued}, more than half of the account's {self.limit}. Answers without a viewer can "
                    f"take the room of all requests. Set QueueConcurrency to {max(2, self.limit // 5)} until the limit is raised."
                )
            )
        return found

    def _streams(self, said: str, *, production: bool) -> Finding:
        share = self.streams(production=production)
        if said == UNCAPPED:
            return warning("StreamConcurrency is none, so streams can take the room of all other requests.")
        if said and not said.isdecimal():
            return refusal(f"StreamConcurrency is {said}. It must be a number, none, or empty.")
        if said and int(said) > self.room:
            return refusal(
                f"StreamConcurrency is {said}, and Lambda would refuse it: of {self.limit} this account can reserve "
                f"{self.room} here, because {UNRESERVED} stay unreserved. Set it to {share or UNCAPPED}."
            )
        if said and share and int(said) < int(share) // 2:
            return warning(f"StreamConcurrency is {said}. The account's limit would allow {share} by now.")
        if said or share:
            return fine(f"Streams may use {said or share} of it, so that other requests have room.")
        return warning(
            "The account's limit is too small to keep room for other requests than streams, so streams are not capped."
        )


def pending(quotas: Any) -> Finding | None:
    """Return the newest open request for a higher limit. Return None if there is none, or the caller may not ask."""
    try:
        history = quotas.list_requested_service_quota_change_history_by_quota(ServiceCode=QUOTA[0], QuotaCode=QUOTA[1])
    except (ClientError, BotoCoreError):
        return None
    for request in history.get("RequestedQuotas", []):
        if request["Status"] in ("PENDING", "CASE_OPENED"):
            return fine(f"A request for {request['DesiredValue']:.0f} is open at AWS ({request['Status']}).")
    return None
