"""What the scripts cite in one line: small functions and layers, each with its source, that know no script."""
