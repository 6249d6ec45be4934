"""Servers: those we start, and those that run already."""

from fairshare_locust.serving.deployment import Deployed, check_external, deploy
from fairshare_locust.serving.notes import server_notes, unsupported
from fairshare_locust.serving.server import Server

__all__ = ["Deployed", "Server", "check_external", "deploy", "server_notes", "unsupported"]
