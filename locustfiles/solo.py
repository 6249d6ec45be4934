"""Each tenant of a profile alone, one after another: the baselines.

locust -f locustfiles/solo.py --headless
"""

from fairshare_locust import register

register(globals(), plan="solo")
