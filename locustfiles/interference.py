"""Each tenant alone, then each two together, then all: what they do to each other.

locust -f locustfiles/interference.py --headless
"""

from fairshare_locust import register

register(globals(), plan="interference")
