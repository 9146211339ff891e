"""What clients see when a process of the service dies or hangs: `python -m benchmarks recovery`."""
