"""Bodies that no caller should send, verb by verb, beside those that each may."""

DEEP = 200_000


UUID = "01a1ffa5-4956-7003-abd8-99c175348713"


NOT_JSON = {
    "nothing": b"",
    "white space": b" \n",
    "a word": b"hello",
    "half an object": b'{"accountId":"alice"',
    "two objects": b"{}{}",
    "a trailing comma": b'{"accountId":"alice","amount":1,}',
    "a comment": b'{"accountId":"alice","amount":1}//',
    "single quotes": b"{'accountId':'alice','amount':1}",
    "a zero byte": b"\x00",
    "a byte order mark": b'\xef\xbb\xbf{"accountId":"alice","amount":1}',
    "UTF-16": '{"accountId":"alice","amount":1}'.encode("utf-16"),
    "bytes that are not UTF-8": b'{"accountId":"al\xffice","amount":1}',
    "a name that is not UTF-8": b'{"accountId":"alice","amount":1,"\xff":1}',
    "half a surrogate pair": b'{"accountId":"alice","amount":1,"reason":"\\ud800"}',
    "a surrogate in UTF-8": b'{"accountId":"alice","amount":1,"reason":"\xed\xa0\x80"}',
    "an overlong slash": b'{"accountId":"al\xc0\xafice","amount":1}',
    "a raw line break in a string": b'{"accountId":"alice","amount":1,"reason":"a\nb"}',
    "a list": b"[]",
    "a string": b'"alice"',
    "null": b"null",
    "a deep list": b"[" * DEEP,
    "a deep object": b'{"a":' * DEEP,
    "a deep metadata": b'{"accountId":"alice","amount":1,"metadata":' + b'{"a":' * DEEP,
    "a form": b"accountId=alice&amount=1",
}


AMOUNTS = [
    "0", "-1", "-0", "1.0", "1.5", "1e3", "1E400", "01", "+1", "0x10", '"5"', "true", "null", "NaN",
    "Infinity", "[1]", "{}", "9007199254740992", "9223372036854775808", "18446744073709551616", "9" * 5000,
]  # fmt: skip


