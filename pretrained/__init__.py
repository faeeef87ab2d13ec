"""Small trained networks that come with the scripts, and the programs that trained them."""
