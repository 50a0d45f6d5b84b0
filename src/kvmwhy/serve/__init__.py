"""A small server for a team: a log is posted, its page or JSON comes back. The extra ``web`` has what it needs."""
