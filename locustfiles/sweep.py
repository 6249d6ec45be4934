"""All tenants at one load after another, from a quarter of the profile's to four times, until an SLO breaks.

locust -f locustfiles/sweep.py --headless
"""

from fairshare_locust import register

register(globals(), plan="steps")
