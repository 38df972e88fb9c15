"""Each code of the provider's "Error codes" page (Alibaba Model Studio) ends as one of ours."""

import pytest

from aideer.providers.dashscope_errors import _TABLE, Refusal
from aideer.tasks import control

FILTER, IMAGE, LONG, MODEL = "content_filtered", "image_unavailable", "context_too_long", "model_unavailable"
AUTH, THROTTLED, TIMEOUT, ERROR = "upstream_auth", "throttled", "upstream_timeout", "upstream_error"

PAGE = [
    # The user's question and images
    (400, "DataInspectionFailed", "Input or output data may contain inappropriate content.", FILTER),
    (400, "data_inspection_failed", "Input text data may contain inappropriate content.", FILTER),
    (400, "InternalError.Algo.DataInspectionFailed", "Input text data may contain inappropriate content.", FILTER),
    (
        500,
        "InternalError",
        "<400> InternalError.Algo.DataInspectionFailed: Output data may contain inappropriate …",
        FILTER,
    ),
    (400, "FaqRuleBlocked", "Input or output data is blocked by faq rule.", FILTER),
    (400, "CustomRoleBlocked", "Input or output data may contain inappropriate content with custom rule.", FILTER),
    (400, "IPInfringementSuspect", "Input data is suspected of being involved in IP infringement.", FILTER),
    (
        400,
        "InvalidParameter.DataInspection",
        "The image content does not comply with green network verification.",
        FILTER,
    ),
    (400, "InvalidParameter", "Range of input length should be [1, 30720]", LONG),
    (
        400,
        "InvalidParameter",
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
        LONG,
    ),
    (400, "invalid_parameter_error", "Range of input length should be [1, 129024]", LONG),
    (400, "InvalidParameter", "Total message token length exceed model limit (10000000 tokens).", LONG),
    (400, "invalid_request_error", "This model's maximum context length is 32768 tokens. However, you requested", LONG),
    (413, "BadRequest.TooLarge", "Payload Too Large.", LONG),
    (413, "", "", LONG),
    (
        400,
        "InvalidParameter.DataInspection",
        "Unable to download the media resource during the data inspection process.",
        IMAGE,
    ),
    (400, "InvalidParameter", "Download the media resource timed out during the data inspection process.", IMAGE),
    (400, "InvalidParameter", "Failed to download multimodal content.", IMAGE),
    (
        400,
        "InvalidParameter",
        "<400> InternalError.Algo.InvalidParameter: Failed to download multimodal content",
        IMAGE,
    ),
    (
        400,
        "InvalidParameter",
        "Don't have authorization to access the media resource during the data inspection process.",
        IMAGE,
    ),
    (400, "InvalidParameter", "Failed to decode the image during the data inspection.", IMAGE),
    (400, "InvalidParameter", "The file format is illegal and cannot be opened.", IMAGE),
    (400, "InvalidParameter", "The media format is not supported or incorrect for the data inspection.", IMAGE),
    (400, "InvalidParameter", "The provided URL does not appear to be valid. Ensure it is correctly formatted.", IMAGE),
    (400, "InvalidParameter", "Exceeded limit on max bytes per data-uri item : 10485760'.", IMAGE),
    (400, "InvalidParameter", "Multimodal file size is too large", IMAGE),
    (400, "InvalidParameter", "The image length and width do not meet the model restrictions.", IMAGE),
    (400, "InvalidParameter", "Invalid image format or corrupted file", IMAGE),
    (400, "InvalidParameter", "download image failed", IMAGE),
    (400, "InvalidParameter", "read image error.", IMAGE),
    (400, "InvalidParameter", "image format error", IMAGE),
    (400, "InvalidParameter", "the size of input image is too small or too large.", IMAGE),
    (400, "InvalidURL", "The request URL is invalid, make sure the url is correct and is an image.", IMAGE),
    (400, "InvalidURL.ConnectionRefused", "Connection to xxx refused, please provide available URL.", IMAGE),
    (400, "InvalidURL.Timeout", "Download xxx timeout, please check network connection.", IMAGE),
    (400, "InvalidFile.Format", "Invalid file format.", IMAGE),
    (400, "InvalidImage.ImageSize", "The size of image is beyond limit.", IMAGE),
    (400, "InvalidImageResolution", "The input image resolution is too large or small.", IMAGE),
    (415, "BadRequest.InputDownloadFailed", "Failed to download the input file: xxx.", IMAGE),
    (415, "BadRequest.UnsupportedFileFormat", "Input file format is not supported.", IMAGE),
    (500, "InternalError.Algo", "Missing Content-Length of multimodal url.", IMAGE),
    # The operator's presets and price table
    (400, "InvalidParameter", "url error, please check url\uff01", MODEL),
    (400, "InvalidParameter", "url error, please check url!", MODEL),
    (400, "InvalidParameter", "Model not found", MODEL),
    (404, "ModelNotFound", "Model can not be found.", MODEL),
    (404, "model_not_found", "The model `qwen9` does not exist or you do not have access to it.", MODEL),
    (404, "model_not_supported", "Unsupported model xxx for OpenAI compatibility mode.", MODEL),
    (
        400,
        "InvalidParameter",
        "The thinking_budget parameter must be a positive integer and not greater than 38912",
        MODEL,
    ),
    (400, "InvalidParameter", "Range of max_tokens should be [1, 8192]", MODEL),
    (400, "invalid_parameter_error", "Temperature should be in [0.0, 2.0)", MODEL),
    (400, "InvalidParameter", "Range of top_p should be (0.0, 1.0]", MODEL),
    (400, "InvalidParameter", "Presence_penalty should be in [-2.0, 2.0]", MODEL),
    (400, "InvalidParameter", "This model does not support enable_search.", MODEL),
    (400, "InvalidParameter", "The value of the enable_thinking parameter is restricted to True.", MODEL),
    (400, "InvalidParameter", "Json mode response is not supported when enable_thinking is true", MODEL),
    (
        400,
        "InvalidParameter",
        "'messages' must contain the word 'json' in some form, to use 'response_format' …",
        MODEL,
    ),
    (400, "InvalidParameter", "current user api does not support http call.", MODEL),
    (403, "AccessDenied", "Current user api does not support asynchronous calls.", MODEL),
    (400, "invalid_value", "Input should be a valid integer", MODEL),
    (400, "BadRequest.EmptyModel", 'Required parameter "model" missing from request.', MODEL),
    (400, "UnsupportedOperation", "The operation is unsupported on the referee object.", MODEL),
    (500, "InternalError.Algo.InvalidParameter", "xxx is out of its range", MODEL),
    # The operator's account
    (401, "InvalidApiKey", "Invalid API-key provided.", AUTH),
    (401, "invalid_api_key", "Incorrect API key provided.", AUTH),
    (401, "NOT AUTHORIZED", "Access denied: Either you are not authorized to access this workspace, …", AUTH),
    (400, "Arrearage", "Access denied, please make sure your account is in good standing.", AUTH),
    (403, "AccessDenied", "Access denied.", AUTH),
    (403, "access_denied", "Access denied.", AUTH),
    (
        403,
        "AccessDenied.Unpurchased",
        "Access to model denied. Please make sure you are eligible for using the model.",
        AUTH,
    ),
    (403, "Model.AccessDenied", "Model access denied.", AUTH),
    (403, "Workspace.AccessDenied", "Workspace access denied.", AUTH),
    (403, "AllocationQuota.FreeTierOnly", "The free tier of the model has been exhausted.", AUTH),
    (404, "WorkSpaceNotFound", "WorkSpace can not be found.", AUTH),
    (429, "Throttling.AllocationQuota", "Free allocated quota exceeded.", AUTH),
    (429, "CommodityNotPurchased", "Commodity has not purchased yet.", AUTH),
    (429, "PrepaidBillOverdue", "The prepaid bill is overdue.", AUTH),
    (429, "PostpaidBillOverdue", "The postpaid bill is overdue.", AUTH),
    (429, "BudgetLimitExceeded", "", AUTH),
    (403, "", "", AUTH),
    # The provider's room
    (429, "Throttling", "Requests throttling triggered.", THROTTLED),
    (429, "Throttling.RateQuota", "Requests rate limit exceeded, try again later.", THROTTLED),
    (429, "LimitRequests", "You exceeded your current requests list.", THROTTLED),
    (429, "limit_requests", "You have exceeded your request limit.", THROTTLED),
    (429, "Throttling.BurstRate", "Request rate increased too quickly.", THROTTLED),
    (429, "limit_burst_rate", "Request rate increased too quickly.", THROTTLED),
    (429, "Throttling.AllocationQuota", "Allocated quota exceeded, please increase your quota limit.", THROTTLED),
    (
        429,
        "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
        THROTTLED,
    ),
    (
        503,
        "ModelServingError",
        "Too many requests. Your requests are being throttled due to system capacity limits.",
        THROTTLED,
    ),
    (
        500,
        "ModelServingError",
        "Too many requests. Your requests are being throttled due to system capacity limits.",
        THROTTLED,
    ),
    (
        503,
        "ServiceUnavailable",
        "<503> InternalError.Algo: An error occurred in model serving: [Too many requests. …]",
        THROTTLED,
    ),
    (429, "SomethingNew", "", THROTTLED),
    # The provider's time
    (500, "RequestTimeOut", "Request timed out, try again later.", TIMEOUT),
    (408, "request_timeout", "Request timed out, please try again later.", TIMEOUT),
    (500, "ResponseTimeout", "Response timeout!", TIMEOUT),
    (
        500,
        "InternalError.Timeout",
        "An internal timeout error has occured during execution, try again later …",
        TIMEOUT,
    ),
    (504, "", "", TIMEOUT),
    # The provider itself
    (500, "InternalError", "An internal error has occured, try again later or contact service support.", ERROR),
    (500, "internal_error", "Internal server error!", ERROR),
    (500, "InternalError.Algo", "inference internal error.", ERROR),
    (
        500,
        "InternalError.Algo",
        "An error occurred in model serving: [Request rejected by inference engine!]",
        ERROR,
    ),
    (500, "SystemError", "An system error has occured, try again later.", ERROR),
    (500, "ModelServiceFailed", "Failed to request model service.", ERROR),
    (500, "InvokePluginFailed", "Failed to invoke plugin.", ERROR),
    (500, "RetrivalFailed", "Failed to retrieve data from documents.", ERROR),
    (503, "ModelUnavailable", "Model is unavailable, try again later.", ERROR),
    (502, "", "", ERROR),
    (418, "SomethingNew", "", ERROR),
]


