"""WHAT requests ask: prompts, conversations and lengths, all prepared before the load starts."""

from fairshare_locust.workload.prepare import expected_requests, prepare_prompts
from fairshare_locust.workload.source import FollowUp, PromptRequest, PromptSource
from fairshare_locust.workload.tokenizer import Tokenizer, load_tokenizer

__all__ = [
    "FollowUp",
    "PromptRequest",
    "PromptSource",
    "Tokenizer",
    "expected_requests",
    "load_tokenizer",
    "prepare_prompts",
]
