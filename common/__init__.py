"""The plumbing that the scripts share; nothing in it knows a method, and nothing happens on import."""