@pytest.mark.parametrize(("status", "code", "message", "ours"), PAGE)
def test_a_code_of_the_page_has_one_of_ours(status: int, code: str, message: str, ours: str) -> None:
    error = Refusal(code, message, "785ed962-fa29").error("qwen-plus", status)
    assert error.code == ours
    assert error.code in control.ERRORS
    assert (ours != THROTTLED) or error.retryable
    assert not (error.retryable and ours in {FILTER, IMAGE, LONG, MODEL, AUTH})
    # An accepted call is billed, so that nothing may repeat it.
    assert not Refusal(code, message).error("qwen-plus", status, accepted=True).retryable


@pytest.mark.parametrize(("status", "code", "message"), [line[:3] for line in PAGE])
def test_an_error_names_model_and_code_and_never_the_message(status: int, code: str, message: str) -> None:
    detail = Refusal(code, message, "785ed962-fa29").error("qwen-plus", status).detail
    assert detail.startswith("qwen-plus: ")
    assert f"status {status}, request 785ed962-fa29" in detail
    assert not message or message not in detail


@pytest.mark.parametrize("value", [None, 7, [1], {"a": 1}, True, "\x00\n" * 200, "a" * 100_000])
def test_a_refusal_may_say_anything(value: object) -> None:
    error = Refusal(value, value, value).error("qwen-plus", 400)
    assert error.code in control.ERRORS
    assert len(error.detail) < 300
    assert error.detail.isprintable()


@pytest.mark.parametrize(
    "text", ["绝密", "my secret", "secret!", "secret-plan", "a." * 40, "13800001111", ".a", "a..b"]
)
def test_a_code_and_a_request_id_are_logged_in_their_own_shape_alone(text: str) -> None:
    detail = Refusal(text, text, f"{text} x").error("qwen-plus", 400).detail
    assert detail == "qwen-plus: a code of another shape, status 400, request unknown"


@pytest.mark.parametrize("code", ["", "0", "200", "OK", "ok", "Success", " ", 0, 200, 200.0, None, False, True, [], {}])
def test_a_code_that_says_success_is_no_refusal(code: object) -> None:
    assert Refusal.read({"code": code, "message": "m"}) is None
    assert Refusal.read({"error": {"code": code}}) is None
    assert Refusal.read({"code": code, "message": "m", "error": {"code": 500}}) == Refusal("500", None, None)


def test_every_line_of_the_table_has_a_sentence() -> None:
    assert {line[2] for line in _TABLE} <= set(control.ERRORS)
