"""Users: their accounts, the ways in which they sign in, and their images."""
