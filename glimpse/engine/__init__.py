"""Who steps next, and the step itself."""