FIELDS = {
    "grant": [
        {"accountId": ""}, {"accountId": "a" * 129}, {"accountId": "a b"}, {"accountId": "alice\n"},
        {"accountId": "ä"}, {"accountId": "a/b"}, {"accountId": 5}, {"accountId": None},
        {"accountId": ["a"]}, {"accountid": "alice"}, {"bucket": ""}, {"bucket": "b" * 65},
        {"bucket": "plan\n"}, {"bucket": None}, {"bucket": "overdraft"}, {"priority": -1},
        {"priority": "1"}, {"priority": None}, {"priority": 10**9}, {"priority": 1.0},
        {"expiresAt": "tomorrow"}, {"expiresAt": "2100-01-01"}, {"expiresAt": "2100-01-01T00:00:00"},
        {"expiresAt": 4102444800}, {"expiresAt": "2100-02-30T00:00:00Z"}, {"expiresAt": None},
        {"expiresAt": ""}, {"expiresAt": "9999-12-31T23:59:59-23:59"},
        {"expiresAt": "0001-01-01T00:00:00+23:59"}, {"expiresAt": "2100-01-01T00:00:00+24:00"},
        {"expiresAt": "+10000-01-01T00:00:00Z"}, {"reason": "r" * 501}, {"reason": "a\u0000b"},
        {"reason": "tab\t"}, {"reason": "line\n"}, {"reason": None}, {"metadata": []}, {"metadata": None},
        {"metadata": "a"}, {"metadata": {"a": 1}}, {"metadata": {"a": None}},
        {"metadata": {"a": {"b": "c"}}}, {"metadata": {"": "a"}}, {"metadata": {"a\u0001": "b"}},
        {"metadata": {"a": "b\u001f"}}, {"metadata": {str(number): "" for number in range(17)}},
        {"metadata": {"a": "b" * 1024}}, {"metadata": {"a": "ä" * 512}}, {"units": 1}, {"amounts": 1},
        {"rollover": -1}, {"rollover": 1.0}, {"rollover": 1.5}, {"rollover": "1"}, {"rollover": True},
        {"rollover": None}, {"rollover": 2**53}, {"rollover": 10**30},
        {"rollover": []}, {"overdraftLimit": 1}, {"status": "active"} ],
    "deduct": [
        {"modelId": ""}, {"modelId": "m" * 65}, {"modelId": "flux pro"}, {"modelId": None}, {"units": 3},
        {"units": None}, {"expiresAt": "2100-01-01T00:00:00Z"}, {"reservationId": UUID},
        {"price": "1"}, {"overCapture": "cap"}, {"final": True},
    ],
    "reserve": [
        {"ttlSeconds": 0}, {"ttlSeconds": 86401}, {"ttlSeconds": -1}, {"ttlSeconds": "60"},
        {"ttlSeconds": 60.0}, {"ttlSeconds": None}, {"ttlSeconds": True}, {"taskId": ""},
        {"taskId": "t" * 256}, {"taskId": "tä"}, {"taskId": "a\u007f"}, {"taskId": "t\n"},
        {"taskId": None}, {"resourceId": ""}, {"resourceId": "r" * 256}, {"provider": "a:b"},
        {"provider": ""}, {"provider": "p" * 65}, {"units": 1}, {"reservationId": UUID},
        {"overCapture": "Cap"}, {"overCapture": ""}, {"overCapture": None}, {"overCapture": True},
        {"overCapture": 1}, {"overCapture": ["cap"]}, {"onExpired": "cap"}, {"onExpired": ""},
        {"onExpired": None}, {"onExpired": False}, {"onExpired": {}}, {"final": False},
        {"callback": "https://shop.test"} ],
    "confirm": [
        {"reservationId": "17"}, {"reservationId": UUID + "\n"}, {"reservationId": UUID.replace("-", "")},
        {"reservationId": "{" + UUID + "}"}, {"reservationId": None}, {"reservationId": 5}, {"taskId": "t"},
        {"provider": "fal"}, {"amount": -1}, {"amount": None}, {"accountId": None}, {"accountId": ""},
        {"final": None}, {"final": "true"}, {"final": 1}, {"final": 0}, {"final": "no"}, {"final": []},
        {"overCapture": "most"}, {"overCapture": None}, {"overCapture": 0}, {"onExpired": "cap"},
        {"onExpired": None}, {"onExpired": 1.5}, {"units": None}, {"reason": "no"}, {"ttlSeconds": 60},
    ],
    "cancel": [
        {"cause": "expired"}, {"cause": ""}, {"cause": None}, {"cause": 1}, {"reason": "r" * 501},
        {"amount": 1}, {"taskId": "t"}, {"reservationId": "x"}, {"final": True},
    ],
    "extend": [
        {"ttlSeconds": 0}, {"ttlSeconds": -60}, {"ttlSeconds": 86401}, {"ttlSeconds": "60"},
        {"ttlSeconds": 60.0}, {"ttlSeconds": True}, {"ttlSeconds": None},
        {"ttlSeconds": 10**30}, {"reservationId": "17"}, {"reservationId": None}, {"taskId": "t"},
        {"provider": "fal"}, {"accountId": ""}, {"accountId": None}, {"amount": 1}, {"reason": "why"},
        {"expiresAt": "2100-01-01T00:00:00Z"},
    ],
    "refund": [
        {"transactionId": "1-1"}, {"transactionId": "01-1-1"}, {"transactionId": "1-1-0"},
        {"transactionId": "1-1-1\n"}, {"transactionId": " 1-1-1"}, {"transactionId": "-1-1-1"},
        {"transactionId": "1-1-" + "9" * 400}, {"transactionId": "٣-1-1"}, {"transactionId": None},
        {"transactionId": 111}, {"transactionId": ["1-1-1"]}, {"reservationId": UUID},
        {"reservationId": None}, {"amount": 0}, {"amount": -1}, {"amount": None}, {"bucket": "overdraft"},
        {"bucket": ""}, {"bucket": None}, {"bucket": "b" * 65}, {"reason": "r" * 501}, {"reason": None},
        {"reason": "a\u0000"}, {"metadata": {"a": "b"}}, {"accountId": "alice"}, {"taskId": "t"},
    ],
    "adjust": [
        {"accountId": ""}, {"accountId": None}, {"amount": 0}, {"amount": -(2**53)}, {"amount": 2**53},
        {"amount": -1.0}, {"amount": "-1"}, {"amount": True}, {"amount": None}, {"amount": 10**30},
        {"bucket": "overdraft"}, {"bucket": None},
        {"short": "Take"}, {"short": ""}, {"short": None}, {"short": True}, {"short": 1}, {"reason": ""},
        {"reason": None}, {"reason": "r" * 501}, {"reason": 5}, {"reason": "tab\t"}, {"units": 1},
        {"metadata": {}},
    ],
}  # fmt: skip


SHAPELY = {
    "grant": {"accountId": "alice", "amount": 1},
    "deduct": {"accountId": "alice", "amount": 1},
    "reserve": {"accountId": "alice", "amount": 1},
    "confirm": {"reservationId": UUID},
    "cancel": {"reservationId": UUID},
    "extend": {"reservationId": UUID, "ttlSeconds": 60},
    "refund": {"transactionId": "1-1-1"},
    "adjust": {"accountId": "alice", "amount": 1, "reason": "why"},
}


NEITHER = [{}, {"accountId": "alice"}, {"amount": 1}, {"provider": "fal"}]
