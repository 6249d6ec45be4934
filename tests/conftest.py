"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# Fewer examples than hypothesis's hundred, so that the suite stays short; tests that need more say so themselves.
settings.register_profile("suite", max_examples=20)
settings.load_profile("suite")
