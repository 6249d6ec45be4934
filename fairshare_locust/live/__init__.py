"""What each tenant gets while the run goes on: counted as requests end, shown in a page, a terminal or Prometheus."""
