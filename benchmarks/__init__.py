"""What the service costs and how fast it is: `make bench`."""
