"""House rules that no linter sees: about the text of the scripts, and about two texts that must agree."""

import re
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from lupa.lua51 import LuaRuntime

from app.ledger import errors, keys, operations, scripts
from app.ledger.operations import Operation
from tests.unit.lua_globals import globals_of

ROOT = Path(__file__).parents[2]
LUA = {
    path.relative_to(ROOT / "lua").as_posix(): path.read_text()
    for path in sorted((ROOT / "lua").rglob("*.lua"))
}
CODE = {name: re.sub(r"--\[\[.*?\]\]|--[^\n]*", "", text, flags=re.DOTALL) for name, text in LUA.items()}
HEADERS = {verb: LUA[f"operations/{verb}.lua"] for verb in scripts.operations()}
SCRIPTS = [name.removesuffix(".lua") for name in LUA if "/" not in name]

GIVEN_BY_REDIS = {
    "ARGV", "KEYS", "assert", "cjson", "error", "ipairs", "math", "next", "pairs", "pcall", "redis", "select",
    "setmetatable", "string", "table", "tonumber", "tostring", "type", "unpack",
}  # fmt: skip
COMMON_FIELDS = {"shard", "by", "key", "fingerprint", "notes", "notes_hash", "journaled"}

# What the script says for every operation, in `apply` and `parts/memory`; `later` never leaves the batcher.
OF_ALL = {
    "ledger_fenced", "journal_backlogged", "ledger_unavailable", "idempotency_mismatch", "internal_error",
    "later", "batch_failed",
}  # fmt: skip
# What Python alone says.
OF_PYTHON = {
    "account_not_found", "not_refundable", "batch_across_shards", "overloaded",
}  # fmt: skip
# What is no error, what the ledger turns into one, and what it answers by asking again.
NO_ERRORS = {"ok", "located", "account_unknown", "later", "moved", "task_elsewhere"}


def structs() -> dict[str, type[Operation]]:
    found = {}
    for each in vars(operations).values():
        if isinstance(each, type) and issubclass(each, Operation):
            verb = msgspec.inspect.type_info(each).tag
            if verb in HEADERS:
                found[verb] = each
    return found


def rows(verb: str, part: str) -> dict[str, str]:
    """The rows of a part of a header: the first word and what follows it."""
    header = re.search(rf"\n{part}\n(.*?)(?:\n\n|\n\]\])", HEADERS[verb], re.DOTALL)
    found = (re.match(r"  (\w+) *(.*)", line) for line in header[1].splitlines())
    return {row[1]: row[2] for row in found if row}


def refused(text: str) -> dict[str, set[str]]:
    """What a text refuses with: words and the names of their facts."""
    found: dict[str, set[str]] = {}
    for word, facts in re.findall(
        r"(?:answer\.refuse|refuse_each)\('(\w+)'(?:, \{(.*?)\})?\)", text, re.DOTALL
    ):
        found.setdefault(word, set()).update(re.findall(r"(\w+) = ", facts))
    return found


def test_there_is_a_struct_for_every_lua_operation_and_the_other_way_round():
    assert set(HEADERS) == set(structs())


@pytest.mark.parametrize("verb", sorted(HEADERS))
def test_the_fields_of_a_header_are_the_fields_of_its_struct(verb):
    fields = {field.encode_name for field in msgspec.structs.fields(structs()[verb])} - COMMON_FIELDS
    assert fields == scripts.signature(verb, HEADERS[verb]).fields - COMMON_FIELDS


@pytest.mark.parametrize("verb", sorted(HEADERS))
def test_the_replies_of_a_header_are_errors_or_successes(verb):
    assert scripts.signature(verb, HEADERS[verb]).replies <= errors.leaves().keys() | NO_ERRORS


@pytest.mark.parametrize("verb", sorted(HEADERS))
def test_the_facts_of_a_header_are_those_that_the_body_gives(verb):
    body = CODE[f"operations/{verb}.lua"]
    given = refused(body + scripts.done_by_parts(body))
    if "funds.shortage(" in body:
        always = set(
            re.findall(r"(\w+) = ", re.search(r"local facts = \{(.*?)\}", CODE["parts/funds.lua"])[1])
        )
        given["insufficient_credits"] = always
        given["credits_held"] = always | set(re.findall(r"facts\.(\w+) = ", CODE["parts/funds.lua"]))
    if "operation.refusal)" in body:
        given["not_refundable"] = {"kind", "status"}  # whichever of them the ledger has found
    said = {
        word: set(filter(None, facts.split(", ")))
        for word, facts in rows(verb, "REPLIES").items()
        if word not in {"ok", "located"}
    }
    assert said == given


def test_every_error_is_said_by_some_header_by_the_script_or_by_python():
    said = set().union(*(scripts.signature(verb, text).replies for verb, text in HEADERS.items()))
    of_all = set(refused(CODE["apply.lua"])) | set(refused(CODE["parts/memory.lua"]))
    assert of_all == OF_ALL
    assert (said | of_all | OF_PYTHON) - NO_ERRORS == set(errors.leaves())


def test_the_tree_of_errors_draws_every_error_with_its_word():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    classes = {each.__name__: each for each in errors.leaves().values()}
    assert drawn == classes.keys() | {"Refused", "Unavailable"}
    for name, each in classes.items():
        assert each.word == re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


@pytest.mark.parametrize("name", LUA)
def test_no_number_goes_through_tostring(name):
    """Errors and texts that may be missing do."""
    harmless = {"apply.lua": ["result", "result"]}
    assert re.findall(r"tostring\((.*?)\)", CODE[name]) == harmless.get(name, [])


