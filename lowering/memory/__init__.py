"""Where values live: programs of launches over values, places for them, and the plan's text."""
