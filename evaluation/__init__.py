"""How good a result is: each figure printed beside a published one, from arrays and functions, never from a script."""
