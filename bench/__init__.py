"""How accurate and how fast are client and analysis, against a server that knows the truth."""