@pytest.mark.parametrize("name", LUA)
def test_only_texts_go_through_cjson_encode(name):
    assert set(re.findall(r"cjson\.encode\((.*?)\)", CODE[name])) <= {
        "value",
        "posted.notes",
        "metadata",
        "reservation.price",  # its one number is the version of a row of the rate card
    }


@pytest.mark.parametrize("name", LUA)
def test_no_number_is_joined_to_a_text(name):
    number = (
        r"(?:\w+\.)*(?:\w+_ms|amount|available|held|reserved|captured|charged|released|sequence|version|bytes"
        r"|incarnation|number|limit|priority|open_holds|journaled)"
    )
    joined = rf"\.\.\s*{number}\b(?!\s*[(.])|(?<![\w.]){number}\s*\.\."
    harmless = {"read.lua": {".. incarnation"}}  # an argument, which is a text
    assert set(re.findall(joined, CODE[name])) <= harmless.get(name, set())


@pytest.mark.parametrize("name", LUA)
def test_numbers_are_formatted_by_percent_d_alone(name):
    assert not re.search(r"%[-+ #0-9.]*[gGeEfi]\b", CODE[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_variable_is_local_and_known(name):
    """On fakeredis a global poisons every later script, and one that is misspelt reads as nil."""
    found = globals_of(scripts.load(name).text)
    assert found.written == set()
    assert found.read <= GIVEN_BY_REDIS


def test_a_global_would_be_noticed():
    found = globals_of("local a = 1\nlocal function f() if a then b = c end end\nreturn f")
    assert ({"c"}, {"b"}) == found


@pytest.mark.parametrize("name", LUA)
def test_what_fakeredis_lacks_is_not_used(name):
    assert not re.search(r"\b(bit|struct|cmsgpack|os|io)\.|redis\.(sha1hex|replicate_commands)", CODE[name])


@pytest.mark.parametrize("name", LUA)
def test_nothing_is_unpacked_that_could_outgrow_the_stack(name):
    """Lua's stack ends between 1,000 and 8,000 values."""
    bounded = {
        "parts/admission.lua": {"META"},
        "parts/closing.lua": {"arguments, first, last", "others[i]"},
        "load.lua": {"ARGV, at + 1, at + words"},  # a command of at most WORDS_MAX words and its name
    }
    assert set(re.findall(r"unpack\((.*?)\)", CODE[name])) <= bounded.get(name, set())
    if name == "parts/closing.lua":
        assert "for first = 1, #arguments, 500 do" in CODE[name]
        assert "math.min(first + 499, #arguments)" in CODE[name]


def test_key_names_are_spelled_in_one_python_module_and_one_lua_part():
    for name, text in CODE.items():
        assert name == "parts/keys.lua" or "lastro:" not in text, name
    for folder in ("app", "persistence"):
        for path in (ROOT / folder).rglob("*.py"):
            spelled = re.findall(r"""f?["'](?:\w*\s*)?lastro:[{*\w]""", path.read_text())
            if path != ROOT / "app" / "ledger" / "keys.py":
                assert not [each for each in spelled if "urn" not in each], path


def test_the_small_scripts_get_their_keys_as_keys():
    for name, text in CODE.items():
        if "/" not in name and name != "apply.lua":
            assert set(re.findall(r"@include (\S+)", LUA[name])) <= {"parts/server"}, name
            assert "'meta'" not in text, name
            assert "'journal'" not in text, name


@pytest.mark.parametrize("shard", [0, 7, 4095])
def test_the_key_names_of_lua_are_those_of_python(shard):
    known = f"local known = (function() {LUA['parts/known.lua']} end)()\n"
    lua = LuaRuntime().execute(known + LUA["parts/keys.lua"])
    for name in ("meta", "journal", "due", "aside"):
        assert getattr(keys, name)(shard) == lua[name](shard)
    for name in ("account", "reservation", "holds"):
        for id_ in ("a", "team:7@x.y+z-1", "A" * 128):
            assert getattr(keys, name)(shard, id_) == lua[name](shard, id_)
    for provider in (None, "fal"):
        for task in ("t", "a:b c/%d%%"):
            assert keys.task(shard, provider, task) == lua.task(shard, provider, task)
    for transaction in ("0-1-1", "4095-12-9007199254740991"):
        assert keys.refunded(shard, transaction) == lua.refunded(shard, transaction)
    for kind in "ar":
        for id_, key in (("a", "k"), ("a:b", 'c:"d"'), ("a", "b:c\\")):
            assert keys.operation(shard, kind, id_, key) == lua.operation(shard, kind, id_, key)
    assert set(lua.keys()) == {
        name for name, each in vars(keys).items() if callable(each) and each.__module__ == keys.__name__
    } - {"lane", "limit", "alone", "kind_of"}


def test_an_id_and_a_key_with_colons_never_meet_another_pair():
    pairs = [("a", "b:c"), ("a:b", "c"), ("a:1", "b"), ("1:a", "1:b"), ("a", "1:a:b")]
    assert len(pairs) == len({keys.operation(0, "a", *pair) for pair in pairs})


def test_every_lua_file_is_part_of_a_script_or_is_one():
    included = {f"{each}.lua" for text in LUA.values() for each in re.findall(r"@include (\S+)", text)}
    for name in LUA:
        assert "/" not in name or name in included or "operations/*.lua" in included, name
    assert files("lua").joinpath("apply.lua").is_file()
