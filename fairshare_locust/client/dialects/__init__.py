"""One dialect per API: how to ask, and how to read the stream."""

from fairshare_locust.client.dialects.dialect import Ask, Dialect, ServerFamily
from fairshare_locust.client.dialects.openai import OpenAIChat, OpenAICompletions
from fairshare_locust.client.dialects.tgi import Tgi
from fairshare_locust.client.dialects.transcript import Transcript
from fairshare_locust.profile.model import Api

__all__ = ["DIALECTS", "Ask", "Dialect", "ServerFamily", "Transcript"]

DIALECTS: dict[Api, Dialect] = {
    "openai_chat": OpenAIChat(),
    "openai_completions": OpenAICompletions(),
    "tgi": Tgi(),
}
