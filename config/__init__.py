"""What a deployer sets: every setting, with its default."""
