"""Streaming over HTTP: the SSE parser and the dialects are pure, `client` knows gevent."""
