import pytest

pytest.register_assert_rewrite("tests.property.machine", "tests.property.answers")
