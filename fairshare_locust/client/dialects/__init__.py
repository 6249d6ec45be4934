"""One dialect per API: how to ask, and how to read the stream."""

from fairshare_locust.client.dialects.dialect import Ask, Dialect, ServerFamily
from fairshare_locust.client.dialects.openai import OpenAIChat, OpenAICompletions
from fairshare_locust.client.dialects.option import EVERY_OPTION, PLAIN_OPTIONS, Option, asked_options
from fairshare_locust.client.dialects.tgi import TGI, Tgi
from fairshare_locust.client.dialects.transcript import Transcript
from fairshare_locust.profile.model import Api

__all__ = [
    "DIALECTS",
    "EVERY_OPTION",
    "PLAIN_OPTIONS",
    "TGI",
    "Ask",
    "Dialect",
    "Option",
    "ServerFamily",
    "Transcript",
    "asked_options",
]

DIALECTS: dict[Api, Dialect] = {
    "openai_chat": OpenAIChat(),
    "openai_completions": OpenAICompletions(),
    "tgi": Tgi(),
}
