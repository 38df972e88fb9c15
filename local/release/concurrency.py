"""Lambda's concurrency in the account, and the parameters that follow from it.

Every stream and every request takes one unit while it runs. Streams and completions last for seconds, so without a cap they take
all of it. A cap is reserved concurrency, which Lambda takes away from all other functions of the account. It always leaves 100
units unreserved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.release.findings import Finding, fine, refusal, warning

UNRESERVED = 100
"""The units that Lambda keeps for functions without a reservation."""
LEAST = 10
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
class Cap:
    """A parameter that caps one function."""

    function: str
    what: str
    """What the function runs, in the plural."""
    production: float
    """The share of the account's limit that production may use."""
    other: float
    """The share of another stage."""


CAPS = {
    "StreamConcurrency": Cap("TasksStreamFunction", "streams", 0.5, 0.05),
    "CompletionConcurrency": Cap("V1ServeFunction", "completions of /v1", 0.2, 0.02),
}
"""By parameter. An earlier one gets its share first."""


@dataclass(frozen=True)
class Concurrency:
    """An account's limit in one region, what is unreserved of it, and what this stack has reserved already, by parameter."""

    limit: int
    unreserved: int
    own: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, lambda_: Any, functions: Mapping[str, str]) -> "Concurrency":
        """Ask Lambda. `functions` are the names of those that exist, by parameter. Raise ClientError if the caller may not ask."""
        settings = lambda_.get_account_settings()["AccountLimit"]
        own = {
            name: lambda_.get_function_concurrency(FunctionName=function).get("ReservedConcurrentExecutions", 0)
            for name, function in functions.items()
        }
        return cls(settings["ConcurrentExecutions"], settings["UnreservedConcurrentExecutions"], own)

    def room(self, name: str, kept: Mapping[str, str]) -> int:
        """Return the most that one cap can reserve beside what the operator has said of the others."""
        others = sum(int(said) for other in CAPS.keys() - {name} if (said := kept.get(other, "")).isdecimal())
        return max(0, self.unreserved + sum(self.own.values()) - UNRESERVED - others)

    def share(self, name: str, kept: Mapping[str, str], *, production: bool) -> str:
        """Return a cap of which the operator says nothing: its share, or "" if the account is too small for one."""
        share = int(self.limit * (CAPS[name].production if production else CAPS[name].other))
        cap = min(share, self.room(name, kept))
        return str(cap) if cap >= LEAST else ""

    def parameters(self, kept: Mapping[str, str], *, production: bool) -> dict[str, str]:
        """Return the parameters to deploy with: the account's limit, and the operator's own caps or shares."""
        caps = {name: kept.get(name, "") for name in CAPS}
        for name in CAPS:
            caps[name] = caps[name] or self.share(name, caps, production=production)
        return {"AccountConcurrency": str(self.limit), **caps}

    def findings(self, kept: Mapping[str, str], region: str, partition: str, *, production: bool) -> list[Finding]:
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
        caps = self.parameters(kept, production=production)
        found += [self._cap(name, kept.get(name, ""), caps, production=production) for name in CAPS]
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

    def _cap(self, name: str, said: str, caps: Mapping[str, str], *, production: bool) -> Finding:
        what, share = CAPS[name].what, self.share(name, caps, production=production)
        if said == UNCAPPED:
            return warning(f"{name} is none, so {what} can take the room of all other requests.")
        if said and not said.isdecimal():
            return refusal(f"{name} is {said}. It must be a number, none, or empty.")
        if said and int(said) > (room := self.room(name, caps)):
            return refusal(
                f"{name} is {said}, and Lambda would refuse it: of {self.limit} this account can reserve "
                f"{room} here, because {UNRESERVED} stay unreserved. Set it to {share or UNCAPPED}."
            )
        if said and share and int(said) < int(share) // 2:
            return warning(f"{name} is {said}. The account's limit would allow {share} by now.")
        if said or share:
            return fine(f"{what[0].upper()}{what[1:]} may use {said or share} of it, so that other requests have room.")
        return warning(
            f"The account's limit is too small to keep room for other requests than {what}, so {what} are not capped."
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
