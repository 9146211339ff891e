"""One Ray actor class a file: a thin shim over glimpse/."""
