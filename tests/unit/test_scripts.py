"""The loader of the scripts: what is included once, and what it refuses to load."""

import hashlib

import pytest
from lupa.lua51 import LuaRuntime

from app.ledger import scripts
from tests.engine import CLOCK

HEADER = """--[[
grant: add credits.

FIELDS
  account  who
  amount   credits

REPLIES
  ok               entry
  limit_reached    what
]]
"""
BODY = """return function(operation, shard)
  if operation.amount > 5 then return answer.refuse('limit_reached', { what = 'lots' }) end
  return answer.ok({ account = operation.account })
end
"""


@pytest.mark.parametrize(
    "name", ["apply", "admit", "birth", "fence", "survey", "trim", "read", "examine", "limit"]
)
def test_every_script_is_lua_that_redis_would_compile(name):
    script = scripts.load(name)
    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()
    LuaRuntime().compile(script.text)
    assert "@include" not in script.text


def test_a_part_is_included_once_and_before_who_needs_it():
    text = scripts.load("apply").text
    for part in ("keys", "text", "lots", "book", "journal", "answer", "memory", "time"):
        assert 1 == text.count(f"local {part} = (function()"), part
    assert text.index("local lots = (") < text.index("local journal = (") < text.index("local operations = {")


def test_every_operation_is_part_of_the_script():
    text = scripts.load("apply").text
    assert all(f"\n{verb} = (function()" in text for verb in scripts.operations())


def test_the_clock_of_tests_replaces_the_clock_and_nothing_else():
    sound, timed = scripts.load("apply").text, scripts.load("apply", CLOCK).text
    assert "test:clock" not in sound
    assert timed == sound.replace(scripts.source("parts/clock").strip(), CLOCK.read_text().strip())


def test_a_header_says_verb_fields_and_replies():
    signature = scripts.signature("grant", HEADER + BODY)
    assert ("grant", {"account", "amount"}, {"ok", "limit_reached"}) == signature


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        ("grant", BODY),
        ("deduct", HEADER + BODY),
        ("grant", HEADER.replace("grant:", "give:") + BODY),
        ("grant", HEADER.replace("  amount   credits\n", "") + BODY),
        ("grant", HEADER.replace("  amount ", "  bucket  which\n  amount ") + BODY),
        ("grant", HEADER.replace("  limit_reached    what\n", "") + BODY),
        ("grant", HEADER.replace("  limit_reached ", "  not_found\n  limit_reached ") + BODY),
        ("grant", HEADER + BODY.replace("operation.account", "operation.acount")),
        ("grant", HEADER + BODY.replace("'limit_reached'", "'limit_reach'")),
        ("grant", HEADER + BODY.replace("answer.ok({", "answer.located({")),
        ("grant", HEADER + BODY.replace("  return answer.ok", "  funds.shortage(1)\n  return answer.ok")),
        ("grant", "\n" + HEADER + BODY),
    ],
)
def test_an_operation_whose_header_and_body_disagree_does_not_load(verb, text):
    with pytest.raises(ValueError, match=r"header"):
        scripts.signature(verb, text)
