"""Programs of others, faked: they check what they are told, and behave and misbehave as the real ones do."""
