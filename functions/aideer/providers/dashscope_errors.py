"""The errors of DashScope and the AIDeer codes for them.

The table follows "Error codes" of Alibaba Model Studio (help.aliyun.com/zh/model-studio/error-code, read 2026-11-28). The provider
spells its codes in two ways, as `InvalidApiKey` and as `invalid_api_key`. Sometimes it names the real code within the message, as
in "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]".

Messages are only matched. They may quote a prompt, so no log and no error repeats them.
"""

import re
from typing import Any, NamedTuple

_MESSAGE_CHARACTERS = 2_000
"""The number of a message's characters that are matched."""


class UpstreamError(Exception):
    """The call failed. `code` is one of AIDeer's codes that have a sentence in `tasks.ERRORS`.

    If `retryable` is true, the same call may succeed in a moment, because the provider has not begun to work on it. If `accepted`
    is true, the provider answered with status 200. Then it bills the call, so such an error is never retryable. `detail` is for
    the log: it names the model, DashScope's code and its request id, and never contains text of a user.
    """

    def __init__(self, code: str, detail: str = "", *, retryable: bool = False, accepted: bool = False) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail
        self.accepted = accepted
        self.retryable = retryable and not accepted


class _Rule(NamedTuple):
    """One line of the table.

    `code` matches the whole code in lower case without "_", "-" and spaces. `message` matches any part of the message.
    """

    code: str
    message: str
    ours: str
    retryable: bool = False


_ANY = ".*"
_LENGTH = "|".join(
    (
        r"range of (input|prompt) (length|tokens?) should be",
        r"maximum context length",
        r"context (length|window).{0,40}exceed|exceed.{0,40}(context|input) (length|window)",
        r"total message token length exceed",
        r"(prompt|input)( tokens?| length)?( is| are)? (too long|exceed)",
        r"payload too large|request (body|entity) (is )?too large",
    )
)
_IMAGE = "|".join(
    (
        r"download.{0,40}(multimodal|media|image|file|url|timed? ?out|failed|error)",
        r"missing content-length of multimodal",
        r"(media resource|media|image|file|multimodal).{0,40}(illegal|not valid|invalid|not supported|unsupported|incorrect)",
        r"(invalid|unsupported|illegal|read|decode|format of).{0,20}(image|media|multimodal|base64)",
        r"(image|multimodal|file|media).{0,40}(too large|too small|too big|too long|do not meet|not meet|beyond limit|corrupted)",
        r"(image|file) (format|size|type|resolution|ratio)",
        r"data-uri item|absolute aspect ratio|access the media resource|lack of image",
        r"provided url does not appear|url is (missing|invalid)|invalid url|connection to .* refused",
    )
)

_RULES = (
    # Errors of the user's text or images. A content inspection may also fail because it could not load the image.
    _Rule(r"invalidparameter\.datainspection", r"download|access|format|decode", "image_unavailable"),
    _Rule(
        r"badrequest\.(inputdownloadfailed|unsupportedfileformat)|invalid(url|file|image|person|garment|inputlength).*",
        "",
        "image_unavailable",
    ),
    _Rule(
        r".*datainspection.*|faqruleblocked|customroleblocked|ipinfringementsuspect|contentfilter.*",
        "",
        "content_filtered",
    ),
    _Rule(_ANY, r"inappropriate content|data_?inspection_?failed|green network verification", "content_filtered"),
    _Rule(r"contextlengthexceeded|badrequest\.toolarge|requesttoolarge", "", "context_too_long"),
    _Rule(r"(invalid|badrequest|internalerror).*|", _LENGTH, "context_too_long"),
    # The wrong endpoint for a model. Its message resembles that of a bad image address.
    _Rule(_ANY, r"url error, please check url", "model_unavailable"),
    _Rule(r"(invalid|badrequest|internalerror).*|", _IMAGE, "image_unavailable"),
    # Errors of the operator's account. A retry does not help.
    _Rule(r"arrearage|.*overdue.*|commoditynotpurchased|budgetlimitexceeded|.*freetieronly", "", "upstream_auth"),
    _Rule(
        _ANY,
        r"bill is overdue|free (allocated quota|quota|tier).{0,40}(exceed|exhaust)|in good standing",
        "upstream_auth",
    ),
    _Rule(_ANY, r"does not support (asynchronous|synchronous|http) call", "model_unavailable"),
    _Rule(
        r"invalidapikey|notauthorized|unauthorized|.*accessdenied.*|workspacenotfound|forbidden.*", "", "upstream_auth"
    ),
    # The provider has no capacity. It refuses at once, so the call may be repeated.
    _Rule(
        r"throttling.*|limit(requests|burstrate)|ratelimit.*|toomanyrequests|insufficientquota", "", "throttled", True
    ),
    _Rule(r".*modelservingerror.*", "", "throttled", True),
    _Rule(_ANY, r"too many requests|being throttled|exceeded your request limit", "throttled", True),
    # A gateway's timeout asks for a retry. The other timeouts come from a model that has worked all the time.
    _Rule(r"requesttimeout", "", "upstream_timeout", True),
    _Rule(r".*timeout.*", "", "upstream_timeout"),
    # Errors of the preset's model: it is unknown or retired, the endpoint is wrong, or a parameter is out of its range.
    _Rule(
        r"model(notfound|notsupported|notexist|retired|offline|deprecated)|mismatchedmodel|notfound",
        "",
        "model_unavailable",
    ),
    _Rule(
        _ANY,
        r"model.{0,80}(not found|not exist|not be found|not supported|retired|deprecated|taken offline)",
        "model_unavailable",
    ),
    _Rule(
        r"invalid(parameter|value|request|schema).*|badrequest.*|unsupportedoperation|.*\.invalidparameter",
        "",
        "model_unavailable",
    ),
    _Rule(_ANY, r"<400> internalerror\.algo\.invalidparameter", "model_unavailable"),
    # Errors of the provider itself.
    _Rule(
        r"internal(error|servererror).*|systemerror|serviceunavailable|modelunavailable|modelservicefailed",
        "",
        "upstream_error",
        True,
    ),
    _Rule(r"invokepluginfailed|appprocessfailed|rewritefailed|retriev?alfailed", "", "upstream_error", True),
)
_TABLE = tuple((re.compile(rule.code), re.compile(rule.message), rule.ours, rule.retryable) for rule in _RULES)
"""The first matching line applies."""


