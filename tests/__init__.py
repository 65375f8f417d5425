"""Tests. Promises of the contract are asserted in the package: pytest is to say what they compared."""

import pytest

pytest.register_assert_rewrite("unlabeled.contract.checks")
