"""A summary as tables on the terminal and as a page. No arithmetic here."""
