"""How the built-in model is made: rendered landscapes, and the training of every part on them."""
