"""Cards of GPUs and models, each constant with its source, and what follows from them for the simulated engine."""

from fairshare_locust.cards.card import BLOCK_TOKENS, DtypeCard, GpuCard, MigProfile, ModelCard, derived
from fairshare_locust.cards.deck import constants, dtype_card, gpu_card, gpu_names, model_card, model_names
from fairshare_locust.errors import CardError

__all__ = [
    "BLOCK_TOKENS",
    "CardError",
    "DtypeCard",
    "GpuCard",
    "MigProfile",
    "ModelCard",
    "constants",
    "derived",
    "dtype_card",
    "gpu_card",
    "gpu_names",
    "model_card",
    "model_names",
]
