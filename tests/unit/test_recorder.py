"""tests/recorder.py: what a call of AWS needs permission for, and whose call it is."""

from concurrent.futures import ThreadPoolExecutor

from tests.recorder import _running, _uses


def test_a_transaction_needs_the_actions_of_its_parts() -> None:
    items = [{"Put": {"TableName": "a"}}, {"Update": {"TableName": "b"}}, {"ConditionCheck": {"TableName": "c"}}]
    assert list(_uses("TransactWriteItems", {"TransactItems": items})) == [
        ("PutItem", "a"),
        ("UpdateItem", "b"),
        ("ConditionCheckItem", "c"),
    ]


def test_what_is_used_is_named_as_in_an_arn() -> None:
    assert list(_uses("BatchGetItem", {"RequestItems": {"a": {}, "b": {}}})) == [
        ("BatchGetItem", "a"),
        ("BatchGetItem", "b"),
    ]
    assert list(_uses("Query", {"TableName": "a", "IndexName": "open"})) == [("Query", "a/index/open")]
    assert list(_uses("SendMessage", {"QueueUrl": "http://x/000000000000/q"})) == [("SendMessage", "q")]
    assert list(_uses("PutObject", {"Bucket": "b", "Key": "avatars/1/2"})) == [("PutObject", "b/avatars/")]
    assert list(_uses("ListObjectsV2", {"Bucket": "b"})) == [("ListObjectsV2", "b")]


def test_what_a_test_does_itself_is_nobody_s_in_a_thread_too() -> None:
    token = _running.set("SomeFunction")  # as if this stood in the midst of a handler's work
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(_running.get).result() is None
    finally:
        _running.reset(token)