_NO_ERROR = frozenset({"", "0", "200", "null", "none", "ok", "success", "succeeded"})
"""Codes in lower case that name no error. Gateways send them beside answers."""
_CODE_SHAPE = re.compile(r"(?=.{1,64}\Z)[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*|[0-9]{1,6}")
_REQUEST_SHAPE = re.compile(r"(chatcmpl-)?[0-9A-Fa-f-]{1,64}")


class Refusal(NamedTuple):
    """The fields of a provider's error. Each value may be of any type."""

    code: Any = None
    message: Any = None
    request_id: Any = None

    @classmethod
    def read(cls, value: Any) -> "Refusal | None":
        """Return the refusal if a JSON value is one, in DashScope's own format or in that of its compatible mode, else None.

        A value with an error code is a refusal, even with other fields. In the compatible mode, an `error` with a message alone
        is a refusal too.
        """
        if not isinstance(value, dict):
            return None
        request_id = value.get("request_id")
        if isinstance(error := value.get("error"), dict):
            code = _error_code(error.get("code")) or _error_code(error.get("type"))
            if code or (error.get("message") and not (error.get("code") or error.get("type"))):
                return cls(code, error.get("message"), request_id)
        code = _error_code(value.get("code"))
        return cls(code, value.get("message"), request_id) if code else None

    def error(self, model: str, status: int, *, accepted: bool = False) -> UpstreamError:
        """Return the matching AIDeer error: by the provider's code and message, else by the HTTP status."""
        code, message, request_id = (value if isinstance(value, str) else "" for value in self)
        # A code or an id may hold anything, even a prompt. So only values of the expected shape are logged.
        named = code if _CODE_SHAPE.fullmatch(code) else "a code of another shape" if code else "no code"
        request = request_id if _REQUEST_SHAPE.fullmatch(request_id) else "unknown"
        ours, retryable = _map_code(code, message, status)
        detail = f"{model}: {named}, status {status}, request {request}"
        return UpstreamError(ours, detail, retryable=retryable, accepted=accepted)


def _error_code(code: Any) -> str:
    """Return the code of an error as text, or "" for anything else, such as a code that means success."""
    text = code.strip() if isinstance(code, str) else f"{code:.0f}" if type(code) in (int, float) else ""
    return "" if text.lower() in _NO_ERROR else text


def _map_code(code: str, message: str, status: int) -> tuple[str, bool]:
    """Return (our code, whether the call may be repeated)."""
    # A gateway repeats the HTTP status as the code: such a number says nothing beside the message.
    spelt = "" if code.isdecimal() else re.sub(r"[_\s-]", "", code).lower()
    said = message[:_MESSAGE_CHARACTERS].lower()
    for code_pattern, message_pattern, ours, retryable in _TABLE:
        if code_pattern.fullmatch(spelt) and message_pattern.search(said):
            return ours, retryable
    if status == 429:
        return "throttled", True
    if status in (401, 402, 403):
        return "upstream_auth", False
    if status in (408, 504):
        return "upstream_timeout", True
    if status == 413:
        return "context_too_long", False
    return "upstream_error", status >= 500
