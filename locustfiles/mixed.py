"""All tenants of a profile at once: the main job.

locust -f locustfiles/mixed.py --headless
"""

from fairshare_locust import register

register(globals(), plan="mixed")
