"""Which deployments there are, how they are bound, checked and drained; nothing else."""
